//! What the command line says.

use lexopt::{Arg, Parser, ValueExt};

use crate::{
    in_process::InProcess,
    peer::{Peer, Settings},
};

/// What this process is to do.
pub(crate) enum Command {
    Compare(Options),
    List(Length),
    Help,
    /// Be a server.
    Serve(Peer, Settings),
    /// Be what is measured without sockets.
    Measure(InProcess),
}

pub(crate) struct Options {
    pub(crate) length: Length,
    pub(crate) repetitions: usize,
    /// Parts of names of scenarios; none for all.
    pub(crate) scenarios: Vec<String>,
    /// Parts of names of runs; none for all.
    pub(crate) peers: Vec<String>,
}

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Enough to see that deliveries are right.
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
                // What `cargo bench` adds, and `cargo test` does not.
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

  --quick        few readers and events: only checks that deliveries are right
  --repeat N     times that each is run [5]
  --peer PART    only servers with this in their name; what they are compared with has to be among them
  --list         names the scenarios";
