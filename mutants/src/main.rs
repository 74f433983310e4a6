//! Breaks the crate in many small ways, one at a time, and lists the changes that no test detects. See `mutants/README.md`.

mod build;
mod rewrite;
mod run;

use std::{collections::BTreeMap, env, fs, io, path::Path};

use crate::{
    build::{Built, build},
    rewrite::Mutant,
    run::{Verdict, run},
};

/// A group of sources, and the tests that must detect changes in them.
struct Group {
    name: &'static str,
    /// The files below `src`, and the folders of the same names.
    sources: &'static [&'static str],
    /// The test suites, fastest first: a test binary and its arguments each.
    suites: &'static [&'static str],
}

const GROUPS: &[Group] = &[
    Group {
        name: "hub",
        sources: &["hub"],
        suites: &[
            "lib hub::",
            "hub --skip simulation::",
            "sse_wire",
            "longpoll_wire",
            "shared_answers",
            "longpoll_heads",
            "draining",
            "hub simulation::",
        ],
    },
    Group {
        name: "cursor",
        sources: &["cursor"],
        suites: &["lib cursor::", "starts_and_cursors", "longpoll_heads", "lib"],
    },
    Group {
        name: "request",
        sources: &["request"],
        suites: &["lib request::", "bad_input", "starts_and_cursors", "longpoll_wire", "settings", "lib"],
    },
    Group {
        name: "longpoll",
        sources: &["longpoll"],
        suites: &[
            "lib longpoll::",
            "longpoll_wire",
            "longpoll_heads",
            "shared_answers",
            "settings",
            "bad_input",
            "draining",
            "allocations waiting_polls a_parked_poll",
        ],
    },
    Group {
        name: "sse",
        sources: &["sse", "encode", "retry"],
        suites: &[
            "lib sse::",
            "lib encode::",
            "lib retry::",
            "sse_wire",
            "sse_marks",
            "longpoll_wire",
            "longpoll_heads",
            "shared_answers",
            "settings",
            "bad_input",
            "draining",
            "sse_data",
            "allocations an_idle_stream a_delivery",
            "many_readers a_stream_that a_page the_body",
        ],
    },
    Group {
        name: "store",
        sources: &["store"],
        suites: &[
            "lib store::",
            "lib stores::memory",
            "memory",
            "conformance",
            "file forked_processes",
            "hub --skip simulation::",
        ],
    },
    Group {
        name: "memory",
        sources: &["stores/memory"],
        suites: &["lib stores::memory", "memory", "allocations", "conformance"],
    },
    Group {
        name: "live",
        sources: &[
            "compaction",
            "filter",
            "grant",
            "snapshot",
            "hub/access",
            "hub/catch_up",
            "hub/fold",
            "hub/recheck",
            "hub/revocation_follower",
            "hub/revoke",
            "hub/snapshot_calls",
            "hub/snapshot_flights",
            "hub/snapshot_request",
            "hub/subjects",
        ],
        suites: &[
            "lib compaction:: hub::access hub::fold hub::snapshot hub::subjects",
            "filters",
            "grants",
            "compaction",
            "snapshots",
            "hub compaction::",
        ],
    },
    Group { name: "runs", sources: &["runs"], suites: &["lib runs::", "runs"] },
];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let asked: Vec<_> = env::args().skip(1).collect();
    let again = asked.iter().any(|word| word == "--again");
    let below = asked.iter().find(|word| word.starts_with("src/")).map_or("src/", String::as_str);
    let groups: Vec<_> = GROUPS.iter().filter(|group| asked.iter().any(|asked| asked == group.name)).collect();
    if groups.is_empty() {
        let names: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
        return Err(format!(
            "which? some of {}; `--again` runs survivors again, and `src/...` only those of files whose paths begin so",
            names.join(", ")
        )
        .into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let folder = root.join("target/mutants");
    let sources: Vec<_> = GROUPS.iter().flat_map(|group| group.sources).copied().collect();
    let binaries = groups.iter().flat_map(|group| group.suites).filter_map(|suite| suite.split(' ').next());
    let built = build(root, &folder, &sources, &binaries.collect())?;
    groups.into_iter().try_for_each(|group| judge(group, &folder, &built, below, again))
}

/// Runs the mutants of a group that have no result yet, and lists those that were not killed.
fn judge(group: &Group, folder: &Path, built: &Built, below: &str, again: bool) -> Result<(), Failure> {
    let file = folder.join(format!("{}.tsv", group.name));
    let is_ours = |mutant: &&Mutant| {
        mutant.file.starts_with(below) && group.sources.iter().any(|source| is_of(&mutant.file, source))
    };
    let mutants: Vec<_> = built.mutants.iter().filter(is_ours).cloned().collect();
    let before = known(&file, built)?;
    let is_open = |verdict: Option<&Verdict>| verdict.is_none_or(|verdict| again && *verdict != Verdict::Killed);
    let open: Vec<_> = mutants.iter().filter(|mutant| is_open(before.get(&mutant.number))).cloned().collect();
    eprintln!("{}: {} mutants, {} to run", group.name, mutants.len(), open.len());
    run(folder, &file, built, group.suites, open)?;
    let known = known(&file, built)?;
    let verdicts = mutants.iter().filter_map(|mutant| Some((mutant, *known.get(&mutant.number)?)));
    let mut counts = [0; 3];
    for (mutant, verdict) in verdicts {
        counts[verdict as usize] += 1;
        if verdict != Verdict::Killed {
            println!("{}\t{verdict:?}\t{}:{}\t{}", mutant.number, mutant.file, mutant.line, mutant.what);
        }
    }
    let [killed, survived, unreached] = counts;
    println!("{}: {} mutants, {killed} killed, {survived} survived, {unreached} unreached", group.name, mutants.len());
    Ok(())
}

/// Whether `file` is `source.rs` or in the folder of that name.
fn is_of(file: &str, source: &str) -> bool {
    let rest = file.strip_prefix("src/").and_then(|file| file.strip_prefix(source));
    rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// The results of earlier runs, unless the sources have changed since.
fn known(file: &Path, built: &Built) -> Result<BTreeMap<usize, Verdict>, Failure> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    if text.lines().next() != Some(&built.sources) {
        fs::write(file, format!("{}\n", built.sources))?;
        return Ok(BTreeMap::new());
    }
    let read = |line: &str| {
        let mut words = line.split('\t');
        Some((words.next()?.parse().ok()?, Verdict::named(words.next()?)?))
    };
    Ok(text.lines().skip(1).filter_map(read).collect())
}
