//! `takeover config`: the configuration of a running SCS.

use super::out::Out;
use super::{Exit, Failure, Options};
use crate::api::{ApplyConfiguration, ConfigurationText, PlanConfiguration, Revisions};
use crate::client::Client;
use crate::render;
use clap::{Args, Subcommand};
use scs::configuration::{InForce, Outlook, Revision};
use std::path::{Path, PathBuf};

/// Arguments of `config`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Configuration {
    /// Look closer, or change it.
    #[command(subcommand)]
    pub verb: Option<ConfigurationVerb>,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Verbs below `config`.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigurationVerb {
    /// Print the cluster file that is in force, secrets included
    Show {
        /// An earlier one, see `config history`
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
    /// Check a cluster file and show what it would change, with the consequences; changes nothing
    Plan {
        /// The file; without one, the cluster file on the SCS's host as it is now
        file: Option<PathBuf>,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
    /// Put a cluster file in force, after showing what it changes: the SCS writes it to its own, then all concerned are told
    Apply {
        /// The file
        file: PathBuf,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Put the cluster file on the SCS's host in force as it is now: somebody has edited it
    Reload {
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// List the configurations that were in force: by whom, why, what changed
    History {
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
    /// Put an earlier configuration in force again, after showing what that changes
    Rollback {
        /// Which, see `config history`
        revision: u64,
        /// How.
        #[command(flatten)]
        how: How,
    },
}

/// What changing has to be told.
#[derive(Debug, Clone, Args)]
pub struct How {
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Why, for the history and the audit
    #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub reason: String,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

impl Configuration {
    pub(super) fn options(&self) -> &Options {
        match &self.verb {
            None => &self.options,
            Some(
                ConfigurationVerb::Show { options, .. }
                | ConfigurationVerb::Plan { options, .. }
                | ConfigurationVerb::History { options },
            ) => options,
            Some(
                ConfigurationVerb::Apply { how, .. }
                | ConfigurationVerb::Reload { how }
                | ConfigurationVerb::Rollback { how, .. },
            ) => &how.options,
        }
    }
}

pub(super) async fn run(client: &Client, args: Configuration, out: &Out) -> Result<Exit, Failure> {
    match args.verb {
        None => {
            let now: InForce = client.get("/configuration", &()).await?;
            if out.json {
                out.json(&now)?
            } else {
                out.text(&render::in_force(&now, &out.look))?
            }
            Ok(Exit::Done)
        }
        Some(ConfigurationVerb::Show { revision, .. }) => {
            let path = match revision {
                Some(number) => format!("/configuration/revisions/{number}/text"),
                None => "/configuration/text".to_owned(),
            };
            let text: ConfigurationText = client.get(&path, &()).await?;
            if out.json {
                out.json(&text)?
            } else {
                out.text(&text.text)?
            }
            Ok(Exit::Done)
        }
        Some(ConfigurationVerb::History { .. }) => {
            let all: Revisions = client.get("/configuration/revisions", &()).await?;
            if out.json {
                out.json(&all)?
            } else {
                out.text(&render::revisions(&all.revisions, &out.look))?
            }
            Ok(Exit::Done)
        }
        Some(ConfigurationVerb::Plan { file, .. }) => {
            let what = file.map(|file| sent(&file)).transpose()?.unwrap_or_default();
            let outlook = plan(client, &what).await?;
            if out.json {
                out.json(&outlook)?
            } else {
                out.text(&render::outlook(&outlook, &out.look))?
            }
            Ok(if outlook.errors > 0 { Exit::Usage } else { Exit::Done })
        }
        Some(ConfigurationVerb::Apply { file, how }) => change(client, sent(&file)?, how, out).await,
        Some(ConfigurationVerb::Reload { how }) => {
            change(client, PlanConfiguration::default(), how, out).await
        }
        Some(ConfigurationVerb::Rollback { revision, how }) => {
            let what = PlanConfiguration { revision: Some(revision), ..PlanConfiguration::default() };
            change(client, what, how, out).await
        }
    }
}

/// Shows what it changes, asks, and applies what was shown: not what it would be on top of somebody else's change.
async fn change(client: &Client, what: PlanConfiguration, how: How, out: &Out) -> Result<Exit, Failure> {
    let outlook = plan(client, &what).await?;
    if outlook.errors > 0 {
        if out.json {
            out.json(&outlook)?
        } else {
            out.text(&render::outlook(&outlook, &out.look))?
        }
        return Ok(Exit::Usage);
    }
    if !out.json {
        out.text(&render::outlook(&outlook, &out.look))?;
    }
    if !how.yes && !outlook.diff.is_empty() {
        let noticed = outlook.changes.iter().filter(|change| change.interrupts).count();
        let warning = if noticed > 0 { " Callers notice what is marked with \"!\"." } else { "" };
        out.confirm(&format!("Apply this?{warning}"))?;
    }
    let PlanConfiguration { text, revision, name: _ } = what;
    // None from an SCS of an earlier release.
    let digest = Some(outlook.digest).filter(|digest| !digest.is_empty());
    let body = ApplyConfiguration { text, revision, base: Some(outlook.base), digest, reason: how.reason };
    let applied: Revision = client.post("/configuration", &body).await?;
    if out.json {
        out.json(&applied)?;
    } else if applied.number == outlook.base {
        out.line(&format!("nothing to change: revision {} is in force", applied.number))?;
    } else {
        out.line(&format!("revision {} is in force", applied.number))?;
    }
    Ok(Exit::Done)
}

async fn plan(client: &Client, what: &PlanConfiguration) -> Result<Outlook, Failure> {
    Ok(client.post("/configuration/plan", what).await?)
}

fn sent(file: &Path) -> Result<PlanConfiguration, Failure> {
    let text = config::read_text(file).map_err(|report| Failure::File(report.render(false)))?;
    Ok(PlanConfiguration { text: Some(text), revision: None, name: Some(file.display().to_string()) })
}
