//! A copy of the workspace that contains all mutants, compiled once. Mutants that do not compile are removed until the rest does.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    fs,
    hash::{Hash, Hasher},
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    Failure, is_of,
    rewrite::{Mutant, rewrite},
};

pub struct Built {
    pub mutants: Vec<Mutant>,
    /// The test binaries by name; `lib` has the unit tests.
    pub binaries: BTreeMap<String, PathBuf>,
    /// A hash of the mutated sources without their tests. The numbers of mutants are valid only for the same hash.
    pub sources: String,
    /// The directory in which the tests run.
    pub copy: PathBuf,
}

/// The files of the modules that `file` declares under a `cfg`, such as its tests: they are not mutated.
fn conditional_modules(file: &str, text: &str) -> Result<Vec<String>, Failure> {
    let folder = file.strip_suffix(".rs").unwrap_or(file);
    let items = syn::parse_file(text)?.items.into_iter();
    let modules = items.filter_map(|item| if let syn::Item::Mod(module) = item { Some(module) } else { None });
    let conditional = modules.filter(|module| module.attrs.iter().any(|attribute| attribute.path().is_ident("cfg")));
    Ok(conditional.map(|module| format!("{folder}/{}.rs", module.ident)).collect())
}

/// The number and byte range of each mutant in the rewritten text, by file.
type Places = BTreeMap<String, Vec<(usize, Range<usize>)>>;

pub fn build(root: &Path, folder: &Path, sources: &[&str], binaries: &BTreeSet<&str>) -> Result<Built, Failure> {
    let copy = folder.join("copy");
    let listed = Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root).output()?;
    let listed = String::from_utf8(listed.stdout)?;
    let mutated: Vec<_> = listed.lines().filter(|file| sources.iter().any(|source| is_of(file, source))).collect();
    for file in
        listed.lines().filter(|file| !mutated.contains(file) && *file != "src/lib.rs" && root.join(file).is_file())
    {
        write(&copy.join(file), &fs::read(root.join(file))?)?;
    }
    let lib = fs::read_to_string(root.join("src/lib.rs"))?;
    // `mod switch` has to follow all inner attributes, which include the crate's documentation.
    let first_item = ["\nmod ", "\npub mod "].into_iter().filter_map(|word| lib.find(word)).min();
    let first_item = first_item.ok_or("src/lib.rs has no modules")?;
    let (attributes, items) = lib.split_at(first_item);
    write(
        &copy.join("src/lib.rs"),
        format!("#![allow(warnings, clippy::all)]\n{attributes}\nmod switch;{items}").as_bytes(),
    )?;
    write(&copy.join("src/switch.rs"), include_bytes!("switch.rs"))?;

    let texts: Vec<_> =
        mutated.iter().map(|file| Ok((*file, fs::read_to_string(root.join(file))?))).collect::<Result<_, Failure>>()?;
    let conditional: Vec<_> =
        texts.iter().map(|(file, text)| conditional_modules(file, text)).collect::<Result<_, _>>()?;
    let conditional: BTreeSet<_> = conditional.into_iter().flatten().collect();
    let (texts, unchanged): (Vec<_>, Vec<_>) = texts.into_iter().partition(|(file, _)| !conditional.contains(*file));
    for (file, text) in unchanged {
        write(&copy.join(file), text.as_bytes())?;
    }
    let mut hasher = DefaultHasher::new();
    for (file, text) in &texts {
        (file, without_tests(text)).hash(&mut hasher);
    }
    let sources = format!("{:016x}", hasher.finish());
    let list = folder.join(format!("left_out.{sources}"));
    let mut left_out: BTreeSet<usize> =
        fs::read_to_string(&list).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect();
    loop {
        let (mutants, places) = mutate(&texts, &copy, &left_out)?;
        eprintln!("{} mutants, {} left out", mutants.len(), left_out.len());
        let checked = cargo(&copy, &["check", "--lib", "--features", "file,testing"])?;
        let faulty = faulty(&checked, &places)?;
        if faulty.is_empty() {
            let mut arguments = vec!["test", "--no-run", "--lib"];
            arguments.extend(binaries.iter().filter(|name| **name != "lib").flat_map(|name| ["--test", name]));
            let tests = cargo(&copy, &arguments)?;
            let executable = |message: &Value| {
                let target = &message["target"];
                let name = if target["kind"][0] == "test" { target["name"].as_str()? } else { "lib" };
                Some((name.to_owned(), message["executable"].as_str()?.into()))
            };
            let binaries = tests.iter().filter_map(executable).collect();
            return Ok(Built { mutants, binaries, sources, copy });
        }
        left_out.extend(faulty);
        let numbers: Vec<_> = left_out.iter().map(ToString::to_string).collect();
        fs::write(&list, numbers.join("\n"))?;
    }
}

