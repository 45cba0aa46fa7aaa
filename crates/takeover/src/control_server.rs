//! `takeover scs`: the SCS with its API, until SIGTERM or SIGINT.

use crate::check::require;
use anyhow::{Context, bail};
use clap::Args;
use control_link::Identity;
use control_link::notify::{Notifier, State};
use control_link::web::Tls;
use domain::{Micros, WebSettings};
use scs::configuration::{ApplyError, Proposal, Text};
use scs::handle::Handle;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

/// Arguments of `takeover scs`.
#[derive(Debug, Args)]
#[command(after_help = "\
SIGTERM ends the SCS; agents, applications and VIPs stay as they are, and the next SCS goes on where this one ended.
SIGHUP puts the cluster file in force as it is now, as `takeover config reload` does.
Example: takeover scs --cluster /etc/takeover/cluster.toml")]
pub struct Arguments {
    /// The cluster file
    #[arg(long, default_value = "/etc/takeover/cluster.toml", value_name = "FILE")]
    cluster: PathBuf,
    /// The SCS's certificate (takeover ca issue scs --role scs)
    #[arg(long, default_value = "/etc/takeover/tls/scs.pem", value_name = "FILE")]
    certificate: PathBuf,
    /// Its private key
    #[arg(long, default_value = "/etc/takeover/tls/scs.key", value_name = "FILE")]
    key: PathBuf,
    /// Certificate of the installation's authority
    #[arg(long, default_value = "/etc/takeover/tls/ca.pem", value_name = "FILE")]
    ca: PathBuf,
    /// Where the store is: what must survive, log, alarms, incidents, audit
    #[arg(long, default_value = "/var/lib/takeover", value_name = "DIRECTORY")]
    state_directory: PathBuf,
    /// The API's Unix socket, for root on this host
    #[arg(long, default_value = "/run/takeover/scs.sock", value_name = "PATH")]
    api_socket: PathBuf,
    /// A TCP socket that listens already, inherited from whoever starts the SCS, in place of the API's TLS port
    #[arg(long, value_name = "NUMBER")]
    api_fd: Option<RawFd>,
    /// A TCP socket that listens already, inherited from whoever starts the SCS, as the web port
    #[arg(long, value_name = "NUMBER")]
    web_fd: Option<RawFd>,
}

