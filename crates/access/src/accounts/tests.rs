//! What an installation goes through, from its first administrator to its last.

use super::*;

const SECOND: u64 = 1_000_000;

fn secret(n: u8) -> Secret {
    Secret::new([n; 32])
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn hash() -> PasswordHash {
    let zeros = |n| vec![0; n];
    let hash = serde_json::json!({ "memory": 8, "passes": 1, "salt": zeros(16), "hash": zeros(32) });
    serde_json::from_value(hash).unwrap()
}

fn at(seconds: u64) -> Micros {
    Micros(1_000_000 * SECOND + seconds * SECOND)
}

/// With an administrator, root.
fn accounts() -> Accounts {
    let mut accounts = Accounts::default();
    accounts.first_link(&secret(1), at(0)).unwrap();
    accounts.use_link(&secret(1), Some(&name("root")), hash(), at(0)).unwrap();
    accounts
}

#[test]
fn the_first_administrator_comes_by_a_link_that_works_once() {
    let mut accounts = Accounts::default();
    accounts.first_link(&secret(1), at(0)).unwrap();
    accounts.first_link(&secret(2), at(0)).unwrap();
    let root = name("root");
    assert_eq!(
        accounts.for_whom(&secret(1), Some(&root), at(1)),
        Err(Refusal::NoLink),
        "the newer one counts"
    );
    assert_eq!(accounts.for_whom(&secret(2), None, at(1)), Err(Refusal::NoName));
    assert_eq!(accounts.for_whom(&secret(2), Some(&root), at(24 * 3_600)), Err(Refusal::NoLink), "expired");
    assert_eq!(accounts.use_link(&secret(2), Some(&root), hash(), at(1)), Ok(root.clone()));
    assert_eq!(accounts.users()[&root].role, Role::Administrator);
    assert_eq!(accounts.use_link(&secret(2), Some(&name("eve")), hash(), at(2)), Err(Refusal::NoLink));
    assert_eq!(accounts.first_link(&secret(3), at(2)), Err(Refusal::NotFirst));
}

#[test]
fn a_user_sets_a_password_by_a_link_and_logs_in() {
    let mut accounts = accounts();
    let ann = name("ann");
    accounts.add_user(&ann, Role::Operator, &secret(2), at(0)).unwrap();
    assert_eq!(
        accounts.add_user(&ann, Role::Viewer, &secret(3), at(0)),
        Err(Refusal::UserExists(ann.clone()))
    );
    assert_eq!(accounts.password_of(&ann), None);
    assert!(accounts.log_in(&ann, &secret(9), at(0)).is_err(), "without a password nobody logs in");
    assert_eq!(
        accounts.use_link(&secret(2), Some(&name("eve")), hash(), at(1)),
        Err(Refusal::OtherName(ann.clone()))
    );
    accounts.use_link(&secret(2), None, hash(), at(1)).unwrap();
    accounts.log_in(&ann, &secret(9), at(2)).unwrap();
    assert_eq!(accounts.session(&secret(9), at(3)), Some((ann.clone(), Role::Operator, false)));
    assert_eq!(accounts.session(&secret(8), at(3)), None);
    accounts.set_role(&ann, Role::Viewer).unwrap();
    assert_eq!(accounts.session(&secret(9), at(3)), Some((ann.clone(), Role::Viewer, false)), "at once");
    accounts.password_link(&ann, &secret(4), at(4)).unwrap();
    accounts.use_link(&secret(4), None, hash(), at(5)).unwrap();
    assert_eq!(
        accounts.session(&secret(9), at(6)),
        None,
        "another password ends the sessions of the old one"
    );
}

#[test]
fn sessions_end_unused_and_used() {
    let mut accounts = accounts();
    let root = name("root");
    accounts.log_in(&root, &secret(5), at(0)).unwrap();
    assert_eq!(accounts.session(&secret(5), at(3_599)).map(|(.., noted)| noted), Some(true));
    assert_eq!(accounts.session(&secret(5), at(3_600)).map(|(.., noted)| noted), Some(false));
    assert!(accounts.session(&secret(5), at(3_599 + 3_600)).is_none(), "unused for an hour");
    accounts.log_in(&root, &secret(6), at(0)).unwrap();
    for minute in 0..12 * 60 {
        assert!(accounts.session(&secret(6), at(minute * 60)).is_some(), "minute {minute}");
    }
    assert!(accounts.session(&secret(6), at(12 * 3_600)).is_none(), "a day's work is over");
    accounts.log_in(&root, &secret(7), at(0)).unwrap();
    assert_eq!(accounts.log_out(&secret(7)), Some(root));
    assert!(accounts.session(&secret(7), at(1)).is_none());
}

#[test]
fn the_last_administrator_stays() {
    let mut accounts = accounts();
    let (root, bob) = (name("root"), name("bob"));
    let last = Err(Refusal::LastAdministrator(root.clone()));
    accounts.add_user(&bob, Role::Administrator, &secret(2), at(0)).unwrap();
    assert_eq!(accounts.set_role(&root, Role::Operator), last, "bob has no password yet");
    assert_eq!(accounts.set_disabled(&root, true), last);
    assert_eq!(accounts.remove_user(&root), last);
    accounts.use_link(&secret(2), None, hash(), at(1)).unwrap();
    accounts.log_in(&root, &secret(3), at(1)).unwrap();
    accounts.set_disabled(&root, true).unwrap();
    assert!(accounts.session(&secret(3), at(2)).is_none());
    assert_eq!(accounts.remove_user(&bob), Err(Refusal::LastAdministrator(bob.clone())));
    accounts.remove_user(&root).unwrap();
    assert_eq!(accounts.remove_user(&root), Err(Refusal::NoUser(root)));
}

#[test]
fn tokens_work_until_they_expire_or_are_removed() {
    let mut accounts = accounts();
    let token = |accounts: &mut Accounts, n: u8, expires| {
        accounts.add_token(name("nagios"), Role::Viewer, None, expires, &secret(n), at(0))
    };
    assert_eq!(token(&mut accounts, 1, at(0)), Err(Refusal::Expired));
    let first = token(&mut accounts, 1, at(10)).unwrap();
    let second = token(&mut accounts, 2, at(10)).unwrap();
    assert!(first < second);
    assert_eq!(accounts.token(&secret(1), at(9)).map(|token| token.role), Some(Role::Viewer));
    assert_eq!(accounts.token(&secret(1), at(10)), None);
    assert_eq!(accounts.token(&secret(3), at(0)), None);
    accounts.remove_token(second).unwrap();
    assert_eq!(accounts.token(&secret(2), at(0)), None);
    assert!(token(&mut accounts, 4, at(10)).unwrap() > second, "numbers do not come back");
    for n in 0..MAX_TOKENS {
        let full = token(&mut accounts, 5, at(10));
        assert_eq!(full.is_err(), n >= MAX_TOKENS - 2, "{n}");
    }
}

#[test]
fn what_is_kept_is_found_again_and_tells_no_secret() {
    let mut accounts = accounts();
    accounts.add_user(&name("ann"), Role::Viewer, &secret(0xAB), at(0)).unwrap();
    accounts.log_in(&name("root"), &secret(0xCD), at(0)).unwrap();
    accounts.add_token(name("t"), Role::Viewer, None, at(9), &secret(0xEF), at(0)).unwrap();
    let kept = serde_json::to_string(&accounts).unwrap();
    for n in [0xAB, 0xCD, 0xEF] {
        assert!(!kept.contains(&secret(n).reveal()));
    }
    assert_eq!(serde_json::from_str::<Accounts>(&kept).unwrap(), accounts);
    assert_eq!(serde_json::from_str::<Accounts>("{}").unwrap(), Accounts::default());
}

#[test]
fn sessions_are_bounded_and_the_idlest_gives_way() {
    let mut accounts = accounts();
    let numbered = |n: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        Secret::new(bytes)
    };
    let most = u32::try_from(MAX_SESSIONS).unwrap();
    for n in 0..=most {
        accounts.log_in(&name("root"), &numbered(n), Micros(at(0).0 + u64::from(n))).unwrap();
    }
    assert!(accounts.session(&numbered(0), at(1)).is_none());
    assert!(
        accounts.session(&numbered(1), at(1)).is_some() && accounts.session(&numbered(most), at(1)).is_some()
    );
}

