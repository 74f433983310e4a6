//! Many short-lived channels: what they leave behind. `TOWER_EVENTS_LONG=1` runs for minutes, and prints figures.

use std::time::{Duration, Instant};

use tower_events::{Event, RedisStore, Retention, Store, store::Append};

use super::{
    load::{channel, long},
    server::Server,
    support::{server, until},
};

async fn number(server: &Server, words: &[&str]) -> u64 {
    server.command(words).await.trim().trim_start_matches(':').parse().expect("a number")
}

/// A hundred new channels a second, each used once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_new_channels_a_second_leave_nothing_behind() {
    let server = server!();
    let (life, run) = if long() { (2, 600) } else { (1, 20) };
    let life = Duration::from_secs(life);
    let keep = Retention::default().age(life).forget_after(life).key_window(life);
    let store = RedisStore::options().retention(keep).connect(&server.url()).await.unwrap();
    let (began, mut made, mut most, mut shown) = (Instant::now(), 0_u64, 0, 0);
    let channels = async || number(&server, &["ZCARD", "{tower-events}:turns"]).await;
    while began.elapsed() < Duration::from_secs(run) {
        while made < began.elapsed().as_millis() as u64 / 10 {
            let keyed = Event::text("x".repeat(100)).keyed("k").unwrap();
            store.append(&channel(&format!("room {made}")), Append::new([keyed])).await.unwrap();
            made += 1;
        }
        // The existing channels, and those that wait for the janitor.
        let there = channels().await;
        most = if began.elapsed() > 4 * life { most.max(there) } else { 0 };
        let seconds = began.elapsed().as_secs();
        if long() && seconds >= shown + 10 {
            shown = seconds;
            let fields = number(&server, &["HLEN", "{tower-events}:place"]).await;
            let keys = number(&server, &["DBSIZE"]).await;
            let memory = server.info("used_memory").await;
            println!(
                "| {seconds} s | {made} made | {there} channels | {fields} fields | {keys} keys | {memory} bytes |"
            );
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(made >= run * 99, "{made}");
    // A second or two of them exist, and some wait for the janitor, which has to share the machine.
    println!("at most {most} of {made} channels at once");
    assert!(most < made / 2, "{most} of {made}");
    until("everything is forgotten", Duration::from_secs(20), async || {
        store.append(&channel("last"), Append::new([Event::text("x")])).await.unwrap();
        channels().await == 1 && !server.command(&["KEYS", "*room*"]).await.contains("room")
    })
    .await;
    // The floors, the retention, the epoch and the like, and one record.
    let fields = number(&server, &["HLEN", "{tower-events}:place"]).await;
    assert!(fields <= 1024 + 8, "{fields}");
}
