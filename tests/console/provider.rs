//! Logging in by an identity provider: a real one of somebody else's making (oidc-provider-mock, from PyPI), before a real SCS.
//! What a provider may say wrong is tried in `crates/sci/tests/api/oidc.rs`.

use crate::browser::{Browser, DESKTOP};
use anyhow::{Context, ensure};
use e2e::loopback::{Scs, run, takeover, tool};
use netlab::Lab;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The provider's process. Killed when dropped.
struct Provider {
    process: Child,
    issuer: String,
}

impl Drop for Provider {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Provider {
    /// With two people: ann of the group `noc`, ben of the group `people`.
    fn start() -> anyhow::Result<Self> {
        let person = |name: &str, group: &str| {
            format!(r#"{{"sub":"subject-{name}","preferred_username":"{name}","groups":["{group}"]}}"#)
        };
        let mut provider = Command::new(tool("OIDC_PROVIDER", "oidc-provider-mock")?);
        provider.args(["--port", "0", "--require-nonce", "true"]);
        provider.args(["--user-claims", &person("ann", "noc"), "--user-claims", &person("ben", "people")]);
        provider.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = provider.spawn()?;
        let mut said = BufReader::new(process.stderr.take().context("no standard error")?).lines();
        let issuer = said.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("running on ")?;
            Some(rest.split_whitespace().next()?.to_owned())
        });
        // What it says later is read too, or it would stand still one day.
        std::thread::spawn(move || said.for_each(drop));
        let provider = Self { process, issuer: issuer.unwrap_or_default() };
        ensure!(!provider.issuer.is_empty(), "the identity provider does not say where it listens");
        Ok(provider)
    }
}

/// By a button; on with the page that was wanted; out again; somebody without a role; somebody whom the provider refuses.
pub fn somebody_signs_in_by_it(_: &mut Lab) -> anyhow::Result<()> {
    let provider = Provider::start()?;
    let scs = Scs::start(|directory| {
        let file = directory.join("client-secret");
        let settings = format!(
            "[scs.oidc]\nname = \"Example\"\nissuer = \"{}\"\nclient-id = \"takeover\"\n\
             client-secret-file = \"{}\"\nroles = {{ operator = [\"noc\"] }}\n\n",
            provider.issuer,
            file.display()
        );
        // One that cannot be written is one that the SCS cannot read, and the story ends there.
        let _ = std::fs::write(&file, "secret");
        let _ = std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600));
        settings
    })?;
    let address = scs.address.strip_prefix("https://").context("no address")?.parse()?;
    let browser = Browser::start(address, DESKTOP)?;
    browser.open("hosts")?;
    browser.click("Sign in with Example")?;
    browser.see("Authorize Client")?;
    browser.click("subject-ann")?;
    browser.see("sso ann")?;
    browser.see("(operator)")?;
    browser.see("host2")?;
    let here = "return location.hash === '#/hosts'";
    browser.wait("the page that was wanted", here, &[])?;
    browser.click("Log out")?;
    browser.see("There is no default password")?;

    browser.click("Sign in with Example")?;
    browser.see("Authorize Client")?;
    browser.click("subject-ben")?;
    browser.see("You have no role here")?;
    browser.see("knows you as ben, of these groups: people")?;
    browser.click("To the login page")?;

    browser.click("Sign in with Example")?;
    browser.see("Authorize Client")?;
    // This provider leaves the state away then, which it must not (RFC 6749, section 4.1.2.1): its word is not taken.
    browser.click("Deny")?;
    browser.see("This login cannot be ended here")?;
    browser.click("To the login page")?;
    browser.see("Sign in with Example")?;

    let audit = run(takeover(scs.directory.path())?.args(["audit", "--scs", "unix:scs.sock"]))?;
    for said in
        ["sso ann", "logged in as operator by group noc", "sso ben", "none of the groups has a role: people"]
    {
        ensure!(audit.contains(said), "{audit}");
    }
    Ok(())
}
