//! Trunks: where they are, whether they answer, how many calls they have.
//!
//! ```text
//!                 looked up             probe answered
//!   (no place) ─────────────> in service <───────────── out of service
//!                                  │  probes unanswered, or 503 to them  ^
//!                                  └─────────────────────────────────────┘
//! ```
//!
//! Probed is only by the primary. What a backup knows of service is what it finds out when it has become primary; until then
//! a trunk counts as in service, and a call that it does not take goes to the next.

use crate::setup::{Setup, TRUNK, of, spelled};
use crate::{Notice, Outputs, Place, Question};
use domain::{Micros, SipName, SipTrunk};
use sip_proto::b2bua::{Flow, Outgoing, Transport};
use sip_proto::{Draft, Wire};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What branch parameters of probes begin with: no call's do.
const BRANCH: &str = "z9hG4bKprobe-";
/// How long a probe waits for its answer (timer F of RFC 3261 would be 32 s, and tell nothing more).
const PROBE_LASTS: Duration = Duration::from_secs(4);
/// Pauses before a probe is sent again over UDP (timer E).
const PROBE_AGAIN: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1_500), Duration::from_millis(3_500)];
/// How soon a name is looked up again that could not be found.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Longest that a trunk is left alone because it said so, seconds.
const LONGEST_REST_S: u32 = 300;

/// A trunk.
#[derive(Debug)]
pub(crate) struct Trunk {
    pub(crate) name: SipName,
    pub(crate) settings: SipTrunk,
    /// Where it is, the best place first.
    places: Vec<(Flow, Transport)>,
    out_of_service: bool,
    /// Calls by way of it.
    pub(crate) calls: u32,
    look_up_at: Option<Micros>,
    probe: Option<Probe>,
    next_probe: Option<Micros>,
    misses: u32,
    /// It has said that it has no room until then (503 with Retry-After; RFC 3261, section 21.5.4).
    rests_until: Option<Micros>,
    pub(crate) counted: Counted,
}

/// What was counted of a trunk.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counted {
    /// Calls that were tried by way of it.
    pub(crate) attempts: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
}

#[derive(Debug)]
struct Probe {
    number: u32,
    wire: Wire,
    flow: Flow,
    sent_at: Micros,
    again: usize,
}

/// All trunks.
#[derive(Debug, Default)]
pub(crate) struct Trunks {
    trunks: Vec<Trunk>,
    sources: BTreeMap<IpAddr, usize>,
    serving: bool,
    probes: u32,
    /// Part of what makes probes of this process unlike those of another.
    salt: u32,
}

impl Trunks {
    pub(crate) fn new(setup: &Setup, now: Micros) -> Self {
        let trunks = setup.settings.trunks.iter().map(|(name, settings)| Trunk {
            name: name.clone(),
            settings: settings.clone(),
            places: Vec::new(),
            out_of_service: false,
            calls: 0,
            look_up_at: Some(now),
            probe: None,
            next_probe: None,
            misses: 0,
            rests_until: None,
            counted: Counted::default(),
        });
        let salt = u32::from_be_bytes([setup.seed[0], setup.seed[1], setup.seed[2], setup.seed[3]]);
        let mut all = Self { trunks: trunks.collect(), salt, ..Self::default() };
        for trunk in 0..all.trunks.len() {
            all.find_at_once(trunk, setup);
        }
        all.list_sources();
        all
    }

    /// Places of one whose address is configured.
    fn find_at_once(&mut self, trunk: usize, setup: &Setup) {
        let Some(trunk) = self.trunks.get_mut(trunk) else { return };
        let settings = &trunk.settings;
        let Ok(address) = settings.host.trim_matches(['[', ']']).parse::<IpAddr>() else { return };
        let transport = settings.transport.map_or(Transport::Udp, of);
        let port = settings.port.unwrap_or(if transport == Transport::Tls { 5061 } else { 5060 });
        let flow = flow_of(settings, setup, transport, SocketAddr::new(address, port));
        trunk.places = flow.map(|flow| (flow, transport)).into_iter().collect();
        trunk.look_up_at = None;
    }