#[test]
fn whom_a_provider_knows_is_no_user_of_that_name() {
    let mut accounts = accounts();
    let root = name("root");
    let vouched = |settings: &str| Vouched { role: Role::Viewer, settings: settings.to_owned() };
    accounts.let_in(&root, vouched("these"), &secret(40), at(0));
    accounts.let_in(&root, vouched("others"), &secret(41), at(0));
    accounts.log_in(&root, &secret(42), at(0)).unwrap();
    assert_eq!(accounts.session(&secret(40), at(1)), Some((root.clone(), Role::Viewer, false)));
    assert!(accounts.is_vouched(&secret(40)) && !accounts.is_vouched(&secret(42)));
    let kept = serde_json::to_string(&accounts).unwrap();
    assert_eq!(serde_json::from_str::<Accounts>(&kept).unwrap(), accounts);
    assert_eq!(accounts.end_vouched_but(Some("these")), 1);
    assert!(accounts.session(&secret(41), at(1)).is_none(), "what it was let in by counts no more");
    let link = secret(43);
    accounts.password_link(&root, &link, at(1)).unwrap();
    accounts.use_link(&link, None, hash(), at(1)).unwrap();
    assert!(accounts.session(&secret(42), at(2)).is_none(), "another password ends the user's sessions");
    assert!(accounts.session(&secret(40), at(2)).is_some(), "and not those of the provider's root");
    assert!(accounts.session(&secret(40), at(3_602)).is_none(), "unused for an hour");
    accounts.let_in(&root, vouched("these"), &secret(44), at(4_000));
    assert_eq!(accounts.end_vouched_but(None), 1);
}
