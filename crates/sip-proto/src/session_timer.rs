//! Session timers (RFC 4028): who refreshes a session, how often, and when it counts as dead.

use crate::{HeaderName, Malformed, Message, Refresher, SessionExpires};
use domain::Micros;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The least interval that anybody may ask for, seconds (RFC 4028, section 4).
pub const LEAST_MIN_SE_S: u32 = 90;
/// How long before its end a session is ended, at most (RFC 4028, section 10).
const END_AHEAD: Duration = Duration::from_secs(32);

/// What we want of session timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// The interval that we ask for, and the longest that we grant, seconds.
    pub interval_s: u32,
    /// The shortest that we accept, seconds; not less than [`LEAST_MIN_SE_S`].
    pub min_se_s: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { interval_s: 1_800, min_se_s: LEAST_MIN_SE_S }
    }
}

/// The timer of one session, on one leg of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTimer {
    /// The interval, seconds.
    pub interval_s: u32,
    /// Whether we refresh the session, not the other side.
    pub we_refresh: bool,
    /// When it was last refreshed.
    pub refreshed_at: Micros,
}

/// What is not right with the session timer of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerRefusal {
    /// The interval is too small: 422 with this Min-SE, seconds (RFC 4028, section 6).
    TooSmall(u32),
    /// It cannot be read: 400.
    Malformed(Malformed),
}

impl SessionTimer {
    /// What we grant the sender of an INVITE or UPDATE that came now; the header field for the 2xx is
    /// [`SessionTimer::granted`]. Somebody who does not know of session timers is refreshed by us (RFC 4028, section 9 and
    /// table 2).
    ///
    /// # Errors
    /// [`TimerRefusal`].
    pub fn grant(request: &Message<'_>, limits: &SessionLimits, now: Micros) -> Result<Self, TimerRefusal> {
        let wish = request.session_expires().map_err(TimerRefusal::Malformed)?;
        let knows = request.lists(HeaderName::Supported, "timer");
        let Some(wish) = wish else {
            let interval_s = limits.interval_s.max(request.min_se().unwrap_or(0));
            return Ok(Self { interval_s, we_refresh: true, refreshed_at: now });
        };
        if wish.interval_s < limits.min_se_s && knows {
            return Err(TimerRefusal::TooSmall(limits.min_se_s));
        }
        let least = request.min_se().unwrap_or(0).max(limits.min_se_s);
        let interval_s = wish.interval_s.min(limits.interval_s).max(least);
        let we_refresh = !knows || wish.refresher == Some(Refresher::Uas);
        Ok(Self { interval_s, we_refresh, refreshed_at: now })
    }

    /// Session-Expires of the 2xx for a request that came from the other side; none for somebody who does not know of it
    /// and would take it for a mistake.
    #[must_use]
    pub fn granted(&self, request: &Message<'_>) -> Option<SessionExpires> {
        let knows = request.lists(HeaderName::Supported, "timer");
        let refresher = if self.we_refresh { Refresher::Uas } else { Refresher::Uac };
        knows.then_some(SessionExpires { interval_s: self.interval_s, refresher: Some(refresher) })
    }

    /// What a 2xx to our own INVITE or UPDATE, that came now, makes of the interval that we asked for. Where it says
    /// nothing, the other side knows nothing of timers, and we refresh (RFC 4028, section 7.2).
    #[must_use]
    pub fn agreed(response: &Message<'_>, asked_s: u32, now: Micros) -> Self {
        let said = response.session_expires().ok().flatten().filter(|said| said.interval_s >= LEAST_MIN_SE_S);
        match said {
            Some(said) => {
                let we_refresh = said.refresher != Some(Refresher::Uas);
                Self { interval_s: said.interval_s, we_refresh, refreshed_at: now }
            }
            None => Self { interval_s: asked_s, we_refresh: true, refreshed_at: now },
        }
    }

