//! Settings: how they become what the parts are set up with, and how new ones are taken while calls go on.

use super::Server;
use crate::cdr::CdrFile;
use crate::log::Log;
use crate::options::Options;
use crate::settings::Loaded;
use crate::transport::{TlsConfigs, TlsFiles};
use anyhow::{Context, ensure};
use domain::{LogEvent, Micros, SipTransport, events};
use sip_core::Setup;
use sip_proto::Settings;
use sip_proto::b2bua::{Interface, Transport};
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

impl Server {
    /// Reads the settings again: an agent says that they have changed. What is wrong with them is said, and everything
    /// stays as it was.
    pub(super) fn reconfigure(&mut self, now: Micros) {
        let event = match self.take_settings(now) {
            Ok(false) => return,
            Ok(true) => LogEvent::new(events::SIP_SETTINGS_TAKEN, now),
            Err(e) => LogEvent::new(events::SIP_SETTINGS_REFUSED, now).because(format_args!("{e:#}")),
        };
        self.log.event(event, &mut self.agent, &self.say, now);
    }

    /// SIGHUP: files were moved away or renewed.
    pub(super) fn reload(&mut self, now: Micros) {
        if let Some(cdr) = &mut self.cdr {
            cdr.reopen();
        }
        match certificates(&self.loaded) {
            Ok(tls) => self.transports.set_tls(tls),
            Err(e) => self.say.note(format_args!("the certificates stay as they were: {e:#}")),
        }
        self.reconfigure(now);
    }

    /// Whether there was something new.
    fn take_settings(&mut self, now: Micros) -> anyhow::Result<bool> {
        let Some(path) = &self.settings_file else { return Ok(false) };
        let loaded = Loaded::read(path)?;
        if loaded == self.loaded {
            return Ok(false);
        }
        ensure!(
            loaded.settings.listen == self.loaded.settings.listen,
            "the listen addresses are others than at the start; restart this SIP Server to have it listen there"
        );
        // All that can fail comes first.
        let tls = certificates(&loaded)?;
        let cdr = if loaded.cdr_file() == self.loaded.cdr_file() {
            None
        } else {
            Some(loaded.cdr_file().map(|path| CdrFile::open(&path, self.beside.waker())).transpose()?)
        };
        self.beside.serve(loaded.http_address())?;
        self.transports.set_tls(tls);
        if let Some(cdr) = cdr {
            let done = std::mem::replace(&mut self.cdr, cdr).map(CdrFile::finish).unwrap_or_default();
            self.recorded(&done, now);
        }
        if let (Some(replication), Some(member)) = (&mut self.replication, &loaded.member) {
            replication.reconfigure(member, &loaded.settings).context("the replication stays as it was")?;
        }
        if loaded.settings.cdr_log != self.loaded.settings.cdr_log {
            self.call_log = Log::of_calls(loaded.settings.cdr_log, now);
        }
        self.core.configure(Arc::new(loaded.settings.clone()), now);
        self.loaded = loaded;
        Ok(true)
    }
}

/// How the core is set up.
pub(super) fn setup(options: &Options, loaded: &Loaded) -> anyhow::Result<Setup> {
    Ok(Setup {
        settings: Arc::new(loaded.settings.clone()),
        server: server_name(options),
        seed: random_seed()?,
        open: options.open && options.settings.is_none(),
    })
}

/// How probes are answered.
pub(super) fn prober(options: &Options) -> Settings {
    Settings { server: server_name(options), calls: true, ..Settings::default() }
}

/// Where we are reached, in the order of the settings: a flow is an index into these.
pub(super) fn interfaces(loaded: &Loaded) -> Vec<Interface> {
    let interface = |listen: &domain::SipListen| {
        let transport = match listen.transport {
            SipTransport::Udp => Transport::Udp,
            SipTransport::Tcp => Transport::Tcp,
            SipTransport::Tls => Transport::Tls,
        };
        Interface { transport, address: listen.address }
    };
    loaded.settings.listen.iter().map(interface).collect()
}

/// The certificates for TLS, where it is listened for.
pub(super) fn certificates(loaded: &Loaded) -> anyhow::Result<Option<TlsConfigs>> {
    let settings = &loaded.settings;
    let Some(tls) = &settings.tls else {
        let wanted = settings.listen.iter().any(|listen| listen.transport == SipTransport::Tls);
        ensure!(!wanted, "TLS is to be listened for, but there is no certificate");
        return Ok(None);
    };
    let files = TlsFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        verify_clients: tls.ca.is_some(),
        ca: tls.ca.clone(),
    };
    TlsConfigs::load(&files).map(Some)
}

fn server_name(options: &Options) -> String {
    format!("Takeover/{} ({})", env!("CARGO_PKG_VERSION"), options.name)
}

/// From the kernel's generator (random(4)).
fn random_seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut seed))
        .context("cannot read /dev/urandom")?;
    Ok(seed)
}
