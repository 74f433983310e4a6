//! Producers that are killed or suspended: real processes on one store.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use tower_events::{
    AnyStore, Channel, Event, Hub, Run, RunOutcome, RunOver, RunState, Runs, RunsOptions, Store as _, store::Append,
};

use super::{
    place::{self, Place},
    recorded::{channel, ended},
};

const ABANDONED: &str = r#"{"outcome":"abandoned"}"#;
const STOPPED: &str = r#"{"outcome":"stopped"}"#;

/// Long form: 1 000 producers on 10 processes, and abandoned after 15 s instead of 4 s: longer than a busy machine stands still.
fn is_long() -> bool {
    std::env::var_os("TOWER_EVENTS_LONG").is_some()
}

fn abandon_after() -> Duration {
    Duration::from_secs(if is_long() { 15 } else { 4 })
}

fn runs(store: AnyStore) -> Runs {
    Runs::with_options(Hub::new(store), RunsOptions::default().abandon_after(abandon_after()))
}

/// A process that produces runs until it is killed.
struct Producers {
    process: Child,
    output: Option<Lines<BufReader<ChildStdout>>>,
}

impl Producers {
    /// Starts one with these runs, and waits until all have begun.
    async fn start(place: &Place, runs: std::ops::Range<usize>) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::produces_until_it_is_killed", "--nocapture"])
            .env(URL, place.url())
            .env(RUNS, format!("{}-{}", runs.start, runs.end))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Some(BufReader::new(process.stdout.take().unwrap()).lines());
        let mut producers = Self { process, output };
        producers.until_it_says(BEGUN).await;
        producers
    }

    async fn until_it_says(&mut self, text: &'static str) {
        let mut output = self.output.take().unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let said = output.by_ref().map_while(Result::ok).any(|line| line.contains(text));
            assert!(said, "the process ended before it said: {text}");
            output
        });
        self.output = Some(reading.await.unwrap());
    }

    fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal} {id}");
    }

    /// Suspends it, at a moment at which it keeps nobody else from writing: one that is stopped in the middle of a transaction on
    /// a file holds its lock.
    async fn suspend(&self, store: &AnyStore) {
        let probe = Channel::new("probe").unwrap();
        loop {
            self.signal("-STOP");
            let write = store.append(&probe, Append::new([Event::text("can others write?")]));
            if tokio::time::timeout(Duration::from_millis(500), write).await.is_ok_and(|written| written.is_ok()) {
                return;
            }
            self.signal("-CONT");
        }
    }

    fn kill(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        self.kill();
    }
}

const URL: &str = "TOWER_EVENTS_TEST_URL";
const RUNS: &str = "TOWER_EVENTS_TEST_RUNS";
const BEGUN: &str = "all runs have begun";
const OVER: &str = "all runs are over";

/// Not a test, but what [`Producers`] runs: `<first>-<end>` are the numbers of its runs.
#[tokio::test]
async fn produces_until_it_is_killed() {
    let (Ok(url), Ok(numbers)) = (std::env::var(URL), std::env::var(RUNS)) else { return };
    let (first, end) = numbers.split_once('-').unwrap();
    let runs = runs(place::open(&url, place::retention()).await);
    let mut all = Vec::new();
    for n in first.parse::<usize>().unwrap()..end.parse().unwrap() {
        all.push(runs.start(&channel(&n.to_string()), move |run| produce(run, n)).await.unwrap());
    }
    println!("{BEGUN}");
    for run in all {
        run.over().await;
    }
    println!("{OVER}");
    std::future::pending::<()>().await;
}

async fn produce(run: Run, n: usize) -> Result<(), RunOver> {
    for event in 0.. {
        run.publish(Event::text(event.to_string())).await?;
        tokio::time::sleep(Duration::from_millis(20 + n as u64 % 50) * if is_long() { 10 } else { 1 }).await;
        // Some end by themselves, in one way or another.
        match (n % 10, event) {
            (1, 5) => return Ok(()),
            (2, 7) => panic!("as intended"),
            _ => {}
        }
    }
    Ok(())
}

pub(crate) async fn a_suspended_producer_adds_nothing(place: Place) {
    let (store, observer) = (place.open().await, runs(place.open().await));
    let mut producers = Producers::start(&place, 0..1).await;
    tokio::time::sleep(abandon_after() * 2).await;
    assert_eq!(observer.state(&channel("0")).await.unwrap(), Some(RunState::Running), "while its process lives");
    producers.suspend(&store).await;
    until_ended(&observer, &[0]).await;
    let abandoned = RunState::Ended(RunOutcome::Abandoned);
    assert_eq!(observer.state(&channel("0")).await.unwrap(), Some(abandoned));
    let before = ended(&store, &channel("0")).await;
    producers.signal("-CONT");
    producers.until_it_says(OVER).await;
    assert_eq!(ended(&store, &channel("0")).await, before);
}

/// Waits until these runs have ended; returns how long it took.
async fn until_ended(runs: &Runs, numbers: &[usize]) -> Duration {
    // In the short form other tests run beside this one.
    let (since, allowance) = (Instant::now(), Duration::from_secs(if is_long() { 3 } else { 15 }));
    for n in numbers {
        while runs.state(&channel(&n.to_string())).await.unwrap() == Some(RunState::Running) {
            assert!(since.elapsed() < abandon_after() * 4 / 3 + allowance, "run {n} is still open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    since.elapsed()
}

/// Processes are killed at random moments, or suspended and resumed once others have ended their runs.
pub(crate) async fn every_run_ends_once(place: Place) {
    let (processes, each) = if is_long() { (10, 100) } else { (3, 20) };
    let (store, observer) = (place.open().await, runs(place.open().await));
    let all: Vec<usize> = (0..processes * each).collect();
    let mut producers = Vec::new();
    for n in 0..processes {
        producers.push(Producers::start(&place, n * each..(n + 1) * each).await);
    }
    for stopped in all.iter().filter(|n| **n % 10 == 3) {
        observer.stop(&channel(&stopped.to_string())).await.unwrap();
    }
    for (n, producer) in producers.iter_mut().enumerate() {
        tokio::time::sleep(Duration::from_millis(random(300))).await;
        match n % 3 {
            // Stopped in the middle of a transaction it would keep all others from a file.
            2 if !place.is_file() => producer.suspend(&store).await,
            _ => producer.kill(),
        }
    }
    let took = until_ended(&observer, &all).await;
    println!("{} runs had ended {took:?} after the last process was killed", all.len());
    for suspended in producers.iter_mut().skip(2).step_by(3).filter(|_| !place.is_file()) {
        suspended.signal("-CONT");
        suspended.until_it_says(OVER).await;
    }
    let mut outcomes = BTreeMap::new();
    for n in all {
        let (texts, end) = ended(&store, &channel(&n.to_string())).await;
        let numbers: Vec<_> = (0..texts.len()).map(|n| n.to_string()).collect();
        assert_eq!(texts, numbers, "run {n} is whole, in order, and without duplicates");
        *outcomes.entry(end).or_insert(0) += 1;
    }
    println!("{outcomes:?}");
    assert!(outcomes[ABANDONED] > 0 && outcomes[STOPPED] > 0);
}

/// Less than `end`.
fn random(end: u64) -> u64 {
    u64::from(tower_events::store::resume::fresh_tag()) % end
}
