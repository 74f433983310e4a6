//! No request panics or is answered with a 500.
#![no_main]

#[allow(dead_code)]
#[path = "../checks.rs"]
mod checks;

use checks::AnyRequest;
use libfuzzer_sys::arbitrary::{self, Arbitrary};

/// Methods and headers of ours, so that the fuzzer does not have to find their names.
#[derive(Debug, Arbitrary)]
struct Input {
    method: u8,
    query: String,
    headers: Vec<(u8, Vec<u8>)>,
    body: Vec<u8>,
}

const METHODS: [&str; 5] = ["GET", "HEAD", "OPTIONS", "POST", "DELETE"];
const HEADERS: [&str; 6] = ["last-event-id", "accept", "prefer", "idempotency-key", "events-closed", "content-type"];

libfuzzer_sys::fuzz_target!(|input: Input| {
    let Input { method, query, headers, body } = input;
    let name = |which: u8| HEADERS[usize::from(which) % HEADERS.len()].to_owned();
    let headers = headers.into_iter().map(|(which, value)| (name(which), value)).collect();
    let method = METHODS[usize::from(method) % METHODS.len()].to_owned();
    checks::request_parse(&AnyRequest { method, query, headers, body });
});
