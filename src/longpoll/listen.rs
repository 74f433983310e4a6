//! The wait that a request asks for, for handlers that read from the hub themselves.

use http::request::Parts;

use super::{limits::PollLimits, options::LongPollOptions};
use crate::{
    channel::Channels,
    hub::{Listen, Subscription},
    request::{ReadMethod, ReadRequest, ReadSettings, Rejection, Transport},
};

impl Listen {
    /// Waits for events of `channels` from where `request` says, as [`Subscription::from_request`], for as long as its `wait` or
    /// `Prefer: wait` says, and for as many as its `limit` says, both within the bounds of `options`.
    ///
    /// ```
    /// use http::{Response, request::Parts};
    /// use tower_events::{Body, Channel, Hub, Listen, longpoll::LongPollOptions};
    ///
    /// async fn count(hub: Hub, request: Parts) -> Result<String, Response<Body>> {
    ///     let options = LongPollOptions::default().limit(1_000);
    ///     let listened = hub.listen(Listen::from_request(&request, Channel::new("news")?, &options)?).await?;
    ///     Ok(format!("{} events up to {}", listened.entries().len(), listened.cursors))
    /// }
    /// # drop(count);
    /// ```
    ///
    /// A wait that the request does not set is up to a tenth shorter than that of `options`, so that polls which were answered
    /// together do not end together. [`LongPollOptions::refuse_resets`] has no effect: see [`Listened::resets`].
    ///
    /// # Errors
    /// As [`Subscription::from_request`].
    ///
    /// [`Listened::resets`]: crate::Listened::resets
    pub fn from_request(
        request: &Parts,
        channels: impl Into<Channels>,
        options: &LongPollOptions,
    ) -> Result<Self, Rejection> {
        let method = ReadMethod::of(&request.method);
        let read = ReadRequest::parse(request, method, Transport::LongPoll, &ReadSettings::default())?;
        let PollLimits { wait, limit, .. } = PollLimits::new(read.wait, read.limit, options).with_jitter();
        let subscription = Subscription::new(channels).starting(read.begin);
        Ok(Self::from(subscription).wait(wait).limit(limit))
    }
}
