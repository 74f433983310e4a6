//! The table of limits in docs/operations.md names every setting that exists, and no other.

use std::{collections::BTreeSet, fs};

use crate::{program::binary, support};

/// The settings in backticks that contain `mark`, one set per column.
fn named(mark: &str, column: usize) -> BTreeSet<String> {
    let page = fs::read_to_string("docs/operations.md").unwrap();
    let (_, after) = page.split_once("<!-- limits -->").expect("the mark before the table");
    let rows = after.trim_start().lines().take_while(|line| line.starts_with('|')).skip(2);
    let cells = rows.map(|row| row.split('|').nth(column + 1).unwrap().to_owned());
    let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    words.filter(|word| word.contains(mark)).collect()
}

#[test]
fn the_table_of_limits_names_the_settings_that_exist() {
    let named = named("", 1);
    let api = fs::read_to_string("docs/public-api.txt").unwrap().replace("<S>", "");
    for setting in &named {
        assert!(api.contains(&format!("::{setting}")), "there is no {setting}");
    }
    let is_limit = |name: &str| name.starts_with("max_") || name.ends_with("_timeout");
    let types = ["HubOptions", "SseOptions", "LongPollOptions", "EventService", "PublishService", "MemoryStore"];
    for line in api.lines().filter_map(|line| line.strip_prefix("pub fn tower_events::")) {
        let path = line.split(['(', '<']).next().unwrap();
        let Some((owner, name)) = path.rsplit_once("::") else { continue };
        let owner = owner.rsplit("::").next().unwrap();
        // The largest append is a limit of the application's own code.
        if types.contains(&owner) && is_limit(name) && name != "max_append_bytes" {
            assert!(named.contains(&format!("{owner}::{name}")), "{owner}::{name} is not in the table");
        }
    }
}

#[test]
fn the_table_of_limits_names_the_options_of_the_server() {
    support::arm_deadline();
    let help = std::process::Command::new(binary("server")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options: BTreeSet<_> =
        help.split_whitespace().filter(|word| word.starts_with("--")).map(str::to_owned).collect();
    let named = named("--", 3);
    for option in &named {
        assert!(options.contains(option), "there is no {option}");
    }
    for option in options.iter().filter(|option| option.contains("max") || option.ends_with("timeout")) {
        assert!(named.contains(option), "{option} is not in the table");
    }
}
