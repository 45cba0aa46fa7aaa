//! The user agent server (RFC 3261, section 8.2): checks a request, answers OPTIONS and REGISTER, and says of anything
//! else why it is not answered with more. It keeps no transactions: a request that is sent again is answered again in
//! the same way (section 8.2.7).

use crate::b2bua::{self, Flow};
use crate::draft::{Draft, ToTag, destination, fits, reason_phrase};
use crate::rejection::{
    Detail, RETRY_AFTER_S, Rejection, bad_request, check_form, check_uri, check_version, malformed, rejection,
};
use crate::scan::saturating_number;
use crate::uri::same_host;
use crate::{
    ContactChange, Contacts, HeaderName, Limits, Message, Method, Qvalue, Refusal, Registrar, Registration,
    RequestLine, StartLine, Uri, UriError, Wish,
};
use domain::Micros;
use std::net::SocketAddr;

/// What OPTIONS and 405 answers list where there are no calls.
const ALLOW: &str = "OPTIONS, REGISTER";

/// How a [`UserAgentServer`] presents itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Value of the Server header field.
    pub server: String,
    /// Domains that it is registrar for, names or addresses (IPv6 in brackets), without port; none: any.
    pub domains: Vec<String>,
    /// Bounds of the registrar.
    pub limits: Limits,
    /// Whether there are calls beside it ([`crate::b2bua`]), so that what they serve is listed too.
    pub calls: bool,
}

impl Settings {
    fn allow(&self) -> &'static str {
        if self.calls { b2bua::ALLOW } else { ALLOW }
    }
}

/// What is to be done with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Answer them.
    Serve,
    /// Refuse new work with 503: a graceful stop.
    Refuse,
    /// Only say that somebody is there: OPTIONS is answered, nothing changes.
    Probe,
}

/// How and when a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Where it came from.
    pub source: SocketAddr,
    /// When.
    pub now: Micros,
    /// What is to be done with it.
    pub duty: Duty,
    /// The way that it came, to be kept with what it registers.
    pub flow: Option<Flow>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// An answer was written.
    Answer {
        /// Its status.
        status: u16,
        /// Where it goes if the request came in a datagram; on a stream it goes back on the same one.
        to: SocketAddr,
    },
    /// There is no answer.
    None(Silence),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// ACK is never answered.
    Ack,
    /// A response, to a request that was not sent from here.
    Response,
    /// Nothing says where an answer would go.
    NoVia,
    /// The answer, which repeats parts of the request, would be longer than a message may be.
    TooLong,
}

/// What a method asks for, of those that are served.
enum Service {
    Options,
    Register,
}

/// What a 200 answer lists.
enum Served {
    Capabilities,
    Registration { address_of_record: String },
}

/// A user agent server with its registrar.
#[derive(Debug, Clone)]
pub struct UserAgentServer {
    settings: Settings,
    registrar: Registrar,
}

