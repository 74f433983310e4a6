//! Elections, batches, repetitions, back-pressure and fencing.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use tower_events::{
    Event, Hub, MemoryStore, Run, RunOutcome, RunOver, RunState, Runs, RunsOptions, StartError, Store, store::Append,
    testing::FaultStore,
};

use super::{FINISHED, channel, ended, entries, idle, large, runs};

async fn count_to(run: Run, last: usize) -> Result<(), RunOver> {
    for n in 1..=last {
        run.publish(Event::text(n.to_string())).await?;
    }
    Ok(())
}

fn numbers(last: usize) -> Vec<String> {
    (1..=last).map(|n| n.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn of_several_that_start_a_run_one_succeeds() {
    let store = MemoryStore::default();
    let processes: Vec<_> = (0..8).map(|_| runs(store.clone())).collect();
    let begun = Arc::new(AtomicUsize::new(0));
    let starts = processes.into_iter().map(|runs| {
        let begun = begun.clone();
        tokio::spawn(async move {
            let work = move |run| async move {
                begun.fetch_add(1, SeqCst);
                count_to(run, 3).await
            };
            runs.start(&channel("a"), work).await
        })
    });
    let mut elected = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        match start.await.unwrap() {
            Ok(run) => elected.push(run),
            Err(error) => assert!(matches!(error, StartError::AlreadyStarted), "{error}"),
        }
    }
    assert_eq!((elected.len(), begun.load(SeqCst)), (1, 1));
    elected[0].over().await;
    assert_eq!(ended(&store, &channel("a")).await, (numbers(3), FINISHED.to_owned()));
    let again = runs(store.clone()).start(&channel("a"), idle).await;
    assert!(matches!(again, Err(StartError::Ended(RunOutcome::Finished))), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn events_are_stored_together_and_in_order() {
    let (store, faults) = FaultStore::new(MemoryStore::new(large()));
    let run = runs(store.clone()).start(&channel("a"), |run| count_to(run, 1_000)).await.unwrap();
    assert!(matches!(run.over().await, RunOver::Ended(RunOutcome::Finished)));
    assert_eq!(ended(&store, &channel("a")).await, (numbers(1_000), FINISHED.to_owned()));
    assert!(faults.appends() <= 6, "{} appends for 1 002 events and a sign of life", faults.appends());
}

#[tokio::test(start_paused = true)]
async fn the_key_of_an_event_is_its_run_and_its_number() {
    let store = MemoryStore::default();
    let run = runs(store.clone()).start(&channel("a"), idle).await.unwrap();
    for text in ["one", "two"] {
        run.publish(Event::text(text).keyed("own").unwrap()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    let again = ["one", "two"].into_iter().zip(1..);
    let again = again.map(|(text, n)| Event::text(text).keyed(format!("{}/{n}", run.id())).unwrap());
    let answer = store.append(&channel("a"), Append::new(again)).await.unwrap();
    assert!(answer.receipts.iter().all(|receipt| receipt.duplicate), "{answer:?}");
    assert_eq!(entries(&store, &channel("a")).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_stored_20_ms_after_it_was_published() {
    let store = MemoryStore::default();
    let work = |run: Run| async move {
        run.publish(Event::text("1")).await.unwrap();
        idle(run).await;
    };
    runs(store.clone()).start(&channel("a"), work).await.unwrap();
    tokio::time::sleep(Duration::from_millis(19)).await;
    assert_eq!(entries(&store, &channel("a")).await.len(), 1);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(entries(&store, &channel("a")).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_stored_is_repeated_and_stored_once() {
    for (lost_appends, lost_answers, refused) in [(1, 0, 0), (0, 1, 0), (2, 2, 0), (0, 0, 3), (1, 1, 1)] {
        let (store, faults) = FaultStore::new(MemoryStore::default());
        let set = move || {
            faults.lose_next_appends(lost_appends);
            faults.lose_next_answers(lost_answers);
            faults.fail_next_appends(refused);
        };
        let work = move |run: Run| async move {
            for n in 1..=3 {
                set(); // and so the batch, the end, and signs of life meet the faults
                run.publish(Event::text(n.to_string())).await?;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            set();
            Ok::<_, RunOver>(())
        };
        let run = runs(store.clone()).start(&channel("a"), work).await.unwrap();
        let over = run.over().await;
        assert!(matches!(over, RunOver::Ended(RunOutcome::Finished)), "{over}");
        assert_eq!(ended(&store, &channel("a")).await, (numbers(3), FINISHED.to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_outcome_is_unknown_is_repeated_and_one_that_failed_is_not() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let runs = runs(store.clone());
    faults.fail_next_appends(2); // one is for the sign of life
    let failed = runs.start(&channel("a"), idle).await;
    assert!(matches!(failed, Err(StartError::Store(_))), "{failed:?}");
    faults.lose_next_answers(1);
    let run = runs.start(&channel("a"), |run| count_to(run, 1)).await.unwrap();
    run.over().await;
    assert_eq!(ended(&store, &channel("a")).await, (numbers(1), FINISHED.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn publishing_waits_while_the_queue_is_full() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let runs = Runs::with_options(Hub::new(store.clone()), RunsOptions::default().queue_events(4));
    let run = runs.start(&channel("a"), idle).await.unwrap();
    let hold = faults.hold_appends();
    for n in 0..4 {
        run.publish(Event::text(n.to_string())).await.unwrap();
    }
    let mut fifth = pin!(run.publish(Event::text("4")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    poll_fn(|cx| {
        assert!(fifth.as_mut().poll(cx).is_pending(), "four events wait for the store");
        Poll::Ready(())
    })
    .await;
    drop(hold);
    fifth.await.unwrap();
    runs.stop(&channel("a")).await.unwrap();
    run.over().await;
    assert!(run.publish(Event::text("5")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_was_suspended_adds_nothing_to_what_others_have_ended() {
    let inner = MemoryStore::default();
    let (store, faults) = FaultStore::new(inner.clone());
    let run = runs(store).start(&channel("a"), idle).await.unwrap();
    run.publish(Event::text("early")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let hold = faults.hold_appends();
    run.publish(Event::text("late")).await.unwrap();
    let others = runs(inner.clone());
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(others.state(&channel("a")).await.unwrap(), Some(RunState::Ended(RunOutcome::Abandoned)));
    drop(hold);
    let over = run.over().await;
    assert!(matches!(over, RunOver::Ended(RunOutcome::Abandoned)), "{over}");
    let expected = (vec!["early".to_owned()], r#"{"outcome":"abandoned"}"#.to_owned());
    assert_eq!(ended(&inner, &channel("a")).await, expected);
}

#[tokio::test(start_paused = true)]
async fn an_idle_run_goes_on_while_its_process_shows_signs_of_life() {
    let store = MemoryStore::default();
    let (producer, observer) = (runs(store.clone()), runs(store));
    producer.start(&channel("a"), idle).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(observer.state(&channel("a")).await.unwrap(), Some(RunState::Running));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_shows_a_sign_of_life_at_the_last_moment_is_not_ended() {
    let inner = MemoryStore::default();
    let ((producing, silence), (observed, late)) = (FaultStore::new(inner.clone()), FaultStore::new(inner));
    let run = runs(producing).start(&channel("a"), idle).await.unwrap();
    let observer = runs(observed);
    silence.fail_next_appends(usize::MAX);
    let end = late.hold_appends();
    tokio::time::sleep(Duration::from_secs(20)).await; // the end is on its way to the store
    silence.fail_next_appends(0);
    run.publish(Event::text("alive")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    drop(end);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(observer.state(&channel("a")).await.unwrap(), Some(RunState::Running));
}

#[tokio::test(start_paused = true)]
async fn a_producer_adds_nothing_to_the_run_of_another_in_its_channel() {
    let store = MemoryStore::default();
    let (old, new) = (runs(store.clone()), runs(store.clone()));
    let work = |run: Run| async move {
        while run.publish(Event::text("old")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let fenced = old.start(&channel("a"), work).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    Hub::new(store.clone()).delete(&channel("a")).await.unwrap();
    let run = new.start(&channel("a"), |run| count_to(run, 2)).await.unwrap();
    let over = fenced.over().await;
    assert!(matches!(over, RunOver::Fenced | RunOver::Ended(RunOutcome::Finished)), "{over}");
    run.over().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(ended(&store, &channel("a")).await, (numbers(2), FINISHED.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_channel_others_write_to_is_fenced_off_and_ended() {
    let store = MemoryStore::default();
    let runs = runs(store.clone());
    let run = runs.start(&channel("a"), idle).await.unwrap();
    Hub::new(store.clone()).publish(&channel("a"), Event::text("foreign")).await.unwrap();
    run.publish(Event::text("own")).await.unwrap();
    assert!(matches!(run.over().await, RunOver::Fenced));
    // The process lives and has another run, which does not keep this one open.
    runs.start(&channel("b"), idle).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(runs.state(&channel("a")).await.unwrap(), Some(RunState::Ended(RunOutcome::Abandoned)));
    assert_eq!(runs.state(&channel("b")).await.unwrap(), Some(RunState::Running));
}

#[tokio::test(start_paused = true)]
async fn a_run_survives_an_outage_of_the_store() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let (producer, observer) = (runs(store.clone()), runs(store.clone()));
    let work = |run: Run| async move {
        for n in 1..=100 {
            run.publish(Event::text(n.to_string())).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok::<_, RunOver>(())
    };
    let run = producer.start(&channel("a"), work).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    faults.fail_next_appends(usize::MAX);
    faults.fail_next_heads(usize::MAX);
    tokio::time::sleep(Duration::from_secs(40)).await;
    faults.fail_next_heads(0);
    tokio::time::sleep(Duration::from_secs(12)).await; // observers can read before producers can write
    faults.fail_next_appends(0);
    let over = run.over().await;
    assert!(matches!(over, RunOver::Ended(RunOutcome::Finished)), "{over}");
    assert_eq!(ended(&store, &channel("a")).await, (numbers(100), FINISHED.to_owned()));
    drop(observer);
}

#[tokio::test]
async fn what_is_not_a_run_of_these_is_refused() {
    let store = MemoryStore::default();
    let runs = Runs::with_options(Hub::new(store.clone()), RunsOptions::default().max_runs(1));
    let outside = runs.start(&tower_events::Channel::new("room:1").unwrap(), idle).await;
    assert!(matches!(outside, Err(StartError::OutsidePrefix)), "{outside:?}");
    runs.start(&channel("a"), idle).await.unwrap();
    let second = runs.start(&channel("b"), idle).await;
    assert!(matches!(second, Err(StartError::TooManyRuns)), "{second:?}");
    assert!(store.channels("run:b", None, 1).await.unwrap().is_empty(), "nothing was stored for it");
}
