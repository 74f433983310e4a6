//! The known heads of channels, valid for one version of the stream. Asks nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::sync::Mutex;

use super::{place::Place, record::Record, response::StreamInfo};
use crate::channel::Channel;

/// The heads that are known for the current version of the stream.
#[derive(Default)]
pub(super) struct HeadCache(pub(super) Mutex<Option<HeadTable>>);

pub(super) struct HeadTable {
    pub(super) place: Arc<Place>,
    pub(super) version: StreamVersion,
    pub(super) newest: HashMap<Channel, Newest>,
    /// After a scan of all channels: those that have to be looked up individually. All others that are not in `newest`
    /// are absent.
    pub(super) doubtful: Option<HashSet<Channel>>,
    pub(super) floors: HashMap<u16, u64>,
}

/// Identifies the contents of a stream. A new message raises the last sequence, and a deleted one lowers the count, so
/// a stream with equal values has the same messages. That holds while the same server leads it without a restart;
/// otherwise it may have lost the newest messages and received as many others.
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

/// What a channel's newest message says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Newest {
    Record(Record),
    /// As [`Absence::Absent`](super::absence::Absence::Absent).
    Absent {
        least: u64,
    },
}

impl HeadTable {
    /// Splits the channels that are not known yet into those that are certainly absent, and those to look up.
    pub(super) fn look_up(&self, missing: &[Channel]) -> (Vec<Channel>, Vec<Channel>) {
        let unknown = missing.iter().filter(|channel| !self.newest.contains_key(*channel)).cloned();
        match &self.doubtful {
            Some(doubtful) => unknown.partition(|channel| !doubtful.contains(channel)),
            None => (Vec::new(), unknown.collect()),
        }
    }

    /// Keeps the requested channels, and the others while there is room.
    pub(super) fn trim(&mut self, channels: &[Channel]) {
        if self.newest.len() > MAX_REMEMBERED + channels.len() {
            let requested: HashSet<_> = channels.iter().collect();
            self.newest.retain(|channel, _| requested.contains(channel));
            // A channel that is no longer in `newest` is not absent for that reason.
            self.doubtful = None;
        }
    }
}

/// Most channels that are remembered, besides those of the last request.
pub(super) const MAX_REMEMBERED: usize = 65_536;
