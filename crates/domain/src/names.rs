//! Names of things, as newtypes that cannot hold an invalid name, and the Virtual IP address.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("a name must not be empty")]
    Empty,
    /// The name is longer than such a name may be.
    #[error("a name like this has at most {most} characters, this one has {length}")]
    TooLong {
        /// Its length, bytes.
        length: usize,
        /// The limit, bytes.
        most: usize,
    },
    /// The name holds a character that is not allowed.
    #[error(
        "a name has letters, digits, '-', '_' and '.' and starts with a letter or digit; {0:?} is not allowed there"
    )]
    Character(char),
}

/// Longest name, in bytes. Names end up in paths, messages and cgroup names.
pub const MAX_NAME: usize = 64;
/// Longest name of a network interface, bytes (IFNAMSIZ with its terminating zero is 16).
const MAX_INTERFACE_NAME: usize = 15;

fn check(name: &str) -> Result<(), NameError> {
    let first = name.chars().next().ok_or(NameError::Empty)?;
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong { length: name.len(), most: MAX_NAME });
    }
    if !first.is_ascii_alphanumeric() {
        return Err(NameError::Character(first));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("maxLength" = MAX_NAME, "pattern" = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks `name` and wraps it.
            ///
            /// # Errors
            /// [`NameError`] says which rule the name breaks.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check(name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                Self::new(&s)
            }
        }

        impl From<$name> for String {
            fn from(n: $name) -> String {
                n.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A host: a machine with an LCA.
    HostName
);
name!(
    /// An application: a process (or several) that an LCA controls.
    AppName
);
name!(
    /// A primary/backup pair of applications.
    PairName
);
name!(
    /// A solution: an ordered set of applications.
    SolutionName
);
name!(
    /// A script of the user's, configured under `[scripts.NAME]`.
    ScriptName
);

/// A network interface's name as the kernel allows it: 1 to 15 bytes, no '/', no white space (`dev_valid_name()` in
/// the kernel's `net/core/dev.c`).
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(std::sync::Arc<str>);

impl InterfaceName {
    /// Checks `name` and wraps it.
    ///
    /// # Errors
    /// [`NameError`] says which rule the name breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_INTERFACE_NAME {
            return Err(NameError::TooLong { length: name.len(), most: MAX_INTERFACE_NAME });
        }
        match name.chars().find(|c| *c == '/' || *c == ':' || c.is_whitespace() || c.is_control()) {
            Some(c) => Err(NameError::Character(c)),
            None if name == "." || name == ".." => Err(NameError::Character('.')),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        Self::new(&s)
    }
}

impl From<InterfaceName> for String {
    fn from(n: InterfaceName) -> String {
        n.0.as_ref().to_owned()
    }
}

impl FromStr for InterfaceName {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        Self::new(s)
    }
}

/// Why a Virtual IP address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VipAddressError {
    /// Not an IP address, or no prefix length behind it.
    #[error("{0:?} is not an address with prefix length such as 192.0.2.10/24 or 2001:db8::10/64")]
    Syntax(String),
    /// The prefix length does not fit the address family.
    #[error("the prefix length of {0:?} must be 1 to {1}")]
    Prefix(String, u8),
    /// An address that no host can hold for clients: unspecified, loopback, multicast or broadcast.
    #[error(
        "{0} cannot be a Virtual IP address: it must be a unicast address that is not loopback or unspecified"
    )]
    NotUnicast(IpAddr),
}

/// A Virtual IP address with its prefix length, IPv4 or IPv6.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct VipAddress {
    /// The address itself.
    pub address: IpAddr,
    /// Length of the network prefix in bits: 1 to 32 or 1 to 128.
    pub prefix: u8,
}

impl FromStr for VipAddress {
    type Err = VipAddressError;
    fn from_str(s: &str) -> Result<Self, VipAddressError> {
        let syntax = || VipAddressError::Syntax(s.to_owned());
        let (address, prefix) = s.split_once('/').ok_or_else(syntax)?;
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        let prefix: u8 = prefix.parse().map_err(|_| syntax())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix == 0 || prefix > longest {
            return Err(VipAddressError::Prefix(s.to_owned(), longest));
        }
        let broadcast = matches!(address, IpAddr::V4(a) if a.is_broadcast());
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast {
            return Err(VipAddressError::NotUnicast(address));
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for VipAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for VipAddress {
    type Error = VipAddressError;
    fn try_from(s: String) -> Result<Self, VipAddressError> {
        s.parse()
    }
}

impl From<VipAddress> for String {
    fn from(v: VipAddress) -> String {
        v.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(AppName::new("sip-1.a_b").unwrap().as_str(), "sip-1.a_b");
        assert_eq!(AppName::new(""), Err(NameError::Empty));
        assert_eq!(AppName::new("-x"), Err(NameError::Character('-')));
        assert_eq!(AppName::new("a/b"), Err(NameError::Character('/')));
        assert_eq!(AppName::new(&"a".repeat(65)), Err(NameError::TooLong { length: 65, most: MAX_NAME }));
        assert!(InterfaceName::new("eth0.100").is_ok());
        assert!(InterfaceName::new("a b").is_err());
        assert!(InterfaceName::new("sixteen-bytes-xx").is_err());
    }

    #[test]
    fn vip_addresses_are_checked() {
        assert_eq!("192.0.2.10/24".parse::<VipAddress>().unwrap().to_string(), "192.0.2.10/24");
        assert_eq!("2001:db8::1/64".parse::<VipAddress>().unwrap().prefix, 64);
        for bad in
            ["192.0.2.10", "192.0.2.10/33", "192.0.2.10/0", "x/24", "127.0.0.1/8", "224.0.0.1/4", "::/64"]
        {
            assert!(bad.parse::<VipAddress>().is_err(), "{bad} must be refused");
        }
    }
}
