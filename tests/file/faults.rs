//! A disk that cannot sync. strace makes the calls fail.

use std::process::Command;

use super::{
    child::Child,
    support::{Temporary, append, integrity, keeping_all, read_all, texts},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_synced_is_not_acknowledged() {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("=== SKIPPED what_could_not_be_synced_is_not_acknowledged: strace cannot trace here ===");
        return;
    }
    let dir = Temporary::new();
    drop(keeping_all().open(dir.file()).unwrap());
    let mut strace = Command::new("strace");
    // Those of the opening and of some appends succeed.
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
    strace.args(["-e", "inject=fsync,fdatasync:error=EIO:when=30+"]).arg(std::env::current_exe().unwrap());
    let mut child = Child::start_by(strace, "publish-surely a", &dir.file());
    let (mut acknowledged, mut failed) = (Vec::new(), Vec::new());
    while failed.len() < 5 {
        let said = child.hear().unwrap();
        match said.strip_prefix("failed ") {
            Some(why) => failed.push(why.to_owned()),
            None if failed.is_empty() => acknowledged.push(said),
            None => panic!("{said} was acknowledged after {failed:?}"),
        }
    }
    drop(child);
    assert!(!acknowledged.is_empty());
    assert!(failed[0].starts_with("Unknown"), "{}", failed[0]);
    assert!(failed[1..].iter().all(|why| why.starts_with("Unavailable") && why.contains("sync")), "{failed:?}");
    // Opened anew, on a disk that works.
    let store = keeping_all().open(dir.file()).unwrap();
    append(&store, "after").await.unwrap();
    let entries = read_all(&store).await;
    let kept = texts(&entries);
    assert!(kept.len() - acknowledged.len() <= 2, "at most the one that may have happened, and the last");
    assert!(acknowledged.iter().zip(&kept).all(|(said, kept)| said == kept));
    assert_eq!(integrity(&dir.file()), "ok");
}