/// The part of a file that is mutated. Tests are at the end of a file.
fn without_tests(text: &str) -> &str {
    text.split_once("\nmod tests {").map_or(text, |(code, _)| code)
}

fn mutate(texts: &[(&str, String)], copy: &Path, left_out: &BTreeSet<usize>) -> Result<(Vec<Mutant>, Places), Failure> {
    let (mut mutants, mut places, mut next) = (Vec::new(), Places::new(), 1);
    for (file, text) in texts {
        let rewritten = rewrite(file, text, next, &|number| left_out.contains(&number))?;
        next = rewritten.next;
        write(&copy.join(file), rewritten.text.as_bytes())?;
        places.insert((*file).to_owned(), rewritten.places);
        mutants.extend(rewritten.mutants);
    }
    Ok((mutants, places))
}

/// Writes a file only if its contents differ, so that cargo recompiles as little as possible.
fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if fs::read(file).is_ok_and(|same| same == bytes) {
        return Ok(());
    }
    fs::create_dir_all(file.parent().ok_or("no folder")?)?;
    Ok(fs::write(file, bytes)?)
}

/// Runs cargo and returns its JSON messages. The target folder is a separate one: cargo identifies packages by their paths
/// within the workspace, and so would otherwise mistake the test binaries of the workspace itself for those of the copy.
fn cargo(copy: &Path, arguments: &[&str]) -> Result<Vec<Value>, Failure> {
    let output = Command::new("cargo")
        .args(arguments)
        .args(["--locked", "--message-format=json"])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", copy.with_file_name("target"))
        .env("CARGO_INCREMENTAL", "0")
        .stderr(Stdio::inherit())
        .output()?;
    Ok(String::from_utf8(output.stdout)?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The mutants that cause the errors: for each error, the smallest one at its position.
fn faulty(messages: &[Value], places: &Places) -> Result<BTreeSet<usize>, Failure> {
    let mut faulty = BTreeSet::new();
    let errors = messages.iter().map(|message| &message["message"]).filter(|message| message["level"] == "error");
    for error in errors.filter(|error| error["spans"].as_array().is_some_and(|spans| !spans.is_empty())) {
        let children = error["children"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|child| child["spans"].as_array().into_iter().flatten());
        let spans = error["spans"].as_array().into_iter().flatten();
        let (primary, others): (Vec<_>, Vec<_>) = spans.partition(|span| span["is_primary"] == true);
        let mut places = primary.into_iter().chain(others).chain(children).filter_map(|span| smallest(span, places));
        let number = places.next().ok_or_else(|| format!("an error where no mutant is: {}", error["rendered"]))?;
        faulty.insert(number);
    }
    let failed = messages.iter().any(|message| message["reason"] == "build-finished" && message["success"] == false);
    if failed && faulty.is_empty() { Err("the copy does not compile".into()) } else { Ok(faulty) }
}

fn smallest(span: &Value, places: &Places) -> Option<usize> {
    let places = places.get(span["file_name"].as_str()?)?;
    let at = |name: &str| usize::try_from(span[name].as_u64()?).ok();
    let (start, end) = (at("byte_start")?, at("byte_end")?);
    let around = places.iter().filter(|(_, place)| place.start <= start && end <= place.end);
    let within = places.iter().filter(|(_, place)| start <= place.start && place.end <= end);
    let around = around.min_by_key(|(_, place)| place.len());
    let nearest = around.or_else(|| within.min_by_key(|(_, place)| place.len()));
    // The error may be at a method call on a mutated expression whose type has changed, so the mutant ends just before.
    let before = places.iter().filter(|(_, place)| place.end <= start && start - place.end < 100);
    nearest.or_else(|| before.max_by_key(|(_, place)| (place.end, place.len()))).map(|(number, _)| *number)
}
