//! What stands behind `takeover vip enable | disable | status ADDRESS/PREFIX INTERFACE`. Facts that are not given as
//! arguments come from the environment in which LCA launches VIP control scripts, so that `takeover vip` can be one.

use crate::{Changed, Validity, VipController, VipError};
use domain::{InterfaceName, VipAddress, VipVerb};
use std::fmt;

/// Exit code: done; for `status`: the VIP is here.
pub const EXIT_DONE: u8 = 0;
/// Exit code: not done; the text says why.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: the arguments and the environment do not say what to do.
pub const EXIT_USAGE: u8 = 2;
/// Exit code of `status`: the VIP is not here.
pub const EXIT_ABSENT: u8 = 3;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Put the address on the interface and announce it, or remove it.
    Control(VipVerb),
    /// Tell whether it is there.
    Status,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verb::Control(verb) => verb.fmt(f),
            Verb::Status => f.pad("status"),
        }
    }
}

/// What is to be done with which VIP where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub verb: Verb,
    /// The VIP.
    pub vip: VipAddress,
    /// The interface.
    pub interface: InterfaceName,
    /// How long the address is to stay where it is enabled and nobody enables it again.
    pub valid: Validity,
}

/// Why arguments and environment do not make an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// Neither argument nor environment variable.
    #[error("no {what}: give it as an argument or in the environment variable {variable}")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// Where it could also have been.
        variable: &'static str,
    },
    /// Not a VIP.
    #[error(transparent)]
    Address(#[from] domain::VipAddressError),
    /// Not the name of an interface.
    #[error("{name:?} is not the name of a network interface")]
    Interface {
        /// The text that was given.
        name: String,
        /// Which rule it breaks.
        #[source]
        source: domain::NameError,
    },
}

impl Order {
    /// Makes an order of the arguments, and of what `environment` gives for `TAKEOVER_VIP` and `TAKEOVER_INTERFACE`
    /// where an argument is absent. An argument wins over the environment. The address is to stay until it is disabled.
    ///
    /// # Errors
    /// [`UsageError`]; exit code [`EXIT_USAGE`].
    pub fn new(
        verb: Verb,
        vip: Option<&str>,
        interface: Option<&str>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, UsageError> {
        let fact = |argument: Option<&str>, what, variable| {
            argument
                .map(str::to_owned)
                .or_else(|| environment(variable).filter(|value| !value.is_empty()))
                .ok_or(UsageError::Missing { what, variable })
        };
        let vip = fact(vip, "address with prefix length", "TAKEOVER_VIP")?.parse()?;
        let name = fact(interface, "interface", "TAKEOVER_INTERFACE")?;
        let interface = InterfaceName::new(&name).map_err(|source| UsageError::Interface { name, source })?;
        Ok(Self { verb, vip, interface, valid: Validity::Permanent })
    }

    /// The same, for an address that expires unless the order is repeated in time.
    #[must_use]
    pub fn valid_for(self, valid: Validity) -> Self {
        Self { valid, ..self }
    }
}

/// What an order led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Enabled or disabled.
    Controlled(Changed),
    /// The VIP is here.
    Present,
    /// The VIP is not here.
    Absent,
}

/// What came of an order. Its text, in one line, is its `Display`.
#[derive(Debug)]
pub struct Outcome {
    /// The order.
    pub order: Order,
    /// What it led to, or why it led to nothing.
    pub result: Result<Effect, VipError>,
}

impl Outcome {
    /// The exit code of the command.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.result {
            Ok(Effect::Controlled(_) | Effect::Present) => EXIT_DONE,
            Ok(Effect::Absent) => EXIT_ABSENT,
            Err(_) => EXIT_FAILED,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Order { verb, vip, interface, .. } = &self.order;
        match &self.result {
            Ok(Effect::Controlled(Changed::Now)) => write!(f, "{verb}d {vip} on {interface}"),
            Ok(Effect::Controlled(Changed::Already)) => write!(f, "{vip} on {interface} was {verb}d already"),
            Ok(Effect::Present) => write!(f, "{vip} is on {interface}"),
            Ok(Effect::Absent) => write!(f, "{vip} is not on {interface}"),
            Err(error) => {
                write!(f, "cannot {verb} {vip} on {interface}: {error}")?;
                let mut cause = std::error::Error::source(error);
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
        }
    }
}

