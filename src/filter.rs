//! Which entries a reader may see.
//!
//! Pure, except for the application's function.
//!
//! # Examples
//! The default is no filter. One that hides drafts:
//! ```
//! use tower_events::{Channel, Filter, Subscription};
//!
//! let published = Filter::new("published", |entry| entry.name.as_ref().is_none_or(|name| name.as_str() != "draft"));
//! let subscription = Subscription::new(Channel::new("articles")?).filter(published);
//! # drop(subscription);
//! # Ok::<(), tower_events::InvalidChannel>(())
//! ```
//! Customised for each user, in a [`Grant`](crate::Grant); its id names everything that the decision depends on:
//! ```
//! use tower_events::{Channel, Filter};
//!
//! fn addressed_to(user: &str) -> Filter {
//!     let to = format!("to:{user}");
//!     Filter::new(to.clone(), move |entry| entry.name.as_ref().is_some_and(|name| name.as_str() == to))
//! }
//! # assert_eq!(addressed_to("ann").id(), "to:ann");
//! ```

use std::{fmt, sync::Arc};

use crate::{
    cursor::{Cursors, FilterHash},
    store::Entry,
};

/// Which entries a reader may see. See the [module docs](self).
///
/// The entries that it leaves out are skipped: a reader's position moves past them. A cursor is valid only for the filter that
/// it was issued under: resumed under another one, or none, it is reset with
/// [`Reason::FilterChanged`](crate::store::Reason::FilterChanged), so that a reader that may see more than before learns that it
/// has missed something. Two filters are the same if their ids are.
///
/// Filters cost time for each reader and entry, while entries without a filter are encoded once for all: prefer channels where
/// they serve.
#[derive(Clone)]
pub struct Filter(Arc<Inner>);

struct Inner {
    id: Box<str>,
    hash: FilterHash,
    keep: Box<dyn Fn(&Entry) -> bool + Send + Sync>,
}

impl Filter {
    /// A filter that shows the entries for which `keep` is true, which must always decide the same for the same entry and `id`. It
    /// is called by the tasks that serve the readers: it must not block or panic.
    pub fn new(id: impl Into<Box<str>>, keep: impl Fn(&Entry) -> bool + Send + Sync + 'static) -> Self {
        let id = id.into();
        Self(Arc::new(Inner { hash: FilterHash::of(&id), id, keep: Box::new(keep) }))
    }

    /// The id that it was created with.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The same positions, for readers with this filter: such as a [position](crate::Hub::position) that a page was rendered at.
    #[must_use]
    pub fn cursors(&self, cursors: Cursors) -> Cursors {
        cursors.under(Some(self.hash()))
    }

    pub(crate) fn hash(&self) -> FilterHash {
        self.0.hash
    }

    pub(crate) fn keeps(&self, entry: &Entry) -> bool {
        (self.0.keep)(entry)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Filter {}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.id()).finish()
    }
}
