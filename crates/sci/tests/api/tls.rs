//! The TLS port: operators get in by their certificate, which names them in the audit; nobody else does.

use crate::world::World;
use control_link::{Identity, Rights, Role, ca};
use sci::api::{Accepted, Because, Users, Version};
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
fn a_certificate_gives_the_rights_that_are_in_it() {
    let (world, address) = world();
    let directory = world.directory.path();
    let with = |name: &str, rights| {
        let out = directory.join(name);
        let issued = ca::issue_operator(&directory.join("ca"), name, rights, &out).unwrap();
        client(address, Identity::load(&issued.certificate, &issued.key, &issued.ca).unwrap())
    };
    let (wall, olga, root) =
        (with("wall", Rights::Viewer), with("olga", Rights::Operator), with("root", Rights::Administrator));
    world.run(async {
        let refused = |error: ClientError| {
            let ClientError::Problem(problem) = error else { panic!("{error}") };
            (problem.status, problem.detail)
        };
        wall.get::<Version>("/version", &()).await.unwrap();
        let order = Because { reason: "drill".to_owned() };
        let why = refused(wall.post::<Accepted>("/applications/sip2/start", &order).await.unwrap_err());
        assert_eq!(why, (403, "this needs the role operator; wall is viewer".to_owned()));
        olga.post::<Accepted>("/applications/sip2/start", &order).await.unwrap();
        let why = refused(olga.get::<Users>("/users", &()).await.unwrap_err());
        assert_eq!(why.0, 403, "{}", why.1);
        root.get::<Users>("/users", &()).await.unwrap();
    });
    let audit: Vec<_> = world.audit().into_iter().map(|record| (record.who, record.what)).collect();
    assert!(audit.contains(&("wall".to_owned(), "POST /applications/sip2/start".to_owned())), "{audit:?}");
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
