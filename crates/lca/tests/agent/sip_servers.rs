//! What SIP Servers are told by file and vouched for, what they say of their copies, and their pages.

use crate::modes::Application;
use crate::scs::{self, Agent, Scs, cluster, sh};
use control_link::ca::Issued;
use control_link::delegation::{self, Delegate};
use control_link::messages::{FromAgent, FromApplication, ToAgent, ToApplication};
use domain::{
    AppStatus, Cluster, Epoch, RunMode, SipAssignment, SipLimits, SipListen, SipRegistrations,
    SipReplication, SipSecret, SipSettings, SipTimers, SipTransport, SipUser, Standby,
};
use netlab::Lab;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const HTTP_PORT: u16 = 7480;

fn settings(secret: &str) -> SipSettings {
    let alice = SipUser {
        secret: SipSecret { sha256: None, md5: Some(secret.to_owned()) },
        calls: None,
        outside: true,
    };
    SipSettings {
        domains: vec!["example.com".to_owned()],
        listen: vec![SipListen {
            transport: SipTransport::Udp,
            address: "192.0.2.100:5060".parse().unwrap(),
        }],
        tls: None,
        registrations: SipRegistrations::default(),
        users: BTreeMap::from([("alice".parse().unwrap(), alice)]),
        trunks: BTreeMap::new(),
        routes: Vec::new(),
        limits: SipLimits::default(),
        timers: SipTimers::default(),
        replication: SipReplication::default(),
        http_port: Some(HTTP_PORT),
        cdr_directory: None,
        cdr_log: 20,
    }
}

/// One SIP Server that runs as `nobody` and has the path of its settings written down.
fn part(note: &Path, secret: &str) -> Cluster {
    let mut server = sh(&format!("echo $TAKEOVER_SIP_SETTINGS >> {}; exec sleep 1000", note.display()));
    server.user = Some("nobody".to_owned());
    let mut cluster = cluster([("sip1", server)]);
    cluster.pairs.values_mut().next().unwrap().sip = Some(Box::new(settings(secret)));
    cluster
}

fn told(path: &Path) -> SipAssignment {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub fn settings_reach_a_sip_server_and_nobody_else(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let mut agent = Agent::start(lab, &scs);
    let note = agent.directory().join("note");
    std::fs::write(&note, "").unwrap();
    for (path, mode) in [(agent.directory(), 0o755), (note.as_path(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    scs.welcome(part(&note, "0a"));
    scs.app_is("sip1", AppStatus::Started);
    let app = Application::accept(&agent, "sip1");
    app.tell(&FromApplication::RunMode { ref_id: None, mode: RunMode::Backup, epoch: Epoch(0) });
    // It may have changed between its reading the file and now.
    assert_eq!(app.hear(), ToApplication::Reconfigure);

    let path = scs::wait_for(|| std::fs::read_to_string(&note).ok().filter(|text| text.ends_with('\n')));
    let path = Path::new(path.trim()).to_owned();
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!(found.mode() & 0o777, 0o600);
    assert_ne!(found.uid(), 0, "it is its user's");
    let assignment = told(&path);
    assert_eq!((assignment.this.app.as_str(), assignment.other.app.as_str()), ("sip1", "sip1-2"));
    assert_eq!(assignment.other.address, "192.0.2.13".parse::<std::net::IpAddr>().unwrap());
    assert_eq!(assignment.settings, settings("0a"));

    // What the agent keeps for its own start has the same secrets in it.
    let kept = scs::wait_for(|| std::fs::metadata(agent.directory().join("state/cluster.json")).ok());
    assert_eq!(kept.mode() & 0o777, 0o600);

    // It is vouched for: the certificate can be used, and is nobody else's either.
    let tls = path.parent().unwrap().join("sip1.tls");
    let files =
        Issued { certificate: tls.join("sip1.pem"), key: tls.join("sip1.key"), ca: tls.join("ca.pem") };
    let peer = Delegate { host: "host2".parse().unwrap(), application: "sip1-2".parse().unwrap() };
    delegation::load(&files, &peer).unwrap();
    let key = std::fs::metadata(&files.key).unwrap();
    assert_eq!((key.mode() & 0o777, key.uid()), (0o600, found.uid()));

    // What changes is written first and told then; what is the same is not told.
    scs.assign(part(&note, "0b"));
    assert_eq!(app.hear(), ToApplication::Reconfigure);
    assert_eq!(told(&path).settings, settings("0b"));

    // An agent that comes back leaves file and certificate as they are.
    let before = std::fs::metadata(&files.certificate).unwrap().modified().unwrap();
    agent.state_is_saved(|state| state.contains("\"status\":\"started\""));
    agent.kill();
    agent.start_again(lab, &scs);
    scs.welcome(part(&note, "0b"));
    scs.app(|app| app.mode == Some(RunMode::Backup) || app.status == AppStatus::Started);
    assert_eq!(std::fs::metadata(&files.certificate).unwrap().modified().unwrap(), before);

    // Without settings there is no file.
    let mut without = part(&note, "0b");
    without.pairs.values_mut().next().unwrap().sip = None;
    scs.assign(without);
    scs::wait_for(|| (!path.exists()).then_some(()));
}

pub fn copies_and_pages_of_a_sip_server_are_passed_on(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let agent = Agent::start(lab, &scs);
    scs.welcome(part(&agent.directory().join("note"), "0a"));
    scs.app_is("sip1", AppStatus::Started);
    let app = Application::accept(&agent, "sip1");
    app.tell(&FromApplication::RunMode { ref_id: None, mode: RunMode::Backup, epoch: Epoch(0) });
    let mut last = Standby::default();
    // More often than anybody wants to know: the newest arrives.
    for confirmed in 1..=20 {
        last = Standby { lag_ms: Some(1), confirmed, ..Standby::default() };
        app.tell(&FromApplication::Synced { synced: true, standby: Some(last) });
    }
    let message =
        scs.message(|message| matches!(message, FromAgent::Standby { standby, .. } if *standby == last));
    let FromAgent::Standby { app: whose, .. } = message else { unreachable!() };
    assert_eq!(whose.as_str(), "sip1");

    let pages = lab.in_host("host1", || TcpListener::bind(("192.0.2.11", HTTP_PORT)).unwrap()).unwrap();
    let mut fetched = |number: u64, app: &str, path: &str| {
        let (app, path) = (app.parse().unwrap(), path.to_owned());
        scs.send(&ToAgent::Fetch { number, app, path });
        let ours =
            |message: &FromAgent| matches!(message, FromAgent::Fetched { number: n, .. } if *n == number);
        match scs.message(ours) {
            FromAgent::Fetched { page, .. } => page,
            other => panic!("{other:?} is no page"),
        }
    };
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (mut stream, _) = pages.accept().unwrap();
            let mut request = [0; 1_024];
            let size = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"calls\":[]}").unwrap();
            String::from_utf8_lossy(&request[..size]).into_owned()
        });
        assert_eq!(fetched(7, "sip1", "/calls?most=2"), Ok("{\"calls\":[]}".to_owned()));
        assert!(server.join().unwrap().starts_with("GET /calls?most=2 HTTP/1.0\r\n"));
    });
    for (number, app, path, why) in [
        (8, "sip2", "/calls", "no SIP settings"),
        (9, "sip1", "calls", "no path"),
        (10, "sip1", "/calls HTTP/1.1\r\nX: y", "no path"),
    ] {
        assert!(fetched(number, app, path).unwrap_err().contains(why), "{path}");
    }
    drop(pages);
    assert!(fetched(11, "sip1", "/calls").unwrap_err().contains("cannot be reached"));
}
