//! Checks on the source text that modules import only from lower layers, and that the files of a module import each other in
//! one direction.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The modules from the bottom up. A module may import only modules on earlier lines, not others on its own line.
const LAYERS: &[&[&str]] = &[
    // The vocabulary.
    &["error"],
    &["channel", "event"],
    &["cursor"],
    // The contract; then the stores, and the hub.
    &["store"],
    &["compaction", "filter", "snapshot"],
    &["stores", "hub"],
    // What is built on the hub without HTTP.
    &["grant", "runs"],
    // The HTTP edge.
    &["body", "request", "retry"],
    &["problem", "encode"],
    &["edge"],
    // The services.
    &["sse", "longpoll", "publish"],
    &["event_service"],
    &["layer", "bearer", "axum", "metrics"],
];

/// The modules that must not use HTTP types.
const WITHOUT_HTTP: &[&str] =
    &["error", "channel", "event", "cursor", "store", "snapshot", "stores", "hub", "metrics", "runs", "testing"];

/// Files of those modules that may, because what they read is a body.
const WITH_BODIES: &[&str] = &["testing/sse_reader"];

/// What `testing` may import. The suite is for any store: besides the vocabulary and the contract it uses one store in its own
/// examples, and its own macro, which is exported at the root.
const OF_TESTING: &[&str] = &["channel", "conformance_tests", "cursor", "error", "event", "store", "stores"];

#[test]
fn modules_import_only_from_lower_layers() {
    let modules = modules();
    let known: BTreeSet<_> = LAYERS.iter().copied().flatten().copied().chain(["testing"]).collect();
    assert_eq!(modules.keys().map(String::as_str).collect::<BTreeSet<_>>(), known, "every module has a layer");
    for (at, layer) in LAYERS.iter().enumerate() {
        let below: BTreeSet<_> = LAYERS.iter().take(at).copied().flatten().copied().collect();
        for module in *layer {
            let above: Vec<_> = imports(&modules[*module]).into_iter().filter(|name| name != module).collect();
            let above: Vec<_> = above.iter().filter(|name| !below.contains(name.as_str())).collect();
            assert!(above.is_empty(), "`{module}` must not import {above:?}");
        }
    }
    let of_testing = imports(&modules["testing"]);
    let too_much: Vec<_> =
        of_testing.iter().filter(|name| *name != "testing" && !OF_TESTING.contains(&name.as_str())).collect();
    assert!(too_much.is_empty(), "`testing` must not import {too_much:?}");
}

#[test]
fn the_files_of_a_module_do_not_import_each_other_in_a_circle() {
    let files = files();
    let mut imports: BTreeMap<_, _> =
        files.iter().map(|(file, source)| (file.as_str(), imported_files(file, source, &files))).collect();
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 500, "imports are found");
    // Files that import none of the remaining files are in no cycle.
    while let Some(file) = imports.iter().find(|(_, to)| to.iter().all(|to| !imports.contains_key(to.as_str()))) {
        let file = *file.0;
        imports.remove(file);
    }
    assert!(imports.is_empty(), "circles, and what leads to them: {imports:#?}");
}

#[test]
fn only_the_edge_and_the_services_use_http() {
    let mut modules = modules();
    for file in WITH_BODIES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file).with_extension("rs");
        let source = code(&fs::read_to_string(path).unwrap());
        let module = modules.get_mut(file.split('/').next().unwrap()).unwrap();
        assert!(module.contains(&source) && source.contains("http_body::"), "`{file}` needs no exception");
        *module = module.replace(&source, "");
    }
    for module in WITHOUT_HTTP {
        for name in ["http::", "http_body::", "http_body_util::", "tower_service::", "tower_layer::"] {
            assert!(!modules[*module].contains(name), "`{module}` must not use `{name}`");
        }
    }
}

#[test]
fn imports_are_found_in_lists_and_paths_but_not_in_comments() {
    let source = code(
        "use crate::{\n    body::{self, Body},\n    hub::Hub, // crate::no\n};\nlet x = crate::sse::answer();\n/// crate::no",
    );
    assert_eq!(imports(&source).into_iter().collect::<Vec<_>>(), ["body", "hub", "sse"]);
}

#[test]
fn imported_files_are_found_along_their_paths() {
    let files = ["hub", "hub/ring", "hub/topic", "hub/topic/race", "hub/topic/waiters", "store"];
    let files: BTreeMap<_, _> = files.map(|file| (file.to_owned(), String::new())).into();
    let found = |source: &str| imported_files("hub/topic", source, &files).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(found("use super::{Hub, ring::{self, Ring}};"), "hub hub/ring");
    assert_eq!(
        found("use self::waiters::Slot; use crate::{hub::ring::Ring, store::Page};"),
        "hub/ring hub/topic/waiters"
    );
    assert_eq!(found("super::super::hub::topic::race::run()"), "hub/topic/race");
    assert_eq!(
        found("pub use self::waiters::Slot; pub(in crate::hub) fn new()"),
        "",
        "neither re-exports nor visibility"
    );
}

