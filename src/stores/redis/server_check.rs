//! Whether a server has what the store requires, and is configured for it.

use redis::Value;

use super::{
    error::{CallError, from_open_call, open_error},
    place::place_of,
    shared::Shared,
};
use crate::store::{OpenError, OpenErrorKind};

impl Shared {
    /// Checks the server once: its version, and whether it is configured to keep data.
    pub(super) async fn check(&self) -> Result<(), OpenError> {
        let info = self.reads.send(&redis::cmd("INFO"), self.deadline()).await;
        let info = match info.map_err(|error| from_open_call(error.into_read_error()))? {
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
            Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        };
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().to_owned()
        };
        let found = field("redis_version");
        if found.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major < 7) {
            let why = format!("its version is {found}; 7.0 or newer is required");
            return Err(open_error(OpenErrorKind::UnsupportedVersion, why));
        }
        let policy = field("maxmemory_policy");
        if policy != "noeviction" {
            tracing::warn!(policy, "the Redis server may evict events; set `maxmemory-policy noeviction`");
        }
        if field("aof_enabled") == "0" {
            tracing::info!("the Redis server keeps no append-only file; events are lost when it stops");
        }
        // A server in a cluster answers the command above, but no command about keys that another server has.
        let stored = self.reads.send(&self.scripts.place(), self.deadline()).await;
        stored.map_err(CallError::into_read_error).and_then(place_of).map(drop).map_err(from_open_call)
    }
}
