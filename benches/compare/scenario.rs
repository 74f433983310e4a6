//! One thing to measure, with those that do it.

mod job;
mod list;

use std::fmt;

pub(crate) use self::{
    job::{Figures, Job},
    list::all,
};
use crate::peer::{Peer, Settings};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) repetitions: usize,
    pub(crate) runs: Vec<Run>,
}

/// What the cost of a scenario is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// The server's time on a CPU, in microseconds, per this.
    Micros(&'static str),
    /// The server's memory, in bytes, per this.
    Bytes(&'static str),
}

/// A peer that does a scenario's job, and what it is compared with.
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) who: Who,
    pub(crate) job: Job,
    /// Its place among the scenario's runs.
    pub(crate) base: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Server(Peer, Settings),
    /// Ours, without sockets, in a process of its own.
    InProcess,
}

impl Scenario {
    fn new(name: &'static str, unit: Unit) -> Self {
        Self { name, unit, repetitions: usize::MAX, runs: Vec::new() }
    }

    /// At most so many repetitions: what takes long and varies little.
    fn at_most(self, repetitions: usize) -> Self {
        Self { repetitions, ..self }
    }

    /// All these peers, compared with the first of them.
    fn peers(mut self, peers: &[Peer], job: Job) -> Self {
        let base = self.runs.len();
        for peer in peers {
            self = self.run(peer.name(), Who::Server(*peer, Settings::default()), job, Some(base));
        }
        self
    }

    fn run(mut self, name: impl Into<String>, who: Who, job: Job, base: Option<usize>) -> Self {
        self.runs.push(Run { name: name.into(), who, job, base });
        self
    }

    /// The places of its runs, from another one on in each repetition.
    pub(crate) fn order(&self, repetition: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.runs.len()).collect();
        order.rotate_left(repetition % self.runs.len().max(1));
        order
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Micros(what) => write!(f, "CPU µs per {what}"),
            Self::Bytes(what) => write!(f, "bytes per {what}"),
        }
    }
}
