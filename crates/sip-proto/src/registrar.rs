//! The registrar (RFC 3261, section 10.3): which contacts are bound to which address-of-record, and until when.
//!
//! A plain value: time comes in as `now`. A registration is carried out whole or not at all. Bindings are gone for every
//! reader the moment they expire; [`Registrar::due`] only gives back their memory. Bounded by [`Limits`].

use crate::b2bua::Flow;
use crate::{Qvalue, Uri};
use domain::Micros;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Bounds of a [`Registrar`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most addresses-of-record.
    pub addresses: usize,
    /// Most contacts of one address-of-record.
    pub contacts: usize,
    /// Longest contact URI, Call-ID and address-of-record each, bytes.
    pub text_bytes: usize,
    /// Shortest registration, seconds; a shorter one is refused with 423.
    pub min_expires_s: u32,
    /// How long one lasts that does not say, seconds.
    pub default_expires_s: u32,
    /// Longest registration, seconds; a longer one is cut.
    pub max_expires_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            addresses: 50_000,
            contacts: 10,
            text_bytes: 512,
            min_expires_s: 60,
            default_expires_s: 3_600,
            max_expires_s: 7_200,
        }
    }
}

/// A contact bound to an address-of-record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The contact URI as it was sent.
    pub contact: Box<str>,
    /// Preference among the contacts.
    pub q: Option<Qvalue>,
    /// Call-ID of the registration that made it.
    pub call_id: Box<str>,
    /// CSeq number of that registration.
    pub cseq: u32,
    /// When it ends.
    pub expires_at: Micros,
    /// The way that the registration came: a phone behind a NAT is reached there and nowhere else.
    pub flow: Option<Flow>,
    /// Which phone it is (`+sip.instance`, RFC 5626): one that comes back by another way takes the place of its old binding.
    pub instance: Option<Box<str>>,
    /// Which of the phone's flows (`reg-id`).
    pub reg_id: Option<u32>,
    /// What requests to it are routed by (Path, RFC 3327).
    pub path: Option<Box<str>>,
}

impl Binding {
    /// Seconds that are left, rounded up so that a live binding never shows 0.
    #[must_use]
    pub fn expires_in_s(&self, now: Micros) -> u64 {
        self.expires_at.0.saturating_sub(now.0).div_ceil(1_000_000)
    }
}

/// A REGISTER request, as far as the registrar cares.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    /// Key of the address-of-record ([`Uri::address_of_record`]).
    pub address_of_record: &'a str,
    /// Call-ID.
    pub call_id: &'a str,
    /// CSeq number.
    pub cseq: u32,
    /// What is asked.
    pub wish: Wish<'a>,
    /// The way that it came.
    pub flow: Option<Flow>,
    /// Path, its values as one list.
    pub path: Option<&'a str>,
}

/// What a REGISTER asks.
#[derive(Debug, Clone, Copy)]
pub enum Wish<'a> {
    /// Add, refresh or remove these; none at all only asks for what is there.
    Change(&'a [ContactChange<'a>]),
    /// Remove all.
    RemoveAll,
}

/// One contact of a REGISTER.
#[derive(Debug, Clone, Copy)]
pub struct ContactChange<'a> {
    /// The contact URI as it was sent.
    pub text: &'a str,
    /// The same, read.
    pub uri: Uri<'a>,
    /// Preference.
    pub q: Option<Qvalue>,
    /// Seconds that it asks for, 0 to remove; none where it does not say.
    pub expires_s: Option<u32>,
    /// Which phone it is, see [`Binding::instance`].
    pub instance: Option<&'a str>,
    /// Which of the phone's flows.
    pub reg_id: Option<u32>,
}

/// Why a registration was not carried out. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An older request than one that was carried out, by the same Call-ID (section 10.3, steps 6 and 7).
    #[error("the request is older than the last one with its Call-ID")]
    OutOfOrder,
    /// A registration shorter than the registrar allows.
    #[error("the registration is shorter than {min_expires_s} seconds")]
    TooBrief {
        /// The shortest allowed, seconds.
        min_expires_s: u32,
    },
    /// More contacts than one address-of-record may have.
    #[error("the address-of-record has as many contacts as it may have")]
    TooManyContacts,
    /// A URI or Call-ID that is longer than the registrar keeps.
    #[error("a URI or Call-ID is too long")]
    TooLong,
    /// The registrar has as many addresses-of-record as it may have.
    #[error("the registrar is full")]
    Full,
}

