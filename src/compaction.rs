//! Fewer events for readers that catch up: drops events that later ones supersede, or joins small ones.
//!
//! A reader that keeps up receives every event as it was published. One that is behind, because it is slow or was away, may need
//! less: of a gauge only the newest value, of a text that was published in pieces the pieces joined. A `Compaction` is the
//! function that decides this. The hub applies it to what it reads from the store for a reader, from the reader's position up to
//! the channel's head, once for all readers that start at the same position; never to the recent events that it holds in memory,
//! from which it serves readers that keep up (see [`HubOptions::ring_bytes`](crate::HubOptions::ring_bytes)).
//!
//! Nothing else changes for clients: each event that is left has the position of the last one that it stands for, and a client
//! resumes from any of them. The store keeps everything.
//!
//! # Examples
//! The newest event of each name:
//! ```
//! use tower_events::{Channels, Compaction, Hub, MemoryStore, SseService};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let service = SseService::new(hub, Channels::from_query).compaction(Compaction::newest_per_name());
//! # drop(service);
//! ```
//! Customised: the newest event of each gauge, whose number is in the data.
//! ```
//! use tower_events::{Channel, Compaction, Subscription};
//!
//! #[derive(serde::Deserialize)]
//! struct Gauge {
//!     number: u32,
//! }
//!
//! let newest = Compaction::newest_per("gauge", |entry| {
//!     serde_json::from_slice(&entry.data.to_json()).ok().map(|Gauge { number }| number)
//! });
//! let subscription = Subscription::new(Channel::new("gauges")?).compaction(newest);
//! # drop(subscription);
//! # Ok::<(), tower_events::InvalidChannel>(())
//! ```
//!
//! # Limits
//! One pass stops at the head that the channel had when the pass began, once 10 000 events or 1 MiB are left, or after a
//! second; the next pass goes on from there. So with more than 10 000 keys a reader may receive several events of one key.

mod check;
mod ready_made;

use std::{
    fmt,
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use self::{
    check::{Broken, check},
    ready_made::{join_texts, keep_newest},
};
use crate::store::Entry;

/// What a reader that catches up need not receive. See the [module docs](self).
///
/// Two compactions are the same if their ids are.
#[derive(Clone)]
pub struct Compaction(Arc<Inner>);

type Compact = dyn Fn(&mut Vec<Entry>) + Send + Sync;

struct Inner {
    id: Box<str>,
    compact: Box<Compact>,
    /// A function that breaks its contract is logged once.
    logged: AtomicBool,
}

impl Compaction {
    /// A compaction of one's own. `id` stands for everything that the function depends on: readers with the same id share what it
    /// returned. Ids that begin with `tower-events:` are those of the ready-made ones.
    ///
    /// `compact` is given entries of one channel in `seq` order, and removes some of them, or replaces the data of some. It is
    /// called by the tasks that serve the readers: it must not block, and its result must depend on its input only. The input
    /// may contain what it returned before: compacting `compact(a)` followed by `b` must give what compacting `a` followed by `b`
    /// does. What it returns must keep these rules:
    ///
    /// - Each entry has the position of the last entry that it stands for. Positions are among those of the input, and strictly
    ///   increase. This is checked: entries for which it does not hold, or for which the function panics, are delivered as they
    ///   were, and the first time an error is logged.
    /// - A client may resume after any entry. So an entry may be dropped when a later one makes it useless, and it may be
    ///   merged into the next one that is left, but not into a later one.
    ///
    /// ```
    /// use tower_events::Compaction;
    ///
    /// // Typing indicators are of no use later, unless the newest event is one.
    /// let without_typing = Compaction::new("without-typing", |entries| {
    ///     let last = entries.last().map(|entry| entry.cursor);
    ///     entries.retain(|entry| {
    ///         Some(entry.cursor) == last || entry.name.as_ref().is_none_or(|name| name.as_str() != "typing")
    ///     });
    /// });
    /// # drop(without_typing);
    /// ```
    pub fn new(id: impl Into<Box<str>>, compact: impl Fn(&mut Vec<Entry>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { id: id.into(), compact: Box::new(compact), logged: AtomicBool::new(false) }))
    }

    /// Leaves the newest event of each name, in the order of these. Events without a name count as those of one name.
    #[must_use]
    pub fn newest_per_name() -> Self {
        Self::new("tower-events:newest-per-name", |entries| keep_newest(entries, |entry| Some(entry.name.clone())))
    }

    /// Leaves the newest event of each key, in the order of these, and all events for which `key` returns `None`. `id` stands for
    /// the function, as in [`Compaction::new`].
    pub fn newest_per<K: Hash + Eq>(
        id: impl Into<Box<str>>,
        key: impl Fn(&Entry) -> Option<K> + Send + Sync + 'static,
    ) -> Self {
        Self::new(id, move |entries| keep_newest(entries, &key))
    }

    /// Joins the texts of adjacent events of one name, or without one, as long as the text has at most 64 KiB. Events whose data is
    /// not a text stay as they are. A joined event has the time of its last one.
    #[must_use]
    pub fn joined_text() -> Self {
        Self::joined_text_up_to(64 << 10)
    }

    /// As [`joined_text`](Self::joined_text), with another limit of a joined text, in bytes.
    #[must_use]
    pub fn joined_text_up_to(bytes: usize) -> Self {
        Self::new(format!("tower-events:joined-text:{bytes}"), move |entries| join_texts(entries, bytes))
    }

    /// The id that it was created with.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// What is left of these entries, which are of one channel and in `seq` order: all of them if the function panics or breaks the
    /// rules of [`Compaction::new`]. For tests of a function.
    #[must_use]
    pub fn compact(&self, entries: Vec<Entry>) -> Vec<Entry> {
        self.try_compact(entries).unwrap_or_else(|BrokenRule { entries }| entries)
    }

    pub(crate) fn try_compact(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, BrokenRule> {
        let mut compacted = entries.clone();
        let compact = AssertUnwindSafe(|| (self.0.compact)(&mut compacted));
        let checked = catch_unwind(compact).map_err(|_| Broken::Panicked).and_then(|()| check(&entries, &compacted));
        match checked {
            Ok(()) => Ok(compacted),
            Err(broken) => {
                if !self.0.logged.swap(true, Relaxed) {
                    tracing::error!(compaction = self.id(), %broken, "events are delivered without compaction");
                }
                Err(BrokenRule { entries })
            }
        }
    }
}

/// The function broke a rule: the entries as they were.
#[derive(Debug)]
pub(crate) struct BrokenRule {
    pub(crate) entries: Vec<Entry>,
}

impl PartialEq for Compaction {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Compaction {}

impl fmt::Debug for Compaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compaction").field(&self.id()).finish()
    }
}
