//! The sign of life of a process, for all of its runs.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::shared::Shared;
use crate::{
    event::{Data, Event},
    store::Store,
};

/// Shows that this process is alive, while it has runs.
pub(super) async fn beat<S: Store>(shared: Weak<Shared<S>>) {
    loop {
        let Some((every, active)) = shared.upgrade().map(|shared| (interval(&shared), shared.active.clone())) else {
            return;
        };
        // With a timeout, so that the task ends when all else is gone.
        if timeout(IDLE_CHECK, active.any()).await.is_err() {
            continue;
        }
        let Some(shared) = shared.upgrade() else { return };
        if let Some(beats) = &shared.beats {
            let append = shared.hub.publish(beats, Event::new(Data::text("")));
            match timeout(every, append).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a sign of life could not be stored"),
                Err(_) => tracing::debug!("a sign of life could not be stored in time"),
            }
        }
        drop(shared);
        sleep(every).await;
    }
}

/// Three within the time after which runs are abandoned.
fn interval<S>(shared: &Arc<Shared<S>>) -> Duration {
    shared.options.abandon_after / 3
}

/// How often an idle task looks whether it is still needed.
pub(super) const IDLE_CHECK: Duration = Duration::from_secs(5);
