//! The requests that clients send.

use super::{Transport, parser::DIGITS};

/// The text of event `number`, `size` bytes long.
fn payload(number: u64, size: usize) -> String {
    format!("{number:0DIGITS$} {}", "x".repeat(size.saturating_sub(DIGITS + 1)))
}

pub(super) fn publish(channel: usize, number: u64, size: usize) -> String {
    let body = payload(number, size);
    let length = body.len();
    format!(
        "POST /publish?channel=c{channel} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// The first request of a reader, which starts at the latest event.
pub(super) fn follow(channel: usize, transport: Transport) -> String {
    match transport {
        Transport::Sse => {
            format!("GET /events?channel=c{channel} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        }
        Transport::LongPoll => {
            format!("GET /events?channel=c{channel}&wait=55 HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
        }
    }
}

/// The first channel's events after `id`.
pub(super) fn resume(id: &str) -> String {
    format!("GET /events?channel=c0 HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nLast-Event-ID: {id}\r\n\r\n")
}

/// The next poll of a channel.
pub(super) fn poll_after(channel: usize, id: &str) -> String {
    format!("GET /events?channel=c{channel}&wait=55&after={id} HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
}

/// The same for a server whose positions are HTTP cache validators (nchan).
pub(super) fn poll_since(channel: usize, modified: &str, etag: &str) -> String {
    format!(
        "GET /events?channel=c{channel} HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: {modified}\r\nIf-None-Match: {etag}\r\n\r\n"
    )
}
