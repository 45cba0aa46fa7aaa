//! Telephones that say one thing at a time, where SIPp cannot: what is under way when a server dies is theirs to choose. As
//! telephones do, they repeat over UDP what was not answered, and answer again what is repeated (RFC 3261, section 17); the
//! test hears everything once, and what it did not wait for counts as a fault ([`Room::silence`]).

use crate::wire::{Transport, Wire};
use anyhow::{Context, bail, ensure};
use e2e::LIMIT;
use rehearsal::Site;
use sip_proto::digest::User;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// The domain of all users.
pub const DOMAIN: &str = "example.com";
/// Everybody's password.
pub const PASSWORD: &str = "secret";
/// How many users there are for these telephones.
pub const PARTIES: usize = 60;
/// What is said about media.
pub const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\nm=audio 30000 RTP/AVP 8\r\n";
/// What a telephone understands. UPDATE is what the server refreshes sessions by.
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, INFO, NOTIFY, OPTIONS, PRACK, REFER, UPDATE";
/// When a message is sent again first, and how long it is repeated (RFC 3261, section 17.1.1.1: T1 and 64 times T1).
const T1: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(32);
/// The longest time between two repetitions (T2).
const T2: Duration = Duration::from_secs(4);

/// The name of one of the users.
pub fn party(number: usize) -> String {
    format!("party{number}")
}

/// All telephones of a test, and what they count on being recorded.
pub struct Room<'a> {
    site: &'a Site,
    certificate: Option<&'a Path>,
    phones: Vec<Phone>,
    /// Causes by the caller's Call-ID.
    expected: BTreeMap<String, &'static str>,
    numbers: u32,
}

/// A telephone of the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(usize);

/// A message.
#[derive(Debug, Clone)]
pub struct Heard(pub String);

/// What requests of a call are made of, as one party sees it.
#[derive(Debug, Clone)]
pub struct Dialog {
    pub phone: Id,
    pub call_id: String,
    pub local: String,
    pub remote: String,
    pub target: String,
    pub cseq: u32,
    /// Of its INVITE, which a CANCEL shares.
    branch: String,
}

struct Phone {
    name: String,
    transport: Transport,
    wire: Wire,
    contact: String,
    inbox: Vec<Heard>,
    known: BTreeSet<String>,
    /// What is repeated until something is heard that settles it.
    repeated: BTreeMap<String, Repeated>,
    /// INVITEs by branch, for the ACK of a refusal.
    invites: BTreeMap<String, String>,
    /// Answers by the request's branch and method.
    answers: BTreeMap<String, String>,
    /// ACKs by call and number.
    acknowledged: BTreeMap<String, String>,
}

struct Repeated {
    text: String,
    begun: Instant,
    due: Instant,
    after: Duration,
}

impl<'a> Room<'a> {
    pub fn new(site: &'a Site, certificate: Option<&'a Path>) -> Self {
        Self { site, certificate, phones: Vec::new(), expected: BTreeMap::new(), numbers: 0 }
    }

    /// A telephone of its own user, which is not registered.
    ///
    /// # Errors
    /// There is no way to the server.
    pub fn phone(&mut self, transport: Transport) -> anyhow::Result<Id> {
        let number = self.phones.len();
        ensure!(number < PARTIES, "there are no more users");
        let wire = Wire::open(self.site, transport, self.certificate)?;
        let name = party(number);
        let contact = format!(
            "<sip:{name}@{};transport={}>;+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-{number:012}>\"",
            wire.local(),
            transport.name().to_lowercase()
        );
        self.phones.push(Phone {
            name,
            transport,
            wire,
            contact,
            inbox: Vec::new(),
            known: BTreeSet::new(),
            repeated: BTreeMap::new(),
            invites: BTreeMap::new(),
            answers: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
        });
        Ok(Id(number))
    }

    /// A telephone that is registered.
    ///
    /// # Errors
    /// It is refused.
    pub fn registered(&mut self, transport: Transport) -> anyhow::Result<Id> {
        let id = self.phone(transport)?;
        self.register(id)?;
        Ok(id)
    }

    /// The user that it is.
    pub fn name(&self, id: Id) -> &str {
        &self.phones[id.0].name
    }

    /// Registers, proving who it is.
    ///
    /// # Errors
    /// It is refused.
    pub fn register(&mut self, id: Id) -> anyhow::Result<()> {
        let (mut dialog, proof) = self.challenged_register(id)?;
        let text = self.request(&mut dialog, "REGISTER", &proof, "");
        self.send(id, &text)?;
        self.hear(&dialog, "SIP/2.0 200")?;
        Ok(())
    }

