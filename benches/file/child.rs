//! The child processes of benchmarks.

use std::path::Path;

use tower_events::stores::file::Durability;

use super::{
    churn, delivery,
    direct::Direct,
    runtime,
    throughput::{TIME, appends, open},
};

pub(crate) fn run(arguments: &[String]) {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["append", path, durability, publishers, _] => {
            let store = open(Path::new(path), parse(durability));
            let publishers = publishers.parse().expect("a number");
            wait_for_the_start();
            let (_, events) = runtime().block_on(appends(&store, publishers, 2 * TIME));
            println!("{events} {}", events as f64 / store.commits().max(1) as f64);
        }
        ["direct", path, durability, batch, n] => {
            let mut direct = Direct::open(Path::new(path), parse(durability), n.parse().expect("a number"));
            let batch: f64 = batch.parse().expect("a number");
            wait_for_the_start();
            println!("{} {batch}", direct.appends(batch.max(1.0), &[b'x'; 200], 2 * TIME).1);
        }
        ["listen", path] => delivery::listen(Path::new(path)),
        ["select", path] => delivery::select(Path::new(path)),
        ["wake", path] => delivery::wake(Path::new(path)),
        ["read", path] => churn::read_forever(Path::new(path)),
        other => panic!("no such child: {other:?}"),
    }
}

/// Lets all children start at once: else one that polls for the lock can keep another from opening the file.
fn wait_for_the_start() {
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).expect("a start");
}

fn parse(durability: &str) -> Durability {
    if durability == "Power" { Durability::Power } else { Durability::Process }
}