    fn list_sources(&mut self) {
        self.sources.clear();
        for (index, trunk) in self.trunks.iter().enumerate() {
            let configured = trunk.settings.sources.iter().copied();
            let found = trunk.places.iter().map(|(flow, _)| flow.peer.ip());
            for address in configured.chain(found) {
                self.sources.entry(address.to_canonical()).or_insert(index);
            }
        }
    }

    /// The trunk that sends from this address.
    pub(crate) fn of_source(&self, source: IpAddr) -> Option<&Trunk> {
        self.sources.get(&source.to_canonical()).and_then(|index| self.trunks.get(*index))
    }

    pub(crate) fn get(&self, name: &SipName) -> Option<&Trunk> {
        self.trunks.iter().find(|trunk| trunk.name == *name)
    }

    /// By its label.
    pub(crate) fn labelled(&mut self, label: &str) -> Option<&mut Trunk> {
        let name = label.strip_prefix(TRUNK)?;
        self.trunks.iter_mut().find(|trunk| trunk.name.as_str() == name)
    }

    /// Whether trunks are probed.
    pub(crate) fn serve(&mut self, serving: bool, now: Micros) {
        self.serving = serving;
        for trunk in &mut self.trunks {
            trunk.probe = None;
            trunk.misses = 0;
            trunk.next_probe = trunk.settings.probe.filter(|_| serving).map(|_| now);
        }
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.serving
    }

