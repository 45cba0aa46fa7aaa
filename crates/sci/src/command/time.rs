//! Times and levels as people type them.

use domain::{Level, Micros, parse_duration};
use jiff::Timestamp;
use jiff::civil::{DateTime, Time, Weekday};
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

/// A time that is to come, for `--at`, in the system's zone where it names none; of a time of day the next one.
pub(super) fn parse_coming(text: &str) -> Result<Micros, String> {
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    parse_coming_at(text, Timestamp::now(), &zone)
}

fn parse_coming_at(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Micros, String> {
    if let Ok(later) = parse_duration(text) {
        return Ok(micros(now) + later);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(micros(timestamp));
    }
    let today = now.to_zoned(zone.clone()).date();
    let expected =
        "expected '2026-01-31 03:00', 2026-01-31T03:00:00Z, 'sun 03:00', 03:00, or in how long: 10m, 2h";
    let (day, clock) = match text.trim().split_once(' ') {
        Some((day, clock)) if weekday(day).is_some() => (weekday(day), clock.trim()),
        Some(_) | None => (None, text.trim()),
    };
    let local = match clock.parse::<Time>().ok().filter(|_| clock.contains(':')) {
        Some(time) => {
            // Today counts where the hour is still to come; a week on, the same weekday comes at the latest.
            let coming = (0..=7).filter_map(|days| today.checked_add(jiff::Span::new().days(days)).ok());
            let mut coming = coming.filter(|date| day.is_none_or(|day| date.weekday() == day));
            let is_coming = |date: &jiff::civil::Date| {
                let at = date.to_datetime(time).to_zoned(zone.clone());
                at.is_ok_and(|at| at.timestamp() > now)
            };
            coming.find(is_coming).map(|date| date.to_datetime(time)).ok_or(expected)?
        }
        None => text.parse::<DateTime>().map_err(|_| expected)?,
    };
    let zoned = local.to_zoned(zone.clone()).map_err(|error| error.to_string())?;
    Ok(micros(zoned.timestamp()))
}

fn weekday(text: &str) -> Option<Weekday> {
    let days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let text = text.to_ascii_lowercase();
    let found = days.iter().position(|day| text.len() >= 3 && day.starts_with(&text))?;
    Weekday::from_monday_zero_offset(i8::try_from(found).ok()?).ok()
}

/// A number of days for `--every`: `7d`.
pub(super) fn parse_days(text: &str) -> Result<u16, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    days.filter(|days| (1..=366).contains(days)).ok_or_else(|| "expected 1d to 366d; 7d is weekly".to_owned())
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
        let coming = |text| {
            parse_coming_at(text, now, &zone)
                .map(|at| Timestamp::from_microsecond(at.0 as i64).unwrap().to_string())
        };
        // It is Saturday, 13:30 there.
        for (text, expected) in [
            ("10m", "2026-01-31T12:40:00Z"),
            ("2026-02-01 03:00", "2026-02-01T02:00:00Z"),
            ("2026-02-01T03:00:00Z", "2026-02-01T03:00:00Z"),
            ("14:00", "2026-01-31T13:00:00Z"),
            ("13:30", "2026-02-01T12:30:00Z"),
            ("sun 03:00", "2026-02-01T02:00:00Z"),
            ("Saturday 14:00", "2026-01-31T13:00:00Z"),
            ("sat 03:00", "2026-02-07T02:00:00Z"),
        ] {
            assert_eq!(coming(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["", "sunday", "su 03:00", "sun 25:00", "tomorrow", "12"] {
            assert!(coming(bad).is_err(), "{bad} must be refused");
        }
        assert_eq!(parse_days("7d"), Ok(7));
        for bad in ["7", "0d", "367d", "d", "-1d", "1w"] {
            assert!(parse_days(bad).is_err(), "{bad} must be refused");
        }
        assert!(parse_level("debug").is_err(), "never kept");
        assert_eq!(parse_level("trace"), Ok(Level::Trace));
    }
}
