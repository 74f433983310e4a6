//! Behaviour under overload: `cargo bench --bench overload`, optionally with the names of benchmarks to run.
//!
//! | name | what it shows |
//! |---|---|
//! | `goodput` | reads answered per second, at 1, 2, 3 and 10 times the capacity of the store |
//! | `live` | the latency of a live event while a thousand clients catch up; `floor` only sends prebuilt bytes |
//! | `returning` | reads of the store when 10 000 readers resume after a restart |
//! | `slow` | how old the values are that a client at 20 kB/s receives, with what the server and the system buffer |
//! | `stalled` | the memory held by a client that follows 32 channels and does not read |
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark stops at what it did not expect"
)]

mod goodput;
mod live;
mod returning;
mod slow;
mod stalled;

fn main() {
    let asked: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs: [(&str, fn()); 5] = [
        ("goodput", goodput::run),
        ("live", live::run),
        ("returning", returning::run),
        ("slow", slow::run),
        ("stalled", stalled::run),
    ];
    for (name, run) in runs {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            println!("\n{name}");
            run();
        }
    }
}
