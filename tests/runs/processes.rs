//! Producers that are killed: real processes on one file.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tower_events::{
    Event, FileStore, Hub, Run, RunOutcome, RunOver, RunState, Runs, RunsOptions, stores::file::FileOptions,
};

use super::{channel, ended, large};

/// A directory for one test; removed when dropped.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("runs-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn file(&self) -> PathBuf {
        self.0.join("events.db")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options() -> FileOptions {
    FileStore::options().retention(large())
}

/// As in a test that waits: abandoned after 1 s instead of 15 s, unless the long form runs.
fn open(file: &Path) -> (FileStore, Runs) {
    let store = options().open(file).unwrap();
    let runs = RunsOptions::default().abandon_after(abandon_after());
    (store.clone(), Runs::with_options(Hub::new(store), runs))
}

fn is_long() -> bool {
    std::env::var_os("TOWER_EVENTS_LONG").is_some()
}

fn abandon_after() -> Duration {
    Duration::from_secs(if is_long() { 15 } else { 1 })
}

/// A process that produces runs until it is killed.
struct Producers(Child);

impl Producers {
    /// Starts one with these runs, and waits until all have begun.
    fn start(file: &Path, runs: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::produces_until_it_is_killed", "--nocapture"])
            .env(FILE, file)
            .env(RUNS, runs)
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let begun = lines.map_while(Result::ok).any(|line| line.contains(BEGUN));
        assert!(begun, "the process ended before its runs had begun");
        Self(child)
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

const FILE: &str = "TOWER_EVENTS_TEST_FILE";
const RUNS: &str = "TOWER_EVENTS_TEST_RUNS";
const BEGUN: &str = "all runs have begun";

/// Not a test, but what [`Producers`] runs: `<first>-<end>` are the numbers of its runs.
#[tokio::test]
async fn produces_until_it_is_killed() {
    let (Ok(file), Ok(numbers)) = (std::env::var(FILE), std::env::var(RUNS)) else { return };
    let (first, end) = numbers.split_once('-').unwrap();
    let (_, runs) = open(Path::new(&file));
    for n in first.parse::<usize>().unwrap()..end.parse().unwrap() {
        let work = move |run: Run| async move {
            for event in 0.. {
                run.publish(Event::text(event.to_string())).await?;
                tokio::time::sleep(Duration::from_millis(20 + n as u64 % 50)).await;
                // Some end by themselves, in one way or another.
                match (n % 10, event) {
                    (1, 5) => return Ok(()),
                    (2, 7) => panic!("as intended"),
                    _ => {}
                }
            }
            Ok::<_, RunOver>(())
        };
        runs.start(&channel(&n.to_string()), work).await.unwrap();
    }
    println!("{BEGUN}");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn runs_of_a_killed_process_are_abandoned_by_another() {
    let directory = Directory::new("killed");
    let (_, runs) = open(&directory.file());
    let producers = Producers::start(&directory.file(), "0-1");
    tokio::time::sleep(abandon_after() * 2).await;
    assert_eq!(runs.state(&channel("0")).await.unwrap(), Some(RunState::Running), "while its process lives");
    drop(producers);
    until_ended(&runs, &[0]).await;
    assert_eq!(runs.state(&channel("0")).await.unwrap(), Some(RunState::Ended(RunOutcome::Abandoned)));
}

/// Waits until these runs have ended; returns how long it took.
async fn until_ended(runs: &Runs, numbers: &[usize]) -> Duration {
    let since = Instant::now();
    for n in numbers {
        while runs.state(&channel(&n.to_string())).await.unwrap() == Some(RunState::Running) {
            assert!(since.elapsed() < abandon_after() * 4 / 3 + Duration::from_secs(3), "run {n} is still open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    since.elapsed()
}

/// Long form: 1 000 producers on 10 processes, and abandoned after 15 s.
#[tokio::test]
async fn every_run_ends_once_when_processes_are_killed() {
    let (processes, each) = if is_long() { (10, 100) } else { (3, 20) };
    let directory = Directory::new("killed-at-random");
    let (store, observer) = open(&directory.file());
    let all: Vec<usize> = (0..processes * each).collect();
    let mut producers = Vec::new();
    for n in 0..processes {
        let numbers = format!("{}-{}", n * each, (n + 1) * each);
        producers.push(Producers::start(&directory.file(), &numbers));
    }
    for stopped in all.iter().filter(|n| **n % 10 == 3) {
        observer.stop(&channel(&stopped.to_string())).await.unwrap();
    }
    for producer in producers {
        tokio::time::sleep(Duration::from_millis(fastrand_ms())).await;
        drop(producer);
    }
    let took = until_ended(&observer, &all).await;
    println!("{} runs had ended {took:?} after the last process was killed", all.len());
    // What comes late would come now.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut outcomes = std::collections::BTreeMap::new();
    for n in all {
        let (texts, end) = ended(&store, &channel(&n.to_string())).await;
        let numbers: Vec<_> = (0..texts.len()).map(|n| n.to_string()).collect();
        assert_eq!(texts, numbers, "run {n} is whole, in order, and without duplicates");
        *outcomes.entry(end).or_insert(0) += 1;
    }
    println!("{outcomes:?}");
    assert!(outcomes[r#"{"outcome":"abandoned"}"#] > 0 && outcomes[r#"{"outcome":"stopped"}"#] > 0);
}

/// A random pause of up to 300 ms.
fn fastrand_ms() -> u64 {
    u64::from(tower_events::store::resume::fresh_tag()) % 300
}
