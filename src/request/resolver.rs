//! What a request may access: the trait, and the ready-made resolvers.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode, request::Parts};
use percent_encoding::percent_decode_str;

use super::query::Pairs;
use crate::{
    channel::{Channel, Channels},
    error::{InvalidChannel, InvalidChannels},
    grant::Grant,
};

/// Says what a request may access, or rejects it: the rule of an application as a type. See the [module docs](super).
///
/// A function needs no type of its own: the services' `new` takes it, whether it returns [`Channels`] or a [`Grant`]. `with_resolver` takes a type that implements this trait,
/// and `fixed` takes channels.
///
/// It is called for every request, also on a reconnect: a cursor never grants access. An asynchronous check (a database,
/// another service) belongs in a handler that calls [`EventService::respond`](crate::EventService::respond), or in a layer
/// that inserts a `Grant` or a `Channels` value into the request's extensions; the reading services use such a value instead of
/// their resolver.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a resolver",
    label = "this type does not implement `Resolver`",
    note = "pass a function `fn(&http::request::Parts) -> Result<Channels, Rejection>` to `new`, and channels to `fixed`",
    note = "make an asynchronous check in a handler that calls `EventService::respond`"
)]
pub trait Resolver: Send + Sync + 'static {
    /// What this request may access.
    ///
    /// # Errors
    /// A [`Rejection`] when the request is not served.
    fn resolve(&self, request: &Parts) -> Result<Grant, Rejection>;
}

impl Channels {
    /// The channels that the query names: `?channel=a&channel=b`. Used alone as a resolver it lets anyone access any channel.
    ///
    /// # Errors
    /// A [`Rejection`] with 400 when no channel is named, when a name is not a valid [`Channel`], and when there is a
    /// parameter `channels` or `channel[]`: it can only be meant to name channels, and ignoring it would leave them out.
    pub fn from_query(request: &Parts) -> Result<Self, Rejection> {
        let pairs = Pairs::of(request.uri.query().unwrap_or_default().as_bytes());
        Self::collect(pairs.filter_map(|pair| match pair.name.as_ref() {
            b"channel" => Some(channel(&pair.value)),
            name => is_misspelt(name).then(|| Err(MISSPELT.into())),
        }))
    }

    /// The channel that the path names, without its first `/`. Under axum's `nest_service` that is the rest of the path.
    /// Used alone as a resolver it lets anyone access any channel.
    ///
    /// # Errors
    /// A [`Rejection`] with 404 when the path is empty, with 400 when it is not a valid [`Channel`].
    pub fn from_path(request: &Parts) -> Result<Self, Rejection> {
        let path = request.uri.path();
        let rest: Cow<'_, [u8]> = percent_decode_str(path.strip_prefix('/').unwrap_or(path)).into();
        if rest.is_empty() {
            return Err(Rejection::not_found());
        }
        Ok(channel(&rest)?.into())
    }

    /// Returns the channels if `allowed` is true for each.
    ///
    /// # Errors
    /// A [`Rejection`] with 403 otherwise.
    pub fn all_allowed(self, allowed: impl FnMut(&Channel) -> bool) -> Result<Self, Rejection> {
        if self.iter().all(allowed) { Ok(self) } else { Err(Rejection::forbidden()) }
    }
}

/// Why a request is not served. Converts into a problem+json response.
#[derive(Clone, Debug)]
pub struct Rejection(RejectionKind);

impl Rejection {
    /// 400: the request is malformed; `text` tells the client why.
    #[must_use]
    pub fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self(RejectionKind::BadRequest(text.into()))
    }

    /// 401: the client must authenticate. `challenge` is the value of `WWW-Authenticate`, such as `Bearer`; characters that a
    /// header cannot contain are left out.
    #[must_use]
    pub fn unauthorized(challenge: &str) -> Self {
        let clean: String = challenge.chars().filter(|c| matches!(c, ' '..='~')).collect();
        let challenge = HeaderValue::try_from(clean).ok().filter(|challenge| !challenge.is_empty());
        Self(RejectionKind::Unauthorized(challenge.unwrap_or(HeaderValue::from_static("Bearer"))))
    }

    /// 403: the client may not access the channels.
    #[must_use]
    pub fn forbidden() -> Self {
        Self(RejectionKind::Forbidden)
    }

    /// 404: there is no such channel, or the client may not know that there is.
    #[must_use]
    pub fn not_found() -> Self {
        Self(RejectionKind::NotFound)
    }

    /// 429: too many requests; the client may come back after `retry_after` (sent in whole seconds, at least 1). An
    /// `EventSource` gets a `stream-retry` instead.
    #[must_use]
    pub fn too_many(retry_after: Duration) -> Self {
        Self(RejectionKind::TooMany(retry_after))
    }

    /// 503: the decision cannot be made, because a database or another service that it needs has failed. The client may come
    /// back after `retry_after` (sent in whole seconds, at least 1). An `EventSource` gets a `stream-retry` instead. Nothing is
    /// logged: the cause is the application's to log.
    #[must_use]
    pub fn unavailable(retry_after: Duration) -> Self {
        Self(RejectionKind::Unavailable(retry_after))
    }

    /// The status of the response; only an `EventSource` gets a 200 with `stream-retry` instead of a 429 or 503.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match &self.0 {
            RejectionKind::Bad(_) | RejectionKind::BadRequest(_) => StatusCode::BAD_REQUEST,
            RejectionKind::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            RejectionKind::Forbidden => StatusCode::FORBIDDEN,
            RejectionKind::NotFound => StatusCode::NOT_FOUND,
            RejectionKind::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            RejectionKind::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) fn into_kind(self) -> RejectionKind {
        self.0
    }
}

