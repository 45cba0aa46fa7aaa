//! New settings, taken while calls go on.

use crate::SipCore;
use crate::identity::Identity;
use domain::{Micros, SipSettings};
use std::sync::Arc;

impl SipCore {
    /// From now on these settings count. Calls and registrations stay, trunks keep what is known of them; nonces that are
    /// out are asked for again if users have changed.
    ///
    /// # Panics
    /// Where the listen addresses are others: flows name them by their number.
    pub fn configure(&mut self, settings: Arc<SipSettings>, now: Micros) {
        assert_eq!(settings.listen, self.setup.settings.listen, "listen addresses are those of the start");
        self.setup.settings = settings;
        self.uas.configure(self.setup.registrar());
        self.calls.configure(self.setup.calls());
        self.identity = Identity::new(&self.setup);
        self.sources.configure(self.setup.settings.limits);
        self.trunks.configure(&self.setup, now);
    }
}
