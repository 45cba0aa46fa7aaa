//! Golden transcripts of the four transaction machines: each a message-sequence chart with times in seconds, under
//! `transactions/`. On the left is who uses the machine, in the middle the network. UPDATE_GOLDENFILES=1 rewrites them:
//! only if you can say why every line moved.
//!
//! Every script runs twice: once as it is, once with the machine serialised and read back between any two events, as if
//! it were carried to another host each time. Both have the same transcript.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use domain::{Micros, parse_duration};
use goldenscript::Command;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sip_proto::transaction::{Client, Fired, Heard, InviteClient, InviteServer, Server, Timing};
use sip_proto::{Framing, Message, StartLine, Wire, parse};
use std::error::Error;
use std::fmt::Write as _;

enum Machine {
    InviteClient(InviteClient),
    Client(Client),
    InviteServer(InviteServer),
    Server(Server),
}

struct Script {
    machine: Option<Machine>,
    method: String,
    timing: Timing,
    now: Micros,
    /// Whether the machine is serialised and read back between events.
    travels: bool,
    chart: String,
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut word = || args.next_pos().map(str::to_owned).ok_or("a word is missing");
        self.chart.clear();
        match command.name.as_str() {
            "sends" | "receives" => self.begin(&command.name, &word()?, &word()?)?,
            "hears" => self.hear(&word()?)?,
            "answers" => self.answer(word()?.parse()?)?,
            "pass" => self.pass(self.now + parse_duration(&word()?)?)?,
            "take-over" => self.take_over()?,
            unknown => return Err(format!("unknown command {unknown}").into()),
        }
        if self.travels {
            self.travel();
        }
        Ok(self.chart.clone())
    }
}

impl Script {
    fn new(travels: bool) -> Self {
        let (timing, now) = (Timing::default(), Micros(0));
        Self { machine: None, method: String::new(), timing, now, travels, chart: String::new() }
    }

    /// `sends INVITE udp`, `receives OPTIONS tcp`.
    fn begin(&mut self, verb: &str, method: &str, transport: &str) -> Result<(), Box<dyn Error>> {
        let reliable = match transport {
            "udp" => false,
            "tcp" => true,
            _ => return Err("udp or tcp".into()),
        };
        self.method = method.to_owned();
        self.now = Micros(0);
        let (timing, now) = (self.timing, self.now);
        self.machine = Some(match (verb, method) {
            ("sends", "INVITE") => {
                Machine::InviteClient(InviteClient::new(request(method), reliable, &timing, now))
            }
            ("sends", _) => Machine::Client(Client::new(request(method), reliable, &timing, now)),
            (_, "INVITE") => Machine::InviteServer(InviteServer::new(reliable)),
            (_, _) => Machine::Server(Server::new()),
        });
        match verb {
            "sends" => self.out(method, ""),
            _ => self.heard(method, &Heard { pass: true, send: None }),
        }
        Ok(())
    }

    fn machine(&mut self) -> Result<&mut Machine, Box<dyn Error>> {
        self.machine.as_mut().ok_or_else(|| "begin with `sends` or `receives`".into())
    }

    /// `hears 180`: a response for a client; `hears INVITE`: the request again, or `hears ACK`, for a server.
    fn hear(&mut self, what: &str) -> Result<(), Box<dyn Error>> {
        let (timing, now) = (self.timing, self.now);
        let heard = match self.machine()? {
            Machine::InviteClient(machine) => {
                with_response(what, "INVITE", |m| machine.heard(m, &timing, now))
            }
            Machine::Client(machine) => with_response(what, "OPTIONS", |m| machine.heard(m, &timing, now)),
            Machine::InviteServer(machine) if what == "ACK" => machine.acknowledged(&timing, now),
            Machine::InviteServer(machine) => machine.heard_again(),
            Machine::Server(machine) => machine.heard_again(),
        };
        self.heard(what, &heard);
        Ok(())
    }

    fn answer(&mut self, status: u16) -> Result<(), Box<dyn Error>> {
        let (timing, now) = (self.timing, self.now);
        let wire = response(status, &self.method);
        let sent = match self.machine()? {
            Machine::InviteServer(machine) => machine.respond(status, &wire, &timing, now),
            Machine::Server(machine) => machine.respond(status, &wire, &timing, now),
            Machine::InviteClient(_) | Machine::Client(_) => return Err("a client answers nothing".into()),
        };
        match sent {
            true => self.out(&status.to_string(), ""),
            false => self.line(&format!("{status} too late"), "", ""),
        }
        Ok(())
    }

    /// Time passes; everything that is due is done at its time.
    fn pass(&mut self, until: Micros) -> Result<(), Box<dyn Error>> {
        for _ in 0..1_000 {
            let Some(due) = self.next_deadline()?.filter(|due| *due <= until) else {
                self.now = until;
                return Ok(());
            };
            self.now = self.now.max(due);
            let (timing, now) = (self.timing, self.now);
            let fired = match self.machine()? {
                Machine::InviteClient(machine) => machine.due(&timing, now),
                Machine::Client(machine) => machine.due(&timing, now),
                Machine::InviteServer(machine) => machine.due(&timing, now),
                Machine::Server(machine) => machine.due(now),
            };
            match fired {
                Fired::Nothing => return Err("the deadline came and nothing was due".into()),
                Fired::Again(wire) => self.out(&title(&wire), "again"),
                Fired::TimedOut => self.line("timed out", "", ""),
                Fired::Ended => self.line("", "", "ended"),
            }
            if self.travels {
                self.travel();
            }
        }
        Err("time does not pass".into())
    }