    /// Other settings count from now on. What is known of trunks that are as they were is kept.
    pub(crate) fn configure(&mut self, setup: &Setup, now: Micros) {
        let (serving, probes) = (self.serving, self.probes);
        let before = std::mem::take(&mut self.trunks);
        *self = Self::new(setup, now);
        self.probes = probes;
        self.serve(serving, now);
        for trunk in &mut self.trunks {
            let Some(before) = before.iter().find(|before| before.name == trunk.name) else { continue };
            trunk.calls = before.calls;
            trunk.counted = before.counted;
            if before.settings == trunk.settings {
                trunk.places.clone_from(&before.places);
                trunk.look_up_at = before.look_up_at;
                trunk.out_of_service = before.out_of_service;
            }
        }
        self.list_sources();
    }

    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        self.trunks.iter().filter_map(|trunk| trunk.next_deadline(self.serving)).min()
    }

    pub(crate) fn due(&mut self, setup: &Setup, now: Micros, out: &mut Outputs) {
        for index in 0..self.trunks.len() {
            let Some(trunk) = self.trunks.get_mut(index) else { continue };
            if trunk.look_up_at.is_some_and(|at| at <= now) {
                trunk.look_up_at = Some(now + LOOK_AGAIN);
                out.questions.push(trunk.question());
            }
            trunk.send_again(now, out);
            trunk.rests_until = trunk.rests_until.filter(|until| *until > now);
            if trunk.probe.as_ref().is_some_and(|probe| probe.sent_at + PROBE_LASTS <= now) {
                trunk.missed("no answer to OPTIONS", out);
            }
            if trunk.next_probe.is_some_and(|at| at <= now) {
                self.probes = self.probes.wrapping_add(1);
                let number = self.probes;
                trunk.begin_probe(index, number, self.salt, setup, now, out);
            }
        }
    }

    /// A name was looked up.
    pub(crate) fn located(
        &mut self,
        name: &SipName,
        places: Result<(&[Place], Duration), &str>,
        setup: &Setup,
        now: Micros,
        out: &mut Outputs,
    ) {
        let Some(trunk) = self.trunks.iter_mut().find(|trunk| trunk.name == *name) else { return };
        match places {
            Ok((places, good_for)) => {
                let flow = |place: &Place| {
                    let flow = flow_of(&trunk.settings, setup, place.transport, place.address)?;
                    Some((flow, place.transport))
                };
                trunk.places = places.iter().filter_map(flow).collect();
                trunk.look_up_at = Some(now + good_for);
                if trunk.places.is_empty() {
                    trunk.out("no place of it can be reached from the listen addresses", out);
                }
            }
            // What was found before is good for as long as nothing better is known.
            Err(why) if trunk.places.is_empty() => trunk.out(why, out),
            Err(_) => {}
        }
        self.list_sources();
    }

    /// Writes what is known of each, in the text format of Prometheus.
    pub(crate) fn write(&self, out: &mut String) {
        if self.trunks.is_empty() {
            return;
        }
        type Read = fn(&Trunk) -> u64;
        let kinds: [(&str, &str, &str, Read); 5] = [
            ("in_service", "gauge", "1 while calls may go by way of the trunk", |trunk| {
                u64::from(!trunk.out_of_service)
            }),
            ("calls", "gauge", "Calls by way of the trunk, either way", |trunk| trunk.calls.into()),
            ("attempts_total", "counter", "Calls that were tried by way of the trunk", |trunk| {
                trunk.counted.attempts
            }),
            ("answered_total", "counter", "Of these, those that were answered", |trunk| {
                trunk.counted.answered
            }),
            ("failures_total", "counter", "Of these, those that the trunk did not take", |trunk| {
                trunk.counted.failed
            }),
        ];
        for (name, kind, help, read) in kinds {
            let name = format!("takeover_sip_trunk_{name}");
            let _ = write!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}\n");
            for trunk in &self.trunks {
                let _ = writeln!(out, "{name}{{trunk=\"{}\"}} {}", trunk.name, read(trunk));
            }
        }
    }

    /// A response came. False: it is of no probe.
    pub(crate) fn answered(&mut self, branch: &str, code: u16, now: Micros, out: &mut Outputs) -> bool {
        let Some(rest) = branch.strip_prefix(BRANCH) else { return false };
        let mut parts = rest.split('-').map(|part| u32::from_str_radix(part, 16));
        let (Some(Ok(salt)), Some(Ok(trunk)), Some(Ok(number))) = (parts.next(), parts.next(), parts.next())
        else {
            return true;
        };
        let trunk = usize::try_from(trunk).ok().and_then(|trunk| self.trunks.get_mut(trunk));
        let Some(trunk) = trunk.filter(|_| salt == self.salt) else { return true };
        if code < 200 || trunk.probe.as_ref().is_none_or(|probe| probe.number != number) {
            return true;
        }
        match code {
            408 | 503 => trunk.missed(&format!("OPTIONS was answered with {code}"), out),
            _ => trunk.found(now, out),
        }
        true
    }
}

