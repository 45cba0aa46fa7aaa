//! Agents and each other: they meet, notice silence and its end, meet again after restarts, all of it with the SCS or
//! without; and strangers, or those who do not behave, are refused and disturb nobody.

use crate::is_log;
use crate::scs::{Agent, Scs, cluster, host_at, wait_for};
use crate::vips::modeless;
use crate::voice::Voice;
use control_link::messages::{Fact, FromPeer, MAX_ITEMS, PROTOCOL};
use control_link::{Acceptor, DialError, Expected, Identity, Limits, Link, LinkError, Role, ca, dial};
use domain::{AppStatus, Application, Cluster, Epoch, HostName, PeerReport, events};
use lease::{Body, Kind, Message, PairId, Why};
use mio::{Events, Interest, Poll, Token};
use netlab::{Direction, Lab, Nic};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// No wait is longer, unless something is broken.
const LIMIT: Duration = Duration::from_secs(20);
/// What no timer of the agents comes near to.
const SLACK: Duration = Duration::from_millis(400);

/// Adds a host to the laboratory.
fn add_host(lab: &mut Lab, host: &str, address: &str) {
    let with_prefix = format!("{address}/24");
    lab.host(host, &[Nic { segment: "lan", name: "eth0", addresses: &[&with_prefix] }]).unwrap();
}

/// app1 on host1, and the other member of its pair on `other`.
pub fn shared_with(other: &str, address: &str) -> Cluster {
    let mut cluster = cluster([("app1", modeless())]);
    let host: HostName = other.parse().unwrap();
    cluster.hosts.insert(host.clone(), host_at(address));
    let member = cluster.applications.get_mut(&"app1-2".parse().unwrap()).unwrap();
    *member = Application { host, ..member.clone() };
    cluster
}

pub fn peer(fact: &Fact, wanted: &str, is_heard: bool) -> bool {
    matches!(fact, Fact::Peer(PeerReport { host, heard }) if host.as_str() == wanted && *heard == is_heard)
}

pub fn two_agents_notice_silence_and_its_end(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    add_host(lab, "host2", "192.0.2.13");
    let part = shared_with("host2", "192.0.2.13");
    let one = Agent::start(lab, &scs);
    scs.welcome(part.clone());
    lab.block_between("host2", "scs", true).unwrap();
    let two = Agent::start_with(lab, &scs, "host2", &part);
    scs.fact(|fact| peer(fact, "host2", true));
    scs.fact(|fact| is_log(fact, events::CONNECTED));
    two.has_said("connected to the agent of host1", 1);

    // A short interruption: both notice it in time, and the connection is as good as before.
    let cut = netlab::now();
    lab.cut("host2").unwrap();
    let silent = scs.report(|fact| peer(fact, "host2", false)).at.since(cut);
    println!("silence noticed {} ms after the cut", silent.as_millis());
    let (silence, every) = (Duration::from_millis(450), Duration::from_millis(100));
    assert!((silence - every..silence + SLACK).contains(&silent), "{silent:?}");
    two.has_said("the agent of host1 is silent: nothing was heard for 450ms", 1);
    lab.heal("host2").unwrap();
    scs.fact(|fact| peer(fact, "host2", true));
    two.has_said("the agent of host1 is heard again", 1);
    assert!(!one.said().contains("the connection to the agent of host2 is lost"), "{}", one.said());

    // A long one: they meet again.
    lab.cut("host2").unwrap();
    scs.fact(|fact| peer(fact, "host2", false));
    for (agent, other) in [(&one, "host2"), (&two, "host1")] {
        agent.has_said(&format!("the connection to the agent of {other} is lost: it stays silent"), 1);
    }
    lab.heal("host2").unwrap();
    scs.fact(|fact| peer(fact, "host2", true));
    for (agent, other) in [(&one, "host2"), (&two, "host1")] {
        agent.has_said(&format!("connected to the agent of {other}"), 2);
    }
}

/// An agent that hears nothing goes on sending. Its datagrams prove half of a connection: that is silence, noticed once.
pub fn an_agent_that_hears_nothing_is_silent_once(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    add_host(lab, "host2", "192.0.2.13");
    let part = shared_with("host2", "192.0.2.13");
    let one = Agent::start(lab, &scs);
    scs.welcome(part.clone());
    lab.block_between("host2", "scs", true).unwrap();
    let _two = Agent::start_with(lab, &scs, "host2", &part);
    scs.fact(|fact| peer(fact, "host2", true));

    lab.one_way("host2", Direction::ToHost, true).unwrap();
    scs.fact(|fact| peer(fact, "host2", false));
    one.has_said("the connection to the agent of host2 is lost", 1);
    let said = one.said();
    assert_eq!(said.matches("the agent of host2 is silent").count(), 1, "{said}");
    assert!(!said.contains("heard again"), "{said}");

    lab.one_way("host2", Direction::ToHost, false).unwrap();
    scs.fact(|fact| peer(fact, "host2", true));
}

