//! The SCS's own eyes: where its machine shares the subnet of a VIP it asks the network who has it, when the core wants to
//! know and every ten seconds unasked. On a thread of its own: the core thread does not wait for netlink.

use crate::clock::Clock;
use crate::core_loop::CoreLoop;
use domain::{Micros, VipAddress, VipSighting};
use ha_core::Input;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;
use vip_control::{Drained, Inquiry, Vicinity, next_turn};

/// How often it is asked unasked.
const PERIOD: Duration = Duration::from_secs(10);
/// How often it is looked which networks the machine is in.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const WOKEN: Token = Token(0);
const ANSWERS: Token = Token(1);
const ELSEWHERE: &str = "the SCS's machine is not in its subnet, or has it itself";

/// What it tells the core thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// It can ask about these, and no others.
    Sees(BTreeSet<VipAddress>),
    /// It has asked about one.
    Sighted {
        /// The VIP.
        vip: VipAddress,
        /// When the inquiry was over.
        at: Micros,
        /// Who answered, or why nobody could be asked.
        sighting: Result<VipSighting, String>,
    },
}

#[derive(Debug)]
enum Order {
    Watch(BTreeSet<VipAddress>),
    Ask(VipAddress),
}

/// The observer, as the core thread has it. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Observer {
    orders: Sender<Order>,
    waker: Waker,
}

impl Observer {
    /// Starts the thread; `tell` is called on it.
    ///
    /// # Errors
    /// What the system says when it gives no poll or no thread.
    pub(crate) fn start(clock: Clock, tell: impl Fn(Told) + Send + 'static) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WOKEN)?;
        let (orders, received) = channel();
        let eyes = Eyes {
            poll,
            clock,
            orders: received,
            tell,
            vicinity: None,
            inquiry: None,
            vips: BTreeMap::new(),
            sees: BTreeSet::new(),
            look_at: clock.now(),
            said: String::new(),
        };
        std::thread::Builder::new().name("observer".to_owned()).spawn(move || eyes.run())?;
        Ok(Self { orders, waker })
    }

    /// From now on these are the VIPs of the configuration.
    pub(crate) fn watch(&self, vips: BTreeSet<VipAddress>) {
        self.order(Order::Watch(vips));
    }

    /// Asks who has `vip`; the answer comes as [`Told::Sighted`]. False: nobody is there to ask.
    pub(crate) fn ask(&self, vip: VipAddress) -> bool {
        self.order(Order::Ask(vip))
    }

    fn order(&self, order: Order) -> bool {
        let taken = self.orders.send(order).is_ok();
        taken && self.waker.wake().is_ok()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // The thread ends when it sees that nobody can order anything any more.
        let (nowhere, _) = channel();
        self.orders = nowhere;
        let _ = self.waker.wake();
    }
}

/// A VIP of the configuration.
#[derive(Debug)]
struct Watched {
    next: Micros,
    /// The core waits for the answer.
    wanted: bool,
    /// What the core was told last.
    told: Option<VipSighting>,
}

struct Eyes<T> {
    poll: Poll,
    clock: Clock,
    orders: Receiver<Order>,
    tell: T,
    vicinity: Option<Vicinity>,
    inquiry: Option<Inquiry>,
    vips: BTreeMap<VipAddress, Watched>,
    sees: BTreeSet<VipAddress>,
    look_at: Micros,
    /// What standard error says already.
    said: String,
}

