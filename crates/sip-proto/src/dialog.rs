//! Dialogs (RFC 3261, section 12): what two user agents have agreed on about where their requests go and how they are
//! numbered. A value; who sends what in it is its owner's business.

use crate::{CSeq, Draft, HeaderName, Malformed, Message, NameAddr, Uri, Wire};
use domain::Epoch;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// How far a number jumps when another host goes on with it: more than the old one may have used without our hearing.
const JUMP: u32 = 1_000;
/// Most hops in a route set, as Max-Forwards would not let a request over more.
const MOST_ROUTES: usize = 70;

/// Numbers that are never used twice, also when a host takes over that does not know the last of them: each epoch begins
/// at a distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    next: u32,
    epoch: Epoch,
}

impl Sequence {
    /// One that begins with `first`.
    #[must_use]
    pub fn new(first: u32, epoch: Epoch) -> Self {
        Self { next: first, epoch }
    }

    /// Whether no number was taken in this epoch yet.
    fn is_new_to(&self, epoch: Epoch) -> bool {
        self.epoch != epoch
    }

    /// The next number; `epoch` is that of who takes it.
    pub fn take(&mut self, epoch: Epoch) -> u32 {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.next = self.next.saturating_add(JUMP);
        }
        let number = self.next;
        self.next = number.saturating_add(1);
        number
    }
}

/// A dialog, as one of its two user agents sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialog {
    call_id: Arc<str>,
    local_tag: Arc<str>,
    remote_tag: Arc<str>,
    /// From and To of what we send, without the tags.
    local: Wire,
    remote: Wire,
    /// The other side's Contact.
    remote_target: Arc<str>,
    /// The value of Route, in order; none where requests go to the remote target directly.
    routes: Option<Wire>,
    local_sequence: Sequence,
    /// The highest number that came from the other side.
    remote_cseq: Option<u32>,
    confirmed: bool,
}

/// How a number from the other side follows on the ones before (RFC 3261, section 12.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It is higher.
    Next,
    /// It is lower, or the same: to be refused with 500.
    Behind,
}

impl Dialog {
    /// The dialog that our answer to `request` makes (section 12.1.1).
    ///
    /// # Errors
    /// [`Malformed`] where the request lacks what a dialog is made of.
    pub fn of_request(request: &Message<'_>, local_tag: Arc<str>, epoch: Epoch) -> Result<Self, Malformed> {
        let (from, to) = (request.from()?, request.to()?);
        let routes = collect_routes(request)?;
        // Senders of RFC 2543 may leave Contact out, and are reached at From (there, section 6.13).
        let named = request.value(HeaderName::Contact).is_some();
        let target =
            if named { contact(request)? } else { from.sip_uri().map_or(Err(MISSING), |_| Ok(from.uri))? };
        Ok(Self {
            call_id: request.call_id()?.into(),
            local_tag,
            remote_tag: text(from.tag())?.into(),
            local: Wire::from(to.without_params()),
            remote: Wire::from(from.without_params()),
            remote_target: target.into(),
            routes: joined(routes.iter()),
            local_sequence: Sequence::new(1, epoch),
            remote_cseq: Some(request.cseq()?.number),
            confirmed: false,
        })
    }

    /// The dialog that an answer to our `request` makes (section 12.1.2). `epoch` is that of who sent the request.
    ///
    /// # Errors
    /// [`Malformed`] where the two lack what a dialog is made of.
    pub fn of_response(
        request: &Message<'_>,
        response: &Message<'_>,
        epoch: Epoch,
    ) -> Result<Self, Malformed> {
        let (from, to) = (request.from()?, response.to()?);
        let routes = collect_routes(response)?;
        Ok(Self {
            call_id: request.call_id()?.into(),
            local_tag: text(from.tag())?.into(),
            remote_tag: text(to.tag())?.into(),
            local: Wire::from(from.without_params()),
            remote: Wire::from(to.without_params()),
            remote_target: contact(response)?.into(),
            routes: joined(routes.iter().rev()),
            local_sequence: Sequence::new(request.cseq()?.number + 1, epoch),
            remote_cseq: None,
            confirmed: false,
        })
    }

