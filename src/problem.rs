//! Errors as clients see them: problem+json (RFC 9457). Maps each failure to its status; never shows a driver's error text.

use std::{borrow::Cow, error::Error as _, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    body::Body,
    error::{InvalidChannel, InvalidChannels, InvalidEvent},
    hub::{Denied, SubscribeError},
    request::{BadParameter, EVENTS_CLOSED, NotOffered, Rejection, RejectionKind},
    retry::Retry,
    runs::{StartError, StopError},
    store::StoreError,
};

/// An error response. Boxed, because it is the rare side of a result.
#[derive(Debug)]
pub(crate) struct Problem(Box<ProblemFields>);

#[derive(Debug)]
struct ProblemFields {
    status: StatusCode,
    /// The last part of the URN in `type`; without one the type is `about:blank`.
    kind: Option<&'static str>,
    detail: Cow<'static, str>,
    parameter: Option<&'static str>,
    members: Map<String, Value>,
    headers: HeaderMap,
    retry: Option<Retry>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        let (detail, members, headers) = (detail.into(), Map::new(), HeaderMap::new());
        Self(Box::new(ProblemFields { status, kind: None, detail, parameter: None, members, headers, retry: None }))
    }

    pub(crate) fn kind(mut self, kind: &'static str) -> Self {
        self.0.kind = Some(kind);
        self
    }

    pub(crate) fn parameter(mut self, parameter: &'static str) -> Self {
        self.0.parameter = Some(parameter);
        self
    }

    pub(crate) fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// The failure is temporary: the same request may succeed after `retry`.
    pub(crate) fn temporary(mut self, retry: Retry) -> Self {
        self.0.retry = Some(retry);
        self
    }

    /// Makes clients stay away for about `backoff` where no other delay is known.
    pub(crate) fn backing_off(mut self, backoff: Duration) -> Self {
        if let Some(Retry::Soon { backoff: known }) = &mut self.0.retry {
            *known = backoff.max(*known);
        }
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// When to come back, if the failure is temporary.
    pub(crate) fn retry(&self) -> Option<Retry> {
        self.0.retry
    }

    pub(crate) fn not_allowed(allow: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("the allowed methods are: {allow}"))
            .header(header::ALLOW, HeaderValue::from_static(allow))
    }

    pub(crate) fn not_acceptable(not: NotOffered, offered: &'static str) -> Self {
        let (parameter, detail) = match not {
            NotOffered::Accept => ("Accept", format!("`Accept` must allow {offered}")),
            NotOffered::Transport => {
                ("transport", format!("this service does not have this transport; it only offers {offered}"))
            }
        };
        Self::new(StatusCode::NOT_ACCEPTABLE, detail).parameter(parameter)
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let ProblemFields { status, kind, detail, parameter, members, headers: more, retry } = *self.0;
        let document = Document {
            // RFC 9457, section 4.2.1: with `about:blank` the title is the status phrase.
            r#type: kind.map_or("about:blank".into(), |kind| format!("urn:tower-events:{kind}").into()),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &detail,
            parameter,
            members: &members,
        };
        // Cannot fail: strings and numbers always serialise.
        let mut response = Response::new(Body::full(serde_json::to_vec(&document).unwrap_or_default()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(retry) = retry {
            headers.insert(header::RETRY_AFTER, retry.header_value());
        }
        headers.extend(more);
        response
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: Cow<'static, str>,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'static str>,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

impl From<BadParameter> for Problem {
    fn from(bad: BadParameter) -> Self {
        Self::new(StatusCode::BAD_REQUEST, bad.to_string()).kind("bad-parameter").parameter(bad.parameter())
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let problem = Self::new(rejection.status(), rejection.to_string());
        match rejection.into_kind() {
            RejectionKind::Unauthorized(challenge) => problem.header(header::WWW_AUTHENTICATE, challenge),
            RejectionKind::TooMany(retry) | RejectionKind::Unavailable(retry) => {
                problem.temporary(Retry::AtLeast(retry))
            }
            RejectionKind::Bad(bad) => bad.into(),
            RejectionKind::BadRequest(_) | RejectionKind::Forbidden | RejectionKind::NotFound => problem,
        }
    }
}

impl From<InvalidChannel> for Problem {
    fn from(invalid: InvalidChannel) -> Self {
        Rejection::from(invalid).into()
    }
}

impl From<InvalidChannels> for Problem {
    fn from(invalid: InvalidChannels) -> Self {
        Rejection::from(invalid).into()
    }
}

impl From<InvalidEvent> for Problem {
    fn from(invalid: InvalidEvent) -> Self {
        let detail = match &invalid {
            InvalidEvent::Json(source) => format!("{invalid}: {source}"),
            _ => invalid.to_string(),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail).kind("invalid-event")
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        // The driver's text may contain addresses and queries: it is for the log only, at the debug level, because the hub
        // logs an outage once.
        if let Some(source) = error.source() {
            tracing::debug!(%error, %source, "the event store failed");
        }
        Self::from_store_error(&error)
    }
}

impl Problem {
    /// Logs nothing: a store that fails, fails for every reader, and the hub logs that once.
    pub(crate) fn from_store_error(error: &StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::Closed { .. } => Self::new(StatusCode::CONFLICT, detail)
                .kind("closed")
                .header(EVENTS_CLOSED, HeaderValue::from_static("true")),
            StoreError::Conflict { .. } => Self::new(StatusCode::CONFLICT, detail).kind("conflict"),
            StoreError::KeyReused { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail).kind("key-reused"),
            StoreError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail).kind("too-large"),
            StoreError::Full(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, detail).kind("full"),
            StoreError::Unknown(_) => Self::new(StatusCode::GATEWAY_TIMEOUT, detail).kind("outcome-unknown"),
            StoreError::Corrupt(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).kind("corrupt"),
            // Temporary: this node may not have been upgraded yet, but another one has.
            StoreError::NewerFormat { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).kind("newer-format").temporary(Retry::SOON)
            }
            StoreError::Unavailable(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).kind("unavailable").temporary(Retry::SOON)
            }
        }
    }
}

impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Self {
        let detail = error.to_string();
        let unavailable = |kind| Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).kind(kind);
        match error {
            SubscribeError::Store(error) => Self::from_store_error(&error),
            SubscribeError::Draining { retry } => unavailable("draining").temporary(Retry::After(retry)),
            SubscribeError::Stalled => unavailable("stalled").temporary(Retry::SOON),
            SubscribeError::Snapshot { retry, .. } => {
                unavailable("no-snapshot").temporary(Retry::Soon { backoff: retry })
            }
            SubscribeError::Ended => unavailable("ended").temporary(Retry::SOON),
            SubscribeError::Overloaded { retry } => unavailable("overloaded").temporary(Retry::After(retry)),
            SubscribeError::TooManyReaders { retry } => unavailable("too-many-readers").temporary(Retry::After(retry)),
            SubscribeError::TooManyChannels { retry } => {
                unavailable("too-many-channels").temporary(Retry::After(retry))
            }
        }
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        let (status, kind) = match error {
            StartError::Store(error) => return error.into(),
            StartError::AlreadyStarted => (StatusCode::CONFLICT, "already-started"),
            StartError::Ended(_) | StartError::Expired => (StatusCode::CONFLICT, "ended"),
            StartError::OutsidePrefix => (StatusCode::UNPROCESSABLE_ENTITY, "outside-prefix"),
            StartError::TooManyRuns => (StatusCode::SERVICE_UNAVAILABLE, "too-many-runs"),
            StartError::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting-down"),
        };
        let problem = Self::new(status, error.to_string()).kind(kind);
        match status {
            StatusCode::SERVICE_UNAVAILABLE => problem.temporary(Retry::SOON),
            _ => problem,
        }
    }
}