    /// Asks to be registered and is challenged: what is to be sent next, and the proof that belongs into it.
    ///
    /// # Errors
    /// It is not challenged.
    pub fn challenged_register(&mut self, id: Id) -> anyhow::Result<(Dialog, String)> {
        let to = format!("sip:{}@{DOMAIN}", self.phones[id.0].name);
        let mut dialog = self.dialog(id, &format!("sip:{DOMAIN}"), &to);
        let text = self.request(&mut dialog, "REGISTER", "Expires: 600\r\n", "");
        self.send(id, &text)?;
        let heard = self.hear(&dialog, "SIP/2.0 401")?;
        let proof = self.proof(&dialog, &heard, "REGISTER", "WWW-Authenticate")?;
        Ok((dialog, format!("Expires: 600\r\nAuthorization: {proof}\r\n")))
    }

    /// Its connection is gone: it opens another one, and registers from there.
    ///
    /// # Errors
    /// It is refused, or as [`Self::reconnect`].
    pub fn come_back(&mut self, id: Id, moved: bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            self.reconnect(id, moved)?;
            let result = self.register(id);
            // Whoever connects to the old host in its last moment is hung up on again.
            let hung_up = self.phones[id.0].wire.has_ended() && begun.elapsed() < LIMIT;
            if result.is_ok() || !hung_up {
                return result;
            }
        }
    }

    /// Its connection is gone: it opens another one, from another port. `moved`: its contact has that port from now on, so
    /// that nothing but its instance says who it is.
    ///
    /// # Errors
    /// The old connection is not found dead, or there is no new one.
    pub fn reconnect(&mut self, id: Id, moved: bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !self.phones[id.0].wire.is_dead() {
            ensure!(
                begun.elapsed() < LIMIT,
                "{} waited {LIMIT:?} for its connection to end",
                self.phones[id.0].name
            );
            self.round()?;
        }
        let transport = self.phones[id.0].transport;
        let mut opened = None;
        // Refused while the host still has the address, and no server.
        e2e::wait_until("the server to be reached again", || {
            opened = Wire::open(self.site, transport, self.certificate).ok();
            Ok(opened.is_some())
        })?;
        let wire = opened.context("it was opened")?;
        let phone = &mut self.phones[id.0];
        if moved {
            let (old, new) = (phone.wire.local().to_string(), wire.local().to_string());
            phone.contact = phone.contact.replace(&old, &new);
        }
        phone.wire = wire;
        Ok(())
    }

    /// The beginning of a call, or of what is no call.
    pub fn dialog(&mut self, phone: Id, target: &str, to: &str) -> Dialog {
        let number = self.number();
        let name = &self.phones[phone.0].name;
        Dialog {
            phone,
            call_id: format!("call{number}-{name}"),
            local: format!("<sip:{name}@{DOMAIN}>;tag=l{number}"),
            remote: format!("<{to}>"),
            target: target.to_owned(),
            cseq: 0,
            branch: String::new(),
        }
    }

    /// Calls a telephone, and is challenged; returns the INVITE that is to be sent next. Its end will be recorded with this
    /// cause.
    ///
    /// # Errors
    /// It is not challenged.
    pub fn challenged_call(
        &mut self,
        caller: Id,
        callee: Id,
        more: &str,
        cause: &'static str,
    ) -> anyhow::Result<(Dialog, String)> {
        let to = format!("sip:{}@{DOMAIN}", self.phones[callee.0].name);
        self.challenged_invite(caller, &to, more, cause)
    }

    /// The same, calling a URI.
    ///
    /// # Errors
    /// It is not challenged.
    pub fn challenged_invite(
        &mut self,
        caller: Id,
        uri: &str,
        more: &str,
        cause: &'static str,
    ) -> anyhow::Result<(Dialog, String)> {
        let (mut dialog, text) = self.unchallenged_invite(caller, uri, more, cause);
        self.send(caller, &text)?;
        let invite = self.is_challenged(&mut dialog, more)?;
        Ok((dialog, invite))
    }

    /// The first INVITE of a call, which is not sent yet.
    pub fn unchallenged_invite(
        &mut self,
        caller: Id,
        uri: &str,
        more: &str,
        cause: &'static str,
    ) -> (Dialog, String) {
        let mut dialog = self.dialog(caller, uri, uri);
        self.expected.insert(dialog.call_id.clone(), cause);
        let text = self.request(&mut dialog, "INVITE", more, SDP);
        (dialog, text)
    }

    /// A first INVITE is challenged; returns the next one.
    ///
    /// # Errors
    /// It is not.
    pub fn is_challenged(&mut self, dialog: &mut Dialog, more: &str) -> anyhow::Result<String> {
        let heard = self.hear(dialog, "SIP/2.0 407")?;
        let proof = self.proof(dialog, &heard, "INVITE", "Proxy-Authenticate")?;
        Ok(self.request(dialog, "INVITE", &format!("{more}Proxy-Authorization: {proof}\r\n"), SDP))
    }

    /// A call that rings: the caller's side, and the INVITE that the callee got.
    ///
    /// # Errors
    /// It does not.
    pub fn ringing(
        &mut self,
        caller: Id,
        callee: Id,
        cause: &'static str,
    ) -> anyhow::Result<(Dialog, Heard)> {
        let (dialog, invite) = self.challenged_call(caller, callee, "", cause)?;
        self.send(caller, &invite)?;
        let asked = self.rings(&dialog, callee)?;
        Ok((dialog, asked))
    }

    /// The callee hears of a call, and rings.
    ///
    /// # Errors
    /// Somebody does not hear it.
    pub fn rings(&mut self, caller: &Dialog, callee: Id) -> anyhow::Result<Heard> {
        let asked = self.hear_anew(callee, "INVITE")?;
        self.answer(callee, &asked, "180 Ringing", "", "")?;
        self.hear(caller, "SIP/2.0 180")?;
        Ok(asked)
    }

    /// The callee takes a call; the callee's side of it.
    ///
    /// # Errors
    /// Somebody does not hear it.
    pub fn takes(&mut self, caller: &mut Dialog, callee: Id, asked: &Heard) -> anyhow::Result<Dialog> {
        self.answer(callee, asked, "200 OK", "", SDP)?;
        let dialog = self.called(callee, asked);
        self.is_taken(caller, &dialog)?;
        Ok(dialog)
    }

    /// The caller hears that its call is taken, and acknowledges it.
    ///
    /// # Errors
    /// Somebody does not hear it.
    pub fn is_taken(&mut self, caller: &mut Dialog, callee: &Dialog) -> anyhow::Result<()> {
        let ok = self.hear(caller, "SIP/2.0 200")?;
        self.acknowledge(caller, &ok)?;
        self.hear(callee, "ACK")?;
        Ok(())
    }

    /// A call that was taken: both sides of it, the caller's first.
    ///
    /// # Errors
    /// It does not come to be.
    pub fn talk(&mut self, caller: Id, callee: Id, cause: &'static str) -> anyhow::Result<(Dialog, Dialog)> {
        let (mut dialog, asked) = self.ringing(caller, callee, cause)?;
        let other = self.takes(&mut dialog, callee, &asked)?;
        Ok((dialog, other))
    }

    /// One asks the other something in a call, who agrees.
    ///
    /// # Errors
    /// Somebody does not hear it.
    pub fn agree(
        &mut self,
        one: &mut Dialog,
        other: &Dialog,
        method: &str,
        more: &str,
    ) -> anyhow::Result<Heard> {
        self.ask(one, method, more, "")?;
        self.agreed(one, other, method, "200 OK")
    }

    /// What one has asked is heard, and answered like this.
    ///
    /// # Errors
    /// Somebody does not hear it.
    pub fn agreed(
        &mut self,
        one: &Dialog,
        other: &Dialog,
        method: &str,
        status: &str,
    ) -> anyhow::Result<Heard> {
        let asked = self.hear(other, method)?;
        self.answer(other.phone, &asked, status, "", "")?;
        self.hear(one, &format!("SIP/2.0 {}", &status[..3]))?;
        Ok(asked)
    }

    /// The callee hears that nobody waits for it any more, and agrees.
    ///
    /// # Errors
    /// It does not hear it.
    pub fn agreed_cancel(&mut self, callee: &Dialog, asked: &Heard) -> anyhow::Result<()> {
        let cancel = self.hear(callee, "CANCEL")?;
        self.answer(callee.phone, &cancel, "200 OK", "", "")?;
        self.answer(callee.phone, asked, "487 Request Terminated", "", "")?;
        self.hear(callee, "ACK")?;
        Ok(())
    }

    /// One hangs up.
    ///
    /// # Errors
    /// Somebody does not hear it.
    pub fn hang_up(&mut self, one: &mut Dialog, other: &Dialog) -> anyhow::Result<()> {
        self.agree(one, other, "BYE", "").map(drop)
    }

    /// One changes what both say about media, who agree on it: on hold, or back.
    ///
    /// # Errors
    /// Somebody does not hear it.
    pub fn change(&mut self, one: &mut Dialog, other: &Dialog, direction: &str) -> anyhow::Result<()> {
        let sdp = format!("{SDP}a={direction}\r\n");
        self.ask(one, "INVITE", "", &sdp)?;
        self.changed(one, other, direction)
    }

    /// The other side agrees to that.
    ///
    /// # Errors
    /// Somebody does not hear it.
    pub fn changed(&mut self, one: &mut Dialog, other: &Dialog, direction: &str) -> anyhow::Result<()> {
        let asked = self.hear(other, "INVITE")?;
        ensure!(asked.0.contains(&format!("\r\na={direction}\r\n")), "not what was offered: {}", asked.0);
        self.answer(other.phone, &asked, "200 OK", "", SDP)?;
        self.is_taken(one, other)
    }

    /// Sends a request of a dialog.
    ///
    /// # Errors
    /// There is no connection.
    pub fn ask(&mut self, dialog: &mut Dialog, method: &str, more: &str, body: &str) -> anyhow::Result<()> {
        let text = self.request(dialog, method, more, body);
        self.send(dialog.phone, &text)
    }

    /// A request of a dialog, which is not sent yet.
    pub fn request(&mut self, dialog: &mut Dialog, method: &str, more: &str, body: &str) -> String {
        if !matches!(method, "ACK" | "CANCEL") {
            dialog.cseq += 1;
        }
        let mut branch = format!("z9hG4bK{}", self.number());
        match method {
            "CANCEL" => branch.clone_from(&dialog.branch),
            "INVITE" => dialog.branch.clone_from(&branch),
            _ => {}
        }
        let phone = &self.phones[dialog.phone.0];
        let kind = if body.is_empty() || more.contains("Content-Type") {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        let Dialog { call_id, local, remote, target, cseq, .. } = dialog;
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/{} {};rport;branch={branch}\r\nMax-Forwards: 70\r\n\
             From: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: {}\r\n\
             Allow: {ALLOW}\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
            phone.transport.name(),
            phone.wire.local(),
            phone.contact,
            body.len(),
        )
    }

    /// Sends a request, and repeats it where that is the sender's affair.
    ///
    /// # Errors
    /// There is no connection.
    pub fn send(&mut self, id: Id, text: &str) -> anyhow::Result<()> {
        let phone = &mut self.phones[id.0];
        let request = Heard(text.to_owned());
        let (branch, method) = (request.branch().to_owned(), request.method().to_owned());
        match method.as_str() {
            "ACK" => {
                phone.acknowledged.insert(request.acknowledges(), text.to_owned());
            }
            "INVITE" => {
                phone.invites.insert(branch.clone(), text.to_owned());
            }
            _ => {}
        }
        phone.wire.send(text)?;
        if method != "ACK" {
            phone.repeat(format!("{method} {branch}"), text);
        }
        Ok(())
    }

    /// Answers a request; an INVITE, for good, until that is acknowledged.
    ///
    /// # Errors
    /// There is no connection.
    pub fn answer(
        &mut self,
        id: Id,
        asked: &Heard,
        status: &str,
        more: &str,
        body: &str,
    ) -> anyhow::Result<()> {
        let phone = &mut self.phones[id.0];
        let to = asked.header("To");
        let tag =
            if to.contains(";tag=") { String::new() } else { format!(";tag=r{}", asked.header("Call-ID")) };
        let copied: String =
            ["From", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", asked.header(name))).concat();
        let via: String = asked.all("Via").map(|value| format!("Via: {value}\r\n")).collect();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status}\r\n{via}{copied}To: {to}{tag}\r\nContact: {}\r\nAllow: {ALLOW}\r\n\
             {more}{kind}Content-Length: {}\r\n\r\n{body}",
            phone.contact,
            body.len(),
        );
        phone.answers.insert(asked.transaction(), text.clone());
        phone.wire.send(&text)?;
        if asked.method() == "INVITE" && !status.starts_with('1') {
            phone.repeat(asked.acknowledges(), &text);
        }
        Ok(())
    }

    /// Acknowledges that a call is taken, and knows from then on where it goes on.
    ///
    /// # Errors
    /// There is no connection.
    pub fn acknowledge(&mut self, dialog: &mut Dialog, ok: &Heard) -> anyhow::Result<()> {
        dialog.follow(ok);
        let ack = self.request(dialog, "ACK", "", "");
        self.send(dialog.phone, &ack)
    }

    /// The callee's side of a call that it has answered.
    pub fn called(&self, phone: Id, invite: &Heard) -> Dialog {
        let to = invite.header("To");
        let call_id = invite.header("Call-ID").to_owned();
        let local = if to.contains(";tag=") { to.to_owned() } else { format!("{to};tag=r{call_id}") };
        Dialog {
            phone,
            local,
            call_id,
            remote: invite.header("From").to_owned(),
            target: uri_of(invite.header("Contact")),
            cseq: 100,
            branch: String::new(),
        }
    }

    /// What comes in a call and begins like this, within [`LIMIT`].
    ///
    /// # Errors
    /// It does not come.
    pub fn hear(&mut self, dialog: &Dialog, begins: &str) -> anyhow::Result<Heard> {
        self.hear_within(dialog, begins, LIMIT)
    }

    /// The same, within another time.
    ///
    /// # Errors
    /// It does not come.
    pub fn hear_within(&mut self, dialog: &Dialog, begins: &str, limit: Duration) -> anyhow::Result<Heard> {
        self.take(dialog.phone, begins, limit, |heard| heard.header("Call-ID") == dialog.call_id)
    }

    /// The beginning of a call that comes, within [`LIMIT`].
    ///
    /// # Errors
    /// It does not come.
    pub fn hear_anew(&mut self, id: Id, begins: &str) -> anyhow::Result<Heard> {
        self.take(id, begins, LIMIT, |heard| !heard.header("To").contains(";tag="))
    }

    fn take(
        &mut self,
        id: Id,
        begins: &str,
        limit: Duration,
        is_it: impl Fn(&Heard) -> bool,
    ) -> anyhow::Result<Heard> {
        let until = Instant::now() + limit;
        loop {
            self.round()?;
            let phone = &mut self.phones[id.0];
            if let Some(at) = phone.inbox.iter().position(|heard| heard.0.starts_with(begins) && is_it(heard))
            {
                return Ok(phone.inbox.remove(at));
            }
            if Instant::now() > until || phone.wire.has_ended() {
                let heard: Vec<_> = phone.inbox.iter().map(|heard| heard.0.as_str()).collect();
                bail!("{} waited {limit:?} for {begins}, and heard {heard:#?}", phone.name);
            }
        }
    }

    /// Every telephone hears what has come, and repeats what is due.
    ///
    /// # Errors
    /// What comes is no SIP.
    pub fn round(&mut self) -> anyhow::Result<()> {
        for phone in &mut self.phones {
            while let Some(text) = phone.wire.receive()? {
                phone.hears(Heard(text))?;
            }
            phone.repeats()?;
        }
        std::thread::sleep(Duration::from_millis(1)); // between two looks, while nothing comes
        Ok(())
    }

    /// Time passes.
    ///
    /// # Errors
    /// What comes meanwhile is no SIP.
    pub fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.round()?;
        }
        Ok(())
    }

    /// Nobody has heard anything that the test did not wait for: a second BYE, another call.
    ///
    /// # Errors
    /// Who has, and what.
    pub fn silence(&mut self) -> anyhow::Result<()> {
        self.round()?;
        for phone in &self.phones {
            let heard: Vec<_> = phone.inbox.iter().map(|heard| heard.0.as_str()).collect();
            ensure!(heard.is_empty(), "nobody waited for what {} has heard: {heard:#?}", phone.name);
        }
        Ok(())
    }

    /// What is to be recorded: causes by the caller's Call-ID.
    pub fn expected(&self) -> &BTreeMap<String, &'static str> {
        &self.expected
    }

    fn proof(&mut self, dialog: &Dialog, heard: &Heard, method: &str, field: &str) -> anyhow::Result<String> {
        let username = self.phones[dialog.phone.0].name.clone();
        let user = User { username, password: PASSWORD.to_owned() };
        let challenges = heard.all(field).map(str::as_bytes);
        let cnonce = self.number().into();
        user.answer(challenges, method, &dialog.target, cnonce).context("no challenge that can be answered")
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }
}