/// The text that the client sees.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            RejectionKind::Bad(bad) => bad.fmt(f),
            RejectionKind::BadRequest(text) => f.write_str(text),
            RejectionKind::Unauthorized(_) => f.write_str("authentication is required"),
            RejectionKind::Forbidden => f.write_str("not allowed"),
            RejectionKind::NotFound => f.write_str("no such channel"),
            RejectionKind::TooMany(_) => f.write_str("too many requests"),
            RejectionKind::Unavailable(_) => f.write_str("access cannot be decided at the moment"),
        }
    }
}

impl Error for Rejection {}

impl From<BadParameter> for Rejection {
    fn from(bad: BadParameter) -> Self {
        Self(RejectionKind::Bad(bad))
    }
}

impl From<InvalidChannel> for Rejection {
    fn from(invalid: InvalidChannel) -> Self {
        BadParameter::new("channel", invalid.to_string()).into()
    }
}

impl From<InvalidChannels> for Rejection {
    fn from(invalid: InvalidChannels) -> Self {
        BadParameter::new("channel", invalid.to_string()).into()
    }
}

/// The kinds of a [`Rejection`].
#[derive(Clone, Debug)]
pub(crate) enum RejectionKind {
    Unauthorized(HeaderValue),
    Forbidden,
    NotFound,
    TooMany(Duration),
    Unavailable(Duration),
    Bad(BadParameter),
    BadRequest(Cow<'static, str>),
}

/// A malformed parameter or header, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadParameter {
    parameter: &'static str,
    reason: Cow<'static, str>,
}

impl BadParameter {
    pub(crate) fn new(parameter: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { parameter, reason: reason.into() }
    }

    pub(crate) fn parameter(&self) -> &'static str {
        self.parameter
    }
}

impl fmt::Display for BadParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.parameter, self.reason)
    }
}

impl Grant {
    /// Forbids the channels that are this crate's own.
    pub(crate) fn without_reserved_channels(self) -> Result<Self, Rejection> {
        if self.channels.iter().any(Channel::is_reserved) { Err(Rejection::forbidden()) } else { Ok(self) }
    }
}

/// The resolver that the clones of a service share.
#[derive(Clone)]
pub(crate) struct SharedResolver(Arc<ResolverFn>);

type ResolverFn = dyn Fn(&Parts) -> Result<Grant, Rejection> + Send + Sync;

impl SharedResolver {
    pub(crate) fn new<G: Into<Grant>>(
        resolver: impl Fn(&Parts) -> Result<G, Rejection> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |request| resolver(request).map(Into::into)))
    }

    /// What a layer in front decided that a request may read.
    pub(crate) fn decided(request: &Parts) -> Option<Grant> {
        let extensions = &request.extensions;
        extensions.get::<Grant>().cloned().or_else(|| extensions.get::<Channels>().map(Grant::from))
    }

    /// What the application says that a request may read.
    pub(crate) fn ask(&self, request: &Parts) -> Result<Grant, Rejection> {
        (self.0)(request)
    }

    /// The one channel that a publish is for, and the grant that names it. Extensions are ignored, because a layer that grants
    /// read access does not grant write access.
    pub(crate) fn channel(&self, request: &Parts) -> Result<(Channel, Grant), Rejection> {
        let grant = self.ask(request)?.without_reserved_channels()?;
        match grant.channels.as_slice() {
            [channel] => Ok((channel.clone(), grant)),
            _ => Err(BadParameter::new("channel", "must name exactly one channel").into()),
        }
    }
}

/// Whether a parameter is how other frameworks write a list of channels.
fn is_misspelt(parameter: &[u8]) -> bool {
    parameter == b"channels" || parameter.starts_with(b"channel[")
}

