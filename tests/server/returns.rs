//! When clients came back after a restart: as a table, and as a plot.

use std::{
    fmt::Write as _,
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

/// The returns of those that were told when to come back, since the signal to stop.
#[derive(Default)]
pub(crate) struct Returns {
    stopped: OnceLock<Instant>,
    told: Mutex<Vec<Duration>>,
}

impl Returns {
    /// The server is told to stop now.
    pub(crate) fn start(&self) {
        self.stopped.set(Instant::now()).unwrap();
    }

    pub(crate) fn has_started(&self) -> bool {
        self.stopped.get().is_some()
    }

    /// A client has connected that was told when to.
    pub(crate) fn told_client(&self) {
        let after = self.stopped.get().unwrap().elapsed();
        self.told.lock().unwrap().push(after);
    }

    pub(crate) fn told(&self) -> Vec<Duration> {
        self.told.lock().unwrap().clone()
    }
}

/// How many of them lie in each tenth of a second.
pub(crate) fn tenths(returns: &[Duration]) -> Vec<usize> {
    let mut tenths = vec![0; returns.iter().map(tenth).max().map_or(0, |last| last + 1)];
    returns.iter().for_each(|after| tenths[tenth(after)] += 1);
    tenths
}

fn tenth(after: &Duration) -> usize {
    usize::try_from(after.as_millis() / 100).unwrap()
}

pub(crate) fn table(tenths: &[usize]) -> String {
    let line = |(tenth, count): (usize, &usize)| {
        format!("{:>4.1} s {count:>5} {}\n", tenth as f64 / 10.0, "#".repeat(count / 4))
    };
    tenths.iter().enumerate().map(line).collect()
}

/// A bar for each tenth of a second.
pub(crate) fn svg(tenths: &[usize], title: &str) -> String {
    let most = tenths.iter().max().copied().unwrap_or(0).max(1);
    let (left, bottom, bar, height) = (48, 230, 10, 160);
    let width = left + tenths.len() * bar + 24;
    let mut body = String::new();
    for (tenth, count) in tenths.iter().enumerate() {
        let (x, tall) = (left + tenth * bar, count * height / most);
        _ = writeln!(body, "<rect x='{x}' y='{}' width='{}' height='{tall}' fill='#2563eb'/>", bottom - tall, bar - 2);
        if tenth % 10 == 0 {
            _ = writeln!(body, "<text x='{x}' y='{}' fill='#6b7280'>{} s</text>", bottom + 18, tenth / 10);
        }
    }
    let top = bottom - height;
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} 262' width='{width}' height='262' \
         font-family='system-ui, sans-serif' font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n\
         <text x='12' y='24' font-size='15' font-weight='600'>Clients that come back after a restart</text>\n\
         <text x='12' y='44' fill='#6b7280'>{title}</text>\n\
         <text x='{}' y='{}' text-anchor='end' fill='#6b7280'>{most}</text>\n\
         <line x1='{left}' y1='{bottom}' x2='{}' y2='{bottom}' stroke='#9ca3af'/>\n{body}</svg>\n",
        left - 6,
        top + 10,
        width - 12,
    )
}
