//! The response to a publish that succeeded.

use http::{HeaderValue, Response, header};
use serde::Serialize;

use crate::{
    body::Body,
    cursor::Cursor,
    encode::View,
    request::{EVENTS_CLOSED, LAST_EVENT_ID},
    store::{Appended, Receipt},
};

#[derive(Serialize)]
struct BatchResponse {
    ids: Vec<String>,
    /// Indexes into `ids`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    duplicates: Vec<usize>,
}

/// `{"id":"…"}`, and `"duplicate":true` when the event had been appended before.
pub(super) fn single_response(appended: &Appended, view: &View) -> Response<Body> {
    let id = view.cursor(last_position(appended)).to_string();
    let duplicate = appended.receipts.iter().any(|receipt| receipt.duplicate);
    let end: &[u8] = if duplicate { br#"","duplicate":true}"# } else { br#""}"# };
    // The text of a cursor has no characters that JSON escapes.
    ok_response(appended, [br#"{"id":""#, id.as_bytes(), end].concat(), &id)
}

/// `{"ids":[…]}`, and `"duplicates":[…]` when some of the events had been appended before.
pub(super) fn batch_response(appended: &Appended, view: &View) -> Response<Body> {
    let receipts = || appended.receipts.iter();
    let ids = receipts().map(|receipt| view.cursor(receipt.cursor).to_string()).collect();
    let duplicate = |(at, receipt): (usize, &Receipt)| receipt.duplicate.then_some(at);
    let ids = BatchResponse { ids, duplicates: receipts().enumerate().filter_map(duplicate).collect() };
    // Cannot fail: strings and numbers always serialise.
    let position = view.cursor(last_position(appended)).to_string();
    ok_response(appended, serde_json::to_vec(&ids).unwrap_or_default(), &position)
}

/// The position of the last event.
fn last_position(appended: &Appended) -> Cursor {
    appended.receipts.last().map_or(appended.head.cursor, |receipt| receipt.cursor)
}

/// `200` with the position of the last event: a reader that starts after it gets what follows.
fn ok_response(appended: &Appended, ids: Vec<u8>, position: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(ids));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(HeaderValue::try_from(position).map(|position| (LAST_EVENT_ID, position)));
    if appended.head.closed {
        headers.insert(EVENTS_CLOSED, HeaderValue::from_static("true"));
    }
    response
}