/// Runs the SCS.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // Once: what is checked is what is kept.
    let text = match config::read_text(&arguments.cluster) {
        Ok(text) => text,
        Err(report) => bail!("the configuration cannot be used\n{}", report.render(false)),
    };
    let cluster = require(config::check_cluster(&arguments.cluster, &text))?;
    let identity = Identity::load(&arguments.certificate, &arguments.key, &arguments.ca)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot wait for signals")?;
    let tls = match (arguments.api_fd, cluster.scs.api_listen) {
        (Some(fd), _) => Some(inherited(fd)?),
        (None, Some(address)) => Some(
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address} for the API"))?,
        ),
        (None, None) => None,
    };
    let web = match (arguments.web_fd, &cluster.scs.web) {
        (Some(fd), _) => Some(inherited(fd)?),
        (None, Some(WebSettings { listen, .. })) => Some(
            TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen} for browsers"))?,
        ),
        (None, None) => None,
    };
    let configured = cluster.scs.web.as_ref().and_then(|web| web.address.clone());
    let web_address = match (&web, configured) {
        (Some(_), Some(address)) => Some(address),
        (Some(listener), None) => Some(address_for_browsers(listener)?),
        (None, _) => None,
    };
    let web = match web {
        Some(listener) => Some((listener, tls_for_browsers(cluster.scs.web.as_ref(), &identity)?)),
        None => None,
    };
    let otlp = cluster.scs.otlp;
    let oidc = cluster.scs.oidc.clone();
    if let (Some(oidc), Some(address)) = (&oidc, &web_address) {
        // What whoever looks after the provider has to be told.
        eprintln!(
            "takeover scs: people log in by {}; the redirect address to register there is {address}{}",
            oidc.issuer,
            sci::server::OIDC_CALLBACK
        );
    }
    // Bound first: an SCS that runs already is found before its store is touched.
    let unix = sci::server::bind_unix(&arguments.api_socket)?;
    let scs = scs::start(scs::Options {
        cluster_file: arguments.cluster.clone(),
        text,
        cluster,
        state_directory: arguments.state_directory.clone(),
        identity: identity.clone(),
        release: env!("CARGO_PKG_VERSION"),
    })?;
    // The service manager has its standard error go to the journal: events go there as well, with their facts as fields.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        scs::journal::start(scs.handle(), Path::new(control_link::journal::SOCKET))
            .context("cannot write to the journal")?;
    }
    let tls = tls.map(|listener| (listener, identity));
    let listeners = sci::server::Listeners { unix, tls, web, web_address: web_address.clone(), oidc };
    let release = env!("CARGO_PKG_VERSION");
    let api = sci::server::serve(scs.handle().clone(), listeners, otlp, release)?;
    if let Some(secret) = api.first_link() {
        // Whoever reads this first becomes the administrator: the journal of the SCS's host is for its administrators.
        println!(
            "takeover scs: nobody administers the web console yet. Open this link within a day, once, to begin:"
        );
        println!("  {}/#/password/{}", web_address.unwrap_or_default(), secret.reveal());
    }
    let manager = Notifier::from_env().unwrap_or_else(|error| {
        eprintln!("takeover scs: cannot tell the service manager: {error}");
        None
    });
    let tell = |states: &[State<'_>]| {
        if let Some(Err(error)) = manager.as_ref().map(|manager| manager.tell(states)) {
            eprintln!("takeover scs: cannot tell the service manager: {error}");
        }
    };
    for address in scs.addresses() {
        eprintln!("takeover scs: agents reach it at {address}");
    }
    tell(&[State::Ready]);
    // Ends when one of the two others comes.
    while signals.forever().next() == Some(SIGHUP) {
        tell(&[State::Reloading]);
        reload(scs.handle());
        tell(&[State::Ready]);
    }
    tell(&[State::Stopping]);
    drop(api);
    scs.stop();
    Ok(ExitCode::SUCCESS)
}

/// Puts the cluster file in force as it is now. Without a terminal, what is wrong with it is said in the journal.
fn reload(handle: &Handle) {
    let proposal = Proposal {
        text: Text::OfTheFile,
        base: None,
        digest: None,
        who: "SIGHUP".to_owned(),
        reason: String::new(),
    };
    match handle.configuration().apply(proposal, handle, wall_clock()) {
        Ok(revision) => eprintln!("takeover scs: configuration revision {} is in force", revision.number),
        Err(ApplyError::Invalid(outlook)) => {
            eprintln!("takeover scs: the configuration stays as it was\n{}", outlook.report);
        }
        Err(error) => eprintln!("takeover scs: the configuration stays as it was: {error}"),
    }
}

fn wall_clock() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn tls_for_browsers(settings: Option<&WebSettings>, identity: &Identity) -> anyhow::Result<Tls> {
    match settings.and_then(|settings| settings.certificate.as_ref()) {
        Some((certificate, key)) => Ok(control_link::web::server(certificate, key)?),
        None => Ok(control_link::web::server_of(identity)),
    }
}

/// How the web port's address is written.
fn address_for_browsers(listener: &TcpListener) -> anyhow::Result<String> {
    let bound = listener.local_addr()?;
    Ok(match nix::unistd::gethostname() {
        // Where it listens at every address, the host's name is as good as any.
        Ok(name) if bound.ip().is_unspecified() => {
            format!("https://{}:{}", name.to_string_lossy(), bound.port())
        }
        Ok(_) | Err(_) => format!("https://{bound}"),
    })
}

fn inherited(fd: RawFd) -> anyhow::Result<TcpListener> {
    // SAFETY: whoever gave the number on the command line gave the descriptor away for this; one that is no
    // listening socket makes the first accept fail, not memory.
    let listener = unsafe { TcpListener::from_raw_fd(fd) };
    listener.local_addr().with_context(|| format!("descriptor {fd} is no listening socket"))?;
    Ok(listener)
}
