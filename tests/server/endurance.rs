//! Endurance: clients of every kind for as long as is asked; nothing is lost, doubled or out of order, and what the server holds
//! does not grow.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep};

use crate::{clients::Clients, long_form, process::Held, program::Example, publisher::publish, returns::Returns};

const CHANNELS: usize = 20;
const SAMPLES: u32 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endurance_of_mixed_clients_loses_nothing_and_holds_no_more_and_more() {
    let (count, duration) = long_form().map_or((100, Duration::from_secs(6)), |duration| (1_000, duration));
    // The events of a minute and their keys: then the store has reached its size, and the slowest clients are within it. What is
    // kept for readers reaches its size sooner. The default of 10 minutes for keys adds 0.4 MiB a minute for as long.
    let limits = ["--retention-events", "150", "--retention-keys", "60", "--ring-bytes", "20000"];
    let server = Example::start("server", &[&["--listen", "127.0.0.1:0"][..], &limits].concat());
    let mut clients = Clients::start(server.address(), count, CHANNELS, &Arc::new(Returns::default()));
    let (stop, stopped) = watch::channel(false);
    let publisher = tokio::spawn(publish(server.address(), CHANNELS, 50, stopped));

    let (began, mut samples) = (Instant::now(), Vec::new());
    while began.elapsed() < duration {
        sleep(duration / SAMPLES).await;
        clients.check();
        samples.push(tokio::task::block_in_place(|| Held::by(&server)));
        if long_form().is_some() {
            println!(
                "{:>5.0} s {:?} {} events received",
                began.elapsed().as_secs_f64(),
                samples.last().unwrap(),
                clients.received()
            );
        }
    }
    stop.send(true).unwrap();
    clients.until_all_received(&publisher.await.unwrap()).await;
    let (early, late) = samples.split_at(samples.len() / 2);
    let early = &early[early.len() / 2..];
    println!("{count} clients, {duration:.0?}, {} events received; {early:?} {late:?}", clients.received());
    flat("MiB", early, late, 8.0, |held| held.memory);
    flat("descriptors", early, late, 16.0, |held| held.descriptors as f64);
    flat("tasks", early, late, 16.0, |held| held.tasks as f64);
    drop(clients);
    server.stop("TERM");
}

/// Panics if the mean of the second half is more than that of the second quarter, but for a tenth and `slack`.
fn flat(what: &str, early: &[Held], late: &[Held], slack: f64, value: impl Fn(&Held) -> f64) {
    let mean = |samples: &[Held]| samples.iter().map(&value).sum::<f64>() / samples.len() as f64;
    let (early, late) = (mean(early), mean(late));
    assert!(late <= early * 1.1 + slack, "{what} grew from {early:.1} to {late:.1}");
}
