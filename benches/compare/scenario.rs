//! A scenario: what is measured, and the servers that run it.

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

/// The unit of a scenario's cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// The server's CPU time in microseconds, per this.
    Micros(&'static str),
    /// The server's memory in bytes, per this.
    Bytes(&'static str),
}

/// A server that does a scenario's job, and what it is compared with.
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) who: Who,
    pub(crate) job: Job,
    /// The index of the run that it is compared with.
    pub(crate) base: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Server(Peer, Settings),
    /// This crate without sockets, in its own process.
    InProcess,
}

impl Scenario {
    fn new(name: &'static str, unit: Unit) -> Self {
        Self { name, unit, repetitions: usize::MAX, runs: Vec::new() }
    }

    /// Limits the repetitions, for scenarios that take long and vary little.
    fn at_most(self, repetitions: usize) -> Self {
        Self { repetitions, ..self }
    }

    /// Adds these servers, compared with the first of them.
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

    /// The order of the runs, which begins with another run in each repetition.
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
