//! Reading a long log, and opening a large file.

use std::time::Instant;

use tower_events::{
    Channel, Event, FileStore, Store,
    store::{Append, Limit, Start},
    stores::file::Durability,
};

use super::{
    report::{Dir, Spread, row, size},
    rounds, runtime,
    throughput::open,
};

pub(crate) fn catch_up() {
    println!("\ncatch-up of 100 000 events of 200 bytes in pages: median (least - most)");
    let dir = Dir::new();
    let store = open(&dir.file(), Durability::Process);
    let channel = Channel::new("bench").expect("a name");
    runtime().block_on(async {
        for _ in 0..100 {
            let batch = (0..1000).map(|_| Event::text("x".repeat(200)));
            store.append(&channel, Append::new(batch)).await.expect("an append");
        }
    });
    for events in [100, 1000] {
        let (mut rates, before) = (vec![], resident());
        for _ in 0..rounds() {
            let started = Instant::now();
            runtime().block_on(read_all(&store, &channel, Limit::new(events, 1 << 20)));
            rates.push(100_000.0 / started.elapsed().as_secs_f64());
        }
        let rates = Spread::of(rates);
        row(&format!("pages of {events}: events/s"), &rates);
        row("  MB/s of data", format!("{:.0}", rates.median * 200.0 / 1e6));
        row("  more memory than before, MiB", format!("{:.1}", resident() - before));
    }
}

async fn read_all(store: &FileStore, channel: &Channel, limit: Limit) {
    let mut start = Start::Earliest;
    loop {
        let page = store.read(channel, start, limit).await.expect("a page");
        if page.entries.is_empty() {
            return;
        }
        start = Start::After(page.next);
    }
}

/// The resident memory of this process, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

pub(crate) fn start() {
    println!("\nopening a file of 1 GB, ms: median (least - most)");
    let dir = Dir::new();
    let channel = Channel::new("bench").expect("a name");
    runtime().block_on(async {
        let store = open(&dir.file(), Durability::Process);
        let text = "x".repeat(10_000);
        while size(&dir.file()) < 1024.0 {
            store.append(&channel, Append::new(vec![Event::text(&text); 1000])).await.expect("an append");
        }
    });
    let (mut opens, mut reads) = (vec![], vec![]);
    for _ in 0..rounds() {
        let started = Instant::now();
        let store = open(&dir.file(), Durability::Process);
        opens.push(started.elapsed().as_secs_f64() * 1e3);
        runtime().block_on(async {
            store.read(&channel, Start::Last(100), Limit::default()).await.expect("a page");
        });
        reads.push(started.elapsed().as_secs_f64() * 1e3);
    }
    row(&format!("open a file of {:.0} MiB (100)", size(&dir.file())), Spread::of(opens));
    row("  and read its last 100 events", Spread::of(reads));
}