impl<T: Fn(Told)> Eyes<T> {
    fn run(mut self) {
        let mut events = Events::with_capacity(8);
        loop {
            let now = self.clock.now();
            let timeout = self.next_deadline().since(now);
            if let Err(e) = self.poll.poll(&mut events, Some(timeout))
                && e.kind() != io::ErrorKind::Interrupted
            {
                eprintln!("takeover scs: the observer's poll failed: {e}");
                return;
            }
            loop {
                match self.orders.try_recv() {
                    Ok(Order::Watch(vips)) => self.watch(&vips),
                    Ok(Order::Ask(vip)) => self.ask(vip),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.hear();
            self.do_what_is_due();
        }
    }

    fn next_deadline(&self) -> Micros {
        let inquiry = self.inquiry.as_ref().and_then(Inquiry::next_deadline);
        let turns = self.sees.iter().filter_map(|vip| self.vips.get(vip)).map(|watched| watched.next);
        turns.chain(inquiry).fold(self.look_at, Micros::min)
    }

    fn watch(&mut self, vips: &BTreeSet<VipAddress>) {
        let now = self.clock.now();
        for (gone, watched) in self.vips.extract_if(.., |vip, _| !vips.contains(vip)) {
            if watched.wanted {
                let sighting = Err("it is no VIP of the configuration any more".to_owned());
                (self.tell)(Told::Sighted { vip: gone, at: now, sighting });
            }
        }
        for vip in vips {
            let new = || Watched { next: next_turn(vip, PERIOD, now), wanted: false, told: None };
            self.vips.entry(*vip).or_insert_with(new);
        }
        self.look(now);
    }

    /// Which networks is the machine in? What it cannot find out it says once.
    fn look(&mut self, now: Micros) {
        self.look_at = now + LOOK_EVERY;
        let sees = self.visible().unwrap_or_else(|why| {
            if self.said != why {
                eprintln!("takeover scs: it cannot ask the network itself who has a VIP: {why}");
                self.said = why;
            }
            BTreeSet::new()
        });
        if sees != self.sees {
            for watched in self.vips.values_mut() {
                watched.told = None;
            }
            self.sees.clone_from(&sees);
            (self.tell)(Told::Sees(sees));
        }
    }

    fn visible(&mut self) -> Result<BTreeSet<VipAddress>, String> {
        let text = |e: vip_control::VipError| e.to_string();
        let vicinity = match self.vicinity.take() {
            Some(mut vicinity) => vicinity.look().map(|()| vicinity),
            None => Vicinity::open(),
        };
        let vicinity = self.vicinity.insert(vicinity.map_err(text)?);
        let mut sees = BTreeSet::new();
        for vip in self.vips.keys() {
            if vicinity.interface_to(vip).map_err(text)?.is_some() {
                sees.insert(*vip);
            }
        }
        // Packet sockets, and the right to have them, only where there is something to see.
        if !sees.is_empty() && self.inquiry.is_none() {
            let inquiry = Inquiry::open().map_err(text)?;
            self.poll
                .registry()
                .register(&mut SourceFd(&inquiry.as_raw_fd()), ANSWERS, Interest::READABLE)
                .map_err(|e| e.to_string())?;
            self.inquiry = Some(inquiry);
        }
        Ok(sees)
    }

    /// By order of the core, which is answered in any case.
    fn ask(&mut self, vip: VipAddress) {
        let asked = self.begin(&vip);
        match (asked, self.vips.get_mut(&vip)) {
            (Ok(()), Some(watched)) => watched.wanted = true,
            (Ok(()), None) => {}
            (Err(why), _) => {
                let at = self.clock.now();
                (self.tell)(Told::Sighted { vip, at, sighting: Err(why) });
            }
        }
    }

    fn begin(&mut self, vip: &VipAddress) -> Result<(), String> {
        let (Some(inquiry), Some(vicinity)) = (&mut self.inquiry, &mut self.vicinity) else {
            return Err(ELSEWHERE.to_owned());
        };
        vicinity.look().map_err(|e| e.to_string())?;
        let interface = vicinity.interface_to(vip).map_err(|e| e.to_string())?.ok_or(ELSEWHERE)?;
        let vips = &self.vips;
        let is_vip = |address| vips.keys().any(|vip| vip.address == address);
        inquiry.ask(vip, &interface, is_vip, self.clock.now()).map_err(|e| e.to_string())
    }

    fn hear(&mut self) {
        let Some(inquiry) = &mut self.inquiry else { return };
        loop {
            match inquiry.hear(self.clock.now()) {
                Ok(Drained::All) => return,
                Ok(Drained::MoreWaits) => {}
                Err(e) => {
                    eprintln!("takeover scs: {e}");
                    return;
                }
            }
        }
    }

    fn do_what_is_due(&mut self) {
        let now = self.clock.now();
        while let Some((vip, result)) = self.inquiry.as_mut().and_then(|inquiry| inquiry.ended(now)) {
            // It came to this machine meanwhile: then this is no sight from outside.
            let here = self.vicinity.as_mut().is_none_or(|near| near.look().is_err() || near.has(&vip));
            let sighting = if here { Err(ELSEWHERE.to_owned()) } else { result.map_err(|e| e.to_string()) };
            self.ended(vip, sighting, now);
        }
        if self.look_at <= now {
            self.look(now);
        }
        let is_due = |vip: &&VipAddress| self.vips.get(vip).is_some_and(|watched| watched.next <= now);
        let due: Vec<VipAddress> = self.sees.iter().filter(is_due).copied().collect();
        for vip in due {
            let Some(watched) = self.vips.get_mut(&vip) else { continue };
            watched.next = next_turn(&vip, PERIOD, now);
            if !watched.wanted {
                // That it cannot be asked shows when somebody wants to know, and at the next look.
                let _ = self.begin(&vip);
            }
        }
    }

    /// Tells what is waited for, what is out of the ordinary, and what changed; the rest is as it was.
    fn ended(&mut self, vip: VipAddress, sighting: Result<VipSighting, String>, at: Micros) {
        let Some(watched) = self.vips.get_mut(&vip) else { return };
        let wanted = std::mem::take(&mut watched.wanted);
        let news = match (&sighting, &watched.told) {
            (Ok(seen), Some(told)) => !seen.is_normal() || !told.same_holders(seen),
            (Ok(_), None) => true,
            (Err(_), _) => false,
        };
        if wanted || news {
            watched.told = sighting.as_ref().ok().cloned();
            (self.tell)(Told::Sighted { vip, at, sighting });
        }
    }
}

impl CoreLoop {
    /// The observer is to know all VIPs of the configuration.
    pub(crate) fn watch_vips(&self) {
        let pairs = self.state.cluster().pairs.values();
        self.observer.watch(pairs.flat_map(|pair| &pair.vips).map(|vip| vip.address).collect());
    }

    pub(crate) fn find_holder(&mut self, vip: VipAddress) {
        if !self.observer.ask(vip) {
            // The core must not learn of it in the middle of its own actions.
            self.unasked.push(vip);
        }
    }

    pub(crate) fn observed(&mut self, told: Told, now: Micros) {
        match told {
            Told::Sees(vips) => self.feed(Input::ScsSees { vips }, now),
            Told::Sighted { vip, at, sighting } => self.feed(Input::ScsSighted { vip, at, sighting }, now),
        }
    }

    /// What nobody could be asked about is answered all the same.
    pub(crate) fn answer_unasked(&mut self, now: Micros) {
        for vip in std::mem::take(&mut self.unasked) {
            let sighting = Err("the observer's thread has ended".to_owned());
            self.feed(Input::ScsSighted { vip, at: now, sighting }, now);
        }
    }
}
