//! What is known of the heads of channels at one moment of the stream. Asks nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::sync::Mutex;

use super::{place::Place, record::Record, response::StreamInfo};
use crate::channel::Channel;

/// What is known of the stream at one moment.
#[derive(Default)]
pub(super) struct HeadCache(pub(super) Mutex<Option<HeadTable>>);

pub(super) struct HeadTable {
    pub(super) place: Arc<Place>,
    pub(super) version: StreamVersion,
    pub(super) newest: HashMap<Channel, Newest>,
    /// When all was looked at: the channels that are to be looked at one by one. All others that are not among `newest` are
    /// absent.
    pub(super) doubtful: Option<HashSet<Channel>>,
    pub(super) floors: HashMap<u16, u64>,
}

/// A stream that says the same again has the same messages: one that comes raises the last place, one that goes lowers the
/// count. That is so as long as the same server leads it and is not started again, for then it may have lost the newest
/// and got as many others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamVersion {
    changes: u64,
    leader: Option<String>,
    created: String,
    last: u64,
    count: u64,
}

impl StreamVersion {
    pub(super) fn of(info: &StreamInfo, changes: u64) -> Self {
        let (created, leader) = (info.created.clone(), info.leader().map(str::to_owned));
        Self { changes, leader, created, last: info.state.last_seq, count: info.state.messages }
    }
}

/// What is newest in a channel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Newest {
    Record(Record),
    /// As [`Absence::Absent`].
    Absent {
        least: u64,
    },
}

impl HeadTable {
    /// Which of those that are not known yet are absent for certain, and which have to be asked for.
    pub(super) fn look_up(&self, missing: &[Channel]) -> (Vec<Channel>, Vec<Channel>) {
        let unknown = missing.iter().filter(|channel| !self.newest.contains_key(*channel)).cloned();
        match &self.doubtful {
            Some(doubtful) => unknown.partition(|channel| !doubtful.contains(channel)),
            None => (Vec::new(), unknown.collect()),
        }
    }

    /// Keeps what was asked for now, and as much of the rest as there is room for.
    pub(super) fn trim(&mut self, channels: &[Channel]) {
        if self.newest.len() > MAX_REMEMBERED + channels.len() {
            let asked: HashSet<_> = channels.iter().collect();
            self.newest.retain(|channel, _| asked.contains(channel));
            // What is not among these any more is not absent for that.
            self.doubtful = None;
        }
    }
}

/// Most channels that are known, besides those that were asked for last.
pub(super) const MAX_REMEMBERED: usize = 65_536;
