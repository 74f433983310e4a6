//! The command line.

use lexopt::{Arg, Parser, ValueExt};

use crate::{
    in_process::InProcess,
    peer::{Peer, Settings},
};

/// What this process does.
pub(crate) enum Command {
    Compare(Options),
    List(Length),
    Help,
    /// Runs a server; used internally.
    Serve(Peer, Settings),
    /// Runs a measurement without sockets; used internally.
    Measure(InProcess),
}

pub(crate) struct Options {
    pub(crate) length: Length,
    pub(crate) repetitions: usize,
    /// Parts of scenario names; empty for all.
    pub(crate) scenarios: Vec<String>,
    /// Parts of run names; empty for all.
    pub(crate) peers: Vec<String>,
}

/// How much to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Enough to check that deliveries are correct.
    Quick,
    /// Enough to measure.
    Whole,
}

impl Command {
    pub(crate) fn parse(mut arguments: Parser) -> Result<Self, lexopt::Error> {
        let mut options = Options { length: Length::Quick, repetitions: 5, scenarios: Vec::new(), peers: Vec::new() };
        let (mut quick, mut list) = (false, false);
        while let Some(argument) = arguments.next()? {
            match argument {
                // `cargo bench` adds this, `cargo test` does not.
                Arg::Long("bench") => options.length = Length::Whole,
                Arg::Long("quick") => quick = true,
                Arg::Long("list") => list = true,
                Arg::Long("repeat") => options.repetitions = arguments.value()?.parse()?,
                Arg::Long("peer") => options.peers.push(arguments.value()?.string()?),
                Arg::Short('h') | Arg::Long("help") => return Ok(Self::Help),
                Arg::Value(word) if word == "serve" => {
                    let peer = arguments.value()?.parse_with(|name| Peer::parse(name).ok_or("no such peer"))?;
                    return Ok(Self::Serve(peer, arguments.value()?.parse()?));
                }
                Arg::Value(word) if word == "measure" => return Ok(Self::Measure(arguments.value()?.parse()?)),
                Arg::Value(name) => options.scenarios.push(name.string()?),
                _ => return Err(argument.unexpected()),
            }
        }
        if quick {
            options.length = Length::Quick;
        }
        if options.length == Length::Quick {
            options.repetitions = 1;
        }
        Ok(if list { Self::List(options.length) } else { Self::Compare(options) })
    }
}

impl Options {
    pub(crate) fn wants_scenario(&self, name: &str) -> bool {
        wanted(&self.scenarios, name)
    }

    pub(crate) fn wants_run(&self, name: &str) -> bool {
        wanted(&self.peers, name)
    }
}

fn wanted(parts: &[String], name: &str) -> bool {
    parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()))
}

pub(crate) const HELP: &str = "\
cargo bench --bench compare -- [OPTIONS] [PART OF A SCENARIO'S NAME]...

  --quick        few readers and events: only checks that deliveries are correct
  --repeat N     repetitions of each run [5]
  --peer PART    only servers whose name contains PART; include the server that they are compared with
  --list         lists the scenarios";
