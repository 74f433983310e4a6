//! Any batch is appended as a whole and read back as it was sent, or is refused as a whole.
#![no_main]

#[allow(dead_code)]
#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|body: &[u8]| checks::publish_lines(body));
