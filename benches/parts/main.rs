//! The cost of parts of the crate, without sockets: `cargo bench --bench parts`, optionally with the name of a benchmark.
//!
//! `cargo bench --bench compare` measures the whole over HTTP, compared with other servers.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops at what it did not expect"
)]

mod append;
mod cursor;
mod fan_out;
mod replay;
mod world;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    cursor::bench(&mut criterion);
    append::bench(&mut criterion);
    fan_out::bench(&mut criterion);
    replay::bench(&mut criterion);
    criterion.final_summary();
}