    /// A final response confirms it. For who sent the request, the route set is made again from it (section 13.2.2.4), as
    /// senders of RFC 2543 leave it out of provisional ones.
    ///
    /// # Errors
    /// [`Malformed`] where the response lacks what a dialog is made of; the dialog is confirmed all the same.
    pub fn confirm_by(&mut self, response: &Message<'_>) -> Result<(), Malformed> {
        self.confirmed = true;
        self.remote_target = contact(response)?.into();
        self.routes = joined(collect_routes(response)?.iter().rev());
        Ok(())
    }

    /// Our own final response confirms it.
    pub fn confirm(&mut self) {
        self.confirmed = true;
    }

    /// Whether a final response was given to the request that made it; before, it is early.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Whether a message that the other side sent, with these tags as it sees them, belongs to it.
    #[must_use]
    pub fn is(&self, call_id: &str, local_tag: &str, remote_tag: &str) -> bool {
        *self.remote_tag == *remote_tag && *self.local_tag == *local_tag && *self.call_id == *call_id
    }

    /// The other side's tag.
    #[must_use]
    pub fn remote_tag(&self) -> &str {
        &self.remote_tag
    }

    /// Our tag.
    #[must_use]
    pub fn local_tag(&self) -> &str {
        &self.local_tag
    }

    /// The Call-ID.
    #[must_use]
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// The other side's Contact.
    #[must_use]
    pub fn remote_target(&self) -> &str {
        &self.remote_target
    }

    /// The value of Route.
    #[must_use]
    pub fn routes(&self) -> Option<&[u8]> {
        self.routes.as_deref()
    }

    /// Notes the number of a request from the other side.
    pub fn note(&mut self, cseq: &CSeq<'_>) -> Order {
        match self.remote_cseq {
            Some(last) if cseq.number <= last => Order::Behind,
            Some(_) | None => {
                self.remote_cseq = Some(cseq.number);
                Order::Next
            }
        }
    }

    /// A request or response of the other side that refreshes its target (section 12.2): INVITE, UPDATE, and what answers
    /// them, may name another Contact.
    pub fn refresh_target(&mut self, message: &Message<'_>) {
        if let Ok(target) = contact(message)
            && *target != *self.remote_target
        {
            self.remote_target = target.into();
        }
    }

    /// Whether whoever has this epoch has sent no request in it yet.
    pub(crate) fn is_new_to(&self, epoch: Epoch) -> bool {
        self.local_sequence.is_new_to(epoch)
    }

    /// Number of the next request.
    pub fn next_cseq(&mut self, epoch: Epoch) -> u32 {
        self.local_sequence.take(epoch)
    }

    /// The URI that a request goes to first: the first of the route set, or the other side itself (section 8.1.2).
    #[must_use]
    pub fn next_hop(&self) -> &str {
        self.first_route().map_or(&self.remote_target, |route| route.uri)
    }

    /// Begins a request in it (section 12.2.1.1): everything up to Max-Forwards. An ACK has the number of its INVITE;
    /// other requests take theirs from [`Dialog::next_cseq`].
    pub fn draft<'b>(
        &self,
        out: &'b mut Vec<u8>,
        method: &str,
        cseq: u32,
        via: impl fmt::Display,
    ) -> Draft<'b> {
        let strict = self.first_route().filter(|route| !is_loose(route));
        let draft = match (&strict, &self.routes) {
            // A strict router wants its own URI in the request line, and the remote target last among the routes.
            (Some(first), Some(routes)) => {
                let rest = routes.get(first.text.len()..).unwrap_or_default();
                let rest =
                    rest.iter().position(|b| !matches!(b, b',' | b' ')).map_or(&[][..], |at| &rest[at..]);
                let draft = Draft::request(out, method, first.uri).header("Via", via);
                let draft = if rest.is_empty() { draft } else { draft.raw("Route", rest) };
                draft.header("Route", format_args!("<{}>", self.remote_target))
            }
            (None, Some(routes)) => {
                Draft::request(out, method, &self.remote_target).header("Via", via).raw("Route", routes)
            }
            (None | Some(_), None) => Draft::request(out, method, &self.remote_target).header("Via", via),
        };
        draft
            .tagged("From", &self.local, &self.local_tag)
            .tagged("To", &self.remote, &self.remote_tag)
            .header("Call-ID", &self.call_id)
            .header("CSeq", format_args!("{cseq} {method}"))
            .header("Max-Forwards", 70)
    }

    fn first_route(&self) -> Option<NameAddr<'_>> {
        self.routes.as_ref().and_then(|routes| NameAddr::first(routes))
    }
}

