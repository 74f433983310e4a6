//! Checks that docs/operations.md lists every line that the crate and the example server log at `info` or above.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// One kind of line: where it comes from, its level, its text with `…` for what varies, and its fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    target: String,
    level: String,
    message: String,
    fields: BTreeSet<String>,
}

#[test]
fn the_documentation_lists_every_log_line_with_its_fields() {
    let (in_source, listed) = (lines_of_the_source(), lines_of_the_documentation());
    assert!(in_source.len() > 30, "lines are found: {in_source:#?}");
    let missing: Vec<_> = in_source.difference(&listed).collect();
    let outdated: Vec<_> = listed.difference(&in_source).collect();
    assert!(missing.is_empty() && outdated.is_empty(), "missing: {missing:#?}, outdated: {outdated:#?}");
}

#[test]
fn fields_are_called_the_same_everywhere() {
    const FIELDS: [&str; 19] = [
        // What an error says, and why it happened.
        "error",
        "source",
        "calls",
        "failures",
        "seconds",
        // What it concerns.
        "address",
        "channel",
        "file",
        "stream",
        "compaction",
        "outcome",
        // Of one line each.
        "frames",
        "full",
        "holder",
        "kept_for_seconds",
        "limits",
        "policy",
        "reader",
        "broken",
    ];
    for line in lines_of_the_source() {
        let unknown: Vec<_> = line.fields.iter().filter(|field| !FIELDS.contains(&field.as_str())).collect();
        assert!(unknown.is_empty(), "{line:?}: another name exists for {unknown:?}, or add it");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn lines_of_the_documentation() -> BTreeSet<Line> {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let (_, table) = text.split_once("<!-- log lines -->").unwrap();
    let rows = table.lines().skip_while(|row| !row.starts_with("|---")).skip(1).take_while(|row| row.starts_with('|'));
    rows.map(|row| {
        let [_, target, level, message, fields, _, _, _] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let fields =
            fields.split(", ").filter(|field| !field.is_empty()).map(|field| field.trim_matches('`').to_owned());
        let plain = |text: &str| text.trim_matches('`').to_owned();
        Line { target: plain(target), level: plain(level), message: message.replace('`', ""), fields: fields.collect() }
    })
    .collect()
}

fn lines_of_the_source() -> BTreeSet<Line> {
    let mut files = Vec::new();
    for folder in ["src", "examples/server", "examples/common"] {
        rust_files(&root().join(folder), &mut files);
    }
    files.iter().flat_map(|file| lines_of(file)).collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn lines_of(file: &Path) -> Vec<Line> {
    let (source, target) = (fs::read_to_string(file).unwrap(), target_of(file));
    let calls = source.split("tracing::").skip(1).filter_map(|rest| {
        let (level, rest) = rest.split_once("!(")?;
        ["error", "warn", "info"].contains(&level).then(|| (level, arguments(rest)))
    });
    calls
        .map(|(level, arguments)| {
            let (message, fields) = arguments.split_last().unwrap();
            let fields = fields.iter().map(|field| field_name(field)).collect();
            Line { target: target.clone(), level: level.to_owned(), message: message_of(message), fields }
        })
        .collect()
}

/// The first parts of the module's path, which are the same whatever files the module has.
fn target_of(file: &Path) -> String {
    let parts: Vec<_> = file
        .strip_prefix(root())
        .unwrap()
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["src", "stores", store, ..] => format!("tower_events::stores::{store}"),
        ["src", module, ..] => format!("tower_events::{module}"),
        _ => "server".to_owned(),
    }
}

/// The arguments of a call whose opening parenthesis was cut off.
fn arguments(rest: &str) -> Vec<String> {
    let (mut all, mut argument, mut depth, mut is_text, mut is_escaped) = (Vec::new(), String::new(), 0, false, false);
    for letter in rest.chars() {
        match letter {
            _ if is_escaped => {}
            '"' => is_text = !is_text,
            _ if is_text => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(std::mem::take(&mut argument).trim().to_owned());
                continue;
            }
            _ => {}
        }
        is_escaped = is_text && letter == '\\' && !is_escaped;
        argument.push(letter);
    }
    all.push(argument.trim().to_owned());
    all.retain(|argument| !argument.is_empty());
    all
}

/// `%error`, or `file = %path`.
fn field_name(field: &str) -> String {
    field.split('=').next().unwrap().trim().trim_start_matches(['%', '?']).to_owned()
}

/// The text of a literal; what is inserted into it becomes `…`.
fn message_of(literal: &str) -> String {
    let text = literal.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let text = text.unwrap_or_else(|| panic!("the message comes last: {literal}"));
    // A backslash at the end of a line drops it and the spaces that follow.
    let (first, rest) = text.split_once("\\\n").map_or((text, ""), |(first, rest)| (first, rest.trim_start()));
    let text = format!("{first}{rest}").replace('`', "");
    let mut parts = text.split('{');
    let begin = parts.next().unwrap().to_owned();
    parts.fold(begin, |text, part| text + "…" + part.split_once('}').unwrap().1)
}
