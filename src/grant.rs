//! What one client may read, and how it is shown to it: the answer of a resolver.
//!
//! # Examples
//! The default, which `Channels` convert into: these channels, whole and under their own names.
//! ```
//! use http::request::Parts;
//! use tower_events::{Channels, EventService, Hub, MemoryStore};
//!
//! let events = EventService::new(Hub::new(MemoryStore::default()), |request: &Parts| Channels::from_query(request));
//! # drop(events);
//! ```
//! Customised: a channel per user that every user knows as `inbox`, and of which only some events are shown.
//! ```
//! use http::request::Parts;
//! use tower_events::{Channel, Filter, Grant, Rejection};
//!
//! # #[derive(Clone)] struct User { id: u32 }
//! fn inbox(request: &Parts) -> Result<Grant, Rejection> {
//!     let user = request.extensions.get::<User>().ok_or(Rejection::unauthorized("Bearer"))?;
//!     let published = Filter::new("published", |entry| entry.name.as_ref().is_none_or(|name| name.as_str() != "draft"));
//!     Ok(Grant::new(Channel::new(format!("user:{}", user.id))?).names(|_| "inbox").filter(published))
//! }
//! # drop(inbox);
//! ```

use std::sync::Arc;

use crate::{
    channel::{Channel, Channels},
    filter::Filter,
};

/// What one client may read, and how it is shown to it. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct Grant {
    pub(crate) channels: Channels,
    pub(crate) filter: Option<Filter>,
    pub(crate) names: Option<ShownNames>,
}

impl Grant {
    /// These channels, whole and under their own names.
    pub fn new(channels: impl Into<Channels>) -> Self {
        Self { channels: channels.into(), filter: None, names: None }
    }

    /// Shows only the entries that `filter` keeps.
    #[must_use]
    pub fn filter(self, filter: Filter) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// Shows each channel under the name that `name` gives it, wherever a response names a channel. Cursors do not contain names:
    /// a client that resumes under other names continues where it was. Two channels may have the same name.
    #[must_use]
    pub fn names<N: Into<Box<str>>>(self, mut name: impl FnMut(&Channel) -> N) -> Self {
        let names = self.channels.iter().map(|channel| (channel.clone(), name(channel).into()));
        Self { names: Some(ShownNames(names.collect())), ..self }
    }

    /// The channels.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.channels
    }
}

impl From<Channels> for Grant {
    fn from(channels: Channels) -> Self {
        Self::new(channels)
    }
}

impl From<&Channels> for Grant {
    fn from(channels: &Channels) -> Self {
        Self::new(channels.clone())
    }
}

impl From<Channel> for Grant {
    fn from(channel: Channel) -> Self {
        Self::new(channel)
    }
}

impl From<&Channel> for Grant {
    fn from(channel: &Channel) -> Self {
        Self::new(channel)
    }
}

/// The names under which channels are shown.
#[derive(Clone, Debug)]
pub(crate) struct ShownNames(Arc<[(Channel, Box<str>)]>);

impl ShownNames {
    pub(crate) fn of<'a>(&'a self, channel: &'a Channel) -> &'a str {
        let shown = self.0.iter().find(|(name, _)| name == channel);
        shown.map_or(channel.as_str(), |(_, shown)| shown)
    }
}
