//! Whether the connected server is still the primary. A planned failover leaves connections open: the old primary takes
//! no writes any more, and its reads become stale.

use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::sync::watch;

/// Counts primaries: all connections of a term end with it.
pub(super) struct PrimaryTerm(watch::Sender<u64>);

impl Default for PrimaryTerm {
    fn default() -> Self {
        Self(watch::Sender::new(1))
    }
}

impl PrimaryTerm {
    pub(super) fn current(&self) -> u64 {
        *self.0.borrow()
    }

    /// The server of this term turned out to be a replica: its name may resolve to another server now.
    pub(super) fn end(&self, term: u64) {
        let ended = self.0.send_if_modified(|current| {
            let ends = *current == term;
            *current += u64::from(ends);
            ends
        });
        if ended {
            tracing::warn!("the Redis server is no longer the primary; looking for the new one");
        }
    }

    /// Waits until this term has ended.
    pub(super) async fn ended(&self, term: u64) {
        _ = self.0.subscribe().wait_for(|current| *current != term).await;
    }
}

/// A command that a primary answers at once with a number, and a replica with an error. It costs nothing, and any user
/// with the permission to wait for replicas may send it.
pub(super) fn probe() -> Cmd {
    let mut cmd = redis::cmd("WAIT");
    cmd.arg(0).arg(0);
    cmd
}

/// Appends the probe to commands, so that their replies are known to be a primary's.
pub(super) fn with_probe(mut pipeline: Pipeline) -> Pipeline {
    pipeline.add_command(probe());
    pipeline
}

/// Checks the probe's reply, and returns the others.
pub(super) fn without_probe_reply(mut replies: Vec<Value>) -> redis::RedisResult<Vec<Value>> {
    check_probe_reply(replies.pop().unwrap_or(Value::Nil))?;
    Ok(replies)
}

/// Whether the probe was answered by a primary.
pub(super) fn check_probe_reply(reply: Value) -> redis::RedisResult<()> {
    match reply {
        Value::Int(_) => Ok(()),
        Value::ServerError(error) if error.details().is_some_and(|text| !text.contains("replica")) => {
            Err(RedisError::from(error))
        }
        _ => Err(RedisError::from((ErrorKind::from(ServerErrorKind::ReadOnly), "the Redis server is a replica"))),
    }
}

/// Whether the error comes from a server that is not the primary.
pub(super) fn is_replica_error(error: &RedisError) -> bool {
    let kinds = [ServerErrorKind::ReadOnly, ServerErrorKind::MasterDown];
    kinds.into_iter().any(|kind| error.kind() == kind.into())
}
