//! What the clones of a store share.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{
    api::ReadFrom, channel_states::ChannelStates, connection::Connection, consumer_slot::ConsumerSlot,
    current_place::CurrentPlace, head_table::HeadCache, listing_cache::ListingCache, log::Log,
    node_settings::AgreedKeep, page_ends::PageEnds, place::Place, server_clock::ServerClock, settings::Settings,
    turns::Turns, write::Queues,
};
use crate::{
    channel::Channel,
    store::{UpkeepNotes, kit::ObservedHealth, log_pace::ChannelLog},
};

/// What the clones of a store share.
pub(super) struct Inner {
    pub(super) connection: Connection,
    pub(super) settings: Settings,
    /// Where the store's tasks run.
    pub(super) runtime: Handle,
    pub(super) current_place: CurrentPlace,
    pub(super) clock: ServerClock,
    pub(super) agreed_keep: AgreedKeep,
    pub(super) observed_health: ObservedHealth,
    pub(super) listed: ListingCache,
    pub(super) heads: HeadCache,
    pub(super) turns: Turns,
    /// The writes of this node that wait, or are in progress.
    pub(super) queues: Queues,
    pub(super) states: ChannelStates,
    pub(super) ends: PageEnds,
    pub(super) consumer: ConsumerSlot,
    /// The channels that cannot be read or maintained.
    pub(super) damaged: ChannelLog,
    pub(super) upkeep: UpkeepNotes,
}

impl Inner {
    /// The messages of a channel in this place.
    pub(super) fn log<'a>(&'a self, place: Arc<Place>, channel: &'a Channel, read_from: ReadFrom) -> Log<'a> {
        Log::new((&self.connection, self.settings.request_timeout), place, channel, read_from)
    }

    pub(super) fn note_seen(&self, channel: &Channel, at: u64) {
        self.states.note_seen(channel, at);
    }
}
