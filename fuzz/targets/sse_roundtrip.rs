//! Any texts and names are received from a stream exactly as they were published.
#![no_main]

#[allow(dead_code)]
#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: (Vec<(String, Option<String>)>, u16)| {
    checks::sse_roundtrip(&input.0, usize::from(input.1));
});