impl Trunk {
    /// Where calls go, the best place first; none while it is out of service, has as many calls as it may, or has said
    /// that it wants none.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Flow, Transport)> {
        let full = self.settings.calls.is_some_and(|most| self.calls >= most);
        let closed = full || self.out_of_service || self.rests_until.is_some();
        let most = if closed { 0 } else { self.places.len() };
        self.places.iter().copied().take(most)
    }

    pub(crate) fn label(&self) -> String {
        format!("{TRUNK}{}", self.name)
    }

    /// The URI that a number is called by.
    pub(crate) fn uri(&self, number: &str, flow: Flow, transport: Transport) -> String {
        let host = &self.settings.host;
        let host = if host.parse::<IpAddr>().is_ok() { spelled(flow.peer.ip()) } else { host.clone() };
        let port = self.settings.port.map(|port| format!(":{port}")).unwrap_or_default();
        match transport {
            Transport::Udp => format!("sip:{number}@{host}{port}"),
            Transport::Tcp => format!("sip:{number}@{host}{port};transport=tcp"),
            Transport::Tls => format!("sip:{number}@{host}{port};transport=tls"),
        }
    }

    /// It did not take a call.
    pub(crate) fn failed(&mut self, retry_after_s: Option<u32>, now: Micros) {
        self.counted.failed += 1;
        if let Some(rest_s) = retry_after_s.filter(|rest_s| *rest_s > 0) {
            self.rests_until = Some(now + Duration::from_secs(u64::from(rest_s.min(LONGEST_REST_S))));
        }
    }

    fn question(&self) -> Question {
        Question {
            trunk: self.name.clone(),
            host: self.settings.host.clone(),
            port: self.settings.port,
            transport: self.settings.transport.map(of),
        }
    }

    fn next_deadline(&self, serving: bool) -> Option<Micros> {
        let probe = self.probe.as_ref().map(|probe| {
            let again = PROBE_AGAIN.get(probe.again).map(|pause| probe.sent_at + *pause);
            again.unwrap_or(probe.sent_at + PROBE_LASTS)
        });
        let next = self.next_probe.filter(|_| serving && self.probe.is_none());
        [self.look_up_at, probe, next, self.rests_until].into_iter().flatten().min()
    }

    fn begin_probe(
        &mut self,
        index: usize,
        number: u32,
        salt: u32,
        setup: &Setup,
        now: Micros,
        out: &mut Outputs,
    ) {
        let Some(every) = self.settings.probe else { return };
        self.next_probe = Some(now + every);
        let Some((flow, transport)) = self.places.first().copied() else { return };
        let Some(own) = setup.address(flow) else { return };
        let uri = self.uri("", flow, transport).replacen("sip:@", "sip:", 1);
        let via = match transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        };
        let mut bytes = Vec::with_capacity(512);
        Draft::request(&mut bytes, "OPTIONS", &uri)
            .header(
                "Via",
                format_args!("SIP/2.0/{via} {own};rport;branch={BRANCH}{salt:x}-{index:x}-{number:x}"),
            )
            .header("Max-Forwards", 70)
            .header("From", format_args!("<sip:{own}>;tag={salt:x}"))
            .header("To", format_args!("<{uri}>"))
            .header("Call-ID", format_args!("probe-{salt:x}-{index:x}@{own}"))
            .header("CSeq", format_args!("{number} OPTIONS"))
            .header("User-Agent", &setup.server)
            .finish();
        let wire = Wire::from(bytes.as_slice());
        out.messages.push(Outgoing { flow, wire: wire.clone(), call: None, transaction: None });
        let again = if transport.is_reliable() { PROBE_AGAIN.len() } else { 0 };
        self.probe = Some(Probe { number, wire, flow, sent_at: now, again });
    }

    fn send_again(&mut self, now: Micros, out: &mut Outputs) {
        let Some(probe) = &mut self.probe else { return };
        if PROBE_AGAIN.get(probe.again).is_some_and(|pause| probe.sent_at + *pause <= now) {
            probe.again += 1;
            let (flow, wire) = (probe.flow, probe.wire.clone());
            out.messages.push(Outgoing { flow, wire, call: None, transaction: None });
        }
    }

    fn found(&mut self, now: Micros, out: &mut Outputs) {
        self.probe = None;
        self.misses = 0;
        self.next_probe = self.settings.probe.map(|every| now + every);
        if std::mem::take(&mut self.out_of_service) {
            out.notices.push(Notice::TrunkIn { trunk: self.name.clone() });
        }
    }

    fn missed(&mut self, why: &str, out: &mut Outputs) {
        self.probe = None;
        self.misses = self.misses.saturating_add(1);
        // The next best place may answer.
        if !self.places.is_empty() {
            self.places.rotate_left(1);
        }
        if self.misses >= self.settings.probe_failures.max(1) {
            self.out(why, out);
        }
    }

    fn out(&mut self, why: &str, out: &mut Outputs) {
        if !std::mem::replace(&mut self.out_of_service, true) {
            out.notices.push(Notice::TrunkOut { trunk: self.name.clone(), why: why.to_owned() });
        }
    }
}

fn flow_of(settings: &SipTrunk, setup: &Setup, transport: Transport, peer: SocketAddr) -> Option<Flow> {
    match settings.from {
        Some(interface) => Some(Flow { interface: u8::try_from(interface).ok()?, peer }),
        None => setup.flow_to(transport, peer),
    }
}
