//! More reads than the store can serve: it is used to its capacity, what exceeds that is refused at once, and live readers are
//! not affected.

use std::{future::Future as _, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tower_events::{
    HubOptions, Listen, MemoryStore, Store, StoreError, SubscribeError, Subscription,
    store::{Expect, Start},
};

use super::*;

fn earliest(name: &str) -> Listen {
    from_earliest(channel(name)).wait(Duration::ZERO)
}

fn from_earliest(channels: impl Into<Channels>) -> Listen {
    Subscription::new(channels).start(Start::Earliest).into()
}

fn slow(options: HubOptions, read: Duration) -> (Hub, Faults) {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    faults.delay(read);
    (Hub::with_options(store, options), faults)
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_read_begins_when_the_read_starts() {
    let read = Duration::from_secs(9);
    let options = HubOptions::default().max_reads(1).read_queue_timeout(Duration::from_secs(60));
    let (hub, _) = slow(options, read);
    let start = Instant::now();
    let mut polls = JoinSet::new();
    for name in ["a", "b", "c"] {
        let hub = hub.clone();
        polls.spawn(async move { hub.listen(earliest(name)).await.map(drop) });
    }
    while let Some(answered) = polls.join_next().await {
        answered.unwrap().expect("no read exceeded its timeout");
    }
    assert_eq!(start.elapsed(), read * 3);
}

#[tokio::test(start_paused = true)]
async fn reads_beyond_the_queue_are_refused_at_once_and_queued_ones_after_a_timeout() {
    let (hub, faults) = slow(HubOptions::default().max_reads(1).max_waiting_reads(2), Duration::ZERO);
    let held = faults.hold_reads();
    let start = Instant::now();
    let mut polls = JoinSet::new();
    for name in ["a", "b", "c", "d"] {
        let hub = hub.clone();
        polls.spawn(async move { (name, hub.listen(earliest(name)).await.map(drop)) });
        settle().await;
    }
    let mut ended = Vec::new();
    while let Some(poll) = polls.join_next().await {
        let (name, answer) = poll.unwrap();
        ended.push((name, start.elapsed().as_secs(), answer));
    }
    let overloaded = |retry: &Duration| *retry >= Duration::from_secs(1);
    assert!(matches!(&ended[0], ("d", 0, Err(SubscribeError::Overloaded { retry })) if overloaded(retry)), "{ended:?}");
    for late in &ended[1..3] {
        assert!(
            matches!(late, ("b" | "c", 2, Err(SubscribeError::Overloaded { retry })) if overloaded(retry)),
            "{late:?}"
        );
    }
    assert!(matches!(ended[3], ("a", 10, Err(SubscribeError::Store(StoreError::Unavailable(_))))));
    drop(held);
}

/// Answers as a fraction of the capacity, under a load of `offered` times the capacity by clients that retry after the delay
/// that an answer asks for.
async fn goodput(offered: f64) -> f64 {
    const CAPACITY: f64 = 160.0; // 8 reads at once, of 50 ms
    let seconds = Duration::from_secs(12);
    // No channel is used twice, so none lingers: otherwise the heads of thousands would be compared.
    let options = HubOptions::default().max_reads(8).linger(Duration::ZERO);
    let (hub, _) = slow(options, Duration::from_millis(50));
    let (start, mut clients) = (Instant::now(), JoinSet::new());
    let count = (CAPACITY * offered * seconds.as_secs_f64()) as u32;
    for n in 0..count {
        let (hub, comes) = (hub.clone(), start + seconds.mul_f64(f64::from(n) / f64::from(count)));
        clients.spawn(async move {
            sleep_until(comes).await;
            loop {
                match hub.listen(earliest(&n.to_string())).await {
                    Ok(_) => return,
                    Err(SubscribeError::Overloaded { retry }) => sleep(retry).await,
                    Err(error) => panic!("no read fails because of the load: {error}"),
                }
            }
        });
    }
    let mut answered = 0;
    while let Ok(Some(client)) = timeout_at(start + seconds, clients.join_next()).await {
        client.unwrap();
        answered += 1;
    }
    f64::from(answered) / seconds.as_secs_f64() / CAPACITY
}

#[tokio::test(start_paused = true)]
async fn goodput_stays_at_the_capacity_under_overload() {
    for (offered, least) in [(0.5, 0.49), (1.0, 0.95), (2.0, 0.9), (3.0, 0.9)] {
        let goodput = goodput(offered).await;
        assert!(goodput >= least, "{goodput:.2} of the capacity at a load of {offered}");
    }
}

#[tokio::test(start_paused = true)]
async fn readers_that_catch_up_delay_no_live_event() {
    let read = Duration::from_millis(50);
    let inner = MemoryStore::default();
    let (store, faults) = FaultStore::new(inner.clone());
    let hub = Hub::with_options(store, HubOptions::default().read_queue_timeout(Duration::from_secs(60)));
    let mut live = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    settle().await;
    faults.delay(read);
    let mut catching_up = JoinSet::new();
    for request in 0..100 {
        let names = Channels::new((0..32).map(|n| channel(&format!("{request} {n}")))).unwrap();
        let (hub, poll) = (hub.clone(), from_earliest(names).wait(Duration::ZERO));
        catching_up.spawn(async move { hub.listen(poll).await.map(drop) });
    }
    settle().await;
    // Only a read delivers these: the hint of the first one is lost.
    faults.lose_hints(1);
    append(&inner, [1]).await;
    let start = Instant::now();
    append(&inner, [2]).await;
    assert_eq!(texts_of(&mut live, 2).await, ["1", "2"]);
    assert!(start.elapsed() <= read * 2, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_poll_ends_with_its_wait_however_long_the_store_takes_for_each_channel() {
    let (hub, faults) = slow(HubOptions::default(), Duration::ZERO);
    let names = Channels::new((0..32).map(|n| channel(&n.to_string()))).unwrap();
    for name in &names {
        publish(&hub, name.as_str(), "x").await;
    }
    faults.delay(Duration::from_secs(2));
    for (wait, longest) in [(25, 26), (0, 16)] {
        let start = Instant::now();
        let poll = from_earliest(names.clone()).wait(Duration::from_secs(wait));
        let seen = hub.listen(poll).await.unwrap();
        assert!(!seen.entries().is_empty() && !seen.live);
        assert!(start.elapsed() <= Duration::from_secs(longest), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_reads_run_at_once_as_the_options_allow() {
    let (hub, faults) = slow(HubOptions::default().max_reads(3), Duration::ZERO);
    let held = faults.hold_reads();
    let mut polls = JoinSet::new();
    for n in 0..10 {
        let hub = hub.clone();
        polls.spawn(async move { hub.listen(earliest(&n.to_string())).await.map(drop) });
    }
    settle().await;
    assert_eq!(faults.reads(), 3);
    drop(held);
    assert!(polls.join_all().await.iter().all(Result::is_ok));
    assert_eq!(faults.reads(), 10);
}

#[tokio::test(start_paused = true)]
async fn as_many_channels_are_brought_up_to_date_at_once_as_the_options_allow() {
    let inner = MemoryStore::default();
    let (store, faults) = FaultStore::new(inner.clone());
    let hub = Hub::with_options(store, HubOptions::default().max_advancing_reads(3));
    let mut readers = Vec::new();
    for n in 0..10 {
        readers.push(hub.subscribe(Subscription::new(channel(&n.to_string()))).await.unwrap());
    }
    settle().await;
    let held = faults.hold_reads();
    for reader in &readers {
        let name = reader.channels().iter().next().unwrap();
        inner.init(name, events(["anew"]), Expect::Any).await.unwrap();
    }
    settle().await;
    assert_eq!(faults.reads(), 3);
    drop(held);
    for reader in &mut readers {
        reset(reader).await;
    }
}

#[tokio::test(start_paused = true)]
async fn requests_for_heads_do_not_wait_for_a_slow_call_and_calls_are_few() {
    let (hub, faults) = slow(HubOptions::default(), Duration::ZERO);
    let held = faults.hold_heads();
    let mut asking = JoinSet::new();
    for n in 0..10 {
        let hub = hub.clone();
        asking.spawn(async move { hub.heads(&channel(&n.to_string()).into()).await.map(drop) });
        settle().await;
    }
    assert_eq!(faults.heads(), 4);
    drop(held);
    assert!(asking.join_all().await.iter().all(Result::is_ok));
    assert_eq!(faults.heads(), 5, "those that waited share a call");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_requested_or_read_for_callers_that_gave_up() {
    let (hub, faults) = slow(HubOptions::default().max_reads(1).max_waiting_reads(1), Duration::ZERO);
    let gives_up = async |name: &str| {
        let listen = std::pin::pin!(hub.listen(earliest(name)));
        assert!(tokio::time::timeout(Duration::from_millis(1), listen).await.is_err());
    };
    {
        let asked = channel("a").into();
        let mut heads = Box::pin(hub.heads(&asked));
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(heads.as_mut().poll(cx))).await.is_pending());
    }
    settle().await;
    assert_eq!(faults.heads(), 0);
    let held = faults.hold_reads();
    for _ in 0..5 {
        // The permit of the first is free again, and so is the queue slot of the second.
        gives_up("a").await;
        let reading = tokio::spawn({
            let hub = hub.clone();
            async move { hub.listen(earliest("b")).await }
        });
        settle().await;
        gives_up("c").await;
        reading.abort();
        settle().await;
    }
    drop(held);
    assert!(hub.listen(earliest("d")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn refused_readers_come_back_spread_over_time() {
    let readers = Hub::with_options(MemoryStore::default(), HubOptions::default().max_readers(0));
    let mut seconds = [0; 4];
    for _ in 0..400 {
        let refused = readers.subscribe(Subscription::new(channel("a"))).await;
        let Err(SubscribeError::TooManyReaders { retry }) = refused else { panic!("{refused:?}") };
        seconds[usize::try_from(retry.as_secs() - 1).unwrap()] += 1;
    }
    assert!(seconds.iter().all(|count| *count > 50), "{seconds:?}");

    // A refused read refuses all readers that share it.
    let inner = MemoryStore::default();
    append(&inner, [1]).await;
    let from = inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
    append(&inner, [2]).await;
    let (store, faults) = FaultStore::new(inner);
    let hub = Hub::with_options(store, HubOptions::default().max_reads(1));
    let _held = faults.hold_reads();
    let mut polls = JoinSet::new();
    let behind = Listen::from(Subscription::new(channel("a")).resume(&from.into())).wait(Duration::ZERO);
    for poll in std::iter::once(earliest("b")).chain((0..200).map(|_| behind.clone())) {
        let hub = hub.clone();
        polls.spawn(async move { hub.listen(poll).await.map(drop) });
        tokio::task::yield_now().await;
    }
    let mut retries = Vec::new();
    while let Some(poll) = polls.join_next().await {
        if let Err(SubscribeError::Overloaded { retry }) = poll.unwrap() {
            retries.push(retry.as_millis());
        }
    }
    retries.sort_unstable();
    let (first, last) = (retries[0], retries[retries.len() - 1]);
    assert!(retries.len() == 200 && last * 10 > first * 11 && last * 10 <= first * 14, "{retries:?}");
}

#[tokio::test(start_paused = true)]
async fn waiting_requests_are_bounded_and_refused_readers_come_back_spread_over_time() {
    const MAX_WAITING: usize = 64 << 10;
    let (hub, faults) = slow(HubOptions::default().read_timeout(Duration::from_secs(1_000)), Duration::ZERO);
    let held = faults.hold_heads();
    let mut asking = JoinSet::new();
    let mut ask = |names: Channels| {
        let hub = hub.clone();
        asking.spawn(async move { hub.heads(&names).await.map(drop) });
    };
    // All calls that may run at once are held.
    for n in 0..4 {
        ask(channel(&format!("held {n}")).into());
        settle().await;
    }
    let names: Vec<_> = (0..MAX_WAITING).map(|n| channel(&n.to_string())).collect();
    for names in names.chunks(Channels::MAX) {
        ask(Channels::new(names.iter().cloned()).unwrap());
    }
    settle().await;
    let mut seconds = [0; 5];
    for n in 0..400 {
        let refused = hub.subscribe(Subscription::new(channel(&format!("refused {n}")))).await;
        let Err(SubscribeError::Overloaded { retry }) = refused else { panic!("{n}: {refused:?}") };
        seconds[usize::try_from(retry.as_secs() - 1).unwrap()] += 1;
    }
    assert!(seconds[..4].iter().all(|count| *count > 40), "{seconds:?}");
    drop(held);
    assert!(asking.join_all().await.iter().all(Result::is_ok), "those that waited are answered");
}
