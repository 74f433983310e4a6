//! A loss of power makes the WAL lose its tail: tests that truncate it at random bytes.

use std::path::Path;

use tower_events::{
    FileStore, Store as _,
    store::{Limit, Outcome, Reason, Start},
};

use super::support::{Temporary, append, integrity, keeping_all, read_all, repetitions, room, with_suffix};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_of_a_lost_tail_are_reset() {
    let dir = Temporary::new();
    let store = keeping_all().open(dir.file()).unwrap();
    for n in 0..40 {
        append(&store, n.to_string()).await.unwrap();
    }
    let all = read_all(&store).await;
    let wal = std::fs::read(with_suffix(&dir.file(), "-wal")).unwrap();
    let (mut lost, mut reasons) = (0, Vec::new());
    for _ in 0..repetitions("TOWER_EVENTS_CUTS", 30) {
        let cut = Temporary::new();
        std::fs::copy(dir.file(), cut.file()).unwrap();
        // The disk lacks the end, and has written the last sector in part.
        let (length, torn) = (fastrand::usize(..wal.len()), fastrand::usize(..600));
        let mut kept = wal[..length].to_vec();
        let from = length.saturating_sub(torn);
        kept[from..].fill(0);
        std::fs::write(with_suffix(&cut.file(), "-wal"), kept).unwrap();
        let Some(found) = compare_after_loss(&cut.file(), &all).await else { continue };
        lost += 1;
        reasons.extend(found);
        assert_eq!(integrity(&cut.file()), "ok");
    }
    assert!(lost > 0 && reasons.contains(&Reason::Ahead) && reasons.contains(&Reason::EpochChanged), "{reasons:?}");
}

/// Compares what is left of `all`, and returns the reasons of resets; `None` if nothing was lost.
async fn compare_after_loss(path: &Path, all: &[tower_events::store::Entry]) -> Option<Vec<Reason>> {
    let store: FileStore = keeping_all().open(path).unwrap();
    let left = read_all(&store).await;
    let is_same = left.first().is_some_and(|first| first == &all[0]);
    assert!(left.is_empty() || is_same && left == all[..left.len()], "what is left is the beginning");
    let mut reasons = Vec::new();
    // Other events are appended, up to a longer log than before.
    for n in left.len()..=all.len() + 1 {
        for (at, entry) in all.iter().enumerate() {
            let outcome = store.read(&room(), Start::After(entry.cursor), Limit::POSITION).await.unwrap().outcome;
            match outcome {
                Outcome::Continued => assert!(at < left.len(), "{at} was lost, and {n} are there"),
                Outcome::Reset(reason) => {
                    assert!(at >= left.len(), "{at} was kept");
                    reasons.push(reason);
                }
            }
        }
        append(&store, format!("other {n}")).await.unwrap();
    }
    (left.len() < all.len()).then_some(reasons)
}
