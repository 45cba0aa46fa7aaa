//! Conversations with the user agent server: what is asked, what is answered.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use domain::Micros;
use sip_proto::{
    Arrival, Duty, Framing, Limits, MAX_MESSAGE, Reply, Settings, Silence, UserAgentServer, parse,
};

/// A server and a client that sends to it.
struct Scene {
    server: UserAgentServer,
    arrival: Arrival,
}

impl Scene {
    fn new() -> Self {
        let settings = Settings {
            server: "test".to_owned(),
            domains: vec!["example.com".to_owned(), "[2001:db8::5]".to_owned()],
            limits: Limits { contacts: 2, ..Limits::default() },
            calls: false,
        };
        let source = "192.0.2.9:40000".parse().unwrap();
        let arrival = Arrival { source, now: Micros(0), duty: Duty::Serve, flow: None };
        Self { server: UserAgentServer::new(settings), arrival }
    }

    fn reply(&mut self, request: &str) -> (Reply, String) {
        let message = parse(request.as_bytes(), Framing::Datagram).unwrap();
        let mut answer = b"kept".to_vec();
        let reply = self.server.answer(&message, self.arrival, &mut answer);
        (reply, String::from_utf8(answer).unwrap().strip_prefix("kept").unwrap().to_owned())
    }

    /// Sends a request for example.com with this method, CSeq number and further header lines; the answer.
    fn ask(&mut self, method: &str, cseq: u32, more: &str) -> String {
        self.reply(&request(method, cseq, more)).1
    }
}

fn request(method: &str, cseq: u32, more: &str) -> String {
    format!(
        "{method} sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP h:5070;branch=z9hG4bKx\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\nCall-ID: c\r\n\
         CSeq: {cseq} {method}\r\n{more}\r\n"
    )
}

fn status(answer: &str) -> &str {
    answer.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)).unwrap_or("none")
}

fn header<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let lines = answer.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| *found == name).map(|(_, value)| value).collect()
}

#[test]
fn methods() {
    let mut scene = Scene::new();
    let options = scene.ask("OPTIONS", 1, "");
    assert_eq!(status(&options), "200");
    let listed = ["Allow", "Accept", "Accept-Encoding", "Accept-Language", "Supported"];
    assert_eq!(listed.map(|name| header(&options, name).len()), [1; 5], "{options}");
    for (method, expected) in [
        ("BYE", "481"),
        ("CANCEL", "481"),
        ("ACK", "none"),
        ("INVITE", "405"),
        ("SUBSCRIBE", "405"),
        ("PING", "501"),
        ("options", "501"),
    ] {
        let answer = scene.ask(method, 1, "");
        assert_eq!(status(&answer), expected, "{method}");
        let allow = if ["405", "501"].contains(&expected) { vec!["OPTIONS, REGISTER"] } else { vec![] };
        assert_eq!(header(&answer, "Allow"), allow, "{method}");
    }
}

#[test]
fn extensions_are_refused_by_name() {
    let answer =
        Scene::new().ask("OPTIONS", 1, "Require: 100rel ,\r\n timer\r\nRequire: x\r\nProxy-Require: y\r\n");
    assert_eq!((status(&answer), header(&answer, "Unsupported")), ("420", vec!["100rel, timer, x"]));
}

#[test]
fn what_is_not_answered() {
    let mut scene = Scene::new();
    let no_via = request("OPTIONS", 1, "").replace("Via:", "X:");
    assert_eq!(scene.reply(&no_via), (Reply::None(Silence::NoVia), String::new()));
    let response = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\n\r\n";
    assert_eq!(scene.reply(response), (Reply::None(Silence::Response), String::new()));
    let ack = request("ACK", 1, "").replace("CSeq: 1", "CSeq: x");
    assert_eq!(scene.reply(&ack), (Reply::None(Silence::Ack), String::new()));
    // Each "a," of the request is an "a, " of the answer.
    let long = request("OPTIONS", 1, &format!("Require: {}\r\n", "a,".repeat(MAX_MESSAGE / 2 - 200)));
    assert_eq!(scene.reply(&long), (Reply::None(Silence::TooLong), String::new()));
}

#[test]
fn answers_go_back_to_the_address_that_asked() {
    let mut scene = Scene::new();
    let (reply, answer) = scene.reply(&request("OPTIONS", 1, ""));
    assert_eq!(reply, Reply::Answer { status: 200, to: "192.0.2.9:5070".parse().unwrap() });
    assert_eq!(header(&answer, "Via"), ["SIP/2.0/UDP h:5070;branch=z9hG4bKx;received=192.0.2.9"]);
    let (reply, _) = scene.reply(&request("OPTIONS", 1, "").replace(";branch", ";rport;branch"));
    assert_eq!(reply, Reply::Answer { status: 200, to: "192.0.2.9:40000".parse().unwrap() });
    let (reply, answer) = scene.reply(&request("OPTIONS", 1, "").replace("SIP/2.0/UDP h:5070", "nonsense"));
    assert_eq!(reply, Reply::Answer { status: 400, to: "192.0.2.9:40000".parse().unwrap() });
    assert_eq!(header(&answer, "Via"), ["nonsense;branch=z9hG4bKx"]);
}

