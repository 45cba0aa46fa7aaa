//! What can be reached of the demo from outside its namespaces: the API's TLS port, and an operator's certificate for it.
//!
//! All of it is made before the namespaces are entered, so the process that stays outside as the guardian has it, too. The
//! certificate and its key are files in memory (memfd_create(2)) that others of the same user open through the
//! guardian's `/proc/PID/fd`: nothing of them remains on a disk, however the demo ends.

use anyhow::Context;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::CStr;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The port and the files.
pub struct Doorway {
    listener: TcpListener,
    address: SocketAddr,
    /// The process whose `/proc/PID/fd` others use: this one, before it enters the namespaces.
    guardian: u32,
    certificate: File,
    key: File,
    ca: File,
    /// A fragment for a shell to read that sets what the command line wants to know.
    environment: File,
}

impl Doorway {
    /// Opens everything; to be called by the process that will be the guardian.
    ///
    /// # Errors
    /// No port, or no files.
    pub fn open() -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1 for the API")?;
        let address = listener.local_addr().context("the API's port has no number")?;
        Ok(Self {
            listener,
            address,
            guardian: std::process::id(),
            certificate: private_file(c"demo-operator.pem")?,
            key: private_file(c"demo-operator.key")?,
            ca: private_file(c"demo-ca.pem")?,
            environment: private_file(c"demo-environment")?,
        })
    }

    /// The port, for the SCS to inherit.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn listener_for_scs(&self) -> anyhow::Result<OwnedFd> {
        Ok(self.listener.try_clone().context("cannot hand the API's port on")?.into())
    }

    /// Fills the files from an installation's: the operator's certificate and key, and the authority's certificate.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn furnish(&self, installation: &Path) -> anyhow::Result<()> {
        for (name, mut file) in
            [("operator.pem", &self.certificate), ("operator.key", &self.key), ("ca.pem", &self.ca)]
        {
            let path = installation.join(name);
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            file.write_all(&content).with_context(|| format!("cannot hand {name} out"))?;
        }
        let mut environment = &self.environment;
        environment.write_all(self.exports().as_bytes()).context("cannot hand the environment out")
    }

    /// What to type in a shell of the same user so that the command line talks to the demo's SCS.
    #[must_use]
    pub fn source_command(&self) -> String {
        format!(". {}", self.path_of(&self.environment))
    }

    fn exports(&self) -> String {
        format!(
            "# The command line of Takeover, for the demo that runs now.\n\
             export TAKEOVER_SCS=https://{}\n\
             export TAKEOVER_CERTIFICATE={}\n\
             export TAKEOVER_KEY={}\n\
             export TAKEOVER_CA={}\n",
            self.address,
            self.path_of(&self.certificate),
            self.path_of(&self.key),
            self.path_of(&self.ca),
        )
    }

    /// Where others find a file: the guardian's number for it is ours, since it forked us.
    fn path_of(&self, file: &File) -> String {
        format!("/proc/{}/fd/{}", self.guardian, file.as_raw_fd())
    }
}

/// An empty file in memory that only its owner may read.
fn private_file(name: &CStr) -> anyhow::Result<File> {
    let file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC).context("cannot make a file in memory")?);
    file.set_permissions(Permissions::from_mode(0o600)).context("cannot make a file in memory private")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_out_can_be_read_by_path_and_by_nobody_else() {
        let doorway = Doorway::open().unwrap();
        let installation = std::env::temp_dir().join(format!("takeover-doorway-{}", std::process::id()));
        fs::create_dir(&installation).unwrap();
        for name in ["operator.pem", "operator.key", "ca.pem"] {
            fs::write(installation.join(name), format!("this is {name}")).unwrap();
        }
        let furnished = doorway.furnish(&installation);
        fs::remove_dir_all(&installation).unwrap();
        furnished.unwrap();

        let command = doorway.source_command();
        let exports = fs::read_to_string(command.strip_prefix(". ").unwrap()).unwrap();
        let value = |name: &str| {
            let line = exports.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            line.unwrap_or_else(|| panic!("{name} is not among\n{exports}")).to_owned()
        };
        assert_eq!(value("TAKEOVER_SCS"), format!("https://{}", doorway.listener.local_addr().unwrap()));
        for (name, expected) in [
            ("TAKEOVER_CERTIFICATE", "this is operator.pem"),
            ("TAKEOVER_KEY", "this is operator.key"),
            ("TAKEOVER_CA", "this is ca.pem"),
        ] {
            let path = value(name);
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
}
