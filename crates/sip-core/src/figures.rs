//! What is counted, and how it is shown: names and units do not change between releases.

use std::fmt::Write;
use std::time::Duration;

/// Upper bounds of the post-dial delay's histogram, milliseconds.
const DELAYS_MS: [u64; 9] = [10, 50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000];

/// Counted since the process started.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Requests received.
    pub requests: u64,
    /// Responses received.
    pub responses: u64,
    /// Requests of sources that send too many, or that are silenced: not answered.
    pub ignored: u64,
    /// Requests without a proof of who sent them: challenged.
    pub challenged: u64,
    /// Requests with a wrong proof.
    pub wrong: u64,
    /// Registrations carried out.
    pub registrations: u64,
    /// Calls that came.
    pub attempts: u64,
    /// Calls that were refused as more came than could be served.
    pub shed: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that ended, after an answer or without one.
    pub ended: u64,
    /// Calls that were refused, by us or by who was called.
    pub refused: u64,
    /// Targets of calls that did not take them.
    pub target_failures: u64,
    /// Messages of calls that were sent before.
    pub retransmissions: u64,
    /// Requests that could not be sent.
    pub unsent: u64,
    delays: [u64; DELAYS_MS.len() + 1],
    delay_sum_ms: u64,
}

impl Figures {
    /// A callee began to ring, or answered at once, this long after the call came.
    pub(crate) fn post_dial_delay(&mut self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let bucket = DELAYS_MS.iter().position(|bound| ms <= *bound).unwrap_or(DELAYS_MS.len());
        self.delays[bucket] += 1;
        self.delay_sum_ms = self.delay_sum_ms.saturating_add(ms);
    }

    /// Writes them in the text format of Prometheus.
    pub fn write(&self, out: &mut String) {
        let counters = [
            ("requests_received", "SIP requests received", self.requests),
            ("responses_received", "SIP responses received", self.responses),
            ("requests_ignored", "Requests of sources that send too many or are silenced", self.ignored),
            ("requests_challenged", "Requests that were challenged", self.challenged),
            ("credentials_wrong", "Requests with wrong credentials", self.wrong),
            ("registrations", "Registrations carried out", self.registrations),
            ("call_attempts", "Calls that came", self.attempts),
            ("calls_shed", "Calls refused since more came than could be served", self.shed),
            ("calls_answered", "Calls that were answered", self.answered),
            ("calls_ended", "Calls that are over", self.ended),
            ("calls_refused", "Calls that nobody took", self.refused),
            ("call_target_failures", "Contacts and trunks that did not take a call", self.target_failures),
            ("retransmissions", "Messages of calls that were sent again", self.retransmissions),
            ("requests_unsent", "Requests that could not be sent", self.unsent),
        ];
        for (name, help, value) in counters {
            let _ = write!(
                out,
                "# HELP takeover_sip_{name}_total {help}.\n# TYPE takeover_sip_{name}_total counter\n\
                 takeover_sip_{name}_total {value}\n"
            );
        }
        let name = "takeover_sip_post_dial_delay_seconds";
        let _ = write!(out, "# HELP {name} From a call to its first ringing.\n# TYPE {name} histogram\n");
        let mut below = 0;
        for (bound_ms, count) in DELAYS_MS.iter().zip(&self.delays) {
            below += count;
            let seconds = Duration::from_millis(*bound_ms).as_secs_f64();
            let _ = writeln!(out, "{name}_bucket{{le=\"{seconds}\"}} {below}");
        }
        let all: u64 = self.delays.iter().sum();
        let sum = Duration::from_millis(self.delay_sum_ms).as_secs_f64();
        let _ = write!(out, "{name}_bucket{{le=\"+Inf\"}} {all}\n{name}_sum {sum}\n{name}_count {all}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_is_at_most_its_bounds() {
        let mut figures = Figures::default();
        for ms in [5, 50, 51, 60_000] {
            figures.post_dial_delay(Duration::from_millis(ms));
        }
        let mut text = String::new();
        figures.write(&mut text);
        for line in [
            "_bucket{le=\"0.01\"} 1",
            "_bucket{le=\"0.05\"} 2",
            "_bucket{le=\"0.1\"} 3",
            "_bucket{le=\"10\"} 3",
            "_bucket{le=\"+Inf\"} 4",
            "_sum 60.106",
            "_count 4",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