#[test]
fn a_phone_registers_and_leaves() {
    let mut scene = Scene::new();
    let bound = scene.ask("REGISTER", 1, "m: \"A\" <sip:alice@192.0.2.1>;q=0.5\r\nExpires: 600\r\n");
    assert_eq!(header(&bound, "Contact"), ["<sip:alice@192.0.2.1>;q=0.500;expires=600"]);
    assert_eq!(
        scene.ask("REGISTER", 1, "m: <sip:alice@192.0.2.1>;q=0.5\r\nExpires: 600\r\n"),
        bound,
        "sent again"
    );
    // A contact's own time counts before the header field's; one that cannot be read counts as none.
    let more = "m: <sip:alice@192.0.2.1>;expires=900, <sip:alice@192.0.2.2>;expires=soon\r\nExpires: 700\r\n";
    let both = scene.ask("REGISTER", 2, more);
    assert_eq!(
        header(&both, "Contact"),
        ["<sip:alice@192.0.2.1>;expires=900", "<sip:alice@192.0.2.2>;expires=700"]
    );
    scene.arrival.now = Micros(800_000_000);
    assert_eq!(header(&scene.ask("REGISTER", 3, ""), "Contact"), ["<sip:alice@192.0.2.1>;expires=100"]);
    for refused in ["m: *\r\n", "m: *\r\nExpires: 1\r\n", "m: *, <sip:a@b>\r\nExpires: 0\r\n"] {
        assert_eq!(status(&scene.ask("REGISTER", 4, refused)), "400", "{refused}");
    }
    let gone = scene.ask("REGISTER", 4, "m: *\r\nExpires: 0\r\n");
    assert_eq!((status(&gone), header(&gone, "Contact")), ("200", vec![]));
}

#[test]
fn registrations_that_are_refused_say_why() {
    let mut scene = Scene::new();
    let brief = scene.ask("REGISTER", 1, "m: <sip:a@b>;expires=59\r\n");
    assert_eq!((status(&brief), header(&brief, "Min-Expires")), ("423", vec!["60"]));
    assert_eq!(status(&scene.ask("REGISTER", 1, "m: <sip:a@b>, <sip:c@d>, <sip:e@f>\r\n")), "403");
    assert_eq!(status(&scene.ask("REGISTER", 1, "m: <tel:1>\r\n")), "400");
    assert_eq!(status(&scene.ask("REGISTER", 1, "m: <sip:a@b>;q=2\r\n")), "400");
    assert_eq!(status(&scene.ask("REGISTER", 5, "m: <sip:a@b>\r\n")), "200");
    assert_eq!(status(&scene.ask("REGISTER", 4, "m: <sip:a@b>;expires=0\r\n")), "500");
    assert_eq!(header(&scene.ask("REGISTER", 6, ""), "Contact").len(), 1);
}

#[test]
fn only_its_own_domains_are_registered() {
    let mut scene = Scene::new();
    for (domain, expected) in [
        ("EXAMPLE.com", "200"),
        ("[2001:DB8:0::5]:5060", "200"),
        ("other.example", "404"),
        ("sub.example.com", "404"),
    ] {
        let line =
            request("REGISTER", 1, "").replace("REGISTER sip:example.com", &format!("REGISTER sip:{domain}"));
        assert_eq!(status(&scene.reply(&line).1), expected, "Request-URI {domain}");
        let to = request("REGISTER", 1, "")
            .replace("To: <sip:alice@example.com>", &format!("To: <sip:alice@{domain}>"));
        assert_eq!(status(&scene.reply(&to).1), expected, "To {domain}");
    }
}

#[test]
fn a_graceful_stop_and_a_probe() {
    let mut scene = Scene::new();
    scene.arrival.duty = Duty::Refuse;
    let refused = scene.ask("REGISTER", 1, "m: <sip:a@b>\r\n");
    assert_eq!((status(&refused), header(&refused, "Retry-After").len()), ("503", 1));
    assert_eq!(status(&scene.ask("OPTIONS", 1, "")), "503");
    scene.arrival.duty = Duty::Probe;
    assert_eq!(status(&scene.ask("OPTIONS", 1, "")), "200");
    assert_eq!(status(&scene.ask("REGISTER", 1, "m: <sip:a@b>\r\n")), "405");
    assert!(scene.server.registrar().is_empty());
}
