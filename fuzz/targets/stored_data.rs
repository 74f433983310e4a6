//! Whatever an engine holds is decoded or refused. The same functions are property tests in the modules of the engines.
#![no_main]

use tower_events::stores::{file, nats, redis};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((engine, bytes)) = input.split_first() else { return };
    match engine % 3 {
        0 => file::decoding::decode(bytes),
        1 => nats::decoding::decode(bytes),
        _ => redis::decoding::decode(bytes),
    }
});
