//! What would happen if something failed: one paragraph for each fault.

use super::{Look, Paint, clean};
use crate::api::Consequences;
use ha_core::Consequence;
use std::fmt::Write as _;

/// Width that paragraphs are broken at, characters.
const WIDTH: usize = 120;
/// What a line of a paragraph begins with.
const INDENT: &str = "  ";

/// All of them.
#[must_use]
pub fn consequences(told: &Consequences, look: &Look) -> String {
    let mut out = String::new();
    let heading = look.paint(Paint::Heading, &format!("Pair {}", told.pair));
    // Writing to a string does not fail, here and below.
    let _ = writeln!(out, "{heading}  as it was at {} ({})", look.time(told.at), look.zone_at(told.at));
    for one in &told.consequences {
        let _ = writeln!(out, "\n{}", look.paint(paint_of(one), &format!("if {}", clean(&one.title))));
        for line in wrapped(&clean(&one.text)) {
            let _ = writeln!(out, "{INDENT}{line}");
        }
    }
    out
}

fn paint_of(one: &Consequence) -> Paint {
    match (one.away_us, one.backing) {
        (None, _) => Paint::Bad,
        (Some(_), Some(0 | 1)) => Paint::Warning,
        (Some(_), Some(_) | None) => Paint::Good,
    }
}

/// The text broken between words.
pub(super) fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut width = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && INDENT.len() + width + 1 + length > WIDTH {
            lines.push(String::new());
            width = 0;
        }
        let line = lines.last_mut().expect("it begins with one");
        if width > 0 {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += length;
    }
    lines
}
