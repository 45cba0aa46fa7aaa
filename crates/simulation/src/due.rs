//! When parts of a program have something to do, looked up only for those that were touched. A history is mostly small
//! events; to ask every keeper and supervisor for its deadline after each of them took a third of the time.

use domain::Micros;
use std::cell::Cell;
use std::ops::{Deref, DerefMut};

/// A part of a program, with its deadline as it was last looked up. Whoever gets it to change it makes that forgotten.
#[derive(Debug)]
pub(crate) struct Due<T> {
    part: T,
    due: Cell<Option<Option<Micros>>>,
}

impl<T> Due<T> {
    pub(crate) fn new(part: T) -> Self {
        Self { part, due: Cell::new(None) }
    }

    /// Its deadline, for which `look` is only asked where the part may have changed since.
    pub(crate) fn at(&self, look: impl FnOnce(&T) -> Option<Micros>) -> Option<Micros> {
        if let Some(due) = self.due.get() {
            return due;
        }
        let due = look(&self.part);
        self.due.set(Some(due));
        due
    }
}

impl<T> Deref for Due<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.part
    }
}

impl<T> DerefMut for Due<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.due.set(None);
        &mut self.part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_is_looked_at_again() {
        let mut part = Due::new(7);
        let look = |part: &u64| Some(Micros(*part));
        assert_eq!(part.at(look), Some(Micros(7)));
        assert_eq!(part.at(|_| unreachable!("nothing changed")), Some(Micros(7)));
        *part = 9;
        assert_eq!(part.at(look), Some(Micros(9)));
    }
}
