//! Values that more than one section has: commands, paths, addresses, and the lengths of time that limits are made of.

use crate::reader::{Field, shown};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// How long a script may run, unless the file says otherwise, and what it may say.
pub(crate) const SCRIPT_LIMIT: Duration = Duration::from_secs(10);
pub(crate) const SCRIPT_LIMITS: RangeInclusive<Duration> = Duration::from_millis(100)..=HOUR;

/// Most parts of a command, and most bytes of each: far below what the kernel refuses (`MAX_ARG_STRLEN`, execve(2)).
const MAX_COMMAND_PARTS: usize = 256;
const MAX_COMMAND_PART: usize = 4_096;

/// Most addresses that the SCS listens at, or that an agent dials.
const MAX_ADDRESSES: usize = 16;

/// A program and its arguments; the program is an absolute path, because nobody's `PATH` applies.
pub(crate) fn command(field: &Field<'_>) -> Option<Vec<String>> {
    let expected = "an array: the program's absolute path, then its arguments";
    let items = field.items(expected)?;
    if items.is_empty() || items.len() > MAX_COMMAND_PARTS {
        field.error(
            || match items.len() {
                0 => format!("`{}` is empty", field.name),
                n => format!("`{}` has {n} parts", field.name),
            },
            |f| f.label(format!("expected {expected}; at most {MAX_COMMAND_PARTS} parts")),
        );
        return None;
    }
    // All parts are read before the first failure counts, so that each is reported.
    let parts: Vec<Option<&str>> = items.iter().map(|item| item.string("a string")).collect();
    let parts: Vec<&str> = parts.into_iter().collect::<Option<_>>()?;
    for (item, part) in items.iter().zip(&parts) {
        if part.len() > MAX_COMMAND_PART {
            item.error(
                || format!("`{}` has a part of {} bytes", field.name, part.len()),
                |f| f.label(format!("expected at most {MAX_COMMAND_PART} bytes")),
            );
            return None;
        }
    }
    let program = parts[0];
    if !Path::new(program).is_absolute() {
        items[0].error(
            || format!("the program {} is not an absolute path", shown(program)),
            |f| f.label("expected an absolute path").help(absolute_hint(program)),
        );
        return None;
    }
    Some(parts.into_iter().map(str::to_owned).collect())
}

fn absolute_hint(program: &str) -> String {
    if program.contains(char::is_whitespace) {
        "give the program and each argument as a string of its own".to_owned()
    } else if program.contains('/') {
        "write the path from the root directory on: it begins with '/'".to_owned()
    } else {
        format!(
            "PATH is not searched; `command -v {}` in a shell tells the path",
            shown(program).trim_matches('"')
        )
    }
}

/// An absolute path.
pub(crate) fn absolute_path(field: &Field<'_>) -> Option<PathBuf> {
    let expected = "an absolute path";
    let path = field.string(expected)?;
    if path.len() > MAX_COMMAND_PART || !Path::new(path).is_absolute() {
        field.error(
            || format!("`{}`: {} is not an absolute path", field.name, shown(path)),
            |f| f.label("expected an absolute path: it begins with '/'"),
        );
        return None;
    }
    Some(PathBuf::from(path))
}

/// The address of a machine, without port or prefix.
pub(crate) fn ip_address(field: &Field<'_>) -> Option<IpAddr> {
    let text = field.string("an IP address such as \"192.0.2.11\"")?;
    let Ok(address) = text.parse::<IpAddr>() else {
        let help = if text.parse::<SocketAddr>().is_ok() {
            Some("leave the port away".to_owned())
        } else if text.contains('/') {
            Some("leave the prefix length away".to_owned())
        } else {
            text.contains(char::is_alphabetic)
                .then(|| "names are not looked up: DNS may fail when it is needed most".to_owned())
        };
        field.error(
            || format!("`{}`: {} is not an IP address", field.name, shown(text)),
            |f| f.label("expected an IP address such as \"192.0.2.11\" or \"2001:db8::11\"").help(help),
        );
        return None;
    };
    let broadcast = matches!(address, IpAddr::V4(a) if a.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || broadcast {
        field.error(
            || format!("`{}`: {address} is no machine's address", field.name),
            |f| f.label("expected the address of one machine"),
        );
        return None;
    }
    Some(address)
}

/// An IP address with a port that is not 0; `example` is one that would do.
pub(crate) fn socket_address(field: &Field<'_>, example: &str) -> Option<SocketAddr> {
    let expected = format!("an IP address and a port such as {example:?} (IPv6: \"[2001:db8::10]:PORT\")");
    let text = field.string(&expected)?;
    let help = match (text.parse::<SocketAddr>(), text.parse::<IpAddr>()) {
        (Ok(address), _) if address.port() != 0 => return Some(address),
        (Ok(_), _) => Some("port 0 is no port that others could know".to_owned()),
        (Err(_), Ok(ip)) if ip.is_ipv4() => Some(format!("add a port: \"{ip}:PORT\"")),
        (Err(_), Ok(ip)) => Some(format!("add brackets and a port: \"[{ip}]:PORT\"")),
        (Err(_), Err(_)) if text.starts_with(char::is_alphabetic) => {
            Some("names are not looked up: DNS may fail when it is needed most".to_owned())
        }
        (Err(_), Err(_)) => None,
    };
    field.error(
        || format!("`{}`: {} is not an address with a port", field.name, shown(text)),
        |f| f.label(format!("expected {expected}")).help(help),
    );
    None
}

/// One or more addresses with ports, each once.
pub(crate) fn socket_addresses(field: &Field<'_>) -> Option<Vec<SocketAddr>> {
    let expected = "an array of addresses such as [\"192.0.2.10:7400\"]";
    let items = field.items(expected)?;
    if items.is_empty() || items.len() > MAX_ADDRESSES {
        field.error(
            || match items.len() {
                0 => format!("`{}` is empty", field.name),
                n => format!("`{}` has {n} addresses", field.name),
            },
            |f| f.label(format!("expected 1 to {MAX_ADDRESSES} addresses")),
        );
        return None;
    }
    let mut addresses = Vec::with_capacity(items.len());
    for item in &items {
        // A wrong item was reported; the file is refused for it, so what is returned does not matter then.
        let Some(address) = socket_address(item, "192.0.2.10:7400") else { continue };
        if addresses.contains(&address) {
            item.error(|| format!("`{}` lists {address} twice", field.name), |f| f.label("listed before"));
        }
        addresses.push(address);
    }
    Some(addresses)
}
