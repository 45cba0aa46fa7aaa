//! The TLS port: operators get in by their certificate, which names them in the audit; nobody else does.

use crate::world::World;
use control_link::{Identity, Role, ca};
use sci::api::{Accepted, Because, Version};
use sci::client::{Client, ClientError, Credentials, Target, TargetError};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

fn identity(directory: &Path, role: Role, name: &str) -> Identity {
    let issued = ca::issue(&directory.join("ca"), role, name, &directory.join(name)).unwrap();
    Identity::load(&issued.certificate, &issued.key, &directory.join("ca/ca.pem")).unwrap()
}

fn world() -> (World, SocketAddr) {
    let mut address = None;
    let world = World::with_tls(|directory| {
        ca::init(&directory.join("ca"), "test").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        address = Some(listener.local_addr().unwrap());
        Some((listener, identity(directory, Role::Scs, "scs")))
    });
    (world, address.unwrap())
}

fn client(address: SocketAddr, identity: Identity) -> Client {
    Client::new(Target::Https { address: address.to_string(), identity: Box::new(identity) })
}

#[test]
fn an_operator_gets_in_and_is_named_in_the_audit() {
    let (world, address) = world();
    let directory = world.directory.path();
    ca::issue(&directory.join("ca"), Role::Operator, "ann", &directory.join("ann")).unwrap();
    let (certificate, key, ca) =
        (directory.join("ann/ann.pem"), directory.join("ann/ann.key"), directory.join("ca/ca.pem"));
    let credentials = Credentials {
        certificate: Some(&certificate),
        key: Some(&key),
        ca: Some(&ca),
        ..Credentials::default()
    };
    let client = Client::new(Target::parse(&format!("https://{address}"), credentials).unwrap());
    world.run(async {
        client.get::<Version>("/version", &()).await.unwrap();
        let because = Because { reason: "drill".to_owned() };
        client.post::<Accepted>("/applications/sip2/start", &because).await.unwrap();
    });
    let audit = world.audit();
    assert_eq!((audit[0].who.as_str(), audit[0].what.as_str()), ("ann", "start sip2"));
    assert!(audit[0].from.starts_with("127.0.0.1:"), "{audit:?}");
}

#[test]
fn agents_and_strangers_stay_outside() {
    let (world, address) = world();
    let agent = client(address, identity(world.directory.path(), Role::Agent, "host1"));
    let foreign_ca = tempfile::tempdir().unwrap();
    ca::init(&foreign_ca.path().join("ca"), "foreign").unwrap();
    let stranger = client(address, identity(foreign_ca.path(), Role::Operator, "eve"));
    world.run(async {
        let error = agent.get::<Version>("/version", &()).await.unwrap_err();
        let ClientError::Problem(problem) = error else { panic!("{error}") };
        assert_eq!(problem.status, 403);
        assert!(problem.detail.contains("for operators"), "{problem}");
        let error = agent.post::<Accepted>("/applications/sip1/stop", &Because::default()).await.unwrap_err();
        assert!(matches!(error, ClientError::Problem(problem) if problem.status == 403));

        let error = stranger.get::<Version>("/version", &()).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    });
    assert!(world.audit().is_empty(), "nothing was ordered");
}

#[test]
fn a_client_talks_to_no_impostor() {
    let (world, _) = world();
    let directory = world.directory.path();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // An agent of the same cluster in the place of the SCS.
    let unix = sci::server::bind_unix(&directory.join("impostor.sock")).unwrap();
    let tls = Some((listener, identity(directory, Role::Agent, "host1")));
    let _impostor = sci::server::serve(
        world.handle.clone(),
        sci::server::Listeners { unix, tls, web: None, web_address: None, oidc: None },
        None,
        "0",
    )
    .unwrap();
    let ann = client(address, identity(directory, Role::Operator, "ann"));
    let error = world.run(async { ann.get::<Version>("/version", &()).await.unwrap_err() });
    assert!(error.to_string().contains("agent host1, not an SCS"), "{error}");
}

#[test]
fn addresses_are_checked_before_anything_is_sent() {
    let none = Credentials::default();
    for bad in
        ["", "unix:", "scs1:7401", "http://scs1:7401", "https://scs1", "https://:7401", "https://scs1:port"]
    {
        assert!(matches!(Target::parse(bad, none), Err(TargetError::Syntax(_))), "{bad}");
    }
    assert!(matches!(Target::parse("https://[::1]:7401", none), Err(TargetError::NoIdentity)));
    assert_eq!(Target::parse("unix:/run/x.sock", none).unwrap().to_string(), "unix:/run/x.sock");
}