const MISSPELT: BadParameter = BadParameter {
    parameter: "channel",
    reason: Cow::Borrowed("must be repeated for several channels: `channel=a&channel=b`"),
};

fn channel(name: &[u8]) -> Result<Channel, Rejection> {
    let name = std::str::from_utf8(name).map_err(|_| BadParameter::new("channel", "the name is not valid UTF-8"))?;
    Ok(Channel::new(name)?)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str) -> Parts {
        Request::builder().uri(uri).body(()).unwrap().into_parts().0
    }

    fn names(channels: Result<Channels, Rejection>) -> Result<Vec<String>, RejectionKind> {
        channels.map(|set| set.iter().map(Channel::to_string).collect()).map_err(Rejection::into_kind)
    }

    #[test]
    fn the_query_names_channels() {
        let read = |uri: &str| names(Channels::from_query(&parts(uri)));
        assert_eq!(read("/e?channel=a&x=1&channel=b%20c&channel=a").unwrap(), ["a", "b c"]);
        for bad in [
            "/e",
            "/e?channel=",
            "/e?channel=a%0ab",
            "/e?channel=%ff",
            "/e?channel=a&channels=b",
            "/e?channel=a&channel[]=b",
        ] {
            let Err(RejectionKind::Bad(bad)) = read(bad) else { panic!("{bad}") };
            assert_eq!(bad.parameter(), "channel");
        }
    }

    #[test]
    fn the_path_names_one_channel() {
        let read = |uri: &str| names(Channels::from_path(&parts(uri)));
        assert_eq!(read("/room:1?channel=b").unwrap(), ["room:1"]);
        assert_eq!(read("/a/b%2Fc+d").unwrap(), ["a/b/c+d"]);
        assert!(matches!(read("/"), Err(RejectionKind::NotFound)));
        assert!(matches!(read("/%00"), Err(RejectionKind::Bad(_))));
    }

    #[test]
    fn channels_that_a_layer_grants_are_used_for_reading_only() {
        let read = |resolver: &SharedResolver, request: &Parts| {
            let grant = SharedResolver::decided(request).map_or_else(|| resolver.ask(request), Ok);
            grant.map(|grant| grant.channels)
        };
        let one = SharedResolver::new(|_| Err::<Channels, _>(Rejection::forbidden()));
        let mut request = parts("/");
        request.extensions.insert(Channels::from(Channel::new("granted").unwrap()));
        assert_eq!(names(read(&one, &request)).unwrap(), ["granted"]);
        assert!(one.channel(&request).is_err());
        let fixed = SharedResolver::new(|_| Ok(Channel::new("fixed")?));
        assert_eq!(fixed.channel(&request).unwrap().0.as_str(), "fixed");
        assert_eq!(names(read(&fixed, &parts("/"))).unwrap(), ["fixed"]);
        let query = SharedResolver::new(Channels::from_query);
        assert!(query.channel(&parts("/?channel=a&channel=b")).is_err());
        let reserved = query.channel(&parts("/?channel=tower-events:a")).map(|_| ()).map_err(Rejection::into_kind);
        assert!(matches!(reserved, Err(RejectionKind::Forbidden)));
    }

    #[test]
    fn all_must_be_allowed() {
        let both = Channels::from_query(&parts("/?channel=a&channel=b")).unwrap();
        assert!(both.clone().all_allowed(|_| true).is_ok());
        let refused = both.all_allowed(|channel| channel.as_str() == "a").map_err(Rejection::into_kind);
        assert!(matches!(refused, Err(RejectionKind::Forbidden)));
    }

    #[test]
    fn a_rejection_has_a_status_and_a_text() {
        let table = [
            (Rejection::bad_request("no such room"), 400, "no such room"),
            (InvalidChannels::Empty.into(), 400, "`channel`: no channel is named"),
            (Rejection::unauthorized("Bearer"), 401, "authentication is required"),
            (Rejection::forbidden(), 403, "not allowed"),
            (Rejection::not_found(), 404, "no such channel"),
            (Rejection::too_many(Duration::ZERO), 429, "too many requests"),
            (Rejection::unavailable(Duration::ZERO), 503, "access cannot be decided at the moment"),
        ];
        for (rejection, status, text) in table {
            assert_eq!((rejection.status().as_u16(), rejection.to_string().as_str()), (status, text));
        }
    }

    #[test]
    fn a_challenge_never_panics() {
        for (challenge, sent) in
            [("Bearer", "Bearer"), ("a\r\nb: c", "ab: c"), ("\0\n", "Bearer"), ("", "Bearer"), ("ключ", "Bearer")]
        {
            let RejectionKind::Unauthorized(value) = Rejection::unauthorized(challenge).into_kind() else { panic!() };
            assert_eq!(value, sent);
        }
    }
}