/// The bindings.
#[derive(Debug, Clone)]
pub struct Registrar {
    limits: Limits,
    addresses: BTreeMap<Arc<str>, Vec<Binding>>,
    /// Each address-of-record by the first end of one of its bindings.
    ends: BTreeSet<(Micros, Arc<str>)>,
}

impl Registrar {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, addresses: BTreeMap::new(), ends: BTreeSet::new() }
    }

    /// Other limits count for registrations from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Carries out a registration. Sent again it changes nothing and succeeds, as UDP repeats what was not answered
    /// in time. Afterwards, [`Registrar::bindings`] are what the answer lists.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub fn register(&mut self, registration: &Registration<'_>, now: Micros) -> Result<(), Refusal> {
        let mut bindings: Vec<Binding> =
            self.bindings(registration.address_of_record, now).cloned().collect();
        match registration.wish {
            Wish::Change([]) => return Ok(()),
            Wish::Change(changes) => {
                for change in changes {
                    apply(&mut bindings, registration, change, &self.limits, now)?;
                }
            }
            Wish::RemoveAll => {
                if bindings.iter().any(|b| *b.call_id == *registration.call_id && b.cseq >= registration.cseq)
                {
                    return Err(Refusal::OutOfOrder);
                }
                bindings.clear();
            }
        }
        if bindings.len() > self.limits.contacts {
            return Err(Refusal::TooManyContacts);
        }
        self.replace(registration, bindings)
    }

    /// The live bindings of an address-of-record, in the order in which they were made.
    pub fn bindings(&self, address_of_record: &str, now: Micros) -> impl Iterator<Item = &Binding> {
        let bindings = self.addresses.get(address_of_record).map_or(&[][..], Vec::as_slice);
        bindings.iter().filter(move |b| b.expires_at > now)
    }

    /// All of an address-of-record, expired ones included until [`Registrar::due`] ran: what a backup is told.
    #[must_use]
    pub fn all(&self, address_of_record: &str) -> &[Binding] {
        self.addresses.get(address_of_record).map_or(&[][..], Vec::as_slice)
    }

    /// Up to `most` addresses-of-record behind `after`, with their bindings.
    pub fn range(&self, after: Option<&str>, most: usize) -> impl Iterator<Item = (&str, &[Binding])> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.addresses.range::<str, _>((from, Bound::Unbounded)).take(most);
        behind.map(|(address, bindings)| (&**address, bindings.as_slice()))
    }

    /// The bindings of an address-of-record are these, whatever they were: what a backup is told.
    pub fn set(&mut self, address_of_record: &str, bindings: Vec<Binding>) {
        if let Some((address, old)) = self.addresses.remove_entry(address_of_record)
            && let Some(end) = first_end(&old)
        {
            self.ends.remove(&(end, address));
        }
        self.insert(Arc::from(address_of_record), bindings);
    }

    /// How many addresses-of-record have bindings, expired ones included until [`Registrar::due`] ran.
    #[must_use]
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether nobody is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// When [`Registrar::due`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Forgets bindings that have expired, of at most `most` addresses-of-record; how many bindings those were. Where
    /// more are left, [`Registrar::next_deadline`] is not later than `now`.
    pub fn due(&mut self, now: Micros, most: usize) -> usize {
        let mut expired = 0;
        for _ in 0..most {
            let Some((end, address)) = self.ends.first().cloned() else { break };
            if end > now {
                break;
            }
            let mut bindings = self.addresses.remove(&address).unwrap_or_default();
            self.ends.pop_first();
            let before = bindings.len();
            bindings.retain(|b| b.expires_at > now);
            expired += before - bindings.len();
            self.insert(address, bindings);
        }
        expired
    }

    fn replace(&mut self, registration: &Registration<'_>, bindings: Vec<Binding>) -> Result<(), Refusal> {
        let known = self.addresses.get_key_value(registration.address_of_record);
        let (address, end) = match known {
            Some((address, old)) => (Arc::clone(address), first_end(old)),
            None if bindings.is_empty() => return Ok(()),
            None if registration.address_of_record.len() > self.limits.text_bytes => {
                return Err(Refusal::TooLong);
            }
            None if self.addresses.len() >= self.limits.addresses => return Err(Refusal::Full),
            None => (Arc::from(registration.address_of_record), None),
        };
        if let Some(end) = end {
            self.ends.remove(&(end, Arc::clone(&address)));
            self.addresses.remove(&address);
        }
        self.insert(address, bindings);
        Ok(())
    }

    fn insert(&mut self, address: Arc<str>, bindings: Vec<Binding>) {
        let Some(end) = first_end(&bindings) else { return };
        self.ends.insert((end, Arc::clone(&address)));
        self.addresses.insert(address, bindings);
    }
}

