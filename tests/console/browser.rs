//! A headless Chromium, driven by WebDriver: what a person at a screen does and sees, in few words.

use crate::office::PASSWORD;
use anyhow::{Context, ensure};
use e2e::LIMIT;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Width and height of a window, pixels.
pub const DESKTOP: (u32, u32) = (1280, 900);
/// A small telephone.
pub const PHONE: (u32, u32) = (360, 740);

/// The browser, with one window.
pub struct Browser {
    runtime: Runtime,
    client: Client,
    driver: Child,
    address: SocketAddr,
    _profile: TempDir,
}

impl Browser {
    /// Starts it for what is served at `address`; nobody is signed in.
    ///
    /// # Errors
    /// Chromium or its driver cannot be started.
    pub fn start(address: SocketAddr, (width, height): (u32, u32)) -> anyhow::Result<Self> {
        let profile = tempfile::tempdir()?;
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("chromedriver cannot be started (Debian package chromium-driver)")?;
        let said = BufReader::new(driver.stdout.take().expect("it is piped"));
        let port = port_in(said).context("chromedriver did not say where it listens")?;
        let mut options = json!({ "args": [
            // A case is root in namespaces of its own, where Chromium's sandbox cannot be made; what it opens is ours.
            "--headless=new", "--no-sandbox", "--ignore-certificate-errors", "--disable-gpu", "--disable-dev-shm-usage",
            "--hide-scrollbars",
            format!("--window-size={width},{height}"), format!("--user-data-dir={}", profile.path().join("user").display()),
        ]});
        if width < 500 {
            options["mobileEmulation"] =
                json!({ "deviceMetrics": { "width": width, "height": height, "pixelRatio": 1.0 } });
        }
        let capabilities =
            json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(
            ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
                .capabilities(capabilities.as_object().expect("an object").clone())
                .connect(&format!("http://127.0.0.1:{port}")),
        )?;
        Ok(Self { runtime, client, driver, address, _profile: profile })
    }

