//! Our own SIP Servers: what they are told by file, what they say of the copies that their pairs keep, and the pages that
//! they show. None of it is on the path of a takeover: files are written and pages fetched by the worker.

use crate::agent::Agent;
use crate::messages::Job;
use control_link::messages::{FromAgent, MAX_PATH, ToApplication};
use domain::{AppName, Micros, SipAssignment, Standby};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Figures of a copy are passed on at most this often; the newest goes out with the host's figures in any case.
const PACE: Duration = Duration::from_millis(500);

/// What is known of them.
#[derive(Debug, Default)]
pub struct SipServers {
    /// What each was told last, on its way into its file.
    told: BTreeMap<AppName, SipAssignment>,
    copies: BTreeMap<AppName, Copy>,
}

/// What a member of a pair said of its copy.
#[derive(Debug)]
struct Copy {
    standby: Standby,
    sent: Micros,
}

impl Agent {
    /// Has the files written of those whose settings changed. The worker takes jobs in order, so that a server which is
    /// started later finds its file.
    pub(crate) fn configure_sip_servers(&mut self) {
        let here = self.cluster.applications.iter().filter(|(_, settings)| settings.host == self.host);
        let mut changed = Vec::new();
        for (app, settings) in here {
            let assignment = SipAssignment::of(&self.cluster, app, self.files.identity(app));
            if assignment.as_ref() != self.sip_servers.told.get(app) {
                changed.push((app.clone(), assignment, settings.user.clone()));
            }
        }
        for (app, assignment, user) in changed {
            let job =
                Job::KeepSipSettings { app: app.clone(), assignment: assignment.clone().map(Box::new), user };
            if !self.give(job) {
                // Compared again at the next change.
                continue;
            }
            match assignment {
                Some(assignment) => drop(self.sip_servers.told.insert(app, assignment)),
                None => drop(self.sip_servers.told.remove(&app)),
            }
        }
        let applications = &self.cluster.applications;
        self.sip_servers.told.retain(|app, _| applications.contains_key(app));
        self.sip_servers.copies.retain(|app, _| applications.contains_key(app));
    }

    /// The file is written; `changed`: it says something else than before.
    pub(crate) fn sip_settings_kept(&mut self, app: &AppName, changed: Result<bool, String>) {
        match changed {
            Ok(true) => self.tell_to_reconfigure(app),
            Ok(false) => {}
            Err(why) => self.say.error(format_args!("application {app}: the file of its settings: {why}")),
        }
    }

    /// Its mode socket is connected: the file may have changed between its reading it and now.
    pub(crate) fn tell_to_reconfigure(&self, app: &AppName) {
        if self.sip_servers.told.contains_key(app)
            && let Some(process) = self.process(app)
        {
            // Untold, it goes on with what it has, and is told when it connects anew.
            let _ = process.tell(&ToApplication::Reconfigure);
        }
    }

    /// A member of a hot pair said how its copy stands.
    pub(crate) fn copy_told(&mut self, app: &AppName, standby: Standby, now: Micros) {
        let copies = &mut self.sip_servers.copies;
        let sent = copies.get(app).map_or(Micros(0), |copy| copy.sent);
        copies.insert(app.clone(), Copy { standby, sent });
        if now.since(sent) >= PACE {
            self.send_copy(app, now);
        }
    }

    /// Passes on what each copy is now, also for an SCS that has just come.
    pub(crate) fn send_copies(&mut self, now: Micros) {
        let all: Vec<AppName> = self.sip_servers.copies.keys().cloned().collect();
        for app in all {
            self.send_copy(&app, now);
        }
    }

    fn send_copy(&mut self, app: &AppName, now: Micros) {
        // Of a process that is gone nothing is known.
        if self.process(app).is_none() {
            self.sip_servers.copies.remove(app);
            return;
        }
        let Some(copy) = self.sip_servers.copies.get_mut(app) else { return };
        copy.sent = now;
        let message = FromAgent::Standby { app: app.clone(), standby: copy.standby };
        let change = self.session.send(&message, now);
        self.changed(change, now);
    }

    /// The SCS asks for a page of an application.
    pub(crate) fn fetch(&mut self, number: u64, app: &AppName, path: String, now: Micros) {
        let why = match self.page_address(app) {
            Err(why) => why,
            Ok(_)
                if path.len() > MAX_PATH
                    || !path.starts_with('/')
                    || !path.bytes().all(|b| b.is_ascii_graphic()) =>
            {
                "that is no path of a page".to_owned()
            }
            Ok(target) => {
                if self.give(Job::Fetch { number, target, path }) {
                    return;
                }
                "the agent has too much to do".to_owned()
            }
        };
        self.fetched(number, Err(why), now);
    }

    fn page_address(&self, app: &AppName) -> Result<SocketAddr, String> {
        let told = self.sip_servers.told.get(app);
        let told =
            told.ok_or_else(|| format!("application {app} has no SIP settings (`[pairs.NAME.sip]`)"))?;
        let port = told.settings.http_port;
        let port =
            port.ok_or_else(|| format!("application {app} shows no pages: its pair has no `http-port`"))?;
        Ok(SocketAddr::new(told.this.address, port))
    }

    /// A page was fetched, or not.
    pub(crate) fn fetched(&mut self, number: u64, page: Result<String, String>, now: Micros) {
        let change = self.session.send(&FromAgent::Fetched { number, page }, now);
        self.changed(change, now);
    }
}
