//! What the compiler says about mistakes that are easy to make with this crate. Each file in `snippets` makes one. Its first
//! lines are what has to be in the error's first line (`// error:`), and in its notes and labels (`// note:`).
//!
//! The snippets are the programs of a package that `cargo check` compiles here, offline, with the versions in `Cargo.lock`.
//! `trybuild` would compare all that the compiler prints, which changes with its releases; compared here is only the text of
//! this crate, and as much of the compiler's own as says what is wrong. The package depends on this crate without the features
//! of its tests, so that it is compiled within seconds; what it depends on stays compiled between runs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

#[test]
fn the_compiler_says_what_is_wrong_and_what_to_do() {
    let snippets = snippets();
    assert_eq!(snippets.len(), 7);
    let (errors, output) = check(&snippets);
    for (name, path) in &snippets {
        let expected = Expected::read(path);
        let errors = errors.get(name).map_or(&[][..], Vec::as_slice);
        match (expected.error, errors) {
            (Some(headline), [error]) => {
                assert!(error.headline.contains(&headline), "{name}: {headline:?} is not in:\n{}", error.rendered);
                for note in expected.notes {
                    let is_there = error.notes.iter().any(|text| text.contains(&note));
                    assert!(is_there, "{name}: no note has {note:?}:\n{}", error.rendered);
                }
            }
            (None, []) => {}
            (_, errors) => panic!("{name}: {} errors\n{output}", errors.len()),
        }
    }
}

/// The snippets by name.
fn snippets() -> BTreeMap<String, PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes/snippets");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path)).collect()
}

/// What has to be said about a snippet.
struct Expected {
    /// `None`: it has to compile.
    error: Option<String>,
    notes: Vec<String>,
}

impl Expected {
    fn read(snippet: &Path) -> Self {
        let text = fs::read_to_string(snippet).unwrap();
        let after = |mark| move |line: &str| line.strip_prefix(mark).map(str::to_owned);
        let notes = text.lines().filter_map(after("// note: ")).collect();
        Self { error: text.lines().find_map(after("// error: ")), notes }
    }
}

/// An error, as the compiler reports it.
struct Error {
    headline: String,
    /// Of its notes and labels.
    notes: Vec<String>,
    rendered: String,
}

impl Error {
    fn new(message: &Value) -> Self {
        let texts = |list: &str, text: &str| -> Vec<String> {
            message[list].as_array().unwrap().iter().filter_map(|one| Some(one[text].as_str()?.to_owned())).collect()
        };
        Self {
            headline: message["message"].as_str().unwrap().to_owned(),
            notes: [texts("children", "message"), texts("spans", "label")].concat(),
            rendered: message["rendered"].as_str().unwrap().to_owned(),
        }
    }
}

/// The errors of each snippet, and all that cargo prints.
fn check(snippets: &BTreeMap<String, PathBuf>) -> (BTreeMap<String, Vec<Error>>, String) {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mistakes");
    write_package(&package, snippets);
    let cargo = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--bins", "--keep-going", "--message-format=json"])
        .env("CARGO_TARGET_DIR", package.join("target"))
        .current_dir(&package)
        .output()
        .unwrap();
    let mut output = String::from_utf8(cargo.stderr).unwrap();
    let mut errors = BTreeMap::<String, Vec<Error>>::new();
    for line in String::from_utf8(cargo.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        // Without a code it is the count of the errors.
        if line["message"]["level"] == "error" && line["message"]["code"].is_object() {
            let error = Error::new(&line["message"]);
            write!(output, "{}", error.rendered).unwrap();
            errors.entry(line["target"]["name"].as_str().unwrap().to_owned()).or_default().push(error);
        }
    }
    (errors, output)
}

/// Writes a package whose programs are the snippets. It is a workspace of its own: errors in it are no errors of this one.
fn write_package(package: &Path, snippets: &BTreeMap<String, PathBuf>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut manifest = format!(
        "[package]\nname = 'mistakes'\nedition = '2024'\n\n[workspace]\n\n[dependencies]\n\
         axum = {{ version = '*', default-features = false }}\ntower-events = {{ path = '{}' }}\n",
        root.display(),
    );
    for (name, path) in snippets {
        write!(manifest, "\n[[bin]]\nname = '{name}'\npath = '{}'\n", path.display()).unwrap();
    }
    fs::create_dir_all(package).unwrap();
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
}
