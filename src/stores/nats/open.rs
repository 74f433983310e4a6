//! Opening a store: connects, finds or creates the stream, and starts the store's tasks.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{
    agreed_retention, channel_states::ChannelStates, connection::Connection, connection_settings::ConnectionSettings,
    consumer_slot::ConsumerSlot, current_place::CurrentPlace, fairness, head_table::HeadCache, janitor,
    listing_cache::ListingCache, node_settings::AgreedKeep, page_ends::PageEnds, server_clock::ServerClock,
    settings::Settings, shared::Inner, turns::Turns, write::Queues,
};
use crate::store::{OpenError, UpkeepNotes, kit::ObservedHealth, log_pace::ChannelLog};

impl Inner {
    pub(super) async fn open(
        servers: &str,
        connection_settings: ConnectionSettings,
        settings: Settings,
        clock: ServerClock,
    ) -> Result<Arc<Self>, OpenError> {
        let connection = Connection::connect(servers, connection_settings, settings.timeout).await?;
        let inner = Arc::new(Self {
            connection,
            runtime: Handle::current(),
            current_place: CurrentPlace::default(),
            clock,
            agreed_keep: AgreedKeep::default(),
            observed_health: ObservedHealth::default(),
            listed: ListingCache::default(),
            heads: HeadCache::default(),
            turns: Turns::new(),
            queues: Queues::default(),
            states: ChannelStates::default(),
            ends: PageEnds::default(),
            consumer: ConsumerSlot::new(),
            damaged: ChannelLog::default(),
            upkeep: UpkeepNotes::default(),
            settings,
        });
        inner.open_place().await?;
        inner.runtime.spawn(fairness::listen(Arc::downgrade(&inner)));
        inner.runtime.spawn(agreed_retention::run(Arc::downgrade(&inner)));
        let period = inner.settings.keep.sweep_every();
        inner.runtime.spawn(janitor::run(Arc::downgrade(&inner), period));
        Ok(inner)
    }
}