/// Whether a route's URI has the parameter `lr` (section 19.1.1).
fn is_loose(route: &NameAddr<'_>) -> bool {
    route.sip_uri().is_ok_and(|uri| {
        uri.params
            .split(';')
            .any(|param| param.split('=').next().is_some_and(|name| name.eq_ignore_ascii_case("lr")))
    })
}

const MISSING: Malformed = Malformed("Missing Contact");

/// The URI of the only Contact that a request or response in a dialog may have (section 8.1.1.8).
fn contact<'a>(message: &Message<'a>) -> Result<&'a str, Malformed> {
    let contact = message.addresses(HeaderName::Contact).next().ok_or(MISSING)??;
    match Uri::parse(contact.uri) {
        Ok(_) => Ok(contact.uri),
        Err(_) => Err(Malformed("Contact Is No SIP URI")),
    }
}

/// A tag; empty where a sender of RFC 2543 left it out (sections 12.1.1 and 12.1.2).
fn text(tag: Option<&[u8]>) -> Result<&str, Malformed> {
    std::str::from_utf8(tag.unwrap_or_default()).map_err(|_| Malformed("Malformed Tag"))
}

fn collect_routes<'a>(message: &Message<'a>) -> Result<Vec<&'a [u8]>, Malformed> {
    let routes = message.addresses(HeaderName::RecordRoute).map(|route| route.map(|route| route.text));
    let routes: Vec<_> = routes.take(MOST_ROUTES + 1).collect::<Result<_, _>>()?;
    if routes.len() > MOST_ROUTES { Err(Malformed("Too Many Record-Route")) } else { Ok(routes) }
}