    /// When we refresh it, if we are to: half way (RFC 4028, section 7.2).
    #[must_use]
    pub fn refresh_at(&self) -> Option<Micros> {
        self.we_refresh.then(|| self.refreshed_at + self.interval() / 2)
    }

    /// When it is dead and is to be ended: a little before the other side does (RFC 4028, section 10).
    #[must_use]
    pub fn dead_at(&self) -> Micros {
        self.refreshed_at + (self.interval() - END_AHEAD.min(self.interval() / 3))
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(u64::from(self.interval_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Framing, parse};

    const LIMITS: SessionLimits = SessionLimits { interval_s: 1_800, min_se_s: 120 };

    fn grant(lines: &str) -> (Result<(u32, bool), TimerRefusal>, Option<String>) {
        let text = format!("INVITE sip:a SIP/2.0\r\n{lines}\r\n");
        let request = parse(text.as_bytes(), Framing::Datagram).unwrap();
        let timer = SessionTimer::grant(&request, &LIMITS, Micros(0));
        let header = timer.ok().and_then(|timer| timer.granted(&request)).map(|s| s.to_string());
        (timer.map(|timer| (timer.interval_s, timer.we_refresh)), header)
    }

    #[test]
    fn what_is_asked_is_granted_within_limits() {
        for (lines, timer, header) in [
            ("Supported: timer\r\nSession-Expires: 600\r\n", Ok((600, false)), Some("600;refresher=uac")),
            (
                "Supported: x, Timer\r\nSession-Expires: 600;refresher=uas\r\n",
                Ok((600, true)),
                Some("600;refresher=uas"),
            ),
            ("Supported: timer\r\nSession-Expires: 9000\r\n", Ok((1_800, false)), Some("1800;refresher=uac")),
            (
                "Supported: timer\r\nSession-Expires: 9000\r\nMin-SE: 3000\r\n",
                Ok((3_000, false)),
                Some("3000;refresher=uac"),
            ),
            ("Supported: timer\r\nSession-Expires: 119\r\n", Err(TimerRefusal::TooSmall(120)), None),
            // A proxy put it there; who sent the request knows nothing of it (RFC 4028, section 9).
            ("Session-Expires: 100\r\n", Ok((120, true)), None),
            ("Supported: timer\r\n", Ok((1_800, true)), Some("1800;refresher=uas")),
            ("", Ok((1_800, true)), None),
            ("x: soon\r\n", Err(TimerRefusal::Malformed(Malformed("Malformed Session-Expires"))), None),
        ] {
            assert_eq!(grant(lines), (timer, header.map(str::to_owned)), "{lines}");
        }
    }

    #[test]
    fn what_is_answered_is_agreed() {
        let agreed = |lines: &str| {
            let text = format!("SIP/2.0 200 OK\r\n{lines}\r\n");
            let timer =
                SessionTimer::agreed(&parse(text.as_bytes(), Framing::Datagram).unwrap(), 1_800, Micros(0));
            (timer.interval_s, timer.we_refresh)
        };
        assert_eq!(agreed("Session-Expires: 600;refresher=uac\r\n"), (600, true));
        assert_eq!(agreed("Session-Expires: 600;refresher=uas\r\n"), (600, false));
        for nothing in ["", "Session-Expires: 0;refresher=uas\r\n", "Session-Expires: x\r\n"] {
            assert_eq!(agreed(nothing), (1_800, true), "{nothing}");
        }
    }

    #[test]
    fn refreshes_and_ends_come_in_time() {
        let at = Micros(1_000_000);
        let long = SessionTimer { interval_s: 1_800, we_refresh: true, refreshed_at: at };
        assert_eq!(long.refresh_at(), Some(at + Duration::from_secs(900)));
        assert_eq!(long.dead_at(), at + Duration::from_secs(1_768));
        let short = SessionTimer { interval_s: 90, we_refresh: false, refreshed_at: at };
        assert_eq!((short.refresh_at(), short.dead_at()), (None, at + Duration::from_secs(60)));
    }
}