impl UserAgentServer {
    /// One with an empty registrar.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let registrar = Registrar::new(settings.limits);
        Self { settings, registrar }
    }

    /// Other settings count from now on.
    pub fn configure(&mut self, settings: Settings) {
        self.registrar.set_limits(settings.limits);
        self.settings = settings;
    }

    /// The registrar.
    #[must_use]
    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    /// The registrar, to let bindings end.
    pub fn registrar_mut(&mut self) -> &mut Registrar {
        &mut self.registrar
    }

    /// Carries out a request and appends its answer to `out`.
    pub fn answer(&mut self, message: &Message<'_>, arrival: Arrival, out: &mut Vec<u8>) -> Reply {
        let line = match message.start {
            StartLine::Request(line) if line.method == Method::Ack => return Reply::None(Silence::Ack),
            StartLine::Request(line) => line,
            StartLine::Status { .. } => return Reply::None(Silence::Response),
        };
        if message.value(HeaderName::Via).is_none() {
            return Reply::None(Silence::NoVia);
        }
        let outcome = self.serve(message, line, arrival);
        let status = outcome.as_ref().map_or_else(|rejection| rejection.status, |_| 200);
        let reason = outcome.as_ref().map_or_else(|rejection| rejection.reason, |_| reason_phrase(200));
        let begin = out.len();
        let response = Draft::response(out, message, status, reason, ToTag::OfTransaction, arrival.source);
        let response = match &outcome {
            Ok(Served::Registration { address_of_record }) => {
                self.list_bindings(response, address_of_record, arrival.now)
            }
            Ok(Served::Capabilities) => list_capabilities(response, self.settings.allow()),
            Err(rejection) => rejection.explain(response, message),
        };
        response.header("Server", &self.settings.server).finish();
        if !fits(out.len() - begin) {
            out.truncate(begin);
            return Reply::None(Silence::TooLong);
        }
        Reply::Answer { status, to: destination(message.via().ok().as_ref(), arrival.source) }
    }

    /// Checks a request in the order of section 8.2 and carries it out.
    fn serve(
        &mut self,
        message: &Message<'_>,
        line: RequestLine<'_>,
        arrival: Arrival,
    ) -> Result<Served, Rejection> {
        check_version(line.version_2)?;
        check_form(message, line.method_text)?;
        let uri = check_uri(line.uri)?;
        check_duty(arrival.duty, line.method, self.settings.allow())?;
        let service = check_method(line.method, self.settings.allow())?;
        check_extensions(message)?;
        match service {
            Service::Options => Ok(Served::Capabilities),
            Service::Register => {
                let address_of_record = self.register(message, &uri, arrival)?;
                Ok(Served::Registration { address_of_record })
            }
        }
    }

    /// Carries out a REGISTER (section 10.3); the key of its address-of-record.
    fn register(
        &mut self,
        message: &Message<'_>,
        uri: &Uri<'_>,
        arrival: Arrival,
    ) -> Result<String, Rejection> {
        let to = message.to().map_err(malformed)?.sip_uri().map_err(|e| match e {
            UriError::Syntax => bad_request("Malformed To"),
            UriError::Scheme => rejection(404),
        })?;
        if !self.is_our_domain(uri) || !self.is_our_domain(&to) {
            return Err(rejection(404));
        }
        let address_of_record = to.address_of_record();
        let contacts = Contacts::read(message).map_err(malformed)?;
        let expires_s = message.expires();
        let changes;
        let wish = match contacts {
            Contacts::Star if expires_s == Some(0) => Wish::RemoveAll,
            Contacts::Star => return Err(bad_request("Contact * Without Expires 0")),
            // Before they are looked at one by one, so that thousands of them in one message cost little.
            Contacts::List(list) if list.len() > self.settings.limits.contacts => {
                return Err(too_many_contacts());
            }
            Contacts::List(list) => {
                changes = list.iter().map(|c| contact_change(c, expires_s)).collect::<Result<Vec<_>, _>>()?;
                Wish::Change(&changes)
            }
        };
        let path = path(message)?;
        let registration = Registration {
            address_of_record: &address_of_record,
            call_id: message.call_id().map_err(malformed)?,
            cseq: message.cseq().map_err(malformed)?.number,
            wish,
            flow: arrival.flow,
            path: path.as_deref(),
        };
        self.registrar.register(&registration, arrival.now).map_err(refused)?;
        Ok(address_of_record)
    }

    fn is_our_domain(&self, uri: &Uri<'_>) -> bool {
        let domains = &self.settings.domains;
        domains.is_empty() || domains.iter().any(|domain| same_host(domain, uri.host))
    }

    fn list_bindings<'b>(&self, mut response: Draft<'b>, address_of_record: &str, now: Micros) -> Draft<'b> {
        for binding in self.registrar.bindings(address_of_record, now) {
            let (contact, expires) = (&binding.contact, binding.expires_in_s(now));
            response = match binding.q {
                Some(q) => response.header("Contact", format_args!("<{contact}>;q={q};expires={expires}")),
                None => response.header("Contact", format_args!("<{contact}>;expires={expires}")),
            };
        }
        response
    }
}

/// What section 11.2 wants in the answer to OPTIONS. Accept and Supported are empty on purpose: no body is understood
/// (section 20.1) and no extension (section 20.37).
fn list_capabilities<'b>(response: Draft<'b>, allow: &str) -> Draft<'b> {
    response
        .header("Allow", allow)
        .header("Accept", "")
        .header("Accept-Encoding", "identity")
        .header("Accept-Language", "en")
        .header("Supported", "")
}