/// Carries out an order. `enable` sends the first announcement only; the agent, which watches the VIP, repeats it.
#[must_use]
pub fn run(order: Order) -> Outcome {
    let result = carry_out(&order);
    Outcome { order, result }
}

fn carry_out(order: &Order) -> Result<Effect, VipError> {
    let Order { verb, vip, interface, valid } = order;
    match verb {
        Verb::Control(VipVerb::Enable) => {
            VipController::open()?.enable(vip, interface, *valid).map(Effect::Controlled)
        }
        Verb::Control(VipVerb::Disable) => {
            VipController::open_silent()?.disable(vip, interface).map(Effect::Controlled)
        }
        Verb::Status if VipController::open_silent()?.present(vip, interface)? => Ok(Effect::Present),
        Verb::Status => Ok(Effect::Absent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENABLE: Verb = Verb::Control(VipVerb::Enable);

    fn environment(name: &str) -> Option<String> {
        match name {
            "TAKEOVER_VIP" => Some("192.0.2.10/24".to_owned()),
            "TAKEOVER_INTERFACE" => Some("eth0".to_owned()),
            _ => None,
        }
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn facts_come_from_arguments_or_else_from_the_environment() {
        let order = Order::new(ENABLE, None, None, environment).unwrap();
        assert_eq!((order.vip.to_string(), order.interface.as_str()), ("192.0.2.10/24".to_owned(), "eth0"));
        let order = Order::new(ENABLE, Some("2001:db8::1/64"), None, environment).unwrap();
        assert_eq!((order.vip.to_string(), order.interface.as_str()), ("2001:db8::1/64".to_owned(), "eth0"));
        let order = Order::new(Verb::Status, Some("192.0.2.9/32"), Some("eth1"), environment).unwrap();
        assert_eq!((order.vip.to_string(), order.interface.as_str()), ("192.0.2.9/32".to_owned(), "eth1"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let text = |vip, interface, environment: fn(&str) -> Option<String>| {
            Order::new(ENABLE, vip, interface, environment).unwrap_err().to_string()
        };
        assert!(text(None, None, nothing).contains("TAKEOVER_VIP"));
        assert!(text(Some("192.0.2.10/24"), None, nothing).contains("TAKEOVER_INTERFACE"));
        assert!(text(None, None, |_| Some(String::new())).contains("TAKEOVER_VIP"), "empty is missing");
        assert!(text(Some("192.0.2.10"), None, environment).contains("prefix length"));
        assert!(text(None, Some("a/b"), environment).contains("a/b"));
    }

    #[test]
    fn every_outcome_has_its_text_and_exit_code() {
        let order = |verb| Order::new(verb, None, None, environment).unwrap();
        let say = |verb, result| {
            let outcome = Outcome { order: order(verb), result };
            (outcome.exit_code(), outcome.to_string())
        };
        let disable = Verb::Control(VipVerb::Disable);
        let gone = VipError::NoInterface { interface: order(ENABLE).interface };
        for (outcome, code, text) in [
            (say(ENABLE, Ok(Effect::Controlled(Changed::Now))), 0, "enabled 192.0.2.10/24 on eth0"),
            (
                say(disable, Ok(Effect::Controlled(Changed::Already))),
                0,
                "192.0.2.10/24 on eth0 was disabled already",
            ),
            (say(Verb::Status, Ok(Effect::Present)), 0, "192.0.2.10/24 is on eth0"),
            (say(Verb::Status, Ok(Effect::Absent)), 3, "192.0.2.10/24 is not on eth0"),
            (
                say(ENABLE, Err(gone)),
                1,
                "cannot enable 192.0.2.10/24 on eth0: there is no network interface eth0; see `ip link`",
            ),
        ] {
            assert_eq!(outcome, (code, text.to_owned()));
        }
    }
}
