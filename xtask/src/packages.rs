//! The programs that the tests start, and the Debian packages they come in. Installs what is missing when it may
//! (root, or sudo without a password); otherwise names exactly what is missing and the one command to run.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::{find_program, is_root, search_path, shown, succeeds};

/// A program that the tests start.
struct Needed {
    program: &'static str,
    /// The Debian packages that bring it.
    packages: &'static [&'static str],
    what_for: &'static str,
}

const NEEDED: &[Needed] = &[
    Needed {
        program: "cc",
        packages: &["gcc", "libc6-dev"],
        what_for: "compiles the bundled SQLite and the cryptography of ring",
    },
    Needed { program: "sipp", packages: &["sip-tester"], what_for: "the SIP client of the end-to-end tests" },
    Needed {
        program: "kamailio",
        packages: &["kamailio"],
        what_for: "another SIP server, managed as a pair in the end-to-end tests",
    },
    Needed {
        program: "ip",
        packages: &["iproute2"],
        what_for: "addresses and links, as an operator would set them",
    },
    Needed { program: "nft", packages: &["nftables"], what_for: "packet filters in the end-to-end tests" },
    Needed { program: "arping", packages: &["iputils-arping"], what_for: "the example VIP control script" },
    Needed {
        program: "ndptool",
        packages: &["libndp-tools"],
        what_for: "the example VIP control script, for IPv6",
    },
    Needed {
        program: "chromium",
        packages: &["chromium", "chromium-driver", "fonts-dejavu-core"],
        what_for: "the browser of the console's tests",
    },
    Needed { program: "curl", packages: &["curl"], what_for: "asks for figures, as Prometheus does" },
    Needed {
        program: "promtool",
        packages: &["prometheus"],
        what_for: "checks the figures and the alert rules (the server that comes with it is not needed)",
    },
    Needed { program: "shellcheck", packages: &["shellcheck"], what_for: "checks the shell scripts" },
    Needed {
        program: "python3",
        packages: &["python3"],
        what_for: "plays applications in the agent's tests",
    },
];

/// Makes sure that every program the tests need is there.
///
/// # Errors
/// When some are missing and cannot be installed; the message names programs, packages and the command to run.
pub fn prepare() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        println!("packages: every program that the tests need is there");
        return Ok(());
    }
    let packages = packages_of(&missing);
    let Some(installer) = Installer::available() else {
        bail!(
            "{}",
            instructions(
                &missing,
                "nothing can be installed from here (neither root nor sudo without a password)"
            )
        )
    };
    println!("packages: installing {}", packages.join(" "));
    // A stale package list is the usual state of a fresh machine; when the update fails the install says what matters.
    let updated = installer.run(&["update", "--quiet"])?;
    let mut arguments = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
    arguments.extend(&packages);
    if !installer.run(&arguments)? {
        let reason =
            if updated { "apt-get could not install them" } else { "apt-get could not fetch its lists" };
        bail!("{}", instructions(&missing, reason));
    }
    let still_missing = self::missing();
    if !still_missing.is_empty() {
        bail!(
            "{}",
            instructions(&still_missing, "the packages are installed but the programs are still not found")
        );
    }
    Ok(())
}

/// Installs packages that no program shows to be missing. Not, where that may not be done here.
///
/// # Errors
/// apt-get cannot be started.
pub fn install(packages: &[&str]) -> Result<bool> {
    let Some(installer) = Installer::available() else { return Ok(false) };
    let mut arguments = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    // Lists are fresh where other packages were installed just now; where not, this fetches them.
    Ok(installer.run(&arguments)? || (installer.run(&["update", "--quiet"])? && installer.run(&arguments)?))
}

/// Warns when network namespaces cannot be made here: the tests that need them will fail, and this says why.
pub fn warn_without_namespaces() -> Result<()> {
    let Some(unshare) = find_program("unshare") else { return Ok(()) };
    let mut command = Command::new(unshare);
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "true"]).env("PATH", search_path()?).stdin(Stdio::null()).stderr(Stdio::null());
    if !succeeds(&mut command)? {
        eprintln!(
            "warning: this user cannot make network namespaces (`{}` fails), so the tests that work in them will \
             fail. Run as root, in a container with CAP_SYS_ADMIN, or allow user namespaces: \
             sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 \
             (whichever of the two this kernel has)",
            shown(&command)
        );
    }
    Ok(())
}

fn missing() -> Vec<&'static Needed> {
    NEEDED.iter().filter(|needed| find_program(needed.program).is_none()).collect()
}

fn packages_of(missing: &[&Needed]) -> Vec<&'static str> {
    let packages: BTreeSet<_> = missing.iter().flat_map(|needed| needed.packages).copied().collect();
    packages.into_iter().collect()
}

fn instructions(missing: &[&Needed], reason: &str) -> String {
    let mut text = String::from("programs that the tests need are missing:\n");
    for Needed { program, packages, what_for } in missing {
        text += &format!("  {program:<12} package {:<18} {what_for}\n", packages.join(", "));
    }
    text += &format!("{reason}. Run this, then try again:\n");
    text += "  sudo apt-get update && sudo apt-get install --yes --no-install-recommends ";
    text += &packages_of(missing).join(" ");
    text
}

/// A way to run apt-get with the right to install.
enum Installer {
    AsRoot,
    BySudo,
}

impl Installer {
    fn available() -> Option<Self> {
        find_program("apt-get")?;
        if is_root() {
            return Some(Self::AsRoot);
        }
        let sudo = find_program("sudo")?;
        // `-n` never asks: a CI machine would wait for ever.
        let mut allowed = Command::new(sudo);
        allowed.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        succeeds(&mut allowed).is_ok_and(|allowed| allowed).then_some(Self::BySudo)
    }

    fn run(&self, arguments: &[&str]) -> Result<bool> {
        // `env` inside sudo, because sudo drops the variable otherwise. dpkg's lock may be held by the machine's own
        // first updates, so wait for it, with a bound.
        let words = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120"];
        let mut command = match self {
            Self::AsRoot => Command::new(words[0]),
            Self::BySudo => {
                let mut command = Command::new("sudo");
                command.args(["-n", words[0]]);
                command
            }
        };
        command.args(&words[1..]).args(arguments).env("PATH", search_path()?).stdin(Stdio::null());
        succeeds(&mut command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instructions_name_programs_packages_and_one_command() {
        let missing: Vec<&Needed> = NEEDED.iter().filter(|n| ["sipp", "cc"].contains(&n.program)).collect();
        let text = instructions(&missing, "not root");
        assert!(text.contains("  sipp         package sip-tester "), "{text}");
        assert!(text.contains("  cc           package gcc, libc6-dev "), "{text}");
        assert!(text.ends_with("--no-install-recommends gcc libc6-dev sip-tester"), "{text}");
        assert!(!text.contains("nftables"), "only what is missing: {text}");
    }
}
