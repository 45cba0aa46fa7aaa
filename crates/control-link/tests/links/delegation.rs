//! Applications that show what their agents have signed: the two of a pair find each other, and nobody else gets in, nor
//! do they get in anywhere else.

use crate::lab::{BOUND, CONTROL, Lab, Server};
use control_link::delegation::{Delegate, delegate, load};
use control_link::{Acceptor, Expected, Identity, Limits, Link, Received, Role, ca, dial};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

fn member(host: &str, application: &str) -> Delegate {
    Delegate { host: host.parse().unwrap(), application: application.parse().unwrap() }
}

/// What the agent of a host makes for an application.
fn files(lab: &Lab, this: &Delegate) -> ca::Issued {
    let agent_dir = lab.path(this.host.as_str());
    let agent = ca::Issued {
        certificate: agent_dir.join(format!("{}.pem", this.host)),
        key: agent_dir.join(format!("{}.key", this.host)),
        ca: agent_dir.join("ca.pem"),
    };
    if !agent.certificate.exists() {
        lab.issue(Role::Agent, this.host.as_str());
    }
    let dir = lab.path("run");
    delegate(&agent.certificate, &agent.key, &agent.ca, &this.application, &dir).unwrap()
}

fn identity(lab: &Lab, this: &Delegate, peer: &Delegate) -> Identity {
    load(&files(lab, this), peer).unwrap()
}

struct Listening {
    acceptor: Acceptor,
    links: Receiver<Link>,
    refusals: Receiver<(SocketAddr, String)>,
}

impl Listening {
    fn start(identity: &Identity) -> Self {
        let (to_links, links) = channel();
        let (to_refusals, refusals) = channel();
        let acceptor = Acceptor::start(
            vec![TcpListener::bind("127.0.0.1:0").unwrap()],
            identity,
            Limits::default(),
            |_| Ok(()),
            move |link| drop(to_links.send(link)),
            move |address, why| drop(to_refusals.send((address, why))),
        );
        Self { acceptor: acceptor.unwrap(), links, refusals }
    }

    fn refuses(&self, dialer: &Identity) -> (String, String) {
        let dialed = dial(self.acceptor.addresses()[0], dialer, &Expected::any(Role::Agent), BOUND);
        let error = dialed.map(|_| ()).unwrap_err().to_string();
        let refusal = self.refusals.recv_timeout(BOUND).unwrap().1;
        (error, refusal)
    }
}