/// The source code of each file by its path below `src`, without comments, tests and the files of tests.
fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.with_extension("").strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, code(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let of_tests: Vec<_> = files.iter().flat_map(|(file, source)| test_modules(file, source)).collect();
    files.retain(|file, _| !of_tests.contains(file));
    let without_tests = |source: &str| source.split("\nmod tests {").next().unwrap_or_default().to_owned();
    files.into_iter().map(|(file, source)| (file, without_tests(&source))).collect()
}

/// The files that `file` declares as modules for tests only.
fn test_modules(file: &str, source: &str) -> Vec<String> {
    let (mut is_of_tests, mut modules) = (false, Vec::new());
    for line in source.lines() {
        if line.starts_with("#[") {
            is_of_tests |= line.starts_with("#[cfg(") && line.contains("(test");
            continue;
        }
        if let Some(name) = line.strip_prefix("mod ").and_then(|line| line.strip_suffix(';')).filter(|_| is_of_tests) {
            modules.push(format!("{file}/{name}"));
        }
        is_of_tests = false;
    }
    modules
}

/// The files of the same module that `source`, which is that of `file`, imports. A re-export is no import: it makes a name
/// public, and nothing of the file itself needs it.
fn imported_files(file: &str, source: &str, files: &BTreeMap<String, String>) -> BTreeSet<String> {
    let statements = source.split_inclusive(';').filter(|statement| {
        let statement = statement.trim_start();
        !(statement.starts_with("pub use ") || statement.starts_with("pub(") && statement.contains(") use "))
    });
    let own: Vec<_> = file.split('/').collect();
    let found = statements.flat_map(paths).filter_map(|path| {
        let ups = path.iter().take_while(|segment| *segment == "super").count();
        let mut at: Vec<_> = match path[0].as_str() {
            "crate" => Vec::new(),
            _ => own.iter().take(own.len().checked_sub(ups)?).map(ToString::to_string).collect(),
        };
        for segment in path.iter().skip_while(|segment| matches!(segment.as_str(), "crate" | "self" | "super")) {
            let below = at.iter().chain([segment]).cloned().collect::<Vec<_>>();
            if !files.contains_key(&below.join("/")) {
                break;
            }
            at = below;
        }
        let is_of_the_module = at.first().is_some_and(|module| module == own[0]);
        Some(at.join("/")).filter(|imported| is_of_the_module && imported != file)
    });
    found.collect()
}

/// The paths that begin with `crate::`, `self::` or `super::`, with their lists expanded.
fn paths(source: &str) -> Vec<Vec<String>> {
    let starts = ["crate::", "self::", "super::"].into_iter().flat_map(|start| source.match_indices(start));
    let starts = starts.map(|(at, _)| source.split_at(at));
    let is_start = |before: &str| {
        !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':')) && !before.ends_with("pub(in ")
    };
    starts.filter(|(before, _)| is_start(before)).flat_map(|(_, path)| expand(path)).collect()
}

fn expand(path: &str) -> Vec<Vec<String>> {
    if let Some(list) = path.trim_start().strip_prefix('{') {
        return items(list).iter().flat_map(|item| expand(item)).collect();
    }
    let Some(first) = name(path) else { return Vec::new() };
    match path.trim_start()[first.len()..].strip_prefix("::") {
        Some(rest) => expand(rest).into_iter().map(|rest| [vec![first.clone()], rest].concat()).collect(),
        None => vec![vec![first]],
    }
}

/// The source code of each module: its files joined, without comments.
fn modules() -> BTreeMap<String, String> {
    let mut modules = BTreeMap::new();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut modules);
    modules
}

fn gather(folder: &Path, module: Option<&str>, modules: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = module.unwrap_or(&stem);
        if path.is_dir() {
            gather(&path, Some(module), modules);
        } else if module != "lib" && path.extension().is_some_and(|extension| extension == "rs") {
            *modules.entry(module.to_owned()).or_default() += &code(&fs::read_to_string(&path).unwrap());
        }
    }
}

fn code(source: &str) -> String {
    source.lines().flat_map(|line| [line.split("//").next().unwrap_or_default(), "\n"]).collect()
}

/// The first path segment after each `crate::`, including those in braces.
fn imports(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, before) in source.match_indices("crate::") {
        let rest = &source[at + before.len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(first_names(list)),
            None => found.extend(name(rest)),
        }
    }
    found
}

/// The first path segments of a list, up to its closing brace.
fn first_names(list: &str) -> Vec<String> {
    items(list).iter().filter_map(|item| name(item)).collect()
}

/// The items of a list, up to its closing brace.
fn items(list: &str) -> Vec<String> {
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in list.chars() {
        match c {
            ',' if depth == 0 => items.push(String::new()),
            '}' if depth == 0 => break,
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                items.last_mut().unwrap().push(c);
            }
        }
    }
    items
}

fn name(text: &str) -> Option<String> {
    let name: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}
