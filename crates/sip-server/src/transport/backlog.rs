//! Whether more comes than can be served: a socket that is not emptied for long. What waits there is answered late and sent
//! again meanwhile, so that soon most of the work is for nothing; new calls are better refused then (RFC 3261, section
//! 21.5.4).

use domain::Micros;
use std::time::Duration;

/// How long a socket may hold more than a round takes: after a takeover all that had to wait comes at once, and is to be
/// served.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same, where it was too long lately.
const LITTLE_PATIENCE: Duration = Duration::from_millis(20);
/// How lately.
const LATELY: Duration = Duration::from_secs(10);

/// How a socket is kept up with.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Since when it was never empty.
    since: Option<Micros>,
    /// When it was too long last.
    behind_at: Option<Micros>,
}

impl Backlog {
    /// A round is over, and the socket is empty, or not.
    pub(crate) fn note(&mut self, emptied: bool, now: Micros) {
        self.since = if emptied { None } else { self.since.or(Some(now)) };
        if self.is_behind(now) {
            self.behind_at = Some(now);
        }
    }

    /// Whether it is too long.
    pub(crate) fn is_behind(&self, now: Micros) -> bool {
        let lately = self.behind_at.is_some_and(|at| now.since(at) < LATELY);
        let patience = if lately { LITTLE_PATIENCE } else { PATIENCE };
        self.since.is_some_and(|since| now.since(since) >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    #[test]
    fn a_burst_is_served_and_what_does_not_end_is_not() {
        let mut backlog = Backlog::default();
        let mut behind = |emptied: bool, at_ms: u64| {
            backlog.note(emptied, Micros(at_ms * MS));
            backlog.is_behind(Micros(at_ms * MS))
        };
        assert!(!behind(false, 0) && !behind(false, 900), "a burst");
        assert!(!behind(true, 901) && !behind(false, 902) && !behind(false, 1_901), "another one");
        assert!(behind(false, 1_902));
        assert!(!behind(true, 1_903), "it is empty");
        assert!(!behind(false, 1_904) && behind(false, 1_924), "not for long");
        assert!(
            !behind(true, 1_925) && !behind(false, 12_000) && !behind(false, 12_900),
            "it has been good since"
        );
    }
}
