//! What makes the crate's errors and streams responses of axum handlers. Knows nothing of routing.

use axum_core::response::{IntoResponse, Response};

use crate::{
    body::Body,
    error::{InvalidChannel, InvalidChannels, InvalidEvent},
    hub::SubscribeError,
    request::Rejection,
    runs::{StartError, StopError},
    sse::SseBody,
    store::StoreError,
};

macro_rules! errors {
    ($($error:ty),*) => {$(
        /// The same response as by `From`: a problem+json, so that `?` works in a handler that returns this error, or
        /// `axum::response::Result`.
        impl IntoResponse for $error {
            fn into_response(self) -> Response {
                http::Response::<Body>::from(self).into_response()
            }
        }
    )*};
}

errors!(StoreError, SubscribeError, InvalidChannel, InvalidChannels, InvalidEvent, Rejection, StartError, StopError);

/// The same response as by [`SseBody::into_response`].
impl IntoResponse for SseBody {
    fn into_response(self) -> Response {
        let response: http::Response<Body> = Self::into_response(self);
        response.into_response()
    }
}