    fn next_deadline(&mut self) -> Result<Option<Micros>, Box<dyn Error>> {
        Ok(match self.machine()? {
            Machine::InviteClient(machine) => machine.next_deadline(),
            Machine::Client(machine) => machine.next_deadline(),
            Machine::InviteServer(machine) => machine.next_deadline(),
            Machine::Server(machine) => machine.next_deadline(),
        })
    }

    fn take_over(&mut self) -> Result<(), Box<dyn Error>> {
        self.travel();
        let (timing, now) = (self.timing, self.now);
        match self.machine()? {
            Machine::InviteClient(machine) => machine.taken_over(&timing, now),
            Machine::Client(machine) => machine.taken_over(&timing, now),
            Machine::InviteServer(machine) => machine.taken_over(&timing, now),
            Machine::Server(_) => {}
        }
        self.line("", "", "taken over by another host");
        Ok(())
    }

    /// Serialises the machine and reads it back.
    fn travel(&mut self) {
        fn there<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(machine: &mut T) {
            let back = serde_json::from_str(&serde_json::to_string(machine).unwrap()).unwrap();
            assert_eq!(machine, &back);
            *machine = back;
        }
        match self.machine.as_mut().unwrap() {
            Machine::InviteClient(machine) => there(machine),
            Machine::Client(machine) => there(machine),
            Machine::InviteServer(machine) => there(machine),
            Machine::Server(machine) => there(machine),
        }
    }

    // ---- the chart

    fn heard(&mut self, what: &str, heard: &Heard) {
        let left = if heard.pass { what.to_owned() } else { "-".to_owned() };
        self.line(&left, &format!("<---- {what}"), "");
        if let Some(wire) = &heard.send {
            self.out(&title(wire), "");
        }
    }

    fn out(&mut self, what: &str, note: &str) {
        self.line("", &format!("----> {what}"), note);
    }

    fn line(&mut self, user: &str, network: &str, note: &str) {
        let state = match &self.machine {
            Some(Machine::InviteClient(machine)) => machine.state(),
            Some(Machine::Client(machine)) => machine.state(),
            Some(Machine::InviteServer(machine)) => machine.state(),
            Some(Machine::Server(machine)) => machine.state(),
            None => "",
        };
        let seconds = self.now.0 as f64 / 1_000_000.0;
        writeln!(self.chart, "{seconds:8.3}  {user:<14} {network:<16} {state:<12} {note}").unwrap();
        let trimmed = self.chart.trim_end().len();
        self.chart.truncate(trimmed);
        self.chart.push('\n');
    }
}

fn request(method: &str) -> Wire {
    Wire::from(
        format!(
            "{method} sip:bob@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.100;branch=z9hG4bK1\r\n\
             Route: <sip:192.0.2.8;lr>\r\nFrom: <sip:alice@192.0.2.1>;tag=1\r\nTo: <sip:bob@192.0.2.9>\r\n\
             Call-ID: c\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
        .as_bytes(),
    )
}

fn response(status: u16, method: &str) -> Wire {
    Wire::from(
        format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP 192.0.2.100;branch=z9hG4bK1\r\nFrom: <sip:alice@192.0.2.1>;tag=1\r\n\
             To: <sip:bob@192.0.2.9>;tag=2\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        )
        .as_bytes(),
    )
}

fn with_response(status: &str, method: &str, hear: impl FnOnce(&Message<'_>) -> Heard) -> Heard {
    let wire = response(status.parse().unwrap(), method);
    hear(&parse(&wire, Framing::Datagram).unwrap())
}

fn title(wire: &Wire) -> String {
    match parse(wire, Framing::Datagram).unwrap().start {
        StartLine::Request(line) => line.method_text.to_owned(),
        StartLine::Status { code, .. } => code.to_string(),
    }
}

fn run(name: &str) {
    let path = format!("{}/tests/transactions/{name}", env!("CARGO_MANIFEST_DIR"));
    for travels in [false, true] {
        if let Err(e) = goldenscript::run(&mut Script::new(travels), &path) {
            panic!("{name}: {e}");
        }
    }
}

macro_rules! scripts {
    ($($test:ident)*) => {
        $(#[test] fn $test() { run(stringify!($test)); })*

        #[test]
        fn every_script_is_run() {
            let known = [$(stringify!($test)),*];
            for entry in std::fs::read_dir(format!("{}/tests/transactions", env!("CARGO_MANIFEST_DIR"))).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(known.contains(&name.as_str()), "{name} is run by no test");
            }
        }
    };
}

scripts! {
    invite_client
    invite_server
    client
    server
    taken_over
}