fn joined<'v>(values: impl Iterator<Item = &'v &'v [u8]>) -> Option<Wire> {
    let mut line = Vec::new();
    for value in values {
        if !line.is_empty() {
            line.extend_from_slice(b", ");
        }
        crate::draft::push_unfolded(&mut line, value);
    }
    (!line.is_empty()).then(|| Wire::from(&line[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Framing, parse};

    fn message(text: &str) -> Message<'_> {
        parse(text.as_bytes(), Framing::Datagram).unwrap()
    }

    const INVITE: &str = "INVITE sip:b@us SIP/2.0\r\nVia: SIP/2.0/UDP p;branch=z9hG4bK1\r\n\
        Record-Route: \"P2\" <sip:p2;lr>;x=y\r\nRecord-Route: <sip:p1;lr=on>,\r\n <sip:p0;lr>\r\n\
        From: \"A\" <sip:a@x>;tag=a1\r\nTo: <sip:b@x>\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\nContact: <sip:a@192.0.2.1>\r\n\r\n";
    const OK: &str = "SIP/2.0 200 OK\r\nRecord-Route: <sip:p2;lr>, <sip:p1;lr>\r\nFrom: <sip:a@x>;tag=a1\r\n\
        To: <sip:b@x>;tag=b1\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\nContact: <sip:b@192.0.2.2>\r\n\r\n";

    fn drafted(dialog: &Dialog, method: &str, cseq: u32) -> String {
        let mut out = Vec::new();
        dialog.draft(&mut out, method, cseq, "SIP/2.0/UDP us;branch=z9hG4bK2").finish();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn who_answers_sends_the_way_that_the_request_came() {
        let mut dialog = Dialog::of_request(&message(INVITE), "us1".into(), Epoch(1)).unwrap();
        assert!(dialog.is("c", "us1", "a1") && !dialog.is("c", "a1", "us1"));
        assert_eq!(dialog.next_hop(), "sip:p2;lr");
        let cseq = dialog.next_cseq(Epoch(1));
        assert_eq!(
            drafted(&dialog, "BYE", cseq),
            "BYE sip:a@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK2\r\n\
             Route: \"P2\" <sip:p2;lr>;x=y, <sip:p1;lr=on>, <sip:p0;lr>\r\nFrom: <sip:b@x>;tag=us1\r\n\
             To: \"A\" <sip:a@x>;tag=a1\r\nCall-ID: c\r\nCSeq: 1 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn who_asked_sends_the_other_way_round() {
        let mut dialog = Dialog::of_response(&message(INVITE), &message(OK), Epoch(1)).unwrap();
        assert_eq!(dialog.next_hop(), "sip:p1;lr");
        assert_eq!(dialog.next_cseq(Epoch(1)), 8);
        let ack = drafted(&dialog, "ACK", 7);
        assert!(ack.starts_with("ACK sip:b@192.0.2.2 SIP/2.0\r\n"), "{ack}");
        assert!(ack.contains("\r\nRoute: <sip:p1;lr>, <sip:p2;lr>\r\n"), "{ack}");
        let moved = OK.replace("<sip:p2;lr>, <sip:p1;lr>", "<sip:p3;lr>").replace("192.0.2.2", "192.0.2.3");
        dialog.confirm_by(&message(&moved)).unwrap();
        assert!(dialog.is_confirmed() && dialog.next_hop() == "sip:p3;lr");
        dialog.refresh_target(&message(OK));
        assert!(drafted(&dialog, "BYE", 9).starts_with("BYE sip:b@192.0.2.2 SIP/2.0\r\n"));
    }

    #[test]
    fn a_strict_router_gets_its_own_uri() {
        let strict = INVITE.replace("\"P2\" <sip:p2;lr>;x=y", "<sip:p2;transport=tcp>");
        let dialog = Dialog::of_request(&message(&strict), "us1".into(), Epoch(1)).unwrap();
        let bye = drafted(&dialog, "BYE", 1);
        assert!(bye.starts_with("BYE sip:p2;transport=tcp SIP/2.0\r\n"), "{bye}");
        assert!(
            bye.contains("\r\nRoute: <sip:p1;lr=on>, <sip:p0;lr>\r\nRoute: <sip:a@192.0.2.1>\r\n"),
            "{bye}"
        );
        let one = OK.replace("<sip:p2;lr>, <sip:p1;lr>", "<sip:p9>");
        let dialog = Dialog::of_response(&message(INVITE), &message(&one), Epoch(1)).unwrap();
        assert!(drafted(&dialog, "BYE", 1).contains("branch=z9hG4bK2\r\nRoute: <sip:b@192.0.2.2>\r\nFrom"));
    }

    #[test]
    fn numbers_go_up_and_jump_with_the_epoch() {
        let mut dialog = Dialog::of_request(&message(INVITE), "us1".into(), Epoch(2)).unwrap();
        let cseq = |number| CSeq { number, method: "INFO" };
        assert_eq!(
            [6, 7, 8, 8, 100, 99].map(|number| dialog.note(&cseq(number)) == Order::Next),
            [false, false, true, false, true, false]
        );
        assert_eq!([2, 2, 3, 3, 8].map(|epoch| dialog.next_cseq(Epoch(epoch))), [1, 2, 1_003, 1_004, 2_005]);
    }

    #[test]
    fn a_sender_of_rfc_2543_needs_no_tag_and_no_contact() {
        let untagged = INVITE.replace(";tag=a1", "");
        let dialog = Dialog::of_request(&message(&untagged), "us1".into(), Epoch(1)).unwrap();
        assert!(dialog.is("c", "us1", "") && !dialog.is("c", "us1", "a1"));
        assert!(drafted(&dialog, "BYE", 1).contains("\r\nTo: \"A\" <sip:a@x>\r\n"));
        let unreachable = INVITE.replace("Contact: <sip:a@192.0.2.1>\r\n", "");
        let dialog = Dialog::of_request(&message(&unreachable), "us1".into(), Epoch(1)).unwrap();
        assert!(drafted(&dialog, "BYE", 1).starts_with("BYE sip:a@x SIP/2.0\r\n"));
        assert!(
            Dialog::of_response(&message(INVITE), &message(&OK.replace("Contact", "X-No")), Epoch(1))
                .is_err()
        );
    }

    #[test]
    fn what_makes_no_dialog_is_refused() {
        for (old, new) in [
            ("<sip:a@192.0.2.1>", "<tel:1>"),
            (";tag=a1", ";tag=\u{e9}"),
            ("<sip:p0;lr>", "p0"),
            ("Call-ID: c\r\n", ""),
        ] {
            let bad = INVITE.replace(old, new);
            assert!(Dialog::of_request(&message(&bad), "us1".into(), Epoch(1)).is_err(), "{new}");
        }
        let many = INVITE.replace("<sip:p0;lr>", &vec!["<sip:p0;lr>"; MOST_ROUTES].join(","));
        assert!(Dialog::of_request(&message(&many), "us1".into(), Epoch(1)).is_err());
    }
}
