//! The head of a response that is a stream.

use http::{HeaderMap, HeaderValue, header};

use super::options::Forwarding;

/// Adds the headers of a stream: proxies must not buffer, compress or cache it.
pub(super) fn stream_headers(headers: &mut HeaderMap, forwarding: Forwarding) {
    // Streams are always UTF-8 (WHATWG HTML, section 9.2.2), but some clients assume Latin-1 where no charset is given.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if forwarding == Forwarding::Incremental {
        headers.insert("incremental", HeaderValue::from_static("?1"));
    }
}
