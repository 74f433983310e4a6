//! A store whose reads take 50 ms, at most 64 at a time, and clients that retry after the delay that an answer asks for.

use std::time::Duration;

use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tower_events::{
    Channel, Hub, HubOptions, Listen, MemoryStore, SubscribeError, Subscription, store::Start, testing::FaultStore,
};

const READ: Duration = Duration::from_millis(50);
const READS: usize = 64;
const CAPACITY: f64 = READS as f64 / 0.05;
const LASTS: Duration = Duration::from_secs(60);

pub(crate) fn run() {
    println!("capacity {CAPACITY}/s, for {} s each", LASTS.as_secs());
    println!("{:>8} {:>12} {:>12} {:>10}", "offered", "answered/s", "of capacity", "failed/s");
    for times in [1.0, 2.0, 3.0, 10.0] {
        let (answered, failed) = Builder::new_current_thread().enable_all().build().unwrap().block_on(offer(times));
        println!("{times:>7}x {answered:>12.0} {:>12.2} {failed:>10.0}", answered / CAPACITY);
    }
}

/// Answers per second in the second half of the run, and failures other than refusals.
async fn offer(times: f64) -> (f64, f64) {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    faults.delay(READ);
    let hub = Hub::with_options(store, HubOptions::default().max_reads(READS));
    let (start, count) = (Instant::now(), (CAPACITY * times * LASTS.as_secs_f64()) as u32);
    let mut clients = JoinSet::new();
    for n in 0..count {
        let (hub, comes) = (hub.clone(), start + LASTS.mul_f64(f64::from(n) / f64::from(count)));
        clients.spawn(async move {
            sleep_until(comes).await;
            loop {
                let poll = Subscription::new(Channel::new(n.to_string()).unwrap()).start(Start::Earliest);
                match hub.listen(Listen::from(poll).wait(Duration::ZERO)).await {
                    Ok(_) => return true,
                    Err(SubscribeError::Overloaded { retry }) => sleep(retry).await,
                    Err(_) => return false,
                }
            }
        });
    }
    let (mut answered, mut failed) = (0, 0);
    while let Ok(Some(client)) = timeout_at(start + LASTS, clients.join_next()).await {
        if start.elapsed() >= LASTS / 2 {
            *if client.unwrap() { &mut answered } else { &mut failed } += 1;
        }
    }
    let seconds = LASTS.as_secs_f64() / 2.0;
    (f64::from(answered) / seconds, f64::from(failed) / seconds)
}
