//! The comparison's own check: a server that loses, repeats or swaps an event is caught, whatever it speaks.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test of a benchmark"
)]

#[path = "../benches/compare/load/order.rs"]
mod order;
#[path = "../benches/compare/load/parser.rs"]
mod parser;

use order::{Order, Wrong};
use parser::{Parser, Seen};

/// What a reader says of an answer that comes in pieces of this size.
fn checked(answer: &str, piece: usize) -> Result<u64, Wrong> {
    let (mut parser, mut order, mut result) = (Parser::default(), Order::default(), Ok(0));
    for bytes in answer.as_bytes().chunks(piece) {
        parser.push(bytes, &mut |seen| {
            if let Seen::Event(number) = seen {
                result = result.and_then(|count| order.take(number).map(|()| count + 1));
            }
        });
    }
    result
}

fn stream(events: &[u64]) -> String {
    let frame = |number: &u64| format!("data: {number:010} xxxx\nid: {number}\n\n");
    let chunk = |frame: String| format!("{:x}\r\n{frame}\r\n", frame.len());
    let chunks: String = events.iter().map(|number| chunk(frame(number))).collect();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
}

/// An answer for each pair of events.
fn polls(events: &[u64]) -> String {
    let object = |number: &u64| format!("{{\"id\":\"{number}\",\"data\":\"{number:010} xxxx\"}}");
    let array = |events: &[u64]| format!("[{}]", events.iter().map(object).collect::<Vec<_>>().join(","));
    let answer = |body: String| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    events.chunks(2).map(|events| answer(array(events))).collect()
}

#[test]
fn a_server_that_loses_repeats_or_swaps_an_event_is_caught() {
    let table: [(&[u64], Result<u64, Wrong>); 6] = [
        (&[7, 8, 9, 10], Ok(4)),
        (&[], Ok(0)),
        (&[7, 8, 10], Err(Wrong { number: 10, expected: 9 })),
        (&[7, 8, 8, 9], Err(Wrong { number: 8, expected: 9 })),
        (&[7, 9, 8, 10], Err(Wrong { number: 9, expected: 8 })),
        (&[7, 8, 9, 0], Err(Wrong { number: 0, expected: 10 })),
    ];
    for (events, expected) in table {
        for answer in [stream(events), polls(events)] {
            for piece in [1, 7, answer.len().max(1)] {
                assert_eq!(checked(&answer, piece), expected, "{events:?} in pieces of {piece}");
            }
        }
    }
}

#[test]
fn a_reader_that_comes_back_must_get_the_event_after_its_last() {
    assert_eq!(Order::from(1).take(2), Err(Wrong { number: 2, expected: 1 }));
    let mut order = Order::from(1);
    assert_eq!((order.take(1), order.is_at(2), order.is_at(1)), (Ok(()), true, false));
}