#[test]
fn the_two_of_a_pair_find_each_other() {
    let lab = Lab::new();
    let (one, two) = (member("host1", "sip1"), member("host2", "sip2"));
    let listening = Listening::start(&identity(&lab, &one, &two));
    let expected = Expected { role: Role::Agent, name: Some("host1".to_owned()) };
    let mut near =
        dial(listening.acceptor.addresses()[0], &identity(&lab, &two, &one), &expected, BOUND).unwrap();
    let mut far = listening.links.recv_timeout(BOUND).unwrap();
    assert_eq!(far.peer().to_string(), "agent host2");

    // Bytes of their own protocol, more than one record and one turn take.
    let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    near.send_bytes(&sent).unwrap();
    let (mut received, deadline) = (Vec::new(), Instant::now() + BOUND);
    while received.len() < sent.len() {
        assert!(Instant::now() < deadline);
        near.flush().unwrap();
        if far.receive_bytes(&mut received).unwrap() == Received::All {
            std::thread::yield_now();
        }
    }
    assert!(received == sent && near.queued() == 0);
    drop(near);
    while far.receive_bytes(&mut received).is_ok() {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn nobody_else_gets_in() {
    let (lab, foreign) = (Lab::new(), Lab::new());
    let (one, two) = (member("host1", "sip1"), member("host2", "sip2"));
    let listening = Listening::start(&identity(&lab, &one, &two));

    let refused = listening.refuses(&identity(&lab, &member("host3", "sip2"), &one));
    assert!(refused.1.contains("agent host3 vouches for it, not the agent of host2"), "{refused:?}");
    let refused = listening.refuses(&identity(&lab, &member("host2", "other"), &one));
    assert!(refused.1.contains("it is application/other, not application/sip2"), "{refused:?}");
    let refused = listening.refuses(&identity(&foreign, &two, &one));
    assert!(refused.0.contains("was not issued by this cluster's CA"), "{refused:?}");

    // One who trusts us, so that only our check is left.
    let mut theirs = files(&foreign, &two);
    theirs.ca = lab.path("ca/ca.pem");
    let refused = listening.refuses(&load(&theirs, &one).unwrap());
    assert!(refused.1.contains("was not issued by this cluster's CA"), "{refused:?}");

    // An application cannot vouch for another one: what is behind it must be an agent of this CA.
    let middle = files(&lab, &member("host2", "sip9"));
    let deep =
        delegate(&middle.certificate, &middle.key, &middle.ca, &two.application, &lab.path("deep")).unwrap();
    assert!(load(&deep, &one).is_err(), "our own side does not even try");
    let address = listening.acceptor.addresses()[0];
    let mut client = lab.raw_client(address, Some(&deep), &[b"takeover-replication"]);
    std::io::Read::read(&mut client, &mut [0; 64]).unwrap_err();
    let refusal = listening.refusals.recv_timeout(BOUND).unwrap().1;
    assert!(refusal.starts_with("the peer's certificate"), "{refusal}");

    // And the one who is expected still does.
    let near = dial(
        listening.acceptor.addresses()[0],
        &identity(&lab, &two, &one),
        &Expected::any(Role::Agent),
        BOUND,
    );
    near.unwrap();
}

#[test]
fn the_dialer_looks_as_well() {
    let lab = Lab::new();
    let (one, two) = (member("host1", "sip1"), member("host2", "sip2"));
    let impostor = Listening::start(&identity(&lab, &member("host3", "sip1"), &two));
    let refused = impostor.refuses(&identity(&lab, &two, &one));
    assert!(refused.0.contains("agent host3 vouches for it, not the agent of host1"), "{refused:?}");
}

#[test]
fn what_an_agent_signs_is_worth_nothing_on_the_control_link() {
    let lab = Lab::new();
    let scs = Server::start(&lab.identity(Role::Scs, "scs1"));
    let signed = files(&lab, &member("host1", "sip1"));
    // Its certificate with the agent's behind it, as it shows it, under the control link's own protocol.
    let mut client = lab.raw_client(scs.address(), Some(&signed), CONTROL);
    let error = std::io::Read::read(&mut client, &mut [0; 64]).unwrap_err().to_string();
    assert!(error.contains("Certificate"), "{error}");
    let refusal = scs.refusal();
    assert!(refusal.starts_with("the peer's certificate"), "{refusal}");
    // Nor can an agent come in its application's place.
    let (one, two) = (member("host1", "sip1"), member("host2", "sip2"));
    let listening = Listening::start(&identity(&lab, &one, &two));
    let (_, refusal) = listening.refuses(&lab.identity(Role::Agent, "host4"));
    assert!(!refusal.is_empty());
}

#[test]
fn files_are_replaced_and_only_ours_to_read() {
    let lab = Lab::new();
    let (one, two) = (member("host1", "sip1"), member("host2", "sip2"));
    let first = files(&lab, &one);
    let before = std::fs::read(&first.key).unwrap();
    let second = files(&lab, &one);
    assert_eq!(first, second);
    assert_ne!(before, std::fs::read(&second.key).unwrap());
    assert_eq!(std::fs::metadata(&second.key).unwrap().permissions().mode() & 0o777, 0o600);
    let ours = load(&second, &two).unwrap();
    let agent = lab.path("host1/host1.pem");
    assert_eq!(ours.not_after(), ca::not_after(&agent).unwrap(), "it ends with the agent's");
}
