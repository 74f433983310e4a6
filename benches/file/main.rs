//! Benchmarks of the file store, next to SQLite used directly in the same run: `cargo bench --bench file`, or only some
//! parts (`-- throughput processes delivery catchup start churn idle short-lived calls`). Rounds are interleaved, since
//! machines are noisy: trust ratios and medians. `TOWER_EVENTS_BENCH_ROUNDS` (default 5) and `TMPDIR` may be set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "benchmarks may panic")]

mod calls;
mod catchup;
mod child;
mod churn;
mod delivery;
mod direct;
mod idle;
mod report;
mod throughput;

fn main() {
    let names: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(("child", arguments)) = names.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return child::run(arguments);
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let parts: [(&str, fn()); 9] = [
        ("throughput", throughput::in_one_process),
        ("processes", throughput::in_four_processes),
        ("delivery", delivery::between_processes),
        ("catchup", catchup::catch_up),
        ("start", catchup::start),
        ("churn", churn::churn),
        ("idle", idle::idle),
        ("short-lived", idle::short_lived),
        ("calls", calls::calls),
    ];
    for (name, run) in parts {
        if wanted(name) {
            run();
        }
    }
}

fn rounds() -> usize {
    std::env::var("TOWER_EVENTS_BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