pub fn agents_meet_without_an_scs_and_after_restarts(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    add_host(lab, "host2", "192.0.2.13");
    let part = shared_with("host2", "192.0.2.13");
    lab.cut("scs").unwrap();
    let mut one = Agent::start_with(lab, &scs, "host1", &part);
    let mut two = Agent::start_with(lab, &scs, "host2", &part);
    one.has_said("connected to the agent of host2", 1);
    two.has_said("connected to the agent of host1", 1);

    // Either end, the one that dials and the other.
    two.kill();
    one.has_said("the connection to the agent of host2 is lost", 1);
    two.start_again(lab, &scs);
    one.has_said("connected to the agent of host2", 2);
    two.has_said("connected to the agent of host1", 2);
    one.kill();
    two.has_said("the connection to the agent of host1 is lost", 1);
    one.start_again(lab, &scs);
    one.has_said("connected to the agent of host2", 3);
    two.has_said("connected to the agent of host1", 3);

    // The SCS comes back: it is told who is heard. When the pair goes, so does the connection.
    drop(two);
    one.has_said("the connection to the agent of host2 is lost", 2);
    lab.heal("scs").unwrap();
    scs.welcome(part);
    assert_eq!(scs.peers, [PeerReport { host: "host2".parse().unwrap(), heard: false }]);
}

pub fn an_scs_of_the_older_protocol_gets_heartbeats_alone(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    add_host(lab, "host2", "192.0.2.13");
    let part = shared_with("host2", "192.0.2.13");
    lab.block_between("host2", "scs", true).unwrap();
    let _one = Agent::start(lab, &scs);
    let _two = Agent::start_with(lab, &scs, "host2", &part);
    scs.protocol = 1;
    scs.welcome(part.clone());
    scs.app_is("app1", AppStatus::Started);
    // The other agent is met, which would be reported, and the application is ready, which would be voted on.
    let met = |fact: &Fact| matches!(fact, Fact::Log(event) if event.text.contains("LCA on host2"));
    if !scs.seen.iter().any(met) {
        scs.fact(met);
    }
    for _ in 0..5 {
        scs.voice.next();
    }
    assert_eq!(scs.voice.messages(), []);

    scs.hang_up();
    scs.protocol = PROTOCOL;
    scs.welcome(part);
    assert_eq!(scs.peers, [PeerReport { host: "host2".parse().unwrap(), heard: true }]);
    wait_for(|| (!scs.voice.messages().is_empty()).then_some(()));
}

/// The agent of host0 played by hand, which dials the one of host1; its link, its datagrams.
pub struct Other {
    pub link: Link,
    poll: Poll,
    said: VecDeque<FromPeer>,
}

impl Other {
    pub fn dial(lab: &Lab, identity: &Identity) -> Result<Self, DialError> {
        let to: SocketAddr = "192.0.2.11:7401".parse().unwrap();
        let expected = Expected { role: Role::Agent, name: Some("host1".to_owned()) };
        let link = lab.in_host("host0", || dial(to, identity, &expected, LIMIT)).unwrap()?;
        Ok(Self::new(link))
    }

    fn new(mut link: Link) -> Self {
        let poll = Poll::new().unwrap();
        poll.registry().register(link.source(), Token(0), Interest::READABLE).unwrap();
        Self { link, poll, said: VecDeque::new() }
    }

    fn next(&mut self) -> Result<FromPeer, LinkError> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(message) = self.said.pop_front() {
                return Ok(message);
            }
            let mut said = Vec::new();
            let received = self.link.receive(&mut said);
            self.said.extend(said);
            if self.said.is_empty() {
                let _ = received?;
                let left = deadline.saturating_duration_since(Instant::now());
                assert!(!left.is_zero(), "the agent says nothing");
                self.poll.poll(&mut Events::with_capacity(8), Some(left)).unwrap();
            }
        }
    }

    /// Says hello and hears welcome; what the agent's datagrams are sealed with.
    pub fn greet(&mut self, voice: &Voice) {
        self.link.send(&hello(PROTOCOL)).unwrap();
        let FromPeer::Welcome { protocol: PROTOCOL, session, .. } = self.next().unwrap() else {
            panic!("welcome is the answer to hello")
        };
        voice.speak(self.link.seal(session).unwrap());
        assert_eq!(self.next().unwrap(), FromPeer::Pace { every_us: 100_000 });
    }

    /// Reads until the agent says goodbye; why.
    fn goodbye(&mut self) -> String {
        loop {
            match self.next() {
                Ok(FromPeer::Goodbye { why }) => return why,
                Ok(
                    FromPeer::Hello { .. }
                    | FromPeer::Welcome { .. }
                    | FromPeer::Pace { .. }
                    | FromPeer::Lease { .. },
                ) => {}
                Err(e) => panic!("no goodbye: {e}"),
            }
        }
    }
}

