//! Everything that can be under way between two telephones and the server when the primary is taken away: what comes before,
//! what is said in that moment, and how it has to end all the same.

use crate::telephones::{DOMAIN, Dialog, Heard, Id, Room, SDP};
use crate::wire::Transport::Udp;
use anyhow::ensure;

/// Something that telephones do.
pub type Act = Box<dyn FnOnce(&mut Room<'_>) -> anyhow::Result<()>>;
/// What comes before, which leads to the rest.
pub type Begin = fn(&mut Room<'_>) -> anyhow::Result<Situation>;

/// What is under way.
pub struct Situation {
    /// What is said at the last moment before the primary is taken away, and is not waited for.
    at_the_last: Option<Act>,
    /// What is said right after that.
    into_the_outage: Option<Act>,
    /// How it goes on, and ends.
    then: Act,
}

impl Situation {
    fn then(act: impl FnOnce(&mut Room<'_>) -> anyhow::Result<()> + 'static) -> Self {
        Self { at_the_last: None, into_the_outage: None, then: Box::new(act) }
    }

    /// The same, with this said at the last moment.
    fn at_the_last(mut self, id: Id, text: String) -> Self {
        self.at_the_last = Some(Box::new(move |room| room.send(id, &text)));
        self
    }

    fn into_the_outage(mut self, id: Id, text: String) -> Self {
        self.into_the_outage = Some(Box::new(move |room| room.send(id, &text)));
        self
    }

    /// The three parts of it.
    pub fn parts(self) -> (Option<Act>, Option<Act>, Act) {
        (self.at_the_last, self.into_the_outage, self.then)
    }
}

/// All of them, over UDP. The one that takes longest is the last, so that its time runs while the others go on.
pub const SITUATIONS: [(&str, Begin); 23] = [
    ("a call is held and resumed, the caller hangs up", hold),
    ("the callee hangs up", callee_hangs_up),
    ("blind transfer", blind_transfer),
    ("attended transfer", attended_transfer),
    ("INVITE at the last moment", invite_at_the_last),
    ("INVITE with proof at the last moment", proven_invite_at_the_last),
    ("INVITE with proof into the outage", proven_invite_into_the_outage),
    ("200 at the last moment", ok_at_the_last),
    ("200 into the outage", ok_into_the_outage),
    ("200 was heard, its ACK goes into the outage", ack_into_the_outage),
    ("re-INVITE at the last moment", reinvite_at_the_last),
    ("BYE at the last moment", bye_at_the_last),
    ("BYE into the outage", bye_into_the_outage),
    ("CANCEL at the last moment", cancel_at_the_last),
    ("CANCEL into the outage", cancel_into_the_outage),
    ("REGISTER was challenged", register_was_challenged),
    ("REGISTER with proof at the last moment", register_at_the_last),
    ("a ringing call is answered", ringing_is_answered),
    ("a ringing call is cancelled", ringing_is_cancelled),
    ("a ringing call is refused", ringing_is_refused),
    ("a reliable 183 is to be acknowledged", prack_is_outstanding),
    ("a phone that registered before is called", called_after),
    ("a ringing call times out", ringing_times_out),
];

const CALLER: &str = "caller-hung-up";
const CALLEE: &str = "callee-hung-up";

fn two(room: &mut Room<'_>) -> anyhow::Result<(Id, Id)> {
    Ok((room.phone(Udp)?, room.registered(Udp)?))
}

fn talking(room: &mut Room<'_>, cause: &'static str) -> anyhow::Result<(Dialog, Dialog)> {
    let (alice, bob) = two(room)?;
    room.talk(alice, bob, cause)
}

fn hold(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (mut alice, mut bob) = talking(room, CALLER)?;
    Ok(Situation::then(move |room| {
        room.change(&mut alice, &bob, "sendonly")?;
        room.change(&mut alice, &bob, "sendrecv")?;
        room.change(&mut bob, &alice, "inactive")?;
        room.change(&mut bob, &alice, "sendrecv")?;
        room.agree(&mut bob, &alice, "INFO", "")?;
        room.hang_up(&mut alice, &bob)
    }))
}

fn callee_hangs_up(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (alice, mut bob) = talking(room, CALLEE)?;
    Ok(Situation::then(move |room| room.hang_up(&mut bob, &alice)))
}

/// What a transferee says of it (RFC 3515, section 2.4.5).
fn tells(
    room: &mut Room<'_>,
    bob: &mut Dialog,
    alice: &Dialog,
    state: &str,
    line: &str,
) -> anyhow::Result<()> {
    let more = format!("Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag\r\n");
    room.ask(bob, "NOTIFY", &more, line)?;
    let told = room.agreed(bob, alice, "NOTIFY", "200 OK")?;
    ensure!(told.0.ends_with(line), "not what was told: {}", told.0);
    Ok(())
}

/// Alice sends Bob to Carol, and leaves.
fn blind_transfer(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (mut alice, mut bob) = talking(room, CALLER)?;
    let carol = room.registered(Udp)?;
    Ok(Situation::then(move |room| {
        let uri = format!("sip:{}@{DOMAIN}", room.name(carol));
        room.ask(&mut alice, "REFER", &format!("Refer-To: <{uri}>\r\n"), "")?;
        let asked = room.agreed(&alice, &bob, "REFER", "202 Accepted")?;
        ensure!(asked.header("Refer-To").contains(&uri), "another target: {}", asked.0);
        tells(room, &mut bob, &alice, "active;expires=60", "SIP/2.0 100 Trying")?;
        let (mut called, mut carols) = room.talk(bob.phone, carol, CALLEE)?;
        tells(room, &mut bob, &alice, "terminated;reason=noresource", "SIP/2.0 200 OK")?;
        room.hang_up(&mut alice, &bob)?;
        room.change(&mut called, &carols, "sendrecv")?;
        room.hang_up(&mut carols, &called)
    }))
}

/// Alice talks to Bob, and to Carol, and brings the two together (RFC 3891; RFC 5589, section 7).
fn attended_transfer(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (mut alice, mut bob) = talking(room, CALLER)?;
    let carol = room.registered(Udp)?;
    let (consults, mut consulted) = room.talk(alice.phone, carol, CALLEE)?;
    Ok(Situation::then(move |room| {
        let (hers, ours) = consults.tags();
        let Dialog { call_id, target, .. } = &consults;
        let refer_to = format!("<{target}?Replaces={call_id}%3Bto-tag%3D{ours}%3Bfrom-tag%3D{hers}>");
        room.ask(&mut alice, "REFER", &format!("Refer-To: {refer_to}\r\n"), "")?;
        let asked = room.agreed(&alice, &bob, "REFER", "202 Accepted")?;
        ensure!(asked.header("Refer-To") == refer_to, "another target: {}", asked.0);
        let replaces = format!("Require: replaces\r\nReplaces: {call_id};to-tag={ours};from-tag={hers}\r\n");
        let (mut together, invite) = room.challenged_invite(bob.phone, target, &replaces, CALLER)?;
        room.send(bob.phone, &invite)?;
        let asked = room.hear_anew(carol, "INVITE")?;
        let (hers, theirs) = consulted.tags();
        let own = format!("{};to-tag={hers};from-tag={theirs}", consulted.call_id);
        ensure!(asked.header("Replaces") == own, "not Carol's own call: {}", asked.0);
        let carols = room.takes(&mut together, carol, &asked)?;
        room.hang_up(&mut consulted, &consults)?;
        tells(room, &mut bob, &alice, "terminated;reason=noresource", "SIP/2.0 200 OK")?;
        room.hang_up(&mut alice, &bob)?;
        room.hang_up(&mut together, &carols)
    }))
}

/// Whatever the first server did of it: the call comes to be, once.
fn goes_on(mut dialog: Dialog, callee: Id) -> impl FnOnce(&mut Room<'_>) -> anyhow::Result<()> {
    move |room| {
        let asked = room.rings(&dialog, callee)?;
        let other = room.takes(&mut dialog, callee, &asked)?;
        room.hang_up(&mut dialog, &other)
    }
}

fn invite_at_the_last(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (alice, bob) = two(room)?;
    let uri = format!("sip:{}@{DOMAIN}", room.name(bob));
    let (mut dialog, invite) = room.unchallenged_invite(alice, &uri, "", CALLER);
    let then = Situation::then(move |room| {
        let invite = room.is_challenged(&mut dialog, "")?;
        room.send(alice, &invite)?;
        goes_on(dialog, bob)(room)
    });
    Ok(then.at_the_last(alice, invite))
}

fn proven_invite_at_the_last(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (alice, bob) = two(room)?;
    let (dialog, invite) = room.challenged_call(alice, bob, "", CALLER)?;
    Ok(Situation::then(goes_on(dialog, bob)).at_the_last(alice, invite))
}

fn proven_invite_into_the_outage(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (alice, bob) = two(room)?;
    let (dialog, invite) = room.challenged_call(alice, bob, "", CALLER)?;
    Ok(Situation::then(goes_on(dialog, bob)).into_the_outage(alice, invite))
}

/// A call rings, and the callee's answer is still to be sent.
fn answering(room: &mut Room<'_>) -> anyhow::Result<(Act, Act)> {
    let (alice, bob) = two(room)?;
    let (mut dialog, asked) = room.ringing(alice, bob, CALLER)?;
    let other = room.called(bob, &asked);
    let answer = move |room: &mut Room<'_>| room.answer(bob, &asked, "200 OK", "", SDP);
    let then = move |room: &mut Room<'_>| {
        room.is_taken(&mut dialog, &other)?;
        room.hang_up(&mut dialog, &other)
    };
    Ok((Box::new(answer), Box::new(then)))
}

fn ok_at_the_last(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (answer, then) = answering(room)?;
    Ok(Situation { at_the_last: Some(answer), into_the_outage: None, then })
}

fn ok_into_the_outage(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (answer, then) = answering(room)?;
    Ok(Situation { at_the_last: None, into_the_outage: Some(answer), then })
}

fn ack_into_the_outage(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (alice, bob) = two(room)?;
    let (mut dialog, asked) = room.ringing(alice, bob, CALLER)?;
    room.answer(bob, &asked, "200 OK", "", SDP)?;
    let other = room.called(bob, &asked);
    let ok = room.hear(&dialog, "SIP/2.0 200")?;
    dialog.follow(&ok);
    let ack = room.request(&mut dialog, "ACK", "", "");
    let then = Situation::then(move |room| {
        room.hear(&other, "ACK")?;
        room.hang_up(&mut dialog, &other)
    });
    Ok(then.into_the_outage(alice, ack))
}

fn reinvite_at_the_last(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (mut alice, bob) = talking(room, CALLER)?;
    let sdp = format!("{SDP}a=sendonly\r\n");
    let invite = room.request(&mut alice, "INVITE", "", &sdp);
    let id = alice.phone;
    let then = Situation::then(move |room| {
        room.changed(&mut alice, &bob, "sendonly")?;
        room.hang_up(&mut alice, &bob)
    });
    Ok(then.at_the_last(id, invite))
}

/// A call whose caller is about to hang up: who, with what, and what is to come of it.
fn hanging_up(room: &mut Room<'_>) -> anyhow::Result<(Id, String, Situation)> {
    let (mut alice, bob) = talking(room, CALLER)?;
    let bye = room.request(&mut alice, "BYE", "", "");
    let id = alice.phone;
    Ok((id, bye, Situation::then(move |room| room.agreed(&alice, &bob, "BYE", "200 OK").map(drop))))
}

fn bye_at_the_last(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (id, bye, situation) = hanging_up(room)?;
    Ok(situation.at_the_last(id, bye))
}

fn bye_into_the_outage(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (id, bye, situation) = hanging_up(room)?;
    Ok(situation.into_the_outage(id, bye))
}

/// The callee hears that nobody waits any more.
fn is_cancelled(room: &mut Room<'_>, dialog: &Dialog, bob: Id, asked: &Heard) -> anyhow::Result<()> {
    let other = room.called(bob, asked);
    room.agreed_cancel(&other, asked)?;
    room.hear(dialog, "SIP/2.0 487")?;
    Ok(())
}

/// A ringing call whose caller is about to give up: who, with what, and what is to come of it.
fn giving_up(room: &mut Room<'_>) -> anyhow::Result<(Id, String, Situation)> {
    let (alice, bob) = two(room)?;
    let (mut dialog, asked) = room.ringing(alice, bob, "cancelled")?;
    let cancel = room.request(&mut dialog, "CANCEL", "", "");
    let then = Situation::then(move |room| {
        room.hear(&dialog, "SIP/2.0 200")?;
        is_cancelled(room, &dialog, bob, &asked)
    });
    Ok((alice, cancel, then))
}

fn cancel_at_the_last(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (id, cancel, situation) = giving_up(room)?;
    Ok(situation.at_the_last(id, cancel))
}

fn cancel_into_the_outage(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (id, cancel, situation) = giving_up(room)?;
    Ok(situation.into_the_outage(id, cancel))
}

fn ringing_is_cancelled(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (id, cancel, situation) = giving_up(room)?;
    let (_, _, then) = situation.parts();
    Ok(Situation::then(move |room| {
        room.send(id, &cancel)?;
        then(room)
    }))
}

/// The nonce of one server is good at the other.
fn register_was_challenged(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let alice = room.phone(Udp)?;
    let (mut dialog, proof) = room.challenged_register(alice)?;
    let register = room.request(&mut dialog, "REGISTER", &proof, "");
    Ok(Situation::then(move |room| {
        room.send(alice, &register)?;
        room.hear(&dialog, "SIP/2.0 200").map(drop)
    }))
}

fn register_at_the_last(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let alice = room.phone(Udp)?;
    let (mut dialog, proof) = room.challenged_register(alice)?;
    let register = room.request(&mut dialog, "REGISTER", &proof, "");
    let then = Situation::then(move |room| room.hear(&dialog, "SIP/2.0 200").map(drop));
    Ok(then.at_the_last(alice, register))
}

fn ringing_is_answered(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (alice, bob) = two(room)?;
    let (mut dialog, asked) = room.ringing(alice, bob, CALLEE)?;
    Ok(Situation::then(move |room| {
        let mut other = room.takes(&mut dialog, bob, &asked)?;
        room.hang_up(&mut other, &dialog)
    }))
}

fn ringing_is_refused(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (alice, bob) = two(room)?;
    let (dialog, asked) = room.ringing(alice, bob, "refused")?;
    Ok(Situation::then(move |room| {
        room.answer(bob, &asked, "486 Busy Here", "", "")?;
        room.hear(&room.called(bob, &asked), "ACK")?;
        room.hear(&dialog, "SIP/2.0 486").map(drop)
    }))
}

/// RFC 3262: the answer that was heard from one server is acknowledged to the other.
fn prack_is_outstanding(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (alice, bob) = two(room)?;
    let (mut dialog, invite) = room.challenged_call(alice, bob, "Supported: 100rel\r\n", CALLER)?;
    room.send(alice, &invite)?;
    let asked = room.hear_anew(bob, "INVITE")?;
    room.answer(bob, &asked, "183 Session Progress", "Require: 100rel\r\nRSeq: 7\r\n", SDP)?;
    let progress = room.hear(&dialog, "SIP/2.0 183")?;
    dialog.follow(&progress);
    Ok(Situation::then(move |room| {
        let rack = format!("RAck: {} {}\r\n", progress.header("RSeq"), progress.header("CSeq"));
        room.ask(&mut dialog, "PRACK", &rack, "")?;
        let other = room.called(bob, &asked);
        let acknowledged = room.agreed(&dialog, &other, "PRACK", "200 OK")?;
        let rack = format!("7 {}", asked.header("CSeq"));
        ensure!(acknowledged.header("RAck") == rack, "not what Bob had said: {}", acknowledged.0);
        // The CSeq of an ACK is the INVITE's (RFC 3261, section 13.2.2.4).
        room.answer(bob, &asked, "200 OK", "", SDP)?;
        dialog.cseq -= 1;
        room.is_taken(&mut dialog, &other)?;
        dialog.cseq += 1;
        room.hang_up(&mut dialog, &other)
    }))
}

fn called_after(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (alice, bob) = two(room)?;
    Ok(Situation::then(move |room| {
        let (mut dialog, other) = room.talk(alice, bob, CALLER)?;
        room.hang_up(&mut dialog, &other)
    }))
}

fn ringing_times_out(room: &mut Room<'_>) -> anyhow::Result<Situation> {
    let (alice, bob) = two(room)?;
    let (dialog, asked) = room.ringing(alice, bob, "refused")?;
    Ok(Situation::then(move |room| {
        let other = room.called(bob, &asked);
        room.agreed_cancel(&other, &asked)?;
        room.hear(&dialog, "SIP/2.0 4").map(drop)
    }))
}
