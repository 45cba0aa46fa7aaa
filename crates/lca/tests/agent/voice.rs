//! The datagrams of the other end, played by hand on a thread of its own, since a lease does not wait for a test: every
//! heartbeat is answered, and whoever asks to hold a lease has a promise.

use crate::scs::wait_for;
use control_link::messages::Heartbeat;
use control_link::{MAX_SEALED_LEN, Seal};
use domain::Micros;
use lease::{Body, Kind, Message};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The datagrams of one end.
pub struct Voice {
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
    stingy: Arc<AtomicBool>,
    socket: UdpSocket,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    seal: Option<Seal>,
    silent: bool,
    /// Whoever asks gets no promise.
    stingy: Arc<AtomicBool>,
    /// Sent in place of an answer.
    replay: Option<Vec<u8>>,
    /// Where the last datagram came from, and what was in it.
    from: Option<SocketAddr>,
    last: Option<Heartbeat>,
    count: u64,
    messages: Vec<Message>,
}

impl Voice {
    pub fn start(socket: UdpSocket) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let stingy = Arc::new(AtomicBool::new(false));
        let shared = Shared { stingy: stingy.clone(), ..Shared::default() };
        let shared = Arc::new(Mutex::new(shared));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (shared, stop, socket) = (shared.clone(), stop.clone(), socket.try_clone().unwrap());
            std::thread::spawn(move || {
                let mut buffer = [0; MAX_SEALED_LEN];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((size, from)) = socket.recv_from(&mut buffer) {
                        shared.lock().unwrap().answer(&socket, &mut buffer[..size], from);
                    }
                }
            })
        };
        Self { shared, stop, stingy, socket, thread: Some(thread) }
    }

    /// Speaks on this connection from now on.
    pub fn speak(&self, seal: Seal) {
        let stingy = self.stingy.clone();
        *self.shared.lock().unwrap() = Shared { seal: Some(seal), stingy, ..Shared::default() };
    }

    /// Promises to whoever asks to hold, which it does from the start; or to nobody.
    pub fn promise(&self, promise: bool) {
        self.stingy.store(!promise, Ordering::Relaxed);
    }

    /// Hears, and says nothing; or speaks again.
    pub fn be_silent(&self, silent: bool) {
        let mut shared = self.shared.lock().unwrap();
        (shared.silent, shared.replay) = (silent, None);
    }

    /// Answers with this old datagram from now on.
    pub fn replay(&self, datagram: Vec<u8>) {
        self.shared.lock().unwrap().replay = Some(datagram);
    }

    /// The next heartbeat.
    pub fn next(&self) -> Heartbeat {
        let before = self.count();
        wait_for(|| {
            let shared = self.shared.lock().unwrap();
            shared.last.filter(|_| shared.count > before)
        })
    }

    /// How many datagrams came on this connection.
    pub fn count(&self) -> u64 {
        self.shared.lock().unwrap().count
    }

    /// The lease messages that came on this connection.
    pub fn messages(&self) -> Vec<Message> {
        self.shared.lock().unwrap().messages.clone()
    }

    /// Says this unasked; the datagram.
    pub fn say(&self, messages: &[Message]) -> Vec<u8> {
        let mut shared = self.shared.lock().unwrap();
        let to = shared.from.expect("it was spoken to");
        let heartbeat = Heartbeat { at: Micros(1), heard: Micros(0), held_us: 0, stall_us: 0 };
        let mut said = Vec::new();
        shared.seal.as_mut().expect("connected").seal_with(&heartbeat, messages, |sealed| {
            said = sealed.to_vec();
        });
        self.socket.send_to(&said, to).unwrap();
        said
    }
}

impl Shared {
    fn answer(&mut self, socket: &UdpSocket, datagram: &mut [u8], from: SocketAddr) {
        let Some(seal) = &mut self.seal else { return };
        let Ok(opened) = seal.open(datagram) else { return };
        let heartbeat = opened.heartbeat;
        let messages: Vec<Message> = opened.messages().map(Result::unwrap).collect();
        (self.from, self.last) = (Some(from), Some(heartbeat));
        self.count += 1;
        // The agent may be gone already: then nothing can be sent.
        if let Some(replay) = &self.replay {
            let _ = socket.send_to(replay, from);
        } else if !self.silent {
            let stingy = self.stingy.load(Ordering::Relaxed);
            let asks = messages.iter().filter(|_| !stingy);
            let promises: Vec<Message> = asks.filter_map(promise).collect();
            // Our clock is one later than the agent's.
            let at = heartbeat.at + Duration::from_micros(1);
            let ours = Heartbeat { at, heard: heartbeat.at, held_us: 0, stall_us: 0 };
            seal.seal_with(&ours, &promises, |sealed| drop(socket.send_to(sealed, from)));
        }
        self.messages.extend(messages);
    }
}

fn promise(ask: &Message) -> Option<Message> {
    match ask.body {
        Body::Ask { epoch, at, kind: Kind::Hold { .. }, .. } => {
            Some(Message { pair: ask.pair, body: Body::Promise { epoch, at } })
        }
        Body::Ask { kind: Kind::Standby, .. }
        | Body::Promise { .. }
        | Body::Reject { .. }
        | Body::Release { .. } => None,
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}
