//! Medians, spreads and ratios, as a table, as JSON and as a plot.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    peer::Peer,
    plot,
    scenarios::{Figures, Scenario},
};

pub(crate) struct Report {
    order: Vec<String>,
    repetitions: usize,
    runs: BTreeMap<(String, Peer), Vec<Figures>>,
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) peer: Peer,
    /// Median, lowest and highest cost.
    pub(crate) cost: [f64; 3],
    /// To the scenario's base: the median of the ratios of runs of the same repetition, with its spread.
    pub(crate) ratio: Option<[f64; 3]>,
    rate: f64,
    latency: Option<(f64, f64)>,
}

impl Report {
    pub(crate) fn new(scenarios: &[Scenario], repetitions: usize) -> Self {
        let order = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
        Self { order, repetitions, runs: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, scenario: &Scenario, peer: Peer, figures: Figures) {
        self.runs.entry((scenario.name.clone(), peer)).or_default().push(figures);
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for scenario in &self.order {
            let runs: Vec<_> = self.runs.iter().filter(|((name, _), _)| name == scenario).collect();
            let base = runs.iter().find(|((_, peer), _)| is_base(scenario, *peer)).map(|(_, figures)| *figures);
            for ((_, peer), figures) in &runs {
                let pairs = base.map(|base| figures.iter().zip(base).map(|(run, base)| run.cost / base.cost));
                let latencies: Option<Vec<_>> = figures.iter().map(|run| run.latency).collect();
                rows.push(Row {
                    scenario: scenario.clone(),
                    peer: *peer,
                    cost: spread(figures.iter().map(|run| run.cost)),
                    ratio: pairs.map(spread),
                    rate: spread(figures.iter().map(|run| run.rate))[0],
                    latency: latencies
                        .map(|all| (spread(all.iter().map(|l| l.0))[0], spread(all.iter().map(|l| l.1))[0])),
                });
            }
        }
        rows
    }

    pub(crate) fn write(&self, dir: impl AsRef<Path>) {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).expect("a directory");
        let rows: Vec<Value> = self.rows().iter().map(Row::json).collect();
        let report = json!({ "repetitions": self.repetitions, "rows": rows });
        fs::write(dir.join("compare.json"), format!("{report:#}\n")).expect("a file");
        fs::write(dir.join("compare.svg"), plot::svg(&self.rows())).expect("a file");
        eprintln!("written to {}", dir.display());
    }
}

/// What a scenario's ratios refer to: a floor that coalesces where coalescing is the point.
fn is_base(scenario: &str, peer: Peer) -> bool {
    match peer {
        Peer::FloorCoalesce => scenario.contains(", 16 in flight"),
        Peer::Floor => !scenario.contains(", 16 in flight"),
        Peer::AxumNothing => true,
        _ => false,
    }
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "scenario": self.scenario, "peer": self.peer.name(), "cost": self.cost, "ratio": self.ratio,
            "rate": self.rate, "latency_ms": self.latency.map(|(median, high)| json!({ "p50": median, "p99": high })),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| | server | cost (µs, or bytes) | ratio | per second | p50 / p99 ms |\n|---|---|---|---|---|---|"
        )?;
        for row in self.rows() {
            let [median, low, high] = row.cost;
            let digits = if median > 100.0 { 0 } else { 2 };
            let ratio =
                row.ratio.map_or_else(String::new, |[ratio, low, high]| format!("**{ratio:.2}** [{low:.2}–{high:.2}]"));
            let latency = row.latency.map_or_else(String::new, |(median, high)| format!("{median:.2} / {high:.2}"));
            let cost = format!("{median:.digits$} [{low:.digits$}–{high:.digits$}]");
            writeln!(f, "| {} | {} | {cost} | {ratio} | {:.0} | {latency} |", row.scenario, row.peer.name(), row.rate)?;
        }
        write!(f, "medians of {} repetitions, [lowest–highest]", self.repetitions)
    }
}

/// Median, lowest, highest.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => [f64::NAN; 3],
        all => [all[all.len() / 2], all[0], all[all.len() - 1]],
    }
}