impl From<StopError> for Problem {
    fn from(error: StopError) -> Self {
        match error {
            StopError::Store(error) => error.into(),
            StopError::OutsidePrefix => StartError::OutsidePrefix.into(),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let retry = match denied {
            Denied::Ended => return Rejection::unauthorized("Bearer").into(),
            Denied::Undecided { retry } => Retry::AtLeast(retry),
            Denied::NotFollowing => Retry::SOON,
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "it is not known yet whether this access was revoked; retry later")
            .kind("grant-unconfirmed")
            .temporary(retry)
    }
}

macro_rules! responses {
    ($($error:ty),*) => {$(
        /// So that `?` works in a handler that returns `Result<_, Response<Body>>`.
        impl From<$error> for Response<Body> {
            fn from(error: $error) -> Self {
                Problem::from(error).into_response()
            }
        }
    )*};
}

responses!(StoreError, SubscribeError, InvalidChannel, InvalidChannels, InvalidEvent, Rejection, StartError, StopError);

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::{
        cursor::Cursor,
        store::{Head, Unit, Use},
    };

    async fn read(response: Response<Body>) -> (u16, http::HeaderMap, Value) {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn every_store_error_has_its_status_and_hides_the_driver() {
        let head = Head { cursor: Cursor { epoch: 1, seq: 2, tag: 3 }, closed: true };
        let table = [
            (StoreError::Unavailable("secret".into()), 503, "urn:tower-events:unavailable"),
            (StoreError::Full("secret".into()), 507, "urn:tower-events:full"),
            (StoreError::TooLarge { size: 2, max: 1, unit: Unit::Events }, 413, "urn:tower-events:too-large"),
            (StoreError::KeyReused { index: 0 }, 422, "urn:tower-events:key-reused"),
            (StoreError::Conflict { head }, 409, "urn:tower-events:conflict"),
            (StoreError::Closed { head }, 409, "urn:tower-events:closed"),
            (StoreError::Unknown("secret".into()), 504, "urn:tower-events:outcome-unknown"),
            (StoreError::Corrupt("secret".into()), 503, "urn:tower-events:corrupt"),
            (
                StoreError::NewerFormat { stored: 4, supported: 3, denied: Use::Write },
                503,
                "urn:tower-events:newer-format",
            ),
        ];
        for (error, status, kind) in table {
            let closed = matches!(error, StoreError::Closed { .. });
            let temporary = matches!(error, StoreError::Unavailable(_) | StoreError::NewerFormat { .. });
            let (got, headers, document) = read(error.into()).await;
            assert_eq!((got, &document["type"], &document["status"]), (status, &kind.into(), &status.into()));
            assert!(!document.to_string().contains("secret"));
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(headers[header::CACHE_CONTROL], "no-store");
            assert_eq!(headers.contains_key(EVENTS_CLOSED), closed);
            assert_eq!(headers.contains_key(header::RETRY_AFTER), temporary);
        }
    }

    #[tokio::test]
    async fn rejections_have_their_status() {
        let (status, headers, document) = read(Rejection::unauthorized("Bearer").into()).await;
        assert_eq!((status, &headers[header::WWW_AUTHENTICATE]), (401, &HeaderValue::from_static("Bearer")));
        assert_eq!((&document["type"], &document["title"]), (&"about:blank".into(), &"Unauthorized".into()));
        assert_eq!(read(Rejection::forbidden().into()).await.0, 403);
        assert_eq!(read(Rejection::not_found().into()).await.0, 404);
        let (status, headers, _) = read(Rejection::too_many(Duration::from_millis(1500)).into()).await;
        assert_eq!((status, &headers[header::RETRY_AFTER]), (429, &HeaderValue::from_static("2")));
        let (status, _, document) = read(InvalidChannel::Empty.into()).await;
        assert_eq!((status, &document["parameter"]), (400, &"channel".into()));
        assert_eq!(read(InvalidEvent::ReservedName.into()).await.0, 422);
    }
}
