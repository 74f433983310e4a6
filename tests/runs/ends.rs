//! Failures, limits, shutdowns, and the list of runs.

use std::time::Duration;

use tower_events::{
    Event, Hub, MemoryStore, Retention, Run, RunOutcome, RunOver, RunState, Runs, RunsOptions, StartError,
    testing::FaultStore,
};

use super::{FINISHED, channel, ended, idle, runs};

const ABANDONED: RunState = RunState::Ended(RunOutcome::Abandoned);

#[tokio::test(start_paused = true)]
async fn errors_and_panics_end_a_run_as_failed_and_their_text_is_private() {
    let store = MemoryStore::default();
    let private = runs(store.clone());
    let public = Runs::with_options(Hub::new(store.clone()), RunsOptions::default().publish_error_text());
    for (name, runs) in [("private", &private), ("public", &public)] {
        let error = runs.start(&channel(&format!("{name} error")), |_| async { Err("no model") }).await.unwrap();
        let work = |run: Run| async move {
            run.publish(Event::text("before")).await.unwrap();
            assert!(run.id().is_empty(), "a bug");
        };
        let panic = runs.start(&channel(&format!("{name} panic")), work).await.unwrap();
        for run in [error, panic] {
            assert!(matches!(run.over().await, RunOver::Ended(RunOutcome::Failed)));
        }
    }
    let end = async |name| ended(&store, &channel(name)).await;
    let failed = r#"{"outcome":"failed"}"#.to_owned();
    assert_eq!(end("private error").await, (vec![], failed.clone()));
    assert_eq!(end("private panic").await, (vec!["before".into()], failed));
    assert_eq!(end("public error").await.1, r#"{"outcome":"failed","error":"no model"}"#);
    assert_eq!(end("public panic").await.1, r#"{"outcome":"failed","error":"a bug"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_outgrows_the_store_ends_with_its_beginning_kept() {
    let table = [(Retention::default().events(50), 10, 48), (Retention::default().bytes(100_000), 10_000, 9)];
    for (retention, size, kept) in table {
        let store = MemoryStore::new(retention);
        let work = move |run: Run| async move {
            while run.publish(Event::text("x".repeat(size))).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        };
        let run = runs(store.clone()).start(&channel("a"), work).await.unwrap();
        assert!(matches!(run.over().await, RunOver::TooLarge));
        let (texts, end) = ended(&store, &channel("a")).await;
        assert_eq!((texts.len(), end.as_str()), (kept, r#"{"outcome":"failed","reason":"too-large"}"#));
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_ends() {
    let store = MemoryStore::new(Retention::default().age(Duration::from_secs(100)));
    let run = runs(store.clone()).start(&channel("a"), idle).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert!(matches!(run.over().await, RunOver::TooLarge));
    assert_eq!(begun.elapsed().as_secs(), 90);
    assert_eq!(ended(&store, &channel("a")).await.1, r#"{"outcome":"failed","reason":"too-large"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_without_its_caller_without_a_handle_and_during_a_drain() {
    let store = MemoryStore::default();
    let hub = Hub::new(store.clone());
    let runs = Runs::new(hub.clone());
    let work = |run: Run| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        run.publish(Event::text("1")).await
    };
    // The caller goes away in the middle of the start, as a client that hangs up.
    let target = channel("a");
    let mut start = Box::pin(runs.start(&target, work));
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(start.as_mut().poll(cx).is_pending())).await;
    assert!(polled, "the run is being elected");
    drop(start);
    drop(runs);
    hub.drain(Duration::from_secs(1)).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(ended(&store, &channel("a")).await, (vec!["1".to_owned()], FINISHED.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_runs_and_ends_the_rest() {
    let store = MemoryStore::default();
    let runs = runs(store.clone());
    let short = |_| tokio::time::sleep(Duration::from_secs(5));
    runs.start(&channel("short"), short).await.unwrap();
    runs.start(&channel("long"), idle).await.unwrap();
    let begun = tokio::time::Instant::now();
    let (_, refused) = tokio::join!(runs.shut_down(Duration::from_secs(10)), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        runs.start(&channel("late"), idle).await
    });
    assert!(matches!(refused, Err(StartError::ShuttingDown)), "{refused:?}");
    assert!((10..13).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(ended(&store, &channel("short")).await.1, FINISHED);
    assert_eq!(runs.state(&channel("long")).await.unwrap(), Some(ABANDONED));
    assert_eq!(runs.state(&channel("late")).await.unwrap(), None);
}

#[test]
fn a_run_whose_runtime_ended_is_abandoned_by_the_next() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let store = MemoryStore::default();
    let first = runtime();
    let before = first.block_on(async {
        let runs = runs(store.clone());
        runs.start(&channel("a"), idle).await.unwrap();
        runs
    });
    // A start that meets the end of its runtime.
    let handle = first.handle().clone();
    drop(first);
    let late = {
        let _entered = handle.enter();
        let second = runtime();
        second.block_on(async { tokio::time::timeout(Duration::from_secs(1), before.state(&channel("a"))).await })
    };
    assert_eq!(late.unwrap().unwrap(), Some(RunState::Running));
    runtime().block_on(async {
        let runs = runs(store.clone());
        tokio::time::sleep(Duration::from_secs(14)).await;
        assert_eq!(runs.state(&channel("a")).await.unwrap(), Some(RunState::Running));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(runs.state(&channel("a")).await.unwrap(), Some(ABANDONED));
    });
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_cannot_be_read_does_not_keep_other_runs_open() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let observer = runs(store.clone());
    for name in ["corrupt", "other"] {
        let run = observer.start(&channel(name), idle).await.unwrap();
        // So that its producer is fenced off, and nobody else ends it.
        Hub::new(store.clone()).publish(&channel(name), Event::text("foreign")).await.unwrap();
        run.publish(Event::text("own")).await.unwrap();
        assert!(matches!(run.over().await, RunOver::Fenced));
    }
    tokio::time::sleep(Duration::from_secs(3)).await; // both have been seen
    faults.corrupt_channel(&channel("corrupt"));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(observer.state(&channel("other")).await.unwrap(), Some(ABANDONED));
    faults.mend_channel(&channel("corrupt"));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(observer.state(&channel("corrupt")).await.unwrap(), Some(ABANDONED));
}

#[tokio::test(start_paused = true)]
async fn runs_are_listed_with_their_states() {
    let store = MemoryStore::default();
    let (here, there) = (runs(store.clone()), runs(store.clone()));
    for name in ["b", "d"] {
        here.start(&channel(name), idle).await.unwrap();
    }
    there.start(&channel("a"), |_| async {}).await.unwrap().over().await;
    there.stop(&channel("b")).await.unwrap();
    there.start(&channel("c"), |_| async { Err("x") }).await.unwrap().over().await;
    let mut listed = Vec::new();
    loop {
        let page = there.list(listed.last().map(|(channel, _)| channel), 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    let shown: Vec<_> = listed.iter().map(|(channel, state)| format!("{channel} {state}")).collect();
    assert_eq!(shown, ["run:a finished", "run:b stopped", "run:c failed", "run:d running"]);
    assert_eq!(here.state(&channel("e")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn what_only_looks_like_a_run_is_left_alone() {
    let store = MemoryStore::default();
    let hub = Hub::new(store.clone());
    hub.publish(&channel("not one"), Event::text("hello")).await.unwrap();
    let runs = Runs::new(hub.clone());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(runs.state(&channel("not one")).await.unwrap(), Some(RunState::Running));
    // Nor is a run that was deleted created again by its end.
    runs.start(&channel("deleted"), idle).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    hub.delete(&channel("deleted")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(runs.state(&channel("deleted")).await.unwrap(), None);
}
