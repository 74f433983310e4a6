//! Whether a server has what the store requires, and is configured for it.

use redis::Value;

use super::{error::ConnectError, place::place_of, shared::Shared};

impl Shared {
    /// Checks the server once: its version, and whether it is configured to keep data.
    pub(super) async fn check(&self) -> Result<(), ConnectError> {
        let info = self.reads.send(&redis::cmd("INFO"), self.deadline()).await;
        let info = match info.map_err(|error| ConnectError::Unreachable(error.into_source()))? {
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
            Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        };
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().to_owned()
        };
        let found = field("redis_version");
        if found.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major < 7) {
            return Err(ConnectError::Version { found });
        }
        let policy = field("maxmemory_policy");
        if policy != "noeviction" {
            tracing::warn!(policy, "the Redis server may evict events; set `maxmemory-policy noeviction`");
        }
        if field("aof_enabled") == "0" {
            tracing::info!("the Redis server keeps no append-only file; events are lost when it stops");
        }
        // A server in a cluster answers the command above, but no command about keys that another server has.
        match self.reads.send(&self.scripts.place(), self.deadline()).await {
            Ok(stored) => place_of(stored).map(drop).map_err(ConnectError::Format),
            Err(error) => Err(error
                .moved_to()
                .map_or_else(|| ConnectError::Unreachable(error.into_source()), |to| ConnectError::Moved { to })),
        }
    }
}
