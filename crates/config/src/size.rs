//! Sizes as people write them: `512MiB`, `1GiB`.

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads a size: a whole number and a unit, `KiB`, `MiB`, `GiB` or `TiB` (powers of 1,024). The result is in bytes.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    match (number.parse::<u64>(), factor) {
        (Ok(number), Some(factor)) => {
            number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
        }
        _ => Err(format!("{text:?} is not a size such as \"512MiB\" or \"1GiB\"")),
    }
}

/// Writes a size in the largest unit that loses nothing: the inverse of [`parse_size`]; bytes as `N bytes`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    match UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_trip() {
        for text in ["1GiB", "512MiB", "3KiB", "2TiB", "1025MiB"] {
            assert_eq!(format_size(parse_size(text).unwrap()), text);
        }
        for bad in
            ["", "1", "GiB", "1GB", "-1GiB", "1.5GiB", "1 GiB", "99999999TiB", "99999999999999999999KiB"]
        {
            assert!(parse_size(bad).is_err(), "{bad} must be refused");
        }
    }
}
