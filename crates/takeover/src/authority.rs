//! `takeover ca`: the small built-in certificate authority.

use clap::{Args, Subcommand, ValueEnum};
use control_link::{Role, ca};
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

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.verb {
        Verb::Init { name, directory } => {
            ca::init(directory, name)?;
            println!("certificate authority for {name:?} made in {}", directory.display());
        }
        Verb::Issue { name, role, addresses, directory, out } => {
            let role = match role {
                RoleName::Agent => Role::Agent,
                RoleName::Scs => Role::Scs,
                RoleName::Operator => Role::Operator,
            };
            let issued = ca::issue_for(directory, role, name, addresses, out)?;
            println!("certificate  {}", issued.certificate.display());
            println!("private key  {}", issued.key.display());
            println!("authority    {}", issued.ca.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
