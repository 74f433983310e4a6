//! Faults of the server and of the network under load. `TOWER_EVENTS_LONG=1 cargo test --features redis --test redis --
//! --nocapture faults` runs the long form, which prints the fault table.

use std::time::Duration;

use tower_events::store::Reason::{Ahead, EpochChanged, Trimmed};

use super::{
    load::{during, times, url},
    support::server,
    wire::{Slow, Wire},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault() {
    let (server, rounds) = (server!(), times(1, 10));
    let url = &server.url();
    let report = during([url; 3], async |progress| progress.more(3000 * rounds).await).await;
    report.print("none", rounds);
    report.is_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_killed_and_keeps_a_log() {
    // With `everysec` the server holds back writes while the disk syncs, and still acknowledges: on a busy disk a kill
    // loses them.
    let mut server = server!("--appendonly", "yes", "--appendfsync", "always");
    let (url, rounds) = (server.url(), times(2, 20));
    let report = during([&url; 3], async |progress| {
        for _ in 0..rounds {
            server.kill();
            server.run().await;
            progress.more(300).await;
        }
    });
    let report = report.await;
    report.print("kill -9 and restart, append-only file", rounds);
    report.is_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_killed_and_keeps_nothing() {
    let mut server = server!();
    let (url, rounds) = (server.url(), times(2, 20));
    let report = during([&url; 3], async |progress| {
        for _ in 0..rounds {
            server.kill();
            server.run().await;
            progress.more(300).await;
        }
    });
    let report = report.await;
    report.print("kill -9 and restart, no persistence", rounds);
    report.is_honest(&[EpochChanged]);
    assert_eq!(report.resets.len(), rounds);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_suspended_for_a_while() {
    let server = server!();
    let (url, rounds) = (server.url(), times(1, 3));
    let pause = Duration::from_secs(if rounds > 1 { 10 } else { 2 });
    let report = during([&url; 3], async |progress| {
        for _ in 0..rounds {
            server.signal("-STOP");
            tokio::time::sleep(pause).await;
            server.signal("-CONT");
            progress.more(300).await;
        }
    });
    let report = report.await;
    report.print(&format!("SIGSTOP for {pause:?}"), rounds);
    report.is_whole();
    assert!(report.unknown + report.unavailable > 0, "{report:?}");
    assert!(report.longest_failure < super::load::PATIENCE + Duration::from_millis(500), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_cut() {
    let server = server!();
    let (wire, rounds) = (Wire::to(server.addr()).await, times(10, 200));
    let url = &url(&wire);
    let report = during([url; 3], async |progress| {
        for _ in 0..rounds {
            wire.cut();
            progress.more(50).await;
        }
    });
    let report = report.await;
    report.print("connections cut by a proxy", rounds);
    report.is_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_half_open() {
    let server = server!();
    let (wire, rounds) = (Wire::to(server.addr()).await, times(1, 10));
    let (url, direct) = (&url(&wire), &server.url());
    let report = during([url, direct, url], async |progress| {
        for _ in 0..rounds {
            wire.freeze();
            tokio::time::sleep(Duration::from_millis(1500)).await;
            wire.cut();
            wire.thaw();
            progress.more(300).await;
        }
    });
    let report = report.await;
    report.print("half-open connections for 1.5 s", rounds);
    report.is_whole();
    assert!(report.longest_failure < super::load::PATIENCE + Duration::from_millis(500), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_is_slow() {
    let server = server!();
    let (wire, rounds) = (Wire::to(server.addr()).await, times(1, 5));
    let url = &url(&wire);
    let report = during([url; 3], async |progress| {
        for _ in 0..rounds {
            wire.slow(Slow { delay: Duration::from_millis(30), bandwidth: None });
            progress.more(50).await;
            wire.slow(Slow { delay: Duration::from_millis(5), bandwidth: Some(64 << 10) });
            progress.more(50).await;
            wire.slow(Slow::default());
            progress.more(300).await;
        }
    });
    let report = report.await;
    report.print("30 ms more each way, then 64 KiB/s", rounds);
    report.is_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_killed() {
    let (server, rounds) = (server!(), times(10, 200));
    let url = &server.url();
    let report = during([url; 3], async |progress| {
        for _ in 0..rounds {
            server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
            server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            progress.more(50).await;
        }
    });
    let report = report.await;
    report.print("CLIENT KILL", rounds);
    report.is_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_are_flushed() {
    let (server, rounds) = (server!(), times(10, 200));
    let url = &server.url();
    let report = during([url; 3], async |progress| {
        for _ in 0..rounds {
            server.command(&["SCRIPT", "FLUSH"]).await;
            progress.more(50).await;
        }
    });
    let report = report.await;
    report.print("SCRIPT FLUSH", rounds);
    report.is_whole();
    assert_eq!(report.unknown + report.unavailable, 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_flushed() {
    let (server, rounds) = (server!(), times(5, 100));
    let url = &server.url();
    let report = during([url; 3], async |progress| {
        for _ in 0..rounds {
            server.command(&["FLUSHALL"]).await;
            progress.more(200).await;
        }
    });
    let report = report.await;
    report.print("FLUSHALL", rounds);
    report.is_honest(&[EpochChanged]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_deleted_as_by_eviction() {
    for (key, reason) in [("place", EpochChanged), ("log:hot", Trimmed)] {
        let (server, rounds) = (server!(), times(5, 100));
        let url = &server.url();
        let report = during([url; 3], async |progress| {
            for _ in 0..rounds {
                server.command(&["DEL", &format!("{{tower-events}}:{key}")]).await;
                progress.more(200).await;
            }
        });
        let report = report.await;
        report.print(&format!("DEL {key}"), rounds);
        assert_eq!(report.duplicated, 0, "{report:?}");
        assert!(report.resets.iter().all(|seen| *seen == reason), "{report:?}");
        // A client that had read everything when the log was deleted has missed nothing, and is not reset.
        if reason == Trimmed {
            assert_eq!(report.unseen as u64, report.told, "{report:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_dump_is_restored() {
    let mut server = server!();
    let (url, rounds) = (server.url(), times(2, 20));
    let report = during([&url; 3], async |progress| {
        for _ in 0..rounds {
            server.command(&["SAVE"]).await;
            progress.more(300).await;
            server.kill();
            server.run().await;
            // The publishers continue at once, past the old head.
            progress.more(600).await;
        }
    });
    let report = report.await;
    report.print("restore from an older dump, written on past the old head", rounds);
    report.is_honest(&[Ahead, EpochChanged]);
    // A client that had not read past the dump yet continues: nothing that it saw was lost.
    assert!((1..=rounds).contains(&report.resets.len()), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_the_tail_is_promoted() {
    let rounds = times(1, 10);
    let mut all = super::load::Report::default();
    for _ in 0..rounds {
        let (mut primary, replica) = (server!(), server!("--repl-diskless-sync-delay", "0"));
        replica.follow(&primary).await;
        let wire = Wire::to(primary.addr()).await;
        let url = &url(&wire);
        let report = during([url; 3], async |progress| {
            replica.command(&["REPLICAOF", "NO", "ONE"]).await;
            // Acknowledged by the old primary only.
            progress.more(300).await;
            wire.redirect(replica.addr());
            primary.kill();
            wire.cut();
            progress.more(900).await;
        });
        let report = report.await;
        report.is_honest(&[Ahead, EpochChanged]);
        assert!(report.lost > 0, "nothing was lost, so the test shows nothing: {report:?}");
        assert_eq!(report.resets.len(), 1, "{report:?}");
        all.acknowledged += report.acknowledged;
        all.lost += report.lost;
        all.unseen += report.unseen;
        all.duplicated += report.duplicated;
        all.resets.extend(report.resets);
        all.unavailable += report.unavailable;
        all.unknown += report.unknown;
        all.longest_failure = all.longest_failure.max(report.longest_failure);
    }
    all.print("replica promoted without the tail, written on past the old head", rounds);
}
