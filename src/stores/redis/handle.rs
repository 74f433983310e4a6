//! The public handle of a store, and what its clones share.

use std::{fmt, sync::Arc};

use super::{
    endpoint::Endpoint, error::ConnectError, listener::ListenerSlot, settings::Settings, shared::Shared, writer::Writer,
};

/// A [`Store`](crate::store::Store) on a Redis server. Clones share its connections. See the [module docs](super).
#[derive(Clone)]
pub struct RedisStore(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Writer,
    pub(super) listener: ListenerSlot,
}

impl RedisStore {
    pub(super) fn new(endpoint: Endpoint, settings: Settings) -> Self {
        let shared = Arc::new(Shared::new(endpoint, settings));
        Self(Arc::new(Inner { shared, writer: Writer::default(), listener: ListenerSlot::default() }))
    }

    pub(super) async fn check(&self) -> Result<(), ConnectError> {
        self.0.shared.check().await?;
        self.0.shared.announce_settings().await;
        Ok(())
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URL: it may hold a password.
        let prefix = self.0.shared.settings.prefix();
        f.debug_struct("RedisStore").field("prefix", &prefix).finish_non_exhaustive()
    }
}