impl Phone {
    fn repeat(&mut self, settled_by: String, text: &str) {
        if self.transport != Transport::Udp {
            return;
        }
        let begun = Instant::now();
        let repeated = Repeated { text: text.to_owned(), begun, due: begun + T1, after: T1 };
        self.repeated.insert(settled_by, repeated);
    }

    fn repeats(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        self.repeated.retain(|_, repeated| now - repeated.begun < PATIENCE);
        for repeated in self.repeated.values_mut().filter(|repeated| repeated.due <= now) {
            self.wire.send(&repeated.text)?;
            repeated.after = T2.min(repeated.after * 2);
            repeated.due = now + repeated.after;
        }
        Ok(())
    }

    fn hears(&mut self, heard: Heard) -> anyhow::Result<()> {
        let new = self.known.insert(heard.identity());
        match heard.status() {
            Some(status) => {
                self.repeated.remove(&heard.transaction());
                if heard.method() == "INVITE" && status >= 300 {
                    self.acknowledge_refusal(&heard)?;
                }
                if status == 100 {
                    return Ok(());
                }
                if let Some(ack) =
                    self.acknowledged.get(&heard.acknowledges()).filter(|_| !new && status < 300)
                {
                    self.wire.send(ack)?;
                }
            }
            None if heard.method() == "ACK" => {
                self.repeated.remove(&heard.acknowledges());
            }
            None => {
                if let Some(answer) = self.answers.get(&heard.transaction()) {
                    self.wire.send(answer)?;
                }
            }
        }
        if new {
            self.inbox.push(heard);
        }
        Ok(())
    }

