//! `takeover ca`: the small built-in certificate authority.

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use control_link::{Rights, Role, ca};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `takeover ca`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  takeover ca init --name office            makes ./ca: keep it where only you can read it
  takeover ca issue scs --role scs          certificate of the SCS
  takeover ca issue scs --role scs --address scs.example.com --address 192.0.2.10
                                            the same, and browsers take it at those addresses
  takeover ca issue host1                   certificate of the agent on host1
  takeover ca issue alice --role operator   for the API's TLS port
  takeover ca issue wallboard --role operator --rights viewer
                                            the same, only to look
Copy NAME.pem, NAME.key and ca.pem to /etc/takeover/tls of the host they are for. ca.key never leaves its place.")]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a certificate authority for one installation
    Init {
        /// Name of the installation, shown in its certificates
        #[arg(long, default_value = "takeover")]
        name: String,
        /// Where it is kept
        #[arg(long, default_value = "ca", value_name = "DIRECTORY")]
        directory: PathBuf,
    },
    /// Issue a certificate with its key
    Issue {
        /// Host of an agent, or name of the SCS or operator
        name: String,
        /// Whose it is
        #[arg(long, value_enum, default_value = "agent")]
        role: RoleName,
        /// What an operator may do with it
        #[arg(long, value_enum, default_value = "administrator")]
        rights: RightsName,
        /// Where browsers dial its owner: a DNS name or an IP address; may be given again. For the SCS's web port
        #[arg(long = "address", value_name = "ADDRESS")]
        addresses: Vec<String>,
        /// Where the authority is kept
        #[arg(long, default_value = "ca", value_name = "DIRECTORY")]
        directory: PathBuf,
        /// Where the files go
        #[arg(long, default_value = ".", value_name = "DIRECTORY")]
        out: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// A host's agent; the name is the host's in the cluster file
    Agent,
    /// The SCS
    Scs,
    /// A person or program that uses the API's TLS port
    Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RightsName {
    /// Look
    Viewer,
    /// Give orders
    Operator,
    /// Change configuration, users and tokens
    Administrator,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.verb {
        Verb::Init { name, directory } => {
            ca::init(directory, name)?;
            println!("certificate authority for {name:?} made in {}", directory.display());
        }
        Verb::Issue { name, role, rights, addresses, directory, out } => {
            let limited = match rights {
                RightsName::Viewer => Some(Rights::Viewer),
                RightsName::Operator => Some(Rights::Operator),
                RightsName::Administrator => None,
            };
            let role = match role {
                RoleName::Agent => Role::Agent,
                RoleName::Scs => Role::Scs,
                RoleName::Operator => Role::Operator,
            };
            let issued = match limited {
                Some(rights) if role == Role::Operator && addresses.is_empty() => {
                    ca::issue_operator(directory, name, rights, out)?
                }
                Some(_) => bail!("--rights is for an operator, who has no --address: give --role operator"),
                None => ca::issue_for(directory, role, name, addresses, out)?,
            };
            println!("certificate  {}", issued.certificate.display());
            println!("private key  {}", issued.key.display());
            println!("authority    {}", issued.ca.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
