//! Compares this crate with other servers, end to end: `cargo bench --bench compare`, about twelve minutes; `-- --help` lists
//! the options.
//!
//! Each server runs in its own process on its own core; this process drives it over loopback from another core and checks every
//! delivery for order, loss and duplicates. Servers alternate within each repetition, so that a ratio compares runs of the same
//! few seconds. The figure is the server's CPU time per delivery, over all its threads. A server that fails loses only its own
//! figures; the exit status is a failure only if one of ours failed.
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
mod parent;
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
            parent::end_with_parent();
            what.measure();
        }
        Err(error) => {
            eprintln!("compare: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Fails if one of our servers failed; others may fail.
fn compare(options: &Options) -> ExitCode {
    machine::raise_file_limit();
    // Servers move to their own core when they start.
    if !(machine::pin(&[machine::SERVER]) && machine::pin(&[machine::CLIENTS])) {
        eprintln!("servers and clients share the cores: the figures are not reliable");
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
        Length::Quick => println!("every delivery was correct; a run this short gives no meaningful figures"),
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
