//! Medians and spreads, and a temporary directory per measurement.

use std::path::{Path, PathBuf};

/// The median and range of some rounds.
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
        Self { median: at(0.5), least: at(0.0), most: at(1.0) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.median < 100.0 {
            write!(f, "{:>8.2} ({:.2} - {:.2})", self.median, self.least, self.most)
        } else {
            write!(f, "{:>8.0} ({:.0} - {:.0})", self.median, self.least, self.most)
        }
    }
}

pub(crate) fn row(what: &str, shown: impl std::fmt::Display) {
    println!("  {what:<54} {shown}");
}

/// A directory that is removed when dropped.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        let path =
            std::env::temp_dir().join(format!("tower-events-bench-{}-{}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("events.db")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The size of a file, in MiB.
pub(crate) fn size(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(0.0, |metadata| metadata.len() as f64 / f64::from(1 << 20))
}

pub(crate) fn with_suffix(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    path.into()
}
