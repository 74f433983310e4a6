//! Bearer tokens (RFC 6750) of clients that cannot put them into the `Authorization` header.
//!
//! A browser's `EventSource` sets no headers: its token comes in a cookie or, to another origin that gets no cookies, in the
//! query. [`BearerLayer`] moves a token from there into the `Authorization` header, and removes it from the URI. What is behind
//! it looks for a token in one place, with [`token`] or in any other way, and logs no URI that contains one.
//!
//! # What to know before tokens are in URLs
//! Proxies in front of the layer log URLs, and so do browsers' tools (RFC 6750, section 2.3; RFC 9700, section 4.3.2). So prefer a
//! cookie where the page is of the same site, keep the life of tokens in URLs short, and let proxies log the path only. The
//! layer has to be in front of what logs. axum's `Router::layer` is behind what inserts `OriginalUri`, which keeps the whole URI:
//! wrap the router itself if anything logs that.
//!
//! # What to know before tokens are in cookies
//! Browsers send cookies with requests that pages of other origins cause, and behind the layer such a token looks like one
//! that a script has set. Handlers that change anything need protection from that: `SameSite=Strict` or `Lax` on the cookie, and
//! tower-http's `csrf` layer. [`PublishService`](crate::PublishService) has its own.
//!
//! # Examples
//! The default takes a token from nowhere but the header. With both places, in front of a layer that logs:
//! ```
//! use tower::ServiceBuilder;
//! use tower_events::{
//!     Channel, EventService, Hub, MemoryStore, Rejection,
//!     bearer::{self, BearerLayer},
//! };
//! use tower_http::trace::TraceLayer;
//!
//! # fn user_of(token: &str) -> Option<&str> { Some(token) }
//! let events = EventService::new(Hub::new(MemoryStore::default()), |request| {
//!     let user = bearer::token(&request.headers).and_then(user_of).ok_or(Rejection::unauthorized("Bearer"))?;
//!     Ok(Channel::new(format!("inbox:{user}"))?)
//! });
//! let service = ServiceBuilder::new()
//!     .layer(BearerLayer::new().query("access_token").cookie("token"))
//!     .layer(TraceLayer::new_for_http())
//!     .service(events);
//! # drop(service);
//! ```

mod places;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, header::AUTHORIZATION};
use tower_layer::Layer;
use tower_service::Service;

/// The token of `Authorization: Bearer`. `None` if there is no such header, more than one, another scheme, or if it is not
/// written as a token must be (RFC 6750, section 2.1). It is what the client says: check its signature, or look it up.
#[must_use]
pub fn token(headers: &HeaderMap) -> Option<&str> {
    places::in_header(headers)
}

/// Moves a token from the query or a cookie into the `Authorization` header. See the [module docs](self).
///
/// A request that has the header keeps it; otherwise the query comes before the cookie. The parameter is removed from the URI in
/// any case, and the rest of the URI stays as it is written. A value that is not written as a token must be is none, and so are
/// several parameters of that name (RFC 6750, section 3.1, calls that an invalid request): nothing is refused here, but the
/// request has no token then. The inserted value is marked as sensitive, so that its `Debug` does not show it.
#[derive(Clone, Debug, Default)]
pub struct BearerLayer {
    parameter: Option<Arc<str>>,
    cookie: Option<Arc<str>>,
}

impl BearerLayer {
    /// Takes tokens from nowhere yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes tokens from the parameter of this name in the query; RFC 6750 calls it `access_token`. Default: none.
    #[must_use]
    pub fn query(self, parameter: impl Into<Arc<str>>) -> Self {
        Self { parameter: Some(parameter.into()), ..self }
    }

    /// Takes tokens from the cookie of this name; the first of several. Default: none.
    #[must_use]
    pub fn cookie(self, name: impl Into<Arc<str>>) -> Self {
        Self { cookie: Some(name.into()), ..self }
    }

    fn apply<B>(&self, request: &mut Request<B>) {
        let from_query = self.parameter.as_deref().and_then(|name| places::take_from_query(request.uri_mut(), name));
        let from_cookie = || places::in_cookie(request.headers(), self.cookie.as_deref()?);
        let found = if request.headers().contains_key(AUTHORIZATION) { None } else { from_query.or_else(from_cookie) };
        if let Some(value) = found {
            // A request with so many headers that there is no room for another has no token.
            _ = request.headers_mut().try_insert(AUTHORIZATION, value);
        }
    }
}

impl<S> Layer<S> for BearerLayer {
    type Service = Bearer<S>;

    fn layer(&self, inner: S) -> Bearer<S> {
        Bearer { inner, layer: self.clone() }
    }
}

/// A service wrapped by a [`BearerLayer`]: its responses, errors and readiness are the inner service's.
#[derive(Clone, Debug)]
pub struct Bearer<S> {
    inner: S,
    layer: BearerLayer,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Bearer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        self.layer.apply(&mut request);
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The URI and the header behind the layer.
    fn moved(uri: &str, headers: &[(&'static str, &str)]) -> (String, Vec<String>) {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        BearerLayer::new().query("access_token").cookie("token").apply(&mut request);
        let values = request.headers().get_all(AUTHORIZATION).iter();
        (request.uri().to_string(), values.map(|value| value.to_str().unwrap().to_owned()).collect())
    }

    /// The URI, its headers, and both behind the layer.
    type Case<'a> = (&'a str, &'a [(&'static str, &'a str)], &'a str, &'a [&'a str]);

    #[test]
    fn the_header_comes_before_the_query_and_the_query_before_the_cookie() {
        let (header, cookie) = (("authorization", "Basic eA=="), ("cookie", "a=b; token=c"));
        let table: [Case<'_>; 7] = [
            ("/e?a=1", &[], "/e?a=1", &[]),
            ("/e?access_token=q&a=1", &[header, cookie], "/e?a=1", &["Basic eA=="]),
            ("/e?access_token=q&a=1", &[cookie], "/e?a=1", &["Bearer q"]),
            ("/e?a=1", &[cookie], "/e?a=1", &["Bearer c"]),
            // What is no token is none; the next place is looked at.
            ("/e?access_token=q%0d%0aX", &[cookie], "/e", &["Bearer c"]),
            ("/e?access_token=q&access_token=r", &[], "/e", &[]),
            ("/e", &[("authorization", "Bearer a"), ("authorization", "Bearer b")], "/e", &["Bearer a", "Bearer b"]),
        ];
        for (uri, headers, behind, values) in table {
            assert_eq!(moved(uri, headers), (behind.to_owned(), values.iter().map(|&v| v.into()).collect()), "{uri}");
        }
    }

    #[test]
    fn a_place_that_is_not_named_is_left_alone() {
        let mut request = Request::builder().uri("/e?access_token=q").header("cookie", "token=c").body(()).unwrap();
        BearerLayer::new().apply(&mut request);
        assert_eq!((request.uri().to_string().as_str(), token(request.headers())), ("/e?access_token=q", None));
    }

    #[test]
    fn debug_output_does_not_show_the_token() {
        let mut request = Request::builder().uri("/?access_token=secret").body(()).unwrap();
        BearerLayer::new().query("access_token").apply(&mut request);
        assert_eq!(token(request.headers()), Some("secret"));
        assert!(!format!("{request:?}").contains("secret"), "{request:?}");
    }
}