fn first_end(bindings: &[Binding]) -> Option<Micros> {
    bindings.iter().map(|b| b.expires_at).min()
}

/// Carries out one contact of a registration on a copy of the bindings (section 10.3, step 7).
fn apply(
    bindings: &mut Vec<Binding>,
    registration: &Registration<'_>,
    change: &ContactChange<'_>,
    limits: &Limits,
    now: Micros,
) -> Result<(), Refusal> {
    let too_long = |text: Option<&str>| text.is_some_and(|text| text.len() > limits.text_bytes);
    if [Some(change.text), Some(registration.call_id), change.instance, registration.path]
        .into_iter()
        .any(too_long)
    {
        return Err(Refusal::TooLong);
    }
    let expires_s = change.expires_s.unwrap_or(limits.default_expires_s).min(limits.max_expires_s);
    if expires_s != 0 && expires_s < limits.min_expires_s {
        return Err(Refusal::TooBrief { min_expires_s: limits.min_expires_s });
    }
    let same_phone = |b: &Binding| {
        change.instance.is_some() && b.instance.as_deref() == change.instance && b.reg_id == change.reg_id
    };
    // Two that say which phone they are need no other comparison.
    let same_contact = |b: &Binding| {
        (change.instance.is_none() || b.instance.is_none())
            && Uri::parse(&b.contact).is_ok_and(|uri| uri.is_equivalent(&change.uri))
    };
    let known = bindings.iter().position(same_phone).or_else(|| bindings.iter().position(same_contact));
    if let Some(known) = known.map(|index| &bindings[index])
        && *known.call_id == *registration.call_id
    {
        if known.cseq > registration.cseq {
            return Err(Refusal::OutOfOrder);
        }
        if known.cseq == registration.cseq {
            // The request again, which UDP may repeat, or a contact that it lists twice.
            return Ok(());
        }
    }
    if expires_s == 0 {
        if let Some(known) = known {
            bindings.remove(known);
        }
        return Ok(());
    }
    let binding = Binding {
        contact: change.text.into(),
        q: change.q,
        call_id: registration.call_id.into(),
        cseq: registration.cseq,
        expires_at: now + Duration::from_secs(u64::from(expires_s)),
        flow: registration.flow,
        instance: change.instance.map(Into::into),
        reg_id: change.reg_id,
        path: registration.path.map(Into::into),
    };
    match known {
        Some(known) => bindings[known] = binding,
        // Checked here as well as at the end, so that one request cannot make the list long even for a moment.
        None if bindings.len() >= limits.contacts => return Err(Refusal::TooManyContacts),
        None => bindings.push(binding),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn change(text: &str, expires_s: Option<u32>) -> ContactChange<'_> {
        ContactChange {
            text,
            uri: Uri::parse(text).unwrap(),
            q: None,
            expires_s,
            instance: None,
            reg_id: None,
        }
    }

    /// A registrar and the requests that it gets, in words.
    struct Scene(Registrar);

    impl Scene {
        fn new(limits: Limits) -> Self {
            Self(Registrar::new(limits))
        }

        fn register(
            &mut self,
            id: (&str, u32),
            contact: &str,
            expires_s: u32,
            at_s: u64,
        ) -> Result<(), Refusal> {
            let changes = [change(contact, Some(expires_s))];
            self.send("alice@example.com", id, Wish::Change(&changes), at_s)
        }

        fn send(&mut self, aor: &str, id: (&str, u32), wish: Wish<'_>, at_s: u64) -> Result<(), Refusal> {
            let (call_id, cseq) = id;
            let registration =
                Registration { address_of_record: aor, call_id, cseq, wish, flow: None, path: None };
            let result = self.0.register(&registration, Micros(at_s * SECOND));
            self.check();
            result
        }

        fn contacts(&self, at_s: u64) -> Vec<(&str, u64)> {
            let now = Micros(at_s * SECOND);
            self.0.bindings("alice@example.com", now).map(|b| (&*b.contact, b.expires_in_s(now))).collect()
        }

        /// What must always hold: one entry in `ends` per address, at its first end; none without bindings.
        fn check(&self) {
            let ends: Vec<_> = self.0.ends.iter().map(|(end, address)| (address.clone(), *end)).collect();
            let mut expected: Vec<_> =
                self.0.addresses.iter().map(|(a, b)| (a.clone(), first_end(b).unwrap())).collect();
            expected.sort_by_key(|(address, end)| (*end, address.clone()));
            assert_eq!(ends, expected);
        }
    }

    #[test]
    fn bindings_are_made_refreshed_and_removed() {
        let mut scene = Scene::new(Limits::default());
        scene.register(("a", 1), "sip:alice@192.0.2.1", 600, 0).unwrap();
        scene.register(("b", 1), "sip:alice@192.0.2.2", 900, 10).unwrap();
        assert_eq!(scene.contacts(10), [("sip:alice@192.0.2.1", 590), ("sip:alice@192.0.2.2", 900)]);
        scene.register(("a", 2), "sip:ALICE@192.0.2.1", 600, 20).unwrap();
        assert_eq!(scene.contacts(20).len(), 3, "the user part has case");
        scene.register(("a", 3), "sip:alice@192.0.2.1", 600, 30).unwrap();
        assert_eq!(scene.contacts(30)[0], ("sip:alice@192.0.2.1", 600));
        scene.register(("a", 4), "sip:alice@192.0.2.1", 0, 40).unwrap();
        assert_eq!(scene.contacts(40).len(), 2);
        scene.register(("a", 5), "sip:nobody@192.0.2.1", 0, 40).unwrap();
        assert_eq!(scene.contacts(40).len(), 2);
        scene.send("alice@example.com", ("c", 1), Wish::RemoveAll, 50).unwrap();
        assert_eq!(scene.contacts(50), []);
        assert!(scene.0.is_empty());
    }

    #[test]
    fn older_requests_change_nothing_and_repeated_ones_succeed() {
        let mut scene = Scene::new(Limits::default());
        scene.register(("a", 5), "sip:alice@192.0.2.1", 600, 0).unwrap();
        assert_eq!(scene.register(("a", 4), "sip:alice@192.0.2.1", 0, 1), Err(Refusal::OutOfOrder));
        assert_eq!(scene.register(("a", 5), "sip:alice@192.0.2.1", 600, 2), Ok(()));
        assert_eq!(scene.contacts(2), [("sip:alice@192.0.2.1", 598)], "a repeat does not refresh");
        assert_eq!(scene.send("alice@example.com", ("a", 5), Wish::RemoveAll, 3), Err(Refusal::OutOfOrder));
        assert_eq!(scene.contacts(3).len(), 1);
        scene.register(("other", 1), "sip:alice@192.0.2.1", 0, 4).unwrap();
        assert_eq!(scene.contacts(4), [], "another Call-ID has no order with the first");
    }

    #[test]
    fn a_phone_that_comes_back_by_another_way_takes_the_place_of_its_old_binding() {
        let mut scene = Scene::new(Limits::default());
        for (nth, contact) in (1..).zip(["sip:alice@192.0.2.1:1000", "sip:alice@192.0.2.1:2000"]) {
            let phone = ContactChange { instance: Some("<urn:uuid:1>"), ..change(contact, Some(600)) };
            let other = ContactChange { reg_id: Some(2), ..phone };
            let id = format!("call{nth}");
            scene.send("alice@example.com", (&id, 1), Wish::Change(&[phone]), nth).unwrap();
            if nth == 1 {
                scene.send("alice@example.com", (&id, 2), Wish::Change(&[other]), nth).unwrap();
            }
        }
        let contacts: Vec<_> = scene.contacts(3).into_iter().map(|(contact, _)| contact).collect();
        assert_eq!(contacts, ["sip:alice@192.0.2.1:2000", "sip:alice@192.0.2.1:1000"]);
    }

    #[test]
    fn what_a_backup_is_told_is_what_it_has() {
        let (mut primary, mut backup) = (Scene::new(Limits::default()), Scene::new(Limits::default()));
        for (at_s, expires_s) in [(0, 600), (10, 60), (20, 0)] {
            primary
                .register(("a", u32::try_from(at_s).unwrap() + 1), "sip:alice@192.0.2.1", expires_s, at_s)
                .unwrap();
            let told: Vec<_> = primary.0.all("alice@example.com").to_vec();
            backup.0.set("alice@example.com", told);
            backup.check();
            assert_eq!(primary.contacts(at_s), backup.contacts(at_s));
        }
        assert!(backup.0.is_empty());
    }

    #[test]
    fn a_registration_is_whole_or_nothing() {
        let mut scene = Scene::new(Limits::default());
        scene.register(("a", 5), "sip:alice@192.0.2.1", 600, 0).unwrap();
        let changes = [change("sip:alice@192.0.2.9", None), change("sip:alice@192.0.2.1", Some(0))];
        assert_eq!(
            scene.send("alice@example.com", ("a", 1), Wish::Change(&changes), 1),
            Err(Refusal::OutOfOrder)
        );
        assert_eq!(scene.contacts(1).len(), 1);
    }

    #[test]
    fn times_are_bounded() {
        let mut scene = Scene::new(Limits::default());
        let brief = Err(Refusal::TooBrief { min_expires_s: 60 });
        assert_eq!(scene.register(("a", 1), "sip:alice@192.0.2.1", 59, 0), brief);
        scene.register(("a", 1), "sip:alice@192.0.2.1", u32::MAX, 0).unwrap();
        assert_eq!(scene.contacts(0), [("sip:alice@192.0.2.1", 7_200)]);
        let changes = [change("sip:alice@192.0.2.2", None)];
        scene.send("alice@example.com", ("a", 2), Wish::Change(&changes), 0).unwrap();
        assert_eq!(scene.contacts(0)[1], ("sip:alice@192.0.2.2", 3_600));
    }

    #[test]
    fn bindings_end_by_themselves() {
        let mut scene = Scene::new(Limits::default());
        scene.register(("a", 1), "sip:alice@192.0.2.1", 60, 0).unwrap();
        scene.register(("b", 1), "sip:alice@192.0.2.2", 90, 0).unwrap();
        assert_eq!(scene.0.next_deadline(), Some(Micros(60 * SECOND)));
        assert_eq!(scene.contacts(59).len(), 2);
        assert_eq!(scene.contacts(60).len(), 1, "gone for readers before `due` ran");
        assert_eq!(scene.0.due(Micros(59 * SECOND), 10), 0);
        assert_eq!(scene.0.due(Micros(60 * SECOND), 10), 1);
        scene.check();
        assert_eq!(scene.0.next_deadline(), Some(Micros(90 * SECOND)));
        assert_eq!(scene.0.due(Micros(1_000 * SECOND), 10), 1);
        scene.check();
        assert!(scene.0.is_empty());
        assert_eq!(scene.0.next_deadline(), None);
    }

    #[test]
    fn sizes_are_bounded() {
        let mut scene = Scene::new(Limits { addresses: 2, contacts: 2, text_bytes: 40, ..Limits::default() });
        scene.register(("a", 1), "sip:alice@192.0.2.1", 600, 0).unwrap();
        scene.register(("a", 2), "sip:alice@192.0.2.2", 600, 0).unwrap();
        assert_eq!(scene.register(("a", 3), "sip:alice@192.0.2.3", 600, 0), Err(Refusal::TooManyContacts));
        let long = format!("sip:{}@192.0.2.3", "x".repeat(40));
        assert_eq!(scene.register(("a", 3), &long, 600, 0), Err(Refusal::TooLong));
        assert_eq!(scene.register((&"y".repeat(41), 3), "sip:a@b", 600, 0), Err(Refusal::TooLong));
        let changes = [change("sip:a@b", None)];
        assert_eq!(scene.send(&"z".repeat(41), ("a", 1), Wish::Change(&changes), 0), Err(Refusal::TooLong));
        scene.send("bob", ("a", 1), Wish::Change(&changes), 0).unwrap();
        assert_eq!(scene.send("carol", ("a", 1), Wish::Change(&changes), 0), Err(Refusal::Full));
        assert_eq!(scene.send("carol", ("a", 1), Wish::RemoveAll, 0), Ok(()));
        assert_eq!(scene.contacts(0).len(), 2);
        // Expired entries make room only when `due` ran; it is the caller's loop that runs it in time.
        assert_eq!(scene.0.due(Micros(600 * SECOND), 10), 2);
        scene.send("carol", ("a", 1), Wish::Change(&changes), 600).unwrap();
    }
}
