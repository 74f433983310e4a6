//! Lists the public API of the crate in `docs/public-api.txt`, so that a change of the API shows up in review. See
//! `api/README.md`.

mod release;

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use public_api::PublicApi;

use self::release::Release;

const LIST: &str = "docs/public-api.txt";

/// The crates whose types may be in the API: a breaking change in one of them breaks this crate's API too. The drivers of
/// stores are not among them, so that a new major version of a driver does not force one of this crate.
const SHOWN: [&str; 12] = [
    "alloc",
    "axum_core",
    "bytes",
    "core",
    "futures_core",
    "http",
    "http_body",
    "serde_core",
    "std",
    "tower_events",
    "tower_layer",
    "tower_service",
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let (list, now) = (root.join(LIST), listed(root)?);
    let foreign = foreign(&now);
    if !foreign.is_empty() {
        return Err(format!("types of {foreign:?} are in the public API").into());
    }
    match env::args().nth(1).as_deref() {
        None => fs::write(list, now)?,
        Some("--check") => {
            let known = fs::read_to_string(list)?;
            let changed = changes(&known, &now);
            if !changed.is_empty() {
                eprintln!("the public API is not as {LIST} has it; `cargo run -p api` writes it anew:");
                changed.iter().for_each(|line| eprintln!("{line}"));
                return Ok(ExitCode::FAILURE);
            }
            return compare_with_release(root, &now);
        }
        Some(other) => return Err(format!("{other}? Only `--check` is known").into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails when something is gone that the newest release had, and the version does not say so.
fn compare_with_release(root: &Path, now: &str) -> Result<ExitCode, Box<dyn Error>> {
    let Some(release) = Release::newest(root, LIST)? else {
        println!("there is no release yet (a tag `v*`) whose API this one has to contain");
        return Ok(ExitCode::SUCCESS);
    };
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    let version = version.ok_or("Cargo.toml has no version")?;
    let missing = release.missing(version, now);
    if missing.is_empty() {
        println!("{version} may follow {}", release.tag);
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{version} is compatible with {} by its number, but lacks:", release.tag);
    missing.iter().for_each(|line| eprintln!("- {line}"));
    Ok(ExitCode::FAILURE)
}

/// Every public item, one per line, without blanket, auto-trait and derived impls.
fn listed(root: &Path) -> Result<String, Box<dyn Error>> {
    let api = public_api::Builder::from_rustdoc_json(rustdoc_json(root)?)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    Ok(lines(&api))
}

fn lines(api: &PublicApi) -> String {
    let items = api.items().map(|item| format!("{item}\n"));
    // Private helpers of macros cannot be named by users.
    items.filter(|item| !item.contains("::__private::")).collect()
}

/// The path of rustdoc's JSON output, which needs unstable options of the compiler.
fn rustdoc_json(root: &Path) -> Result<PathBuf, Box<dyn Error>> {
    // Of this crate only, and in a folder that other builds of the documentation use too: its dependencies are checked once.
    let target = root.join("target/docs");
    let mut cargo = Command::new("cargo");
    // What `cargo run` sets for this tool would make build scripts run again.
    let of_tool = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    let names = env::vars_os().map(|(name, _)| name);
    names.filter(|name| name.to_str().is_some_and(of_tool)).for_each(|name| _ = cargo.env_remove(name));
    let status = cargo
        .args(["rustdoc", "--locked", "--lib", "--package", "tower-events", "--all-features", "--target-dir"])
        .arg(&target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        .current_dir(root)
        .env("RUSTC_BOOTSTRAP", "tower_events")
        .status()?;
    if status.success() { Ok(target.join("doc/tower_events.json")) } else { Err("rustdoc failed".into()) }
}

/// The crates whose types the items name, except those in [`SHOWN`].
fn foreign(list: &str) -> BTreeSet<&str> {
    let words = list.split(|other: char| !other.is_alphanumeric() && other != '_' && other != ':');
    let roots = words.filter_map(|word| Some(word.split_once("::")?.0));
    roots.filter(|root| root.starts_with(char::is_lowercase) && !SHOWN.contains(root)).collect()
}

/// The removed lines, and the added ones.
fn changes(known: &str, now: &str) -> Vec<String> {
    let without = |these: &str, those: &str, sign: char| -> Vec<String> {
        let lines = these.lines().filter(|line| !those.lines().any(|other| other == *line));
        lines.map(|line| format!("{sign} {line}")).collect()
    };
    [without(known, now, '-'), without(now, known, '+')].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_other_crates_are_seen() {
        let list = "pub fn tower_events::a(&self, Option<redis::Client>) -> <Self::Body as http_body::Body>::Data\n";
        assert_eq!(foreign(list).into_iter().collect::<Vec<_>>(), ["redis"]);
    }

    #[test]
    fn what_is_gone_and_what_is_new_is_told() {
        assert!(changes("a\nb\n", "a\nb\n").is_empty());
        assert_eq!(changes("a\nb\n", "b\nc\n"), ["- a", "+ c"]);
    }
}
