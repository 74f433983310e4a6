//! Ours beside others, end to end: `cargo bench --bench compare`, about twelve minutes; `-- --help` says what else it can.
//!
//! Each server runs in a process of its own, on a core of its own; this process drives it over loopback from another core
//! and checks every delivery: order, loss, duplicates. Servers alternate within each repetition, so that a ratio compares
//! what ran within the same seconds. The figure is the server's CPU time per delivery, of all its threads. Whoever fails loses
//! its own figures only; that one of ours did is the end's error.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops at what it did not expect"
)]

mod attempt;
mod in_process;
mod load;
mod machine;
mod options;
mod peer;
mod process;
mod report;
mod scenario;

use std::process::ExitCode;

use attempt::attempt;
use options::{Command, HELP, Length, Options};
use report::Report;
use scenario::{Scenario, Who};

fn main() -> ExitCode {
    match Command::parse(lexopt::Parser::from_env()) {
        Ok(Command::Compare(options)) => return compare(&options),
        Ok(Command::List(length)) => scenario::all(length).iter().for_each(|scenario| println!("{}", scenario.name)),
        Ok(Command::Help) => println!("{HELP}"),
        Ok(Command::Serve(peer, settings)) => peer.serve(settings),
        Ok(Command::Measure(what)) => {
            process::end_with_parent();
            what.measure();
        }
        Err(error) => {
            eprintln!("compare: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Fails when one of ours did; others may.
fn compare(options: &Options) -> ExitCode {
    machine::raise_file_limit();
    // Servers leave this core for theirs.
    if !(machine::pin(&[machine::SERVER]) && machine::pin(&[machine::CLIENTS])) {
        eprintln!("servers and clients share the cores: figures are not to be trusted");
    }
    let mut report = Report::new(options.repetitions);
    for scenario in scenario::all(options.length) {
        if options.wants_scenario(scenario.name) {
            run(&scenario, options, &mut report);
            report.close(scenario);
        }
    }
    match options.length {
        Length::Quick if report.failures().next().is_some() => println!("{}", report.markdown()),
        Length::Quick => println!("every delivery was right; figures of so short a run mean nothing"),
        Length::Whole => {
            println!("{}", report.markdown());
            report.write("target/compare");
        }
    }
    if report.failures().any(|failure| failure.is_ours()) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(scenario: &Scenario, options: &Options, report: &mut Report) {
    eprintln!("{} ({})", scenario.name, scenario.unit);
    for repetition in 0..options.repetitions.min(scenario.repetitions) {
        for at in scenario.order(repetition) {
            let run = &scenario.runs[at];
            let installed = !matches!(run.who, Who::Server(peer, _) if !peer.is_installed());
            if installed && options.wants_run(&run.name) && !report.has_failed(at) {
                let outcome = attempt(|| run.measure());
                match &outcome {
                    Ok(figures) => eprintln!("  {:32} {figures}", run.name),
                    Err(why) => eprintln!("  {:32} failed: {why}", run.name),
                }
                report.add(at, outcome);
            }
        }
    }
}
