//! Which channels a request is about, and whether it may. Decides nothing itself beyond the ready-made resolvers.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode, request::Parts};
use percent_encoding::percent_decode_str;

use super::query::Pairs;
use crate::{
    channel::{Channel, Channels},
    error::{InvalidChannel, InvalidChannels},
};

/// Names the channels of a request, or rejects it. See the [module docs](super).
///
/// Implemented for `Fn(&http::request::Parts) -> Result<Channels, Rejection>`, and for a fixed [`Channel`] or [`Channels`].
/// It is asked on every request, also on a reconnect: a cursor never grants anything. A check that has to wait (a database,
/// another service) belongs in a handler that calls [`EventService::respond`](crate::EventService::respond), or in a layer
/// that puts a `Channels` value into the request's extensions; such a value comes first, and then readers' resolvers are not
/// asked.
pub trait Resolver: Send + Sync + 'static {
    /// The channels that this request is about.
    ///
    /// # Errors
    /// When it may not be served; see [`Rejection`].
    fn resolve(&self, request: &Parts) -> Result<Channels, Rejection>;
}

impl<F> Resolver for F
where
    F: Fn(&Parts) -> Result<Channels, Rejection> + Send + Sync + 'static,
{
    fn resolve(&self, request: &Parts) -> Result<Channels, Rejection> {
        self(request)
    }
}

impl Resolver for Channel {
    fn resolve(&self, _: &Parts) -> Result<Channels, Rejection> {
        Ok(self.into())
    }
}

impl Resolver for Channels {
    fn resolve(&self, _: &Parts) -> Result<Channels, Rejection> {
        Ok(self.clone())
    }
}

impl Channels {
    /// The channels that the query names: `?channel=a&channel=b`. As a resolver of its own it lets anyone read anything.
    ///
    /// # Errors
    /// A [`Rejection`] that answers 400 when none is named, or one is not a [`Channel`], and when there is a parameter
    /// `channels` or `channel[]`: nothing else could be meant, and to ignore it would leave channels out.
    pub fn from_query(request: &Parts) -> Result<Self, Rejection> {
        let pairs = Pairs::of(request.uri.query().unwrap_or_default().as_bytes());
        Self::collect(pairs.filter_map(|pair| match pair.name.as_ref() {
            b"channel" => Some(channel(&pair.value)),
            name => is_misspelt(name).then(|| Err(MISSPELT.into())),
        }))
    }

    /// The channel that the path names, without its first `/`. Under axum's `nest_service` that is the rest of the path.
    /// As a resolver of its own it lets anyone read anything.
    ///
    /// # Errors
    /// A [`Rejection`] that answers 404 when nothing is left of the path, 400 when it is not a [`Channel`].
    pub fn from_path(request: &Parts) -> Result<Self, Rejection> {
        let path = request.uri.path();
        let rest: Cow<'_, [u8]> = percent_decode_str(path.strip_prefix('/').unwrap_or(path)).into();
        if rest.is_empty() {
            return Err(Rejection::not_found());
        }
        Ok(channel(&rest)?.into())
    }

    /// These channels, if each is allowed.
    ///
    /// # Errors
    /// A [`Rejection`] that answers 403 otherwise.
    pub fn all_allowed(self, allowed: impl FnMut(&Channel) -> bool) -> Result<Self, Rejection> {
        if self.iter().all(allowed) { Ok(self) } else { Err(Rejection::forbidden()) }
    }
}

/// Why a request is not served. Converts into a problem+json response.
#[derive(Clone, Debug)]
pub struct Rejection(RejectionKind);

impl Rejection {
    /// 400: the request makes no sense, for the reason that `text` gives its client.
    #[must_use]
    pub fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self(RejectionKind::BadRequest(text.into()))
    }

    /// 401: who is it? `challenge` is the value of `WWW-Authenticate`, such as `Bearer`; what cannot stand in a header is
    /// left out of it.
    #[must_use]
    pub fn unauthorized(challenge: &str) -> Self {
        let clean: String = challenge.chars().filter(|c| matches!(c, ' '..='~')).collect();
        let challenge = HeaderValue::try_from(clean).ok().filter(|challenge| !challenge.is_empty());
        Self(RejectionKind::Unauthorized(challenge.unwrap_or(HeaderValue::from_static("Bearer"))))
    }

    /// 403: not allowed.
    #[must_use]
    pub fn forbidden() -> Self {
        Self(RejectionKind::Forbidden)
    }

    /// 404: there is no such thing, or it shall not be known that there is.
    #[must_use]
    pub fn not_found() -> Self {
        Self(RejectionKind::NotFound)
    }

    /// 429: too many requests; come back after `retry_after` (sent in whole seconds, at least 1). An `EventSource` is told
    /// so in its own way.
    #[must_use]
    pub fn too_many(retry_after: Duration) -> Self {
        Self(RejectionKind::TooMany(retry_after))
    }

    /// The status that this becomes, unless it passes by itself and an `EventSource` is told in its own way.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match &self.0 {
            RejectionKind::Bad(_) | RejectionKind::BadRequest(_) => StatusCode::BAD_REQUEST,
            RejectionKind::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            RejectionKind::Forbidden => StatusCode::FORBIDDEN,
            RejectionKind::NotFound => StatusCode::NOT_FOUND,
            RejectionKind::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    pub(crate) fn into_kind(self) -> RejectionKind {
        self.0
    }
}