    /// The ACK of a refusal is of the INVITE's transaction (RFC 3261, section 17.1.1.3).
    fn acknowledge_refusal(&mut self, refusal: &Heard) -> anyhow::Result<()> {
        let Some(invite) = self.invites.get(refusal.branch()).map(|text| Heard(text.clone())) else {
            bail!("{} is refused what it did not ask: {}", self.name, refusal.0);
        };
        let uri = invite.0.split(' ').nth(1).unwrap_or_default();
        self.wire.send(&format!(
            "ACK {uri} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} ACK\r\n\
             Content-Length: 0\r\n\r\n",
            invite.header("Via"),
            invite.header("From"),
            refusal.header("To"),
            invite.header("Call-ID"),
            invite.number(),
        ))
    }
}

impl Dialog {
    /// Knows from what was answered with whom the call is, and where it goes on.
    pub fn follow(&mut self, answer: &Heard) {
        answer.header("To").clone_into(&mut self.remote);
        self.target = uri_of(answer.header("Contact"));
    }

    /// The tags of both sides, ours first.
    pub fn tags(&self) -> (&str, &str) {
        (tag_of(&self.local), tag_of(&self.remote))
    }
}

impl Heard {
    pub fn status(&self) -> Option<u16> {
        self.0.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let head = self.0.split("\r\n\r\n").next().unwrap_or_default();
        head.lines().filter_map(move |line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// A header field's first value, "" where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// The method of CSeq, which answers share with what they answer.
    pub fn method(&self) -> &str {
        self.header("CSeq").split_whitespace().last().unwrap_or_default()
    }

    pub fn number(&self) -> &str {
        self.header("CSeq").split_whitespace().next().unwrap_or_default()
    }

    fn branch(&self) -> &str {
        let via = self.header("Via");
        via.split("branch=").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default()
    }

    fn transaction(&self) -> String {
        format!("{} {}", self.method(), self.branch())
    }

    /// What an ACK and the answer that it acknowledges have in common.
    fn acknowledges(&self) -> String {
        format!("ACK {} {}", self.header("Call-ID"), self.number())
    }

    /// What a repetition of it shares with it, and nothing else does.
    fn identity(&self) -> String {
        match self.status() {
            None if self.method() == "ACK" => self.acknowledges(),
            None => self.transaction(),
            Some(status) => {
                format!(
                    "{status} {} {} {}",
                    self.transaction(),
                    tag_of(self.header("To")),
                    self.header("RSeq")
                )
            }
        }
    }
}

fn tag_of(address: &str) -> &str {
    address.split(";tag=").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default()
}

fn uri_of(contact: &str) -> String {
    contact.split(['<', '>']).nth(1).unwrap_or(contact).to_owned()
}

/// Where the server is reached.
pub fn server(transport: Transport) -> anyhow::Result<SocketAddr> {
    let port = if transport == Transport::Tls { rehearsal::SIP_PORT + 1 } else { rehearsal::SIP_PORT };
    Ok(SocketAddr::new(rehearsal::VIP.parse()?, port))
}
