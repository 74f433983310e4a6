//! What the responses of the services have in common.

use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};

use crate::{
    body::Body,
    cursor::Cursors,
    request::{LAST_EVENT_ID, ReadMethod},
};

/// The response to `OPTIONS`. A CORS preflight does not come here: a CORS layer answers it first.
pub(crate) fn options_response(allow: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// Completes any response of a reading service: it varies with `Accept`, and to a HEAD it has no content (RFC 9110, section
/// 9.3.2).
pub(crate) fn finish(method: ReadMethod, mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().append(header::VARY, ACCEPT);
    if method == ReadMethod::Head {
        *response.body_mut() = Body::default();
    }
    response
}

/// The value of `Vary` in the responses of a reading service.
pub(crate) const ACCEPT: HeaderValue = HeaderValue::from_static("Accept");

/// Announces in `headers` that the connection will close: a server that shuts down closes it, and the next request that a
/// client sent on it would be lost. HTTP/2 and later do this without a header (RFC 9113, section 8.2.2).
pub(crate) fn announce_close(version: Version, headers: &mut HeaderMap) {
    if version <= Version::HTTP_11 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Adds the position to `headers`, if there is one that fits.
pub(crate) fn insert_position(headers: &mut HeaderMap, cursors: &Cursors) {
    headers.extend(position_header(cursors).map(|value| (LAST_EVENT_ID, value)));
}

/// The position as a header value: a token is base64url, which every header field can hold. `None` when there is no position,
/// or when it is of too many channels: many proxies accept no more than 4 kB of headers.
pub(crate) fn position_header(cursors: &Cursors) -> Option<HeaderValue> {
    match cursors.as_one() {
        Some(cursor) => HeaderValue::from_bytes(&cursor.to_text()).ok(),
        None if cursors.is_empty() => None,
        None => HeaderValue::try_from(cursors.to_string()).ok().filter(|text| text.len() <= MAX_POSITION_BYTES),
    }
}

/// The most channels of a position that is sent as a header.
pub(crate) const MAX_CHANNELS_IN_HEADERS: usize = 64;

/// 64 channels of at most 26 bytes, in base64.
const MAX_POSITION_BYTES: usize = (1 + MAX_CHANNELS_IN_HEADERS * 26).div_ceil(3) * 4;
