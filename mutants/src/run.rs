//! Runs the tests with each mutant switched on, until one fails or hangs.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{Failure, build::Built, rewrite::Mutant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Killed,
    Survived,
    /// No test reaches it.
    Unreached,
}

impl Verdict {
    pub fn named(name: &str) -> Option<Self> {
        [Self::Killed, Self::Survived, Self::Unreached].into_iter().find(|verdict| format!("{verdict:?}") == name)
    }
}

/// Some tests of a test binary.
struct Suite {
    binary: PathBuf,
    arguments: Vec<String>,
    /// The mutants that the tests reach.
    reached: BTreeSet<usize>,
    longest: Duration,
}

/// The number of mutants that run at the same time.
const AT_ONCE: usize = 2;

pub fn run(folder: &Path, results: &Path, built: &Built, suites: &[&str], mutants: Vec<Mutant>) -> Result<(), Failure> {
    if mutants.is_empty() {
        return Ok(());
    }
    let suites = suites.iter().map(|suite| look(folder, built, suite)).collect::<Result<Vec<_>, _>>()?;
    let results = Mutex::new(fs::OpenOptions::new().append(true).open(results)?);
    let left = Mutex::new(mutants.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(mutant) = next() {
                    let (verdict, by) = judge(&mutant, &suites, &built.copy);
                    let line = format!(
                        "{}\t{verdict:?}\t{}:{}\t{}\t{by}\n",
                        mutant.number, mutant.file, mutant.line, mutant.what
                    );
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Err(error) = results.write_all(line.as_bytes()) {
                        eprintln!("{error}: {line}");
                    }
                }
            });
        }
    });
    Ok(())
}

/// Runs the tests with no mutant on, to find which mutants they reach and how long they take.
fn look(folder: &Path, built: &Built, suite: &str) -> Result<Suite, Failure> {
    let mut words = suite.split(' ').map(str::to_owned);
    let name = words.next().ok_or("a suite without a binary")?;
    let binary = built.binaries.get(&name).ok_or_else(|| format!("no test binary {name}"))?.clone();
    let arguments: Vec<_> = words.collect();
    let log = folder.join("reached");
    _ = fs::remove_file(&log);
    let start = Instant::now();
    let mut command = Command::new(&binary);
    command.args(&arguments).current_dir(&built.copy).env("MUTANTS_REACHED", &log).env("RUST_MIN_STACK", STACK);
    if let Ending::Failed(test) = end_of(&mut command, Duration::from_secs(600))? {
        return Err(format!("{suite} fails with nothing broken: {test}").into());
    }
    let took = start.elapsed();
    let reached = fs::read_to_string(&log).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect();
    eprintln!("{suite}: {took:.1?}");
    Ok(Suite { binary, arguments, reached, longest: took * 5 + Duration::from_secs(20) })
}

fn judge(mutant: &Mutant, suites: &[Suite], folder: &Path) -> (Verdict, String) {
    let mut verdict = Verdict::Unreached;
    for suite in suites.iter().filter(|suite| suite.reached.contains(&mutant.number)) {
        let mut command = Command::new(&suite.binary);
        command
            .args(&suite.arguments)
            .current_dir(folder)
            .env("MUTANT", mutant.number.to_string())
            .env("RUST_MIN_STACK", STACK);
        match end_of(&mut command, suite.longest) {
            Ok(Ending::Failed(by)) => return (Verdict::Killed, by),
            Ok(Ending::Passed) => verdict = Verdict::Survived,
            Err(error) => eprintln!("{}: {error}", mutant.number),
        }
    }
    (verdict, String::new())
}

enum Ending {
    Passed,
    /// The name of the failed test, or how the tests ended.
    Failed(String),
}

/// Runs the tests until one fails or they take too long.
fn end_of(command: &mut Command, longest: Duration) -> Result<Ending, Failure> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null()).spawn()?;
    let (failed, by) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(String::new())));
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let reader = thread::spawn({
        let (failed, by) = (failed.clone(), by.clone());
        move || {
            for line in lines.map_while(Result::ok) {
                if let Some(test) = line.strip_suffix(" ... FAILED") {
                    *by.lock().unwrap_or_else(PoisonError::into_inner) = test.to_owned();
                    failed.store(true, Relaxed);
                }
            }
        }
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if failed.load(Relaxed) || start.elapsed() > longest {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(10));
    };
    _ = reader.join();
    let by = by.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(match status {
        Some(status) if status.success() && by.is_empty() => Ending::Passed,
        _ if !by.is_empty() => Ending::Failed(by),
        None => Ending::Failed("it takes too long".to_owned()),
        Some(status) => Ending::Failed(status.to_string()),
    })
}

/// The stack size of threads in bytes: small, so that endless recursion ends soon.
const STACK: &str = "4194304";
