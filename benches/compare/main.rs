//! Ours beside others, end to end: `cargo bench --bench compare` (add `-- --quick` for a short run that only checks).
//!
//! Each server runs in a process of its own, on a core of its own where `taskset` is there; this process drives it over
//! loopback and checks every delivery: order, loss, duplicates. Servers alternate within each repetition, so that a ratio
//! compares what ran within the same minute. The figure is the server's CPU time per delivery, of all its threads.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops at what it did not expect"
)]

mod connection;
mod floor;
mod handrolled;
mod load;
mod nchan;
mod ours;
mod peer;
mod plot;
mod report;
mod scenarios;

use peer::Peer;
use report::Report;
use scenarios::{Length, Scenario};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [role, peer] = args.as_slice()
        && role == "serve"
    {
        return Peer::parse(peer).expect("a peer").serve();
    }
    let length = if args.iter().any(|arg| arg == "--quick") { Length::Quick } else { Length::Whole };
    let wanted = |name: &str| {
        let names: Vec<_> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
        names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str()))
    };
    let only = args.iter().find_map(|arg| arg.strip_prefix("--peer=")).map(|name| Peer::parse(name).expect("a peer"));
    let repetitions = if length == Length::Quick { 1 } else { repetitions(&args) };
    let scenarios: Vec<_> = Scenario::all(length).into_iter().filter(|scenario| wanted(&scenario.name)).collect();
    let mut report = Report::new(&scenarios, repetitions);
    for scenario in &scenarios {
        for repetition in 0..repetitions {
            for peer in Peer::for_scenario(scenario, repetition)
                .into_iter()
                .filter(|peer| only.is_none_or(|only| only == *peer))
            {
                let figures = scenario.run(peer);
                eprintln!("{:34} {:12} {figures}", scenario.name, peer.name());
                report.add(scenario, peer, figures);
            }
        }
    }
    println!("{report}");
    if length == Length::Whole {
        report.write("target/compare");
    }
}

/// `--repeat=5`; odd, so that the median is one of them.
fn repetitions(args: &[String]) -> usize {
    args.iter().find_map(|arg| arg.strip_prefix("--repeat=")).map_or(5, |count| count.parse().expect("a number"))
}
