//! Whether the server that connections lead to is still the primary. A planned failover leaves them open: the server takes
//! nothing any more, and what it answers gets old.

use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::sync::watch;

/// The time of one primary: all connections of a term end with it.
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

    /// The server of that term was found to be a replica: its name may lead elsewhere now.
    pub(super) fn end(&self, term: u64) {
        let ended = self.0.send_if_modified(|current| {
            let ends = *current == term;
            *current += u64::from(ends);
            ends
        });
        if ended {
            tracing::warn!("the Redis server is not the primary any more; looking for the one that is");
        }
    }

    /// Waits until a term is over.
    pub(super) async fn ended(&self, term: u64) {
        _ = self.0.subscribe().wait_for(|current| *current != term).await;
    }
}

/// A command that a primary answers at once with a number, and a replica with an error; it costs nothing, and any user that
/// may wait for replicas may send it.
pub(super) fn probe() -> Cmd {
    let mut cmd = redis::cmd("WAIT");
    cmd.arg(0).arg(0);
    cmd
}

/// Ends what is asked with the question, so that the answers are those of a primary.
pub(super) fn with_probe(mut asked: Pipeline) -> Pipeline {
    asked.add_command(probe());
    asked
}

/// Takes the answer to the question off the answers.
pub(super) fn without_probe_reply(mut answers: Vec<Value>) -> redis::RedisResult<Vec<Value>> {
    check_probe_reply(answers.pop().unwrap_or(Value::Nil))?;
    Ok(answers)
}

/// What the answer to the question says.
pub(super) fn check_probe_reply(reply: Value) -> redis::RedisResult<()> {
    match reply {
        Value::Int(_) => Ok(()),
        Value::ServerError(error) if error.details().is_some_and(|text| !text.contains("replica")) => {
            Err(RedisError::from(error))
        }
        _ => Err(RedisError::from((ErrorKind::from(ServerErrorKind::ReadOnly), "the Redis server is a replica"))),
    }
}

/// Whether a server that is no primary said this.
pub(super) fn is_replica_error(error: &RedisError) -> bool {
    let kinds = [ServerErrorKind::ReadOnly, ServerErrorKind::MasterDown];
    kinds.into_iter().any(|kind| error.kind() == kind.into())
}
