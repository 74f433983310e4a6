//! What happens when readers want more than there is: `cargo bench --bench overload`, or with the names of what is to run.
//!
//! | name | what it shows |
//! |---|---|
//! | `goodput` | reads answered a second, when 1, 2, 3 and 10 times of what the store can do is asked for |
//! | `live` | how late a live event comes while a thousand clients catch up; `floor` only hands out ready bytes |
//! | `returning` | reads of the store when 10 000 readers come back after a restart |
//! | `stalled` | what a client keeps in memory that follows 32 channels and does not read |
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
mod stalled;

fn main() {
    let asked: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs: [(&str, fn()); 4] =
        [("goodput", goodput::run), ("live", live::run), ("returning", returning::run), ("stalled", stalled::run)];
    for (name, run) in runs {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            println!("\n{name}");
            run();
        }
    }
}
