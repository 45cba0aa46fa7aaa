//! Starting other programs: Cargo without the variables of the Cargo that started us, and the search path with the
//! system directories that an ordinary user's PATH lacks.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the xtask package lies one level below the root")
}

/// The Cargo that started us, in the root of the repository.
///
/// `cargo run` sets `CARGO_PKG_NAME` and its like for us. They must not reach the next Cargo: build scripts that
/// watch them (ring's does) would be run again each time a developer alternates between `cargo` and `cargo xtask`.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let per_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if name.to_str().is_some_and(|name| per_package.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command.current_dir(root());
    command
}

/// Runs a command with our own standard streams; `Ok(false)` when it ended other than with success.
///
/// # Errors
/// When the program cannot be started.
pub fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    Ok(status.success())
}

/// Runs a command and returns what it wrote to its standard output; its errors go to ours.
///
/// # Errors
/// When the program cannot be started, fails, or writes something that is not UTF-8.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    anyhow::ensure!(output.status.success(), "{} failed: {}", shown(command), output.status);
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} wrote something that is not text", shown(command)))
}

/// PATH followed by the system directories, where `ip` and `nft` live on Debian.
///
/// # Errors
/// When a directory in PATH cannot be written back (it contains a colon).
pub fn search_path() -> Result<OsString> {
    env::join_paths(search_directories()).context("cannot put PATH together again")
}

/// Where a program would be found, if it is there.
pub fn find_program(name: &str) -> Option<PathBuf> {
    search_directories().into_iter().map(|directory| directory.join(name)).find(|file| is_executable(file))
}

/// Whether we run as root: the owner of our own entry in /proc is our effective user (proc(5)).
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn search_directories() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = env::split_paths(&path).collect();
    for system in ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"] {
        if !directories.iter().any(|known| known == Path::new(system)) {
            directories.push(system.into());
        }
    }
    directories
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|entry| entry.is_file() && entry.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_others_are_not() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-anywhere").is_none());
        assert!(find_program("").is_none(), "a directory is not a program");
    }

    #[test]
    fn the_next_cargo_does_not_see_what_package_we_are() {
        // `cargo test` sets CARGO_PKG_NAME just as `cargo run` does.
        assert!(env::var_os("CARGO_PKG_NAME").is_some());
        let removed = |name: &str| cargo().get_envs().any(|(key, value)| key == name && value.is_none());
        assert!(removed("CARGO_PKG_NAME"));
        assert!(!removed("PATH"));
    }

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("/somewhere/bin/cargo");
        assert_eq!(shown(command.args(["fmt", "--check"])), "cargo fmt --check");
    }
}
