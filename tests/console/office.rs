//! An installation with a web port, which browsers outside its network reach, and those who work there.

use crate::browser::Browser;
use anyhow::{Context, ensure};
use e2e::{LIMIT, binary, started};
use netlab::Lab;
use rehearsal::{AGENT_HOSTS, Settings, Site};
use std::net::{SocketAddr, TcpListener};
use std::ops::{Deref, DerefMut};

/// What the installation has beside the ordinary one: both servers as a solution.
const OFFICE: &str = "\n[solutions.office]\napplications = [\"sip1\", \"sip2\"]\n";
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
        let mut settings = Settings::new(&binary()?).edit(|cluster| cluster + OFFICE);
        settings.web_listener = Some(listener.into());
        Ok(Self { site: started(settings)?, address })
    }

    /// The same among so many other pairs, of hosts that nobody has heard of.
    ///
    /// # Errors
    /// It does not come up.
    pub fn among(others: u32) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mut settings = Settings::new(&binary()?).edit(move |cluster| cluster + &pairs(others));
        settings.web_listener = Some(listener.into());
        let mut site = Site::build(Lab::new()?, settings)?;
        site.start_scs()?;
        for host in AGENT_HOSTS {
            site.start_agent(host)?;
        }
        let office = Self { site, address };
        office.wait_primary("sip1")?;
        Ok(office)
    }

    /// Waits until this member is primary of its pair and the other could take over, whatever the other pairs are.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_primary(&self, primary: &str) -> anyhow::Result<()> {
        self.site.wait_for(&format!("{primary} to be primary"), LIMIT, |view| {
            view.pairs.iter().filter(|pair| pair.name.as_str() == "sip").any(|pair| {
                pair.primary.as_ref().is_some_and(|app| app.as_str() == primary)
                    && pair.incident.is_none()
                    && pair.members.iter().all(|member| member.ready.is_ok())
            })
        })
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
        let url = String::from_utf8(made.stdout)?.trim().to_owned();
        let path = url.strip_prefix(&format!("https://{}", self.address));
        Ok(path.with_context(|| format!("{url} is not a link to the web port"))?.to_owned())
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

/// Pairs for the cluster file, each on two hosts of its own.
fn pairs(count: u32) -> String {
    let mut text = String::new();
    for n in 0..count {
        let (high, low) = (n / 200, n % 200 + 1);
        for (member, offset) in [("a", 100), ("b", 110)] {
            let net = offset + high;
            text += &format!(
                "[hosts.far-{member}{n:03}]\naddress = \"10.0.{net}.{low}\"\n\n\
                 [applications.pbx-{member}{n:03}]\nhost = \"far-{member}{n:03}\"\nmode-control = \"none\"\n\
                 command = [\"/bin/sleep\", \"infinity\"]\n\n"
            );
        }
        text += &format!(
            "[pairs.pbx-{n:03}]\nmembers = [\"pbx-a{n:03}\", \"pbx-b{n:03}\"]\nredundancy = \"warm\"\n\n\
             [[pairs.pbx-{n:03}.vips]]\naddress = \"10.0.{high}.{low}/16\"\ninterface = \"eth0\"\n\n"
        );
    }
    text
}
