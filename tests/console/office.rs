//! An installation with a web port, which browsers outside its network reach, and those who work there.

use crate::browser::Browser;
use anyhow::{Context, ensure};
use e2e::{binary, started};
use rehearsal::{Settings, Site};
use std::net::{SocketAddr, TcpListener};
use std::ops::{Deref, DerefMut};

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery";

/// An installation, whole, with sip1 as primary.
pub struct Office {
    site: Site,
    address: SocketAddr,
}

impl Office {
    /// Opens it.
    ///
    /// # Errors
    /// It does not come up.
    pub fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mut settings = Settings::new(&binary()?);
        settings.web_listener = Some(listener.into());
        Ok(Self { site: started(settings)?, address })
    }

    /// The path of the page by which the first administrator sets a password, as the SCS prints it.
    ///
    /// # Errors
    /// It prints none.
    pub fn first_link(&self) -> anyhow::Result<String> {
        let logs = self.site.logs();
        let at = logs.find("/#/password/").context("the SCS prints no link")?;
        Ok(logs[at..].split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// A new user's page for setting a password.
    ///
    /// # Errors
    /// There is such a user.
    pub fn link_for(&self, user: &str, role: &str) -> anyhow::Result<String> {
        let made = self.site.command(&["users", "add", user, "--role", role])?.output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }

    /// A browser in which nobody has logged in.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn browser(&self, size: (u32, u32)) -> anyhow::Result<Browser> {
        Browser::start(self.address, size)
    }

    /// A browser in which a new user has set a password and is logged in.
    ///
    /// # Errors
    /// The overview does not come up.
    pub fn browser_of(&self, user: &str, role: &str, size: (u32, u32)) -> anyhow::Result<Browser> {
        let browser = self.browser(size)?;
        browser.set_password(&self.link_for(user, role)?, None)?;
        browser.watch()?;
        Ok(browser)
    }
}

impl Deref for Office {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl DerefMut for Office {
    fn deref_mut(&mut self) -> &mut Site {
        &mut self.site
    }
}
