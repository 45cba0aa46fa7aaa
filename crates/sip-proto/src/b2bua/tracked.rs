//! Values that know whether they were changed since the backup had them, so that no change can be forgotten: whoever gets
//! one to change it has marked it.

use std::ops::{Deref, DerefMut};

/// A value that knows whether it was touched since the backup had it.
#[derive(Debug)]
pub(super) struct Tracked<T> {
    pub(super) value: T,
    changed: bool,
}

impl<T> Tracked<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value, changed: true }
    }

    pub(super) fn known(value: T) -> Self {
        Self { value, changed: false }
    }

    pub(super) fn take_change(&mut self) -> Option<T>
    where
        T: Clone,
    {
        std::mem::take(&mut self.changed).then(|| self.value.clone())
    }
}

impl<T> Deref for Tracked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Tracked<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.value
    }
}

/// A few numbered values, in the order of their numbers, that know which of them were touched since the backup had them.
#[derive(Debug)]
pub(super) struct List<T> {
    pub(super) items: Vec<(u16, T)>,
    changed: Vec<u16>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), changed: Vec::new() }
    }
}

impl<T> List<T> {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &T)> {
        self.items.iter().map(|(id, item)| (*id, item))
    }

    /// The numbers, to go through the list and change it meanwhile.
    pub(super) fn ids(&self) -> impl Iterator<Item = u16> + use<T> {
        let ids: Vec<u16> = self.items.iter().map(|(id, _)| *id).collect();
        ids.into_iter()
    }

    pub(super) fn get(&self, id: u16) -> Option<&T> {
        self.position(id).ok().map(|at| &self.items[at].1)
    }

    pub(super) fn get_mut(&mut self, id: u16) -> Option<&mut T> {
        let at = self.position(id).ok()?;
        self.mark(id);
        Some(&mut self.items[at].1)
    }

    pub(super) fn insert(&mut self, id: u16, item: T) {
        self.mark(id);
        self.put(id, item);
    }

    pub(super) fn remove(&mut self, id: u16) -> Option<T> {
        let at = self.position(id).ok()?;
        self.mark(id);
        Some(self.items.remove(at).1)
    }

    fn put(&mut self, id: u16, item: T) {
        match self.position(id) {
            Ok(at) => self.items[at].1 = item,
            Err(at) => {
                // There is mostly one; room for four would be most of a call's memory.
                self.items.reserve_exact(1);
                self.items.insert(at, (id, item));
            }
        }
    }

    fn position(&self, id: u16) -> Result<usize, usize> {
        self.items.binary_search_by_key(&id, |(id, _)| *id)
    }

    fn mark(&mut self, id: u16) {
        if !self.changed.contains(&id) {
            self.changed.push(id);
        }
    }

    pub(super) fn apply(&mut self, changes: Vec<(u16, Option<T>)>) {
        for (id, item) in changes {
            match (item, self.position(id)) {
                (Some(item), _) => self.put(id, item),
                (None, Ok(at)) => drop(self.items.remove(at)),
                (None, Err(_)) => {}
            }
        }
    }
}

impl<T: Clone> List<T> {
    pub(super) fn take_changes(&mut self) -> Vec<(u16, Option<T>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|id| (id, self.get(id).cloned())).collect()
    }

    pub(super) fn snapshot(&self) -> Vec<(u16, Option<T>)> {
        self.items.iter().map(|(id, item)| (*id, Some(item.clone()))).collect()
    }
}
