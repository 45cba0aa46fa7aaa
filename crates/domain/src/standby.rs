//! What a member of a hot pair says of the copy that its backup keeps: how far it is behind, and what of it a takeover
//! would carry on.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Figures of a member of a hot pair. Of a backup: of the copy that it holds. Of a primary: of what it has itself, and how
/// far its backup is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Standby {
    /// Age of the oldest change that the backup has not taken, milliseconds; none: the two are not connected.
    pub lag_ms: Option<u64>,
    /// Calls that are answered: they go on.
    pub confirmed: u32,
    /// Calls that are being set up: they go on.
    pub ringing: u32,
    /// Of both: with a party over TCP or TLS. Such a party has to connect again before it hears of its call.
    pub calls_over_streams: u32,
    /// Registered contacts.
    pub registered: u32,
    /// Of these: over TCP or TLS. They cannot be called until their phones have registered again.
    pub registered_over_streams: u32,
}

impl fmt::Display for Standby {
    /// `412 confirmed, 9 ringing, 3 over TCP or TLS have to connect again; 120 registered, 12 have to register again`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standby {
            lag_ms: _,
            confirmed,
            ringing,
            calls_over_streams,
            registered,
            registered_over_streams,
        } = self;
        write!(f, "{confirmed} confirmed, {ringing} ringing")?;
        if *calls_over_streams > 0 {
            write!(f, ", {calls_over_streams} of them over TCP or TLS have to connect again")?;
        }
        write!(f, "; {registered} registered")?;
        if *registered_over_streams > 0 {
            write!(f, ", {registered_over_streams} of them over TCP or TLS have to register again")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_go_on_is_told_in_words() {
        let all = Standby {
            lag_ms: Some(3),
            confirmed: 412,
            ringing: 9,
            calls_over_streams: 3,
            registered: 120,
            registered_over_streams: 12,
        };
        assert_eq!(
            all.to_string(),
            "412 confirmed, 9 ringing, 3 of them over TCP or TLS have to connect again; 120 registered, 12 of them over \
             TCP or TLS have to register again"
        );
        assert_eq!(Standby::default().to_string(), "0 confirmed, 0 ringing; 0 registered");
    }
}
