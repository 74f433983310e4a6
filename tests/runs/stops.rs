//! Stops: before the start, from another process, and of work that is idle.

use std::time::Duration;

use tower_events::{Event, MemoryStore, Run, RunOutcome, RunOver, RunState, StartError, StopError};

use super::{STOPPED, channel, ended, entries, idle, runs};

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_start_is_not_lost() {
    let store = MemoryStore::default();
    let (here, there) = (runs(store.clone()), runs(store.clone()));
    assert_eq!(there.stop(&channel("a")).await.unwrap(), STOPPED);
    let refused = here.start(&channel("a"), idle).await;
    assert!(matches!(refused, Err(StartError::Ended(RunOutcome::Stopped))), "{refused:?}");
    assert_eq!(here.state(&channel("a")).await.unwrap(), Some(STOPPED));
    assert_eq!(entries(&store, &channel("a")).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_stays_as_it_ended() {
    let runs = runs(MemoryStore::default());
    let run = runs.start(&channel("a"), |_| async {}).await.unwrap();
    run.over().await;
    let finished = RunState::Ended(RunOutcome::Finished);
    assert_eq!(runs.stop(&channel("a")).await.unwrap(), finished);
    assert_eq!(runs.state(&channel("a")).await.unwrap(), Some(finished));
}

#[tokio::test(start_paused = true)]
async fn work_hears_of_a_stop_and_may_keep_what_it_has() {
    let store = MemoryStore::default();
    let runs = runs(store.clone());
    let (keep, kept) = tokio::sync::oneshot::channel();
    let work = |run: Run| async move {
        let mut published = 0;
        while run.publish(Event::text("x")).await.is_ok() {
            published += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        keep.send(published).unwrap();
    };
    let run = runs.start(&channel("a"), work).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    runs.stop(&channel("a")).await.unwrap();
    assert!(matches!(run.over().await, RunOver::Ended(RunOutcome::Stopped)));
    let (texts, end) = ended(&store, &channel("a")).await;
    assert_eq!((texts.len(), end.as_str()), (10, r#"{"outcome":"stopped"}"#));
    // The last may have been on its way to the store.
    assert!((10..=11).contains(&kept.await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_listen_is_dropped() {
    struct Dropped(Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            _ = self.0.take().unwrap().send(());
        }
    }
    let runs = runs(MemoryStore::default());
    let (drop, dropped) = tokio::sync::oneshot::channel();
    let work = |run| async move {
        let _guard = Dropped(Some(drop));
        idle(run).await;
    };
    runs.start(&channel("a"), work).await.unwrap();
    runs.stop(&channel("a")).await.unwrap();
    tokio::time::timeout(Duration::from_millis(1_100), dropped).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_reaches_idle_work_of_another_hub_at_once() {
    let store = MemoryStore::default();
    let (here, there) = (runs(store.clone()), runs(store));
    let run = here.start(&channel("a"), idle).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await; // by then the announcements are followed
    assert_eq!(there.stop(&channel("a")).await.unwrap(), STOPPED);
    // Without the announcement it would be noticed within two seconds.
    let over = tokio::time::timeout(Duration::from_millis(100), run.over()).await.unwrap();
    assert!(matches!(over, RunOver::Ended(RunOutcome::Stopped)), "{over}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_whose_announcement_is_lost_is_noticed_within_seconds() {
    let store = MemoryStore::default();
    let run = runs(store.clone()).start(&channel("a"), idle).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await; // the run has been seen
    // Only the closing append, as if the process that stops were gone right after it.
    tower_events::Hub::new(store).close(&channel("a")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(3), run.over()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_comes_before_the_run_is_listed_is_noticed_within_seconds() {
    let store = MemoryStore::default();
    let run = runs(store.clone()).start(&channel("a"), idle).await.unwrap();
    tower_events::Hub::new(store).close(&channel("a")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(3), run.over()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_closes_no_channel_but_those_of_runs() {
    let store = MemoryStore::default();
    let room = tower_events::Channel::new("room:1").unwrap();
    let hub = tower_events::Hub::new(store.clone());
    hub.publish(&room, Event::text("hello")).await.unwrap();
    let refused = runs(store).stop(&room).await;
    assert!(matches!(refused, Err(StopError::OutsidePrefix)), "{refused:?}");
    hub.publish(&room, Event::text("still open")).await.unwrap();
}
