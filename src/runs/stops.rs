//! Stopping a run, from any process: the stop is the closing append itself. That its producer hears of it at once, instead of at
//! its next append, is what the control channel is for.

use std::{sync::Weak, time::Duration};

use tokio::time::{sleep, timeout};

use super::{
    appending::append_surely,
    beat::IDLE_CHECK,
    control,
    marks::{End, with_key},
    options::ErrorText,
    outcome::{RunOutcome, RunState},
    shared::{Shared, random_id},
};
use crate::{
    channel::Channel,
    event::{Data, Event},
    hub::{Delivery, Subscription},
    store::{Append, Store, StoreError},
};

/// Closes the channel as stopped, unless it is closed.
pub(super) async fn stop<S: Store>(shared: &Shared<S>, channel: &Channel) -> Result<RunState, StoreError> {
    let end = End::plain(RunOutcome::Stopped).event(ErrorText::Logged);
    let append = Append::new([with_key(end, &random_id(), 0)]).closing();
    match append_surely(&shared.hub, channel, &append, STOP_PATIENCE.min(shared.patience())).await {
        Ok(_) => {
            announce(shared, channel).await;
            Ok(RunState::Ended(RunOutcome::Stopped))
        }
        Err(StoreError::Closed { .. }) => Ok(shared.state(channel).await?.unwrap_or(RunState::Expired)),
        Err(error) => Err(error),
    }
}

/// Tells the producer, here or elsewhere. If the announcement is lost, the producer still learns of it in the end.
async fn announce<S: Store>(shared: &Shared<S>, channel: &Channel) {
    if shared.active.notice(channel) {
        return;
    }
    if let Some(stops) = control::stops() {
        _ = timeout(ANNOUNCE_PATIENCE, shared.hub.publish(&stops, Event::new(Data::text(channel.as_str())))).await;
    }
}

/// Hears of stops by other processes, while this one has runs.
pub(super) async fn hear<S: Store>(shared: Weak<Shared<S>>) {
    loop {
        let Some(active) = shared.upgrade().map(|shared| shared.active.clone()) else { return };
        if timeout(IDLE_CHECK, active.any()).await.is_ok() && !follow(&shared).await {
            return;
        }
    }
}

/// Returns whether following again makes sense.
async fn follow<S: Store>(weak: &Weak<Shared<S>>) -> bool {
    let (Some(shared), Some(stops)) = (weak.upgrade(), control::stops()) else { return false };
    let subscribing = shared.hub.subscribe(Subscription::new(stops)).await;
    let active = shared.active.clone();
    drop(shared);
    let Ok(mut subscriber) = subscribing else {
        sleep(IDLE_CHECK).await;
        return true;
    };
    while !active.is_empty() {
        match timeout(IDLE_CHECK, subscriber.next()).await {
            Ok(Some(Ok(Delivery::Events(events)))) => events.entries().for_each(|entry| {
                _ = Channel::new(entry.data.as_shown()).is_ok_and(|channel| active.notice(&channel));
            }),
            // The hub is draining: it takes no readers any more.
            Ok(Some(Ok(Delivery::Drained { .. }))) => return false,
            Ok(Some(Ok(_))) | Err(_) => {}
            Ok(Some(Err(_)) | None) => {
                sleep(IDLE_CHECK).await;
                return true;
            }
        }
    }
    true
}

/// How long a stop is repeated: somebody waits for it.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(2);
