//! Logging in and out, passwords, users and tokens. Each change and each refused attempt is in the audit; no secret is.

use super::callers::{csrf, set_cookie};
use super::door::{Caller, Peer};
use super::routes::{Answer, Api, Body, parse, short, wall_clock};
use crate::api::{
    Because, Done, LinkCode, LinkUse, Login, MAX_REASON, MadeToken, NewLink, NewRole, NewToken, NewUser,
    Problem, Session, SetPassword, TokenLine, Tokens, UserLine, Users,
};
use access::{Accounts, Grant, Link, Name, Refusal, Secret, TokenId};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::{Extension, Json};
use domain::Micros;
use scs::store::AuditRecord;
use std::net::IpAddr;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// Longest life of a token, days.
const MOST_DAYS: u32 = 3_650;
/// Longest name, guessed ones included, that is put into an audit record, characters.
const MAX_WHO: usize = 64;

pub(super) async fn session(Extension(caller): Extension<Caller>) -> Json<Session> {
    Json(Session {
        csrf: caller.session().map(|secret| csrf(secret).reveal()),
        user: caller.who,
        role: caller.role,
        pairs: caller.pairs,
    })
}

pub(super) async fn log_in(State(api): State<Api>, Extension(peer): Extension<Peer>, body: Body) -> Response {
    let Login { user, password } = match parse(body) {
        Ok(login) => login,
        Err(problem) => return problem.into_response(),
    };
    let (from, source) = match whence(&peer) {
        Ok(whence) => whence,
        Err(problem) => return problem.into_response(),
    };
    if let Some(oidc) = api.oidc.as_ref().filter(|oidc| !oidc.settings().password_login) {
        let detail = format!("logins by password are switched off; sign in with {}", oidc.settings().name);
        return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
    }
    let now = wall_clock();
    let begun = api.door.log_in(&user, password, source, now).await;
    let result = match &begun {
        Ok(_) => "accepted: logged in".to_owned(),
        Err(denied) => format!("refused: {denied}"),
    };
    let who = short(&user, MAX_WHO);
    let record = AuditRecord { at: now, who, from, what: "log in".to_owned(), reason: String::new(), result };
    match begun {
        Ok(secret) => {
            api.door.audit(record);
            let Some((name, role)) = api.door.session(&secret, now) else {
                return Problem::new(StatusCode::UNAUTHORIZED, "the session ended at once; try again")
                    .into_response();
            };
            let session = Session { user: name, role, pairs: None, csrf: Some(csrf(&secret).reveal()) };
            (AppendHeaders([(header::SET_COOKIE, set_cookie(Some(&secret)))]), Json(session)).into_response()
        }
        Err(denied) => {
            api.door.audit_stranger(record);
            Problem::from(denied).into_response()
        }
    }
}

pub(super) async fn log_out(State(api): State<Api>, Extension(caller): Extension<Caller>) -> Response {
    let Some(secret) = caller.session() else {
        return Problem::bad_request("there is no session to end: you are known without a login")
            .into_response();
    };
    let ended = api.door.change(|accounts| Ok::<_, Refusal>(accounts.log_out(secret))).await;
    record(&api, &caller, "log out".to_owned(), "", &ended.as_ref().map(|_| "logged out".to_owned()));
    let cookie = AppendHeaders([(header::SET_COOKIE, set_cookie(None))]);
    match ended {
        Ok(_) => (cookie, Json(Done { text: "logged out".to_owned() })).into_response(),
        Err(problem) => (cookie, problem).into_response(),
    }
}

pub(super) async fn look_at_link(State(api): State<Api>, body: Body) -> Answer<LinkUse> {
    let LinkCode { code } = parse(body)?;
    let link =
        code.parse().ok().and_then(|secret| api.door.look(|all| all.link(&secret, wall_clock()).cloned()));
    let Link { grant, expires } = link.ok_or(Refusal::NoLink)?;
    let user = match grant {
        Grant::FirstAdministrator => None,
        Grant::Password(user) => Some(user),
    };
    Ok(Json(LinkUse { user, expires }))
}

