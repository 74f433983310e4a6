//! What the newest release promised: an item that it had may be gone only in a version that is not compatible with it.

use std::{error::Error, path::Path, process::Command};

/// A release: its tag, such as `v1.2.3`, and its list of the public API.
pub(crate) struct Release {
    pub(crate) tag: String,
    list: String,
}

impl Release {
    /// The newest release that this commit descends from; `None` before the first.
    pub(crate) fn newest(root: &Path, list: &str) -> Result<Option<Self>, Box<dyn Error>> {
        let tags = git(root, &["tag", "--merged", "HEAD", "--sort=-version:refname", "--list", "v[0-9]*"])?;
        let Some(tag) = tags.lines().next() else { return Ok(None) };
        Ok(Some(Self { tag: tag.to_owned(), list: git(root, &["show", &format!("{tag}:{list}")])? }))
    }

    /// The items that this version must still have and does not.
    pub(crate) fn missing<'a>(&'a self, version: &str, now: &str) -> Vec<&'a str> {
        if compatible(self.tag.trim_start_matches('v')) != compatible(version) {
            return Vec::new();
        }
        self.list.lines().filter(|line| !now.lines().any(|other| other == *line)).collect()
    }
}

/// The part of a version that compatible versions share: up to the first number that is not 0.
fn compatible(version: &str) -> Vec<&str> {
    let mut numbers = version.split('.');
    let zeros = version.split('.').take_while(|number| *number == "0").count();
    numbers.by_ref().take(zeros + 1).collect()
}

fn git(root: &Path, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new("git").args(arguments).current_dir(root).output()?;
    if !output.status.success() {
        return Err(format!("git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(tag: &str) -> Release {
        Release { tag: tag.to_owned(), list: "a\nb\n".to_owned() }
    }

    #[test]
    fn a_compatible_version_has_everything_that_the_release_had() {
        for (tag, version) in [("v1.2.3", "1.3.0"), ("v0.1.0", "0.1.0"), ("v0.1.0", "0.1.7"), ("v0.0.3", "0.0.3")] {
            assert_eq!(release(tag).missing(version, "b\nc\n"), ["a"], "{tag} {version}");
            assert!(release(tag).missing(version, "a\nb\nc\n").is_empty(), "{tag} {version}");
        }
    }

    #[test]
    fn an_incompatible_version_need_not() {
        for (tag, version) in [("v1.2.3", "2.0.0"), ("v0.1.0", "0.2.0"), ("v0.9.0", "1.0.0"), ("v0.0.3", "0.0.4")] {
            assert!(release(tag).missing(version, "b\nc\n").is_empty(), "{tag} {version}");
        }
    }
}
