//! Checks on the source text that modules import only from lower layers.
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
    &["stores", "hub"],
    // The HTTP edge.
    &["body", "request", "retry"],
    &["problem", "encode"],
    &["edge"],
    // The services.
    &["sse", "longpoll", "publish"],
    &["events"],
    &["layer"],
];

/// The modules that must not use HTTP types.
const WITHOUT_HTTP: &[&str] = &["error", "channel", "event", "cursor", "store", "stores", "hub", "testing"];

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
fn only_the_edge_and_the_services_use_http() {
    let modules = modules();
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
    let (mut depth, mut item, mut names) = (0, String::new(), Vec::new());
    for c in list.chars() {
        match c {
            ',' if depth == 0 => names.extend(name(&std::mem::take(&mut item))),
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            c if depth == 0 => item.push(c),
            _ => {}
        }
    }
    names.extend(name(&item));
    names
}

fn name(text: &str) -> Option<String> {
    let name: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}
