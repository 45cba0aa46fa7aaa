//! What is replicated.

use domain::Micros;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A change is of something that is not known here, or that is stale. During a resynchronisation that is as it should be;
/// afterwards it says that the two have come apart, and a new resynchronisation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the change is of something that is not known here")]
pub struct Unknown;

/// A value that two hosts hold: made of items that have keys, and changed at the primary by changes of single items. A
/// change carries either the whole item or parts of it.
pub trait Replica {
    /// A change of one item. Its serialised form must not depend on being self-describing (no `flatten`, no untagged
    /// enums, no skipped fields), and whoever alters it alters [`Settings::format`](crate::Settings::format).
    type Change: Serialize + DeserializeOwned;
    /// How far a snapshot has come: the key of an item.
    type Cursor;

    /// The time on the value's own clock, in which its items say when something is due.
    fn clock(&self, now: Micros) -> Micros;

    /// The primary said what time it is on that clock.
    fn heard_clock(&mut self, at: Micros, now: Micros);

    /// Appends up to `most` whole items behind `after` to `out`, in the order of their keys. Gives how far it came; none:
    /// there is nothing behind it.
    fn snapshot(
        &self,
        after: Option<&Self::Cursor>,
        most: usize,
        now: Micros,
        out: &mut Vec<Self::Change>,
    ) -> Option<Self::Cursor>;

    /// All items are stale from now on: they are kept, since they are better than nothing should this host have to take
    /// over before the end (then they are what there is, and stale no more), but they take no changes other than whole ones
    /// and their removal.
    fn begin_resync(&mut self);

    /// Takes a change. A whole item is not stale any more.
    ///
    /// # Errors
    /// [`Unknown`]; nothing has changed then.
    fn apply(&mut self, change: Self::Change, now: Micros) -> Result<(), Unknown>;

    /// Everything was sent: what is stale still is not there any more at the primary, and is dropped.
    fn end_resync(&mut self);
}