/// What its client is told.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            RejectionKind::Bad(bad) => bad.fmt(f),
            RejectionKind::BadRequest(text) => f.write_str(text),
            RejectionKind::Unauthorized(_) => f.write_str("authentication is needed"),
            RejectionKind::Forbidden => f.write_str("not allowed"),
            RejectionKind::NotFound => f.write_str("no such channel"),
            RejectionKind::TooMany(_) => f.write_str("too many requests"),
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

/// What a [`Rejection`] says.
#[derive(Clone, Debug)]
pub(crate) enum RejectionKind {
    Unauthorized(HeaderValue),
    Forbidden,
    NotFound,
    TooMany(Duration),
    Bad(BadParameter),
    BadRequest(Cow<'static, str>),
}

/// Which parameter or header is malformed, and why.
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

/// A resolver that the clones of a service share.
#[derive(Clone)]
pub(crate) struct SharedResolver(Arc<dyn Resolver>);

impl SharedResolver {
    pub(crate) fn new(resolver: impl Resolver) -> Self {
        Self(Arc::new(resolver))
    }

    /// The channels that a reader's request is about.
    pub(crate) fn channels(&self, request: &Parts) -> Result<Channels, Rejection> {
        match request.extensions.get::<Channels>() {
            Some(channels) => Ok(channels.clone()),
            None => self.0.resolve(request),
        }
    }

    /// The one channel that a publish is about. Extensions are not asked: a layer that grants reading grants no writing.
    pub(crate) fn channel(&self, request: &Parts) -> Result<Channel, Rejection> {
        let channels = self.0.resolve(request)?;
        match channels.as_slice() {
            [channel] => Ok(channel.clone()),
            _ => Err(BadParameter::new("channel", "exactly one channel must be named").into()),
        }
    }
}

/// Whether a parameter is what other frameworks call a list of channels.
fn is_misspelt(parameter: &[u8]) -> bool {
    parameter == b"channels" || parameter.starts_with(b"channel[")
}

const MISSPELT: BadParameter =
    BadParameter { parameter: "channel", reason: Cow::Borrowed("several are written `channel=a&channel=b`") };

fn channel(name: &[u8]) -> Result<Channel, Rejection> {
    let name = std::str::from_utf8(name).map_err(|_| BadParameter::new("channel", "the name is not UTF-8"))?;
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
    fn a_layers_channels_come_first_for_readers_only() {
        let one = SharedResolver::new(|_: &Parts| Err(Rejection::forbidden()));
        let mut request = parts("/");
        request.extensions.insert(Channels::from(Channel::new("granted").unwrap()));
        assert_eq!(names(one.channels(&request)).unwrap(), ["granted"]);
        assert!(one.channel(&request).is_err());
        let fixed = SharedResolver::new(Channel::new("fixed").unwrap());
        assert_eq!(fixed.channel(&request).unwrap().as_str(), "fixed");
        assert_eq!(names(fixed.channels(&parts("/"))).unwrap(), ["fixed"]);
        let query = SharedResolver::new(Channels::from_query);
        assert!(query.channel(&parts("/?channel=a&channel=b")).is_err());
    }

    #[test]
    fn all_must_be_allowed() {
        let both = Channels::from_query(&parts("/?channel=a&channel=b")).unwrap();
        assert!(both.clone().all_allowed(|_| true).is_ok());
        let refused = both.all_allowed(|channel| channel.as_str() == "a").map_err(Rejection::into_kind);
        assert!(matches!(refused, Err(RejectionKind::Forbidden)));
    }

    #[test]
    fn a_rejection_tells_its_status_and_why() {
        let table = [
            (Rejection::bad_request("no such room"), 400, "no such room"),
            (InvalidChannels::Empty.into(), 400, "`channel`: no channel is named"),
            (Rejection::unauthorized("Bearer"), 401, "authentication is needed"),
            (Rejection::forbidden(), 403, "not allowed"),
            (Rejection::not_found(), 404, "no such channel"),
            (Rejection::too_many(Duration::ZERO), 429, "too many requests"),
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
