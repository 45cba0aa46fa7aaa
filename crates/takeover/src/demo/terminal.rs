//! The terminal: keys without Enter, and a picture that is drawn over itself. Plain ANSI (ECMA-48) and termios.

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Other screen, no cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[2J";
/// Colours off, the cursor and the screen as before.
const LEAVE: &str = "\u{1b}[0m\u{1b}[?25h\u{1b}[?1049l";
/// What stands for "none" in a terminal's special characters (`_POSIX_VDISABLE`).
const NO_CHARACTER: u8 = 0;
/// Where the size of the terminal is not known.
const USUAL_SIZE: (usize, usize) = (80, 24);

nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);

/// Whether somebody can see pictures and press keys.
#[must_use]
pub fn is_usable() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdin().is_terminal() && io::stdout().is_terminal() && !dumb
}

/// What the terminal was like before; kept by the process outside, which survives whatever happens inside.
pub struct Saved(Termios);

impl Saved {
    /// As it is now.
    ///
    /// # Errors
    /// Standard input is no terminal.
    pub fn now() -> anyhow::Result<Self> {
        Ok(Self(tcgetattr(io::stdin()).context("cannot read the terminal's settings")?))
    }

    /// Restores the terminal where whoever changed it could not.
    pub fn restore_if_changed(&self) {
        if tcgetattr(io::stdin()).is_ok_and(|now| now.local_flags != self.0.local_flags) {
            restore(&self.0);
        }
    }
}

/// The terminal while the picture is shown; as before when this is dropped.
pub struct Screen {
    before: Termios,
}

impl Screen {
    /// Takes the terminal: no echo, keys at once. Ctrl-C goes on ending the program; Ctrl-Z, which would stop the demo but
    /// not what it has started, does nothing.
    ///
    /// # Errors
    /// It cannot be set so.
    pub fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot read the terminal's settings")?;
        let mut settings = before.clone();
        settings.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        settings.control_chars[SpecialCharacterIndices::VSUSP as usize] = NO_CHARACTER;
        settings.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        settings.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(io::stdin(), SetArg::TCSANOW, &settings).context("cannot set the terminal up")?;
        let screen = Self { before };
        write_out(ENTER)?;
        Ok(screen)
    }

    /// Columns and lines.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open, and the kernel writes a `winsize` to where there is one.
        let known = unsafe { window_size(io::stdout().as_raw_fd(), &raw mut size) };
        match (known, size.ws_col, size.ws_row) {
            (Err(_), _, _) | (Ok(_), 0, _) | (Ok(_), _, 0) => USUAL_SIZE,
            (Ok(_), columns, rows) => (columns.into(), rows.into()),
        }
    }

    /// Shows these lines in place of what was shown before; each must fit.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn show(&self, lines: &[String]) -> anyhow::Result<()> {
        let mut text = "\u{1b}[H".to_owned();
        for (index, line) in lines.iter().enumerate() {
            // No line break behind the last one: on the last row it would scroll.
            text += if index == 0 { "" } else { "\r\n" };
            text += line;
            text += "\u{1b}[K";
        }
        text += "\u{1b}[J";
        write_out(&text)
    }

    /// The keys pressed since the last time; waits for the first one, at most this long. None: there is no more input.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn keys(&self, wait: Duration) -> anyhow::Result<Option<Vec<u8>>> {
        let stdin = io::stdin();
        let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, wait) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(Some(Vec::new())),
            Ok(_) => {}
            Err(errno) => return Err(errno).context("cannot wait for a key"),
        }
        let mut bytes = [0; 64];
        // Not through the buffer of the standard library: `poll` does not know of what is in there.
        let length = nix::unistd::read(stdin.as_fd(), &mut bytes).context("cannot read a key")?;
        Ok((length > 0).then(|| plain_keys(&bytes[..length])))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

/// The keys without those that send a sequence (arrows and the like): the letters of one mean nothing.
fn plain_keys(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().take_while(|byte| *byte != 0x1b).collect()
}

/// A terminal that is gone needs no restoring, so errors do not matter.
fn restore(settings: &Termios) {
    let _ = write_out(LEAVE);
    let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, settings);
}

fn write_out(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to the terminal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_letters_of_an_arrow_are_no_keys() {
        assert_eq!(plain_keys(b"sk"), b"sk");
        assert_eq!(plain_keys(b"s\x1b[a"), b"s");
        assert_eq!(plain_keys(b"\x1bOc"), b"");
    }
}
