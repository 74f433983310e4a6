//! Ours beside others, end to end: `cargo bench --bench compare`, about twelve minutes; `-- --help` says what else it can.
//!
//! Each server runs in a process of its own, on a core of its own; this process drives it over loopback from another core
//! and checks every delivery: order, loss, duplicates. Servers alternate within each repetition, so that a ratio compares
//! what ran within the same seconds. The figure is the server's CPU time per delivery, of all its threads.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops at what it did not expect"
)]

mod in_process;
mod load;
mod machine;
mod options;
mod peer;
mod process;
mod report;
mod scenario;

use options::{Command, HELP, Length, Options};
use report::Report;
use scenario::{Scenario, Who};

fn main() {
    match Command::parse(lexopt::Parser::from_env()) {
        Ok(Command::Compare(options)) => compare(&options),
        Ok(Command::List(length)) => scenario::all(length).iter().for_each(|scenario| println!("{}", scenario.name)),
        Ok(Command::Help) => println!("{HELP}"),
        Ok(Command::Serve(peer, settings)) => peer.serve(settings),
        Ok(Command::Measure(what)) => {
            process::end_with_parent();
            what.measure();
        }
        Err(error) => {
            eprintln!("compare: {error}\n\n{HELP}");
            std::process::exit(2);
        }
    }
}

fn compare(options: &Options) {
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
        Length::Quick => println!("every delivery was right; figures of so short a run mean nothing"),
        Length::Whole => {
            println!("{}", report.markdown());
            report.write("target/compare");
        }
    }
}

fn run(scenario: &Scenario, options: &Options, report: &mut Report) {
    eprintln!("{} ({})", scenario.name, scenario.unit);
    for repetition in 0..options.repetitions.min(scenario.repetitions) {
        for at in scenario.order(repetition) {
            let run = &scenario.runs[at];
            let installed = !matches!(run.who, Who::Server(peer, _) if !peer.is_installed());
            if installed && options.wants_run(&run.name) {
                let figures = run.measure();
                eprintln!("  {:32} {figures}", run.name);
                report.add(at, figures);
            }
        }
    }
}