fn hello(protocol: u32) -> FromPeer {
    FromPeer::Hello { protocol, release: "test".to_owned() }
}

/// An agent on host1 whose SCS is played, and to which the agent of host0 is to come, also played.
fn expecting_host0(lab: &mut Lab) -> (Scs, Agent, Voice) {
    expecting_host0_with(lab, shared_with("host0", "192.0.2.20"))
}

/// The same with this part of the cluster.
pub fn expecting_host0_with(lab: &mut Lab, part: Cluster) -> (Scs, Agent, Voice) {
    let mut scs = Scs::start(lab);
    add_host(lab, "host0", "192.0.2.20");
    let agent = Agent::start(lab, &scs);
    scs.welcome(part);
    scs.app_is("app1", AppStatus::Started);
    let at: SocketAddr = "192.0.2.20:7401".parse().unwrap();
    let voice = Voice::start(lab.in_host("host0", || UdpSocket::bind(at).unwrap()).unwrap());
    // It listens a moment after it was told to.
    let to: SocketAddr = "192.0.2.11:7401".parse().unwrap();
    wait_for(|| lab.in_host("host0", || std::net::TcpStream::connect(to).ok()).unwrap());
    (scs, agent, voice)
}

pub fn votes_pass_and_a_replay_is_not_life(lab: &mut Lab) {
    let (mut scs, _agent, voice) = expecting_host0(lab);
    let mut other = Other::dial(lab, &scs.identity(Role::Agent, "host0")).unwrap();
    other.greet(&voice);
    scs.fact(|fact| peer(fact, "host0", true));
    let answered = wait_for(|| Some(voice.next()).filter(|heartbeat| heartbeat.heard.0 > 0));
    assert!(answered.heard < answered.at + Duration::from_micros(2));

    // Heartbeats come as often as the one end wants that wants more.
    other.link.send(&FromPeer::Pace { every_us: 20_000 }).unwrap();
    wait_for(|| {
        let first = voice.next();
        (voice.next().at.since(first.at) < Duration::from_millis(60)).then_some(())
    });

    // The agent's application is ready: it asks, in case. And its voter promises to whoever asks.
    let pair = PairId::of(&"pair-app1".parse().unwrap());
    let says = |voice: &Voice, is: &dyn Fn(&Body) -> bool| {
        voice.messages().iter().any(|message| message.pair == pair && is(&message.body))
    };
    wait_for(|| says(&voice, &|body| matches!(body, Body::Ask { kind: Kind::Standby, .. })).then_some(()));
    let epoch = Epoch(9);
    let ask = || {
        let (at, kind) = (netlab::now(), Kind::Hold { granted: epoch });
        Message { pair, body: Body::Ask { epoch, at, hold_us: 450_000, kind } }
    };
    wait_for(|| {
        voice.say(&[ask()]);
        says(&voice, &|body| matches!(body, Body::Promise { epoch: Epoch(9), .. })).then_some(())
    });

    // Silence, with old datagrams in it, is silence.
    voice.replay(voice.say(&[ask()]));
    scs.fact(|fact| peer(fact, "host0", false));
    let before = voice.count();
    wait_for(|| (voice.count() > before + 5).then_some(()));
    assert!(peer(scs.seen.iter().rfind(|fact| matches!(fact, Fact::Peer(_))).unwrap(), "host0", false));
    voice.be_silent(false);
    scs.fact(|fact| peer(fact, "host0", true));

    // What is urgent comes on the connection too.
    let release = Message { pair, body: Body::Release { epoch, why: Why::Ordered } };
    other.link.send(&FromPeer::Lease { messages: vec![release] }).unwrap();
    drop(other);
    scs.fact(|fact| peer(fact, "host0", false));
    scs.fact(|fact| is_log(fact, events::CONNECTION_LOST));
}

