//! The users' tokens: JWT in a header, a cookie, or the query.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{AUTHORIZATION, COOKIE},
    },
    middleware::Next,
    response::Response,
};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use tower_events::Rejection;

#[derive(Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) sub: String,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
}

#[derive(Clone)]
pub(crate) struct Tokens {
    keys: Arc<(EncodingKey, DecodingKey)>,
    pub(crate) life: Duration,
}

impl Tokens {
    pub(crate) fn new(secret: &[u8], life: Duration) -> Self {
        Self { keys: Arc::new((EncodingKey::from_secret(secret), DecodingKey::from_secret(secret))), life }
    }

    pub(crate) fn issue(&self, user: String, from: u64) -> Result<String, StatusCode> {
        let claims = Claims { sub: user, iat: from, exp: from + self.life.as_secs() };
        encode(&Header::default(), &claims, &self.keys.0).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The claims of a request's token: that of its header, or that of its cookie.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Claims, Rejection> {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let cookies = headers.get(COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let cookie = cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix("token="));
        let token = bearer.or(cookie).ok_or_else(unauthorized)?;
        let mut validation = Validation::default();
        validation.leeway = 0;
        decode(token, &self.keys.1, &validation).map(|token| token.claims).map_err(|_| unauthorized())
    }

    pub(crate) fn cookie(&self, token: &str) -> String {
        format!("token={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}", self.life.as_secs())
    }
}

pub(crate) fn unauthorized() -> Rejection {
    Rejection::unauthorized("Bearer")
}

/// Moves a token from the query, where an `EventSource` of another origin has to put it, into a header: what logs the address
/// behind this does not see it.
pub(crate) async fn take_from_query(mut request: Request, next: Next) -> Response {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let (token, rest): (Vec<_>, Vec<_>) = query.split('&').partition(|pair| pair.starts_with("access_token="));
    let token = token.first().and_then(|pair| HeaderValue::try_from(pair.replacen("access_token=", "Bearer ", 1)).ok());
    if let (Some(token), Ok(uri)) = (token, Uri::try_from(format!("{path}?{}", rest.join("&")))) {
        request.headers_mut().insert(AUTHORIZATION, token);
        *request.uri_mut() = uri;
    }
    next.run(request).await
}

pub(crate) async fn log(request: Request, next: Next) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    let response = next.run(request).await;
    eprintln!("{line} {}", response.status().as_u16());
    response
}

/// Unix time in seconds.
pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}