    /// Opens a page by what is behind `#` in its address.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn open(&self, page: &str) -> anyhow::Result<()> {
        self.load(&format!("/#/{page}"))
    }

    /// Opens a path as if it had been typed.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn load(&self, path: &str) -> anyhow::Result<()> {
        self.run(self.client.goto(&format!("https://{}{path}", self.address)))
    }

    /// Sets a password by a link, with the keyboard, and is logged in then; `name` where the link leaves it open.
    ///
    /// # Errors
    /// The overview does not come up.
    pub fn set_password(&self, link: &str, name: Option<&str>) -> anyhow::Result<()> {
        self.load(link)?;
        self.see("It can be used once")?;
        if let Some(name) = name {
            self.keys(name)?;
        }
        self.tab_to("password")?;
        self.keys(PASSWORD)?;
        self.tab_to("again")?;
        self.keys(PASSWORD)?;
        self.press(Key::Enter)?;
        self.see("Overview")
    }

    /// Fills in the form and sends it, with the keyboard.
    ///
    /// # Errors
    /// The form is not there.
    pub fn log_in(&self, user: &str, password: &str) -> anyhow::Result<()> {
        self.wait("the form", "return document.querySelector('input[name=password]') !== null", &[])?;
        let emptied = "for (const i of document.querySelectorAll('input')) i.value = ''; document.querySelector('input').focus()";
        self.script(emptied, &[])?;
        self.keys(user)?;
        self.tab_to("password")?;
        self.keys(password)?;
        self.press(Key::Enter)
    }

    /// Waits until the page has this text, anywhere; without reloading.
    ///
    /// # Errors
    /// It does not have it in time; the text that it has is told.
    pub fn see(&self, text: &str) -> anyhow::Result<()> {
        self.wait(
            &format!("{text:?} to be seen"),
            "return document.body.innerText.includes(arguments[0])",
            &[json!(text)],
        )
    }

    /// Waits until a script says that it is so.
    ///
    /// # Errors
    /// It does not come true in time.
    pub fn wait(&self, what: &str, script: &str, arguments: &[Value]) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.script(script, arguments)? != json!(true) {
            if begun.elapsed() > LIMIT {
                let text = self.script("return document.body.innerText", &[])?;
                anyhow::bail!(
                    "waited {LIMIT:?} for {what}; the page says:\n{}",
                    text.as_str().unwrap_or_default()
                );
            }
        }
        Ok(())
    }

    /// The page's text.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn text(&self) -> anyhow::Result<String> {
        Ok(self.script("return document.body.innerText", &[])?.as_str().unwrap_or_default().to_owned())
    }

    /// Runs a script in the page and gives what it returns.
    ///
    /// # Errors
    /// It threw.
    pub fn script(&self, script: &str, arguments: &[Value]) -> anyhow::Result<Value> {
        self.run(self.client.execute(script, arguments.to_vec()))
    }

    /// Takes all cookies away, as if they had never been.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn forget_cookies(&self) -> anyhow::Result<()> {
        self.run(self.client.delete_all_cookies())
    }

    /// Clicks on the first button or link with this text.
    ///
    /// # Errors
    /// There is none.
    pub fn click(&self, text: &str) -> anyhow::Result<()> {
        let path = format!("//*[self::button or self::a][contains(., '{text}')]");
        let element = self.run(self.client.wait().at_most(LIMIT).for_element(Locator::XPath(&path)))?;
        self.run(element.click())
    }

    /// Types into whatever has the focus.
    ///
    /// # Errors
    /// Nothing has it.
    pub fn keys(&self, keys: &str) -> anyhow::Result<()> {
        let element = self.run(self.client.active_element())?;
        self.run(element.send_keys(keys))
    }

    /// Presses one key.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn press(&self, key: Key) -> anyhow::Result<()> {
        self.keys(&char::from(key).to_string())
    }

    /// Goes on with the tabulator until what has the focus has this text, or this name.
    ///
    /// # Errors
    /// It cannot be reached with the keyboard.
    pub fn tab_to(&self, what: &str) -> anyhow::Result<()> {
        /// More than any page has to go past.
        const MOST: usize = 80;
        for _ in 0..MOST {
            let script = "const e = document.activeElement; return e.name === arguments[0] || \
                          (e !== document.body && e.tagName !== 'MAIN' && e.innerText?.trim().startsWith(arguments[0]))";
            if self.script(script, &[json!(what)])? == json!(true) {
                return Ok(());
            }
            self.press(Key::Tab)?;
        }
        anyhow::bail!("{what:?} cannot be reached with the keyboard")
    }

    /// A picture of the whole page as PNG.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn picture(&self, file: &Path) -> anyhow::Result<()> {
        std::fs::write(file, self.run(self.client.screenshot())?)?;
        Ok(())
    }

    /// Checks that the page's scripts threw nothing and broke no policy.
    ///
    /// # Errors
    /// What was said.
    pub fn said_nothing(&self) -> anyhow::Result<()> {
        let said = self.script("return window.troubles ?? []", &[])?;
        ensure!(said == json!([]), "the page had troubles: {said}");
        Ok(())
    }

    /// Has the page remember what goes wrong in it, for [`Browser::said_nothing`].
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn watch(&self) -> anyhow::Result<()> {
        let script = "window.troubles = []; \
                      for (const what of ['error', 'unhandledrejection', 'securitypolicyviolation']) \
                      addEventListener(what, (e) => window.troubles.push(String(e.message ?? e.reason ?? e.violatedDirective)))";
        self.script(script, &[])?;
        Ok(())
    }

    fn run<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<T> {
        Ok(self.runtime.block_on(async { tokio::time::timeout(LIMIT, work).await })??)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ended by its driver, or with it; both are gone with the case's namespaces in any case.
        let _ = self.runtime.block_on(self.client.clone().close());
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// "ChromeDriver was started successfully on port 40123."
fn port_in(said: impl BufRead) -> Option<u16> {
    said.lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok())
}