pub(super) async fn set_password(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Answer<Done> {
    let SetPassword { code, user, password } = parse(body)?;
    let (from, _) = whence(&peer)?;
    let now = wall_clock();
    let set = match code.parse::<Secret>() {
        Ok(secret) => api.door.use_link(&secret, user.clone(), password, now).await,
        Err(_) => Err(Refusal::NoLink.into()),
    };
    let result = match &set {
        Ok(_) => "accepted: the password is set".to_owned(),
        Err(problem) => format!("refused: {problem}"),
    };
    let who = set.as_ref().ok().or(user.as_ref()).map_or_else(|| "?".to_owned(), Name::to_string);
    let what = "set password by link".to_owned();
    let record = AuditRecord { at: now, who, from, what, reason: String::new(), result };
    if set.is_ok() {
        api.door.audit(record)
    } else {
        api.door.audit_stranger(record)
    }
    set.map(|name| Json(Done { text: format!("{name} can log in now") }))
}

pub(super) async fn users(State(api): State<Api>) -> Json<Users> {
    let users = api.door.look(|accounts| {
        let line = |(name, user): (&Name, &access::User)| UserLine {
            name: name.clone(),
            role: user.role,
            disabled: user.disabled,
            has_password: user.password.is_some(),
            created: user.created,
        };
        accounts.users().iter().map(line).collect()
    });
    Json(Users { users })
}

pub(super) async fn add_user(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answer<NewLink> {
    let NewUser { name, role, reason } = parse(body)?;
    let what = format!("add user {name}, {role}");
    let secret = api.door.secret()?;
    let now = wall_clock();
    let link = change(&api, &caller, what, &reason, |all| all.add_user(&name, role, &secret, now)).await?;
    Ok(Json(new_link(&api, name, &secret, link.expires)))
}

pub(super) async fn password_link(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer<NewLink> {
    let (name, Because { reason }) = (user_name(&name)?, parse(body)?);
    let secret = api.door.secret()?;
    let now = wall_clock();
    let what = format!("make password link for user {name}");
    let link = change(&api, &caller, what, &reason, |all| all.password_link(&name, &secret, now)).await?;
    Ok(Json(new_link(&api, name, &secret, link.expires)))
}

pub(super) async fn set_role(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer<Done> {
    let (name, NewRole { role, reason }) = (user_name(&name)?, parse(body)?);
    let what = format!("make user {name} {role}");
    change(&api, &caller, what, &reason, |all| all.set_role(&name, role)).await?;
    Ok(Json(Done { text: format!("{name} is {role} now") }))
}

pub(super) async fn disable(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer<Done> {
    let (name, Because { reason }) = (user_name(&name)?, parse(body)?);
    change(&api, &caller, format!("disable user {name}"), &reason, |all| all.set_disabled(&name, true))
        .await?;
    Ok(Json(Done { text: format!("{name} cannot log in any more, and is logged out") }))
}

pub(super) async fn enable(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer<Done> {
    let (name, Because { reason }) = (user_name(&name)?, parse(body)?);
    change(&api, &caller, format!("enable user {name}"), &reason, |all| all.set_disabled(&name, false))
        .await?;
    Ok(Json(Done { text: format!("{name} can log in again") }))
}

pub(super) async fn remove_user(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<Done> {
    let name = user_name(&name)?;
    change(&api, &caller, format!("remove user {name}"), "", |all| all.remove_user(&name)).await?;
    Ok(Json(Done { text: format!("{name} is removed") }))
}

pub(super) async fn tokens(State(api): State<Api>) -> Json<Tokens> {
    let tokens = api.door.look(|accounts| {
        let line = |(id, token): (&TokenId, &access::Token)| TokenLine {
            id: id.0,
            name: token.name.clone(),
            role: token.role,
            pairs: token.pairs.clone(),
            created: token.created,
            expires: token.expires,
        };
        accounts.tokens().iter().map(line).collect()
    });
    Json(Tokens { tokens })
}

pub(super) async fn add_token(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answer<MadeToken> {
    let NewToken { name, role, pairs, days, reason } = parse(body)?;
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(Problem::bad_request(format!("a token can be used for 1 to {MOST_DAYS} days")));
    }
    let known = api.handle.view();
    let unknown = pairs.iter().flatten().find(|pair| !known.pairs.iter().any(|known| known.name == **pair));
    if let Some(pair) = unknown {
        return Err(Problem::bad_request(format!("there is no pair {pair}")));
    }
    let secret = api.door.secret()?;
    let now = wall_clock();
    let expires = now + DAY * days;
    let what = format!("add token {name}, {role}, for {days} days");
    let add = |all: &mut Accounts| all.add_token(name, role, pairs, expires, &secret, now);
    let id = change(&api, &caller, what, &reason, add).await?;
    Ok(Json(MadeToken { id: id.0, token: secret.reveal(), expires }))
}

pub(super) async fn remove_token(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Done> {
    let id = id.parse().map_err(|_| Problem::bad_request(format!("{id:?} is not the number of a token")))?;
    let remove = |all: &mut Accounts| all.remove_token(TokenId(id));
    let token = change(&api, &caller, format!("remove token {id}"), "", remove).await?;
    Ok(Json(Done { text: format!("token {id}, {}, is removed", token.name) }))
}

/// Changes who is known, with a record in the audit, whatever becomes of it.
async fn change<T>(
    api: &Api,
    caller: &Caller,
    what: String,
    reason: &str,
    work: impl FnOnce(&mut Accounts) -> Result<T, Refusal>,
) -> Result<T, Problem> {
    let done = api.door.change(work).await;
    record(api, caller, what, reason, &done.as_ref().map(|_| "done".to_owned()));
    done
}

/// Puts into the audit what somebody did, and what came of it.
pub(super) fn record(
    api: &Api,
    caller: &Caller,
    what: String,
    reason: &str,
    result: &Result<String, &Problem>,
) {
    let result = match result {
        Ok(text) => format!("accepted: {text}"),
        Err(problem) => format!("refused: {problem}"),
    };
    let reason = short(reason, MAX_REASON);
    let (who, from) = (caller.who.clone(), caller.from.clone());
    api.door.audit(AuditRecord { at: wall_clock(), who, from, what, reason, result });
}

fn new_link(api: &Api, user: Name, secret: &Secret, expires: Micros) -> NewLink {
    let path = format!("/#/password/{}", secret.reveal());
    let url = api.web_address.as_ref().map(|address| format!("{address}{path}"));
    NewLink { user, path, url, expires }
}

fn user_name(text: &str) -> Result<Name, Problem> {
    text.parse().map_err(|error| Problem::bad_request(format!("{text:?} is not the name of a user: {error}")))
}

/// From where a login comes. Those who are known already need none.
pub(super) fn whence(peer: &Peer) -> Result<(String, IpAddr), Problem> {
    match peer {
        Peer::Stranger(address) => Ok((address.to_string(), address.ip())),
        Peer::Known { who, .. } => {
            let detail = format!("you are known already, as {who}; logins are for the web port");
            Err(Problem::bad_request(detail))
        }
    }
}
