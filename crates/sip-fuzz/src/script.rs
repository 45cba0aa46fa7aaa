//! Bytes as a list of orders: each takes what it needs from the front, and what is missing at the end is 0.

/// What was not taken yet.
#[derive(Debug)]
pub(crate) struct Script<'a>(pub(crate) &'a [u8]);

impl<'a> Script<'a> {
    /// The next byte; none: it is over.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next byte as a number.
    pub(crate) fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// One of several, chosen by the next byte.
    pub(crate) fn one_of<'t, T>(&mut self, several: &'t [T]) -> Option<&'t T> {
        let chosen = usize::from(self.byte());
        several.get(chosen.checked_rem(several.len())?)
    }

    /// So many bytes, as far as there are.
    pub(crate) fn piece(&mut self, length: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        piece
    }
}
