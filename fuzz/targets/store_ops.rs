//! After any sequence of operations a memory store agrees with a plain list.
#![no_main]

#[allow(dead_code)]
#[path = "../checks.rs"]
mod checks;

use checks::Step;

libfuzzer_sys::fuzz_target!(|input: (Vec<(u8, u8)>, u8)| {
    let step = |(kind, value): &(u8, u8)| match kind % 10 {
        0..=2 => Step::Append(value % 8),
        3 | 4 => Step::Keyed(*value),
        5 | 6 => Step::Resume(*value),
        7 => Step::Expecting,
        8 if value % 2 == 0 => Step::Close,
        8 => Step::Delete,
        _ => Step::Init(value % 8),
    };
    let steps: Vec<_> = input.0.iter().take(200).map(step).collect();
    checks::store_ops(&steps, input.1 % 16);
});