/// Max-Forwards: 0 is no reason to refuse, as the request has arrived: who is named in it answers (section 16.3).
fn check_duty(duty: Duty, method: Method, allow: &'static str) -> Result<(), Rejection> {
    match duty {
        Duty::Serve => Ok(()),
        Duty::Refuse => Err(Rejection { detail: Detail::RetryAfter(RETRY_AFTER_S), ..rejection(503) }),
        Duty::Probe if method == Method::Options => Ok(()),
        Duty::Probe => Err(Rejection { detail: Detail::Allow(allow), ..rejection(405) }),
    }
}

fn check_method(method: Method, allow: &'static str) -> Result<Service, Rejection> {
    match method {
        Method::Options => Ok(Service::Options),
        Method::Register => Ok(Service::Register),
        // There are no calls and no transactions that these could belong to (sections 9.2 and 15.1.2).
        Method::Bye | Method::Cancel => Err(rejection(481)),
        Method::Other => Err(Rejection { detail: Detail::Allow(allow), ..rejection(501) }),
        Method::Ack
        | Method::Info
        | Method::Invite
        | Method::Message
        | Method::Notify
        | Method::Prack
        | Method::Publish
        | Method::Refer
        | Method::Subscribe
        | Method::Update => Err(Rejection { detail: Detail::Allow(allow), ..rejection(405) }),
    }
}

/// Each extension that is required and not known is one too many (section 8.2.2.3).
fn check_extensions(message: &Message<'_>) -> Result<(), Rejection> {
    let known = |tag: &[u8]| tag.eq_ignore_ascii_case(b"path");
    match message.tokens(HeaderName::Require).find(|tag| !known(tag)) {
        None => Ok(()),
        Some(_) => Err(Rejection { detail: Detail::Unsupported, ..rejection(420) }),
    }
}

fn contact_change<'a>(
    contact: &crate::NameAddr<'a>,
    expires_s: Option<u32>,
) -> Result<ContactChange<'a>, Rejection> {
    let uri = contact.sip_uri().map_err(|e| match e {
        UriError::Syntax => bad_request("Malformed Contact"),
        UriError::Scheme => bad_request("Contact Is No SIP URI"),
    })?;
    // An unreadable `expires` counts as missing, as an unreadable Expires does (sections 10.3 and 20.10).
    let own = contact.param("expires").and_then(saturating_number);
    let q =
        contact.param("q").map(|q| Qvalue::read(q).ok_or(bad_request("Malformed Contact"))).transpose()?;
    let instance = contact.param("+sip.instance").and_then(|value| std::str::from_utf8(value).ok());
    let reg_id = contact.param("reg-id").and_then(saturating_number);
    Ok(ContactChange { text: contact.uri, uri, q, expires_s: own.or(expires_s), instance, reg_id })
}

/// All values of Path as one (RFC 3327, section 5.3); a proxy puts itself on top.
fn path(message: &Message<'_>) -> Result<Option<String>, Rejection> {
    let mut path: Option<String> = None;
    for value in message.values(HeaderName::Path) {
        let value = std::str::from_utf8(value).map_err(|_| bad_request("Malformed Path"))?;
        match &mut path {
            Some(path) => {
                path.push_str(", ");
                path.push_str(value);
            }
            None => path = Some(value.to_owned()),
        }
    }
    Ok(path)
}

fn refused(refusal: Refusal) -> Rejection {
    match refusal {
        // As for requests within a dialog (section 12.2.2).
        Refusal::OutOfOrder => Rejection { reason: "CSeq Out Of Order", ..rejection(500) },
        Refusal::TooBrief { min_expires_s } => {
            Rejection { detail: Detail::MinExpires(min_expires_s), ..rejection(423) }
        }
        Refusal::TooManyContacts => too_many_contacts(),
        Refusal::TooLong => bad_request("URI Or Call-ID Too Long"),
        Refusal::Full => Rejection { detail: Detail::RetryAfter(RETRY_AFTER_S), ..rejection(503) },
    }
}

fn too_many_contacts() -> Rejection {
    Rejection { reason: "Too Many Contacts", ..rejection(403) }
}
