//! What a publish is answered with once it is done.

use http::{HeaderValue, Response, header};
use serde::Serialize;

use crate::{
    body::Body,
    cursor::Cursor,
    request::{EVENTS_CLOSED, LAST_EVENT_ID},
    store::{Appended, Receipt},
};

#[derive(Serialize)]
struct One {
    id: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

#[derive(Serialize)]
struct Several {
    ids: Vec<String>,
    /// Positions in `ids`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    duplicates: Vec<usize>,
}

/// `{"id":"…"}`, and `"duplicate":true` when the event was there before.
pub(super) fn one(appended: &Appended) -> Response<Body> {
    let duplicate = appended.receipts.iter().any(|receipt| receipt.duplicate);
    answer(appended, &One { id: position(appended).to_string(), duplicate })
}

/// `{"ids":[…]}`, and `"duplicates":[…]` when some of the events were there before.
pub(super) fn several(appended: &Appended) -> Response<Body> {
    let receipts = || appended.receipts.iter();
    let ids = receipts().map(|receipt| receipt.cursor.to_string()).collect();
    let duplicate = |(at, receipt): (usize, &Receipt)| receipt.duplicate.then_some(at);
    answer(appended, &Several { ids, duplicates: receipts().enumerate().filter_map(duplicate).collect() })
}

/// That of the last event.
fn position(appended: &Appended) -> Cursor {
    appended.receipts.last().map_or(appended.head.cursor, |receipt| receipt.cursor)
}

/// `200` with the position of the last event: a reader that goes on from it gets what follows.
fn answer(appended: &Appended, ids: &impl Serialize) -> Response<Body> {
    // Strings and numbers always serialise.
    let mut response = Response::new(Body::full(serde_json::to_vec(ids).unwrap_or_default()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(HeaderValue::from_bytes(&position(appended).to_text()).map(|position| (LAST_EVENT_ID, position)));
    if appended.head.closed {
        headers.insert(EVENTS_CLOSED, HeaderValue::from_static("true"));
    }
    response
}
