//! Any texts and names come out of a stream as they went in.
#![no_main]

#[allow(dead_code)]
#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: (Vec<(String, Option<String>)>, u16)| {
    checks::sse_roundtrip(&input.0, usize::from(input.1));
});
