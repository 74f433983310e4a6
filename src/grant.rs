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
//! From a token, which ends and can be revoked ([`Hub::revoke`](crate::Hub::revoke)):
//! ```
//! use http::request::Parts;
//! use std::time::{Duration, UNIX_EPOCH};
//! use tower_events::{Channel, Grant, Rejection};
//!
//! # #[derive(Clone)] struct Claims { sub: String, iat: u64, exp: u64 }
//! fn inbox(request: &Parts) -> Result<Grant, Rejection> {
//!     let token = request.extensions.get::<Claims>().ok_or(Rejection::unauthorized("Bearer"))?;
//!     let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
//!     let grant = Grant::new(Channel::new(format!("inbox:{}", token.sub))?);
//!     Ok(grant.subject(token.sub.as_str()).issued_at(at(token.iat)).until(at(token.exp)))
//! }
//! # drop(inbox);
//! ```
//! From a session, which is looked up for each request, and checked again every minute while a stream is open:
//! ```
//! use std::time::Duration;
//! use tower_events::{Channel, Grant, Recheck};
//!
//! # #[derive(Clone)] struct Sessions;
//! # impl Sessions { async fn exists(&self, _: &str) -> Result<bool, ()> { Ok(true) } }
//! fn of_session(sessions: Sessions, id: String, channel: Channel) -> Grant {
//!     Grant::new(channel).subject(id.as_str()).recheck(Duration::from_secs(60), move || {
//!         let (sessions, id) = (sessions.clone(), id.clone());
//!         async move { if sessions.exists(&id).await == Ok(true) { Recheck::Allowed } else { Recheck::Ended } }
//!     })
//! }
//! # drop(of_session);
//! ```

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    channel::{Channel, Channels},
    filter::Filter,
    hub::{RecheckPlan, Terms},
};

/// What one client may read, and how it is shown to it. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct Grant {
    pub(crate) channels: Channels,
    pub(crate) filter: Option<Filter>,
    pub(crate) names: Option<ShownNames>,
    /// Boxed, because most grants do not end.
    pub(crate) terms: Option<Box<Terms>>,
}

impl Grant {
    /// These channels, whole and under their own names.
    pub fn new(channels: impl Into<Channels>) -> Self {
        Self { channels: channels.into(), filter: None, names: None, terms: None }
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

    /// Ends it at this time, such as the expiry of a token: a stream ends shortly before it, at an event boundary and with
    /// `stream-retry`, and a waiting poll is answered. Then the client comes back and the resolver decides anew. How long that
    /// is, is measured when the request comes: a clock that is set later changes nothing. A request that comes after this time gets
    /// a 401; a resolver that checks the token answers it itself. Default: no end.
    ///
    /// How shortly before is drawn for each reader: at most a quarter of the time that is left, and at most 30 s.
    #[must_use]
    pub fn until(self, end: SystemTime) -> Self {
        self.with_terms(|terms| terms.until = Some(end))
    }

    /// Says who reads or publishes: any name that the application uses for a user, a session or a token. Access of a subject can
    /// [be revoked](crate::Hub::revoke), and its readers and publishes
    /// [be limited](crate::HubOptions::max_readers_per_subject). Default: nobody, which costs nothing.
    ///
    /// While a process serves subjects, it asks the store four times in each
    /// [`revocation_interval`](crate::HubOptions::revocation_interval) whether anybody was revoked; when it gets no answer for that
    /// long, all readers with a subject end, and others get a 503 (an `EventSource` a `stream-retry`) until it does. For the
    /// first request with a subject, and after half a minute without one, the resolver is asked twice: before the process has
    /// read what was revoked, and after that.
    #[must_use]
    pub fn subject(self, subject: impl Into<Box<str>>) -> Self {
        self.with_terms(|terms| {
            terms.subject = Some(Arc::from(subject.into()));
            terms.created_at = Some(SystemTime::now());
        })
    }

    /// Says when the token was issued that this grant is from. If its subject was revoked after that, the request gets a 401; so
    /// does a token that was issued longer ago than the store keeps events ([`Retention::age`](crate::Retention::age), by default one
    /// hour), because its revocation may have been dropped: let the store keep events for as long as tokens are valid.
    ///
    /// Default: now, which is right when the decision is made for each request, by looking the session up.
    #[must_use]
    pub fn issued_at(self, time: SystemTime) -> Self {
        self.with_terms(|terms| terms.issued_at = Some(time))
    }

    /// Checks again and again whether the reader may go on, and ends it when `check` says [`Recheck::Ended`](crate::Recheck::Ended),
    /// panics, or has not answered within 10 s of being due. Each interval is drawn between three quarters of `every` (at least
    /// 100 ms) and all of it. Default: never.
    ///
    /// The readers of one [subject](Self::subject) in this process share one check: that of the first of them. At most 64 checks
    /// run at once; others wait.
    #[must_use]
    pub fn recheck<F>(self, every: Duration, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = crate::hub::Recheck> + Send + 'static,
    {
        self.with_terms(|terms| terms.recheck = Some(RecheckPlan::new(every, check)))
    }

    fn with_terms(mut self, change: impl FnOnce(&mut Terms)) -> Self {
        change(self.terms.get_or_insert_default());
        self
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
