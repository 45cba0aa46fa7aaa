//! Times and levels as people type them.

use domain::{Level, Micros, parse_duration};
use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;

/// A time for `--since` and `--until`, in the system's zone where it names none.
pub(super) fn parse_time(text: &str) -> Result<Micros, String> {
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    parse_time_at(text, Timestamp::now(), &zone)
}

fn parse_time_at(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Micros, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(micros(now) - ago);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(micros(timestamp));
    }
    // ISO 8601 lets "12" be noon; people may as well mean 12 minutes ago.
    let time = text.parse::<Time>().ok().filter(|_| text.contains(':'));
    let local = match (time, text.parse::<DateTime>()) {
        (Some(time), _) => now.to_zoned(zone.clone()).date().to_datetime(time),
        (None, Ok(date_and_time)) => date_and_time,
        (None, Err(_)) => {
            let expected =
                "expected '2026-01-31 12:00', 2026-01-31T12:00:00Z, 12:00, or how long ago: 10m, 2h, 1d";
            return Err(expected.to_owned());
        }
    };
    let zoned = local.to_zoned(zone.clone()).map_err(|error| error.to_string())?;
    Ok(micros(zoned.timestamp()))
}

fn micros(timestamp: Timestamp) -> Micros {
    Micros(u64::try_from(timestamp.as_microsecond()).unwrap_or(0))
}

/// A level for `--level`.
pub(super) fn parse_level(text: &str) -> Result<Level, String> {
    [Level::Alarm, Level::Standard, Level::Interaction, Level::Trace]
        .into_iter()
        .find(|level| level.to_string() == text)
        .ok_or_else(|| "expected alarm, standard, interaction or trace".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_type_them() {
        let now: Timestamp = "2026-01-31T12:30:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let parse = |text| {
            parse_time_at(text, now, &zone)
                .map(|at| Timestamp::from_microsecond(at.0 as i64).unwrap().to_string())
        };
        for (text, expected) in [
            ("10m", "2026-01-31T12:20:00Z"),
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z"),
            ("2026-01-31 12:00", "2026-01-31T11:00:00Z"),
            ("2026-01-31", "2026-01-30T23:00:00Z"),
            ("12:00", "2026-01-31T11:00:00Z"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["", "yesterday", "12", "2026-13-01", "25:00", "-10m"] {
            assert!(parse(bad).is_err(), "{bad} must be refused");
        }
        assert!(parse_level("debug").is_err(), "never kept");
        assert_eq!(parse_level("trace"), Ok(Level::Trace));
    }
}
