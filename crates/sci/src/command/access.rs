//! Verbs about who may use the web console, and what they did there.

use super::out::Out;
use super::{Exit, Failure, Options};
use crate::api::{self, Because, Done, MadeToken, NewLink, NewRole, NewToken, NewUser};
use crate::client::Client;
use crate::render;
use access::{Name, Role};
use clap::{Args, Subcommand};
use domain::PairName;
use scs::store::{AuditVerdict, verify_audit};
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `users`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Users {
    /// Change them.
    #[command(subcommand)]
    pub verb: Option<UserVerb>,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Verbs below `users`.
#[derive(Debug, Clone, Subcommand)]
pub enum UserVerb {
    /// Add a user, who sets a password by the link that this prints
    Add {
        /// The name
        name: Name,
        /// viewer: looks; operator: gives orders; administrator: makes users and tokens, too
        #[arg(long)]
        role: Role,
        /// Why, and where the SCS is.
        #[command(flatten)]
        why: Why,
    },
    /// Print a link by which a user sets another password; the old one counts until then
    Link {
        /// The name
        name: Name,
        /// Why, and where the SCS is.
        #[command(flatten)]
        why: Why,
    },
    /// Give a user another role
    Role {
        /// The name
        name: Name,
        /// viewer, operator or administrator
        role: Role,
        /// Why, and where the SCS is.
        #[command(flatten)]
        why: Why,
    },
    /// Lock a user out and end the sessions
    Disable {
        /// The name
        name: Name,
        /// Why, and where the SCS is.
        #[command(flatten)]
        why: Why,
    },
    /// Let a user in again
    Enable {
        /// The name
        name: Name,
        /// Why, and where the SCS is.
        #[command(flatten)]
        why: Why,
    },
    /// Remove a user
    Remove {
        /// The name
        name: Name,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
}

/// Arguments of `tokens`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Tokens {
    /// Change them.
    #[command(subcommand)]
    pub verb: Option<TokenVerb>,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Verbs below `tokens`.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenVerb {
    /// Make a token; printed this once, to be kept in a file with mode 600
    Add {
        /// What it is called, in the audit too
        name: Name,
        /// viewer, operator or administrator
        #[arg(long)]
        role: Role,
        /// Its orders may be to this pair only; may be given again
        #[arg(long = "pair", value_name = "PAIR")]
        pairs: Vec<PairName>,
        /// How many days it can be used
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// Why, and where the SCS is.
        #[command(flatten)]
        why: Why,
    },
    /// Remove a token
    Remove {
        /// Its number
        id: u64,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
}

/// Arguments of `audit`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Audit {
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub limit: u32,
    /// Check it.
    #[command(subcommand)]
    pub verb: Option<AuditVerb>,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Verbs below `audit`.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditVerb {
    /// Look whether every record is as it was written and none is missing; exit code 1 where not
    Verify {
        /// In this file, in place of asking the SCS
        #[arg(long, value_name = "FILE")]
        database: Option<PathBuf>,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
}

/// The reason of a change, and the rest.
#[derive(Debug, Clone, Args)]
pub struct Why {
    /// Why, for the audit
    #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub reason: String,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

impl Users {
    pub(super) fn options(&self) -> &Options {
        match &self.verb {
            None => &self.options,
            Some(
                UserVerb::Add { why, .. }
                | UserVerb::Link { why, .. }
                | UserVerb::Role { why, .. }
                | UserVerb::Disable { why, .. }
                | UserVerb::Enable { why, .. },
            ) => &why.options,
            Some(UserVerb::Remove { options, .. }) => options,
        }
    }
}

impl Tokens {
    pub(super) fn options(&self) -> &Options {
        match &self.verb {
            None => &self.options,
            Some(TokenVerb::Add { why, .. }) => &why.options,
            Some(TokenVerb::Remove { options, .. }) => options,
        }
    }
}

impl Audit {
    pub(super) fn options(&self) -> &Options {
        match &self.verb {
            None => &self.options,
            Some(AuditVerb::Verify { options, .. }) => options,
        }
    }
}

pub(super) async fn users(client: &Client, args: Users, out: &Out) -> Result<Exit, Failure> {
    match args.verb {
        None => {
            let users: api::Users = client.get("/users", &()).await?;
            if out.json {
                out.json(&users)?;
            } else if users.users.is_empty() {
                out.line("no users; `takeover users add NAME --role administrator` makes the first")?;
            } else {
                out.text(&render::users(&users.users, &out.look))?;
            }
        }
        Some(UserVerb::Add { name, role, why }) => {
            let link = client.post("/users", &NewUser { name, role, reason: why.reason }).await?;
            show_link(&link, out)?;
        }
        Some(UserVerb::Link { name, why }) => {
            let link = client.post(&format!("/users/{name}/link"), &Because { reason: why.reason }).await?;
            show_link(&link, out)?;
        }
        Some(UserVerb::Role { name, role, why }) => {
            let body = NewRole { role, reason: why.reason };
            post(client, &format!("/users/{name}/role"), &body, out).await?;
        }
        Some(UserVerb::Disable { name, why }) => {
            post(client, &format!("/users/{name}/disable"), &Because { reason: why.reason }, out).await?;
        }
        Some(UserVerb::Enable { name, why }) => {
            post(client, &format!("/users/{name}/enable"), &Because { reason: why.reason }, out).await?;
        }
        Some(UserVerb::Remove { name, .. }) => say(&client.delete(&format!("/users/{name}")).await?, out)?,
    }
    Ok(Exit::Done)
}

pub(super) async fn tokens(client: &Client, args: Tokens, out: &Out) -> Result<Exit, Failure> {
    match args.verb {
        None => {
            let tokens: api::Tokens = client.get("/tokens", &()).await?;
            if out.json {
                out.json(&tokens)?;
            } else if tokens.tokens.is_empty() {
                out.line("no tokens")?;
            } else {
                out.text(&render::tokens(&tokens.tokens, &out.look))?;
            }
        }
        Some(TokenVerb::Add { name, role, pairs, days, why }) => {
            let pairs = if pairs.is_empty() { None } else { Some(pairs.into_iter().collect()) };
            let body = NewToken { name, role, pairs, days, reason: why.reason };
            let made: MadeToken = client.post("/tokens", &body).await?;
            if out.json {
                out.json(&made)?;
            } else {
                out.remark(&format!(
                    "token {}, until {}; it is not shown again:",
                    made.id,
                    out.look.time(made.expires)
                ));
                out.line(&made.token)?;
            }
        }
        Some(TokenVerb::Remove { id, .. }) => say(&client.delete(&format!("/tokens/{id}")).await?, out)?,
    }
    Ok(Exit::Done)
}

pub(super) async fn audit(client: &Client, args: Audit, out: &Out) -> Result<Exit, Failure> {
    match args.verb {
        None => {
            let audit: api::Audit = client.get("/audit", &[("limit", args.limit)]).await?;
            if out.json {
                out.json(&audit)?;
            } else if audit.records.is_empty() {
                out.line("nothing has been ordered")?;
            } else {
                out.text(&render::audit(&audit.records, &out.look))?;
            }
            Ok(Exit::Done)
        }
        Some(AuditVerb::Verify { .. }) => judge(&client.get("/audit/verdict", &()).await?, out),
    }
}

/// `audit verify --database`, which asks nobody; none: it is something else.
pub(super) fn verify_file(args: &Audit, out: &Out) -> Result<Option<Exit>, Failure> {
    match &args.verb {
        Some(AuditVerb::Verify { database: Some(file), .. }) => judge(&verify_audit(file)?, out).map(Some),
        Some(AuditVerb::Verify { database: None, .. }) | None => Ok(None),
    }
}

fn judge(verdict: &AuditVerdict, out: &Out) -> Result<Exit, Failure> {
    if out.json {
        out.json(verdict)?;
    } else {
        out.text(&render::audit_verdict(verdict))?;
    }
    Ok(if verdict.broken.is_some() { Exit::Refused } else { Exit::Done })
}

async fn post(client: &Client, path: &str, body: &impl Serialize, out: &Out) -> Result<(), Failure> {
    say(&client.post(path, body).await?, out)
}

fn say(done: &Done, out: &Out) -> Result<(), Failure> {
    if out.json { out.json(done) } else { out.line(&done.text) }
}

fn show_link(link: &NewLink, out: &Out) -> Result<(), Failure> {
    if out.json {
        return out.json(link);
    }
    let until = out.look.time(link.expires);
    out.remark(&format!("{} sets a password by this page of the web port, once, until {until}:", link.user));
    out.line(link.url.as_deref().unwrap_or(&link.path))
}
