//! Loops that want all of a processor, at ordinary priority: what a busy machine is to everybody else on it.

use std::process::{Child, Command, Stdio};

/// Loops that end with this.
pub struct Busy(Vec<Child>);

impl Busy {
    /// Starts as many.
    ///
    /// # Errors
    /// This program cannot be started again.
    pub fn start(loops: u32) -> anyhow::Result<Self> {
        let mut busy = Self(Vec::new());
        for _ in 0..loops {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("busy").stdin(Stdio::null());
            busy.0.push(command.spawn()?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill().and_then(|()| child.wait()); // an error: it ended by itself
        }
    }
}

/// Never ends.
pub fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}