pub fn strangers_are_refused_by_an_agent(lab: &mut Lab) {
    let (mut scs, agent, voice) = expecting_host0(lab);
    for (role, name, expected) in [
        (Role::Agent, "host9", "host host9 shares no pair with this one"),
        // It is this end that dials, had they a pair.
        (Role::Agent, "host2", "is itself to be dialed"),
        (Role::Scs, "host0", "this port is for other agents, its certificate is for scs"),
        (Role::Operator, "host0", "this port is for other agents, its certificate is for operator"),
    ] {
        let refused = Other::dial(lab, &scs.identity(role, name)).err().expect("a stranger must be refused");
        assert!(matches!(&refused, DialError::Refused { why, .. } if why.contains(expected)), "{refused}");
    }
    let foreign = tempfile::tempdir().unwrap();
    ca::init(&foreign.path().join("ca"), "foreign").unwrap();
    let issued = ca::issue(&foreign.path().join("ca"), Role::Agent, "host0", foreign.path()).unwrap();
    let stranger = Identity::load(&issued.certificate, &issued.key, &issued.ca).unwrap();
    assert!(matches!(Other::dial(lab, &stranger), Err(DialError::Handshake { .. })));
    assert!(agent.said().contains("refused as another agent: 192.0.2.20:"), "{}", agent.said());

    let mut other = Other::dial(lab, &scs.identity(Role::Agent, "host0")).unwrap();
    other.greet(&voice);
    scs.fact(|fact| peer(fact, "host0", true));
}

pub fn who_does_not_behave_is_hung_up_on(lab: &mut Lab) {
    let (mut scs, _agent, voice) = expecting_host0(lab);
    let identity = scs.identity(Role::Agent, "host0");
    let ask = Message { pair: PairId(1), body: Body::Promise { epoch: Epoch(1), at: netlab::now() } };
    let lease = |count| FromPeer::Lease { messages: vec![ask; count] };
    let welcome = FromPeer::Welcome { protocol: PROTOCOL, release: String::new(), session: 1 };
    let wrong: [(&[FromPeer], &str); 6] = [
        (&[hello(1)], "upgrade it"),
        (&[welcome], "as if it were the other end"),
        (&[lease(1)], "its first message was no greeting"),
        (&[FromPeer::Pace { every_us: 1 }], "its first message was no greeting"),
        (&[hello(PROTOCOL), hello(PROTOCOL)], "it greets twice"),
        (&[hello(PROTOCOL + 1), lease(MAX_ITEMS + 1)], "lease messages"),
    ];
    for (messages, expected) in wrong {
        let mut other = Other::dial(lab, &identity).unwrap();
        for message in messages {
            other.link.send(message).unwrap();
        }
        let why = other.goodbye();
        assert!(why.contains(expected), "{why}");
        assert!(other.next().is_err(), "the connection is closed");
    }
    let mut other = Other::dial(lab, &identity).unwrap();
    other.link.send(&"no message of this protocol").unwrap();
    assert!(matches!(other.next(), Err(LinkError::Closed)));

    // One that says nothing is waited for, but not for long; and the next one counts at once.
    let mut mute = Other::dial(lab, &identity).unwrap();
    assert!(matches!(mute.next(), Err(LinkError::Closed)));
    let mut mute = Other::dial(lab, &identity).unwrap();
    let mut other = Other::dial(lab, &identity).unwrap();
    other.greet(&voice);
    assert!(matches!(mute.next(), Err(LinkError::Closed)));
    wait_for(|| {
        scs.fact(|fact| matches!(fact, Fact::Peer(_)));
        peer(scs.seen.last().unwrap(), "host0", true).then_some(())
    });
}

pub fn another_agent_is_not_taken_for_the_one_that_is_dialed(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    add_host(lab, "host2", "192.0.2.13");
    let agent = Agent::start(lab, &scs);
    let at: SocketAddr = "192.0.2.13:7401".parse().unwrap();
    let (sender, links) = channel();
    let accept = |identity: &Identity, sender: std::sync::mpsc::Sender<Link>| {
        let listener = lab.in_host("host2", || TcpListener::bind(at).unwrap()).unwrap();
        let on_link = move |link| drop(sender.send(link));
        Acceptor::start(vec![listener], identity, Limits::default(), |_| Ok(()), on_link, |_, _| {}).unwrap()
    };
    let impostor = accept(&scs.identity(Role::Agent, "host3"), sender.clone());
    scs.welcome(shared_with("host2", "192.0.2.13"));
    agent.has_said("192.0.2.13:7401 is agent host3, not agent host2", 1);
    drop(impostor);
    let _right = accept(&scs.identity(Role::Agent, "host2"), sender);
    // An impostor's end of the link may be there as well, which is closed.
    wait_for(|| {
        let mut other = Other::new(links.recv_timeout(LIMIT).unwrap());
        matches!(other.next(), Ok(FromPeer::Hello { protocol: PROTOCOL, .. })).then_some(())
    });
}
