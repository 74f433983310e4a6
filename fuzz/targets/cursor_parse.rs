//! Any bytes are parsed as a cursor or are an error.
#![no_main]

#[allow(dead_code)]
#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: (&[u8], Vec<(String, u64, u64, u32)>)| {
    checks::cursor_parse(input.0);
    checks::token_roundtrip(&input.1);
});
