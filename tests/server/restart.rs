//! A restart under clients of every kind: each comes back at its own time, and none misses an event or gets one twice.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    clients::Clients,
    long_form,
    program::{Directory, Example},
    publisher::publish,
    returns::{Returns, svg, table, tenths},
    support::eventually,
};

const CHANNELS: usize = 20;
/// The shortest delay, which is the library's default.
const FLOOR: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_clients_come_back_spread_and_have_missed_nothing() {
    let (count, window) = if long_form().is_some() { (2_000, 5) } else { (100, 2) };
    let directory = Directory::new("restart");
    let store = format!("file:{}", directory.0.join("events.db").display());
    let drain = window.to_string();
    let start = |listen: &str| Example::start("server", &["--listen", listen, "--store", &store, "--drain", &drain]);
    let server = start("127.0.0.1:0");
    let address = server.address();

    let returns = Arc::new(Returns::default());
    let mut clients = Clients::start(address, count, CHANNELS, &returns);
    let (stop, stopped) = watch::channel(false);
    let publisher = tokio::spawn(publish(address, CHANNELS, 50, stopped));
    // Every client but those that drop their streams is connected.
    eventually("clients have events", || clients.received() > 5 * count as u64).await;

    returns.start();
    let began = Instant::now();
    let server = tokio::task::spawn_blocking(move || server.stop("TERM"));
    server.await.unwrap();
    let took = began.elapsed();
    let _server = start(&address.to_string());
    let away = began.elapsed();

    eventually("the clients are back", || returns.told().len() >= count * 3 / 5).await;
    stop.send(true).unwrap();
    let counts = publisher.await.unwrap();
    clients.until_all_received(&counts).await;

    let told = returns.told();
    let in_tenths = tenths(&told);
    let title = format!(
        "{} of {count} clients, told to come back between 1 and {window} s; tenths of a second since SIGTERM",
        told.len()
    );
    println!(
        "{title}\nstopped in {took:.0?}, serving again after {away:.0?}; {} events received, each once and in order\n{}",
        clients.received(),
        table(&in_tenths)
    );
    if long_form().is_some() {
        std::fs::write("benches/restart.svg", svg(&in_tenths, &title)).unwrap();
    }
    let first = told.iter().min().unwrap();
    assert!(*first >= FLOOR, "{first:?}");
    let crowded = in_tenths.iter().max().unwrap();
    let seconds = usize::try_from(window - 1).unwrap();
    // Polls that can only be told whole seconds come together at these, one kind of five.
    assert!(*crowded <= told.len() / 2 / seconds.max(1), "{crowded} within a tenth of a second: {in_tenths:?}");
}
