//! Tables: columns as wide as they must be, two spaces between them, no lines.

use super::{Look, Paint};

/// A cell: its text, which must be clean, and how it is painted.
pub(super) struct Cell {
    text: String,
    paint: Paint,
    right: bool,
}

pub(super) fn cell(text: impl Into<String>) -> Cell {
    painted(text, Paint::Plain)
}

pub(super) fn painted(text: impl Into<String>, paint: Paint) -> Cell {
    Cell { text: text.into(), paint, right: false }
}

/// A number: aligned to the right.
pub(super) fn number(text: impl Into<String>) -> Cell {
    Cell { right: true, ..cell(text) }
}

pub(super) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|h| painted(*h, Paint::Dim)).collect()] }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as lines, each behind `indent`, without trailing spaces.
    pub(super) fn show(&self, look: &Look, indent: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|r| r.get(column)).map(Cell::width).max().unwrap_or(0)
        };
        let right = |column: usize| self.rows.iter().skip(1).any(|r| r.get(column).is_some_and(|c| c.right));
        let layout: Vec<_> = (0..columns).map(|column| (width(column), right(column))).collect();
        let mut out = String::new();
        for row in &self.rows {
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
            out.push_str(indent);
            for (index, (cell, (width, right))) in row.iter().zip(&layout).take(last).enumerate() {
                let pad = " ".repeat(width - cell.width());
                let text = look.paint(cell.paint, &cell.text);
                out.push_str(if index == 0 { "" } else { "  " });
                out.push_str(if *right { &pad } else { "" });
                out.push_str(&text);
                out.push_str(if *right || index + 1 == last { "" } else { &pad });
            }
            out.push('\n');
        }
        out
    }
}

impl Cell {
    fn width(&self) -> usize {
        self.text.chars().count()
    }
}
