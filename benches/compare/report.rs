//! Medians, spreads and ratios.

mod markdown;
mod plot;
mod summary;

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    machine,
    scenario::{Figures, Scenario, Unit},
};

pub(crate) struct Report {
    repetitions: usize,
    /// The outcomes of the current scenario, by run.
    open: BTreeMap<usize, Outcome>,
    tables: Vec<Table>,
}

/// The figures of a run's repetitions, or why one failed.
type Outcome = Result<Vec<Figures>, String>;

/// A scenario's results.
struct Table {
    name: &'static str,
    unit: Unit,
    rows: Vec<Row>,
}

pub(crate) struct Row {
    name: String,
    /// Why it has no figures.
    failure: Option<String>,
    /// The row that it is compared with; its own name if it is the base.
    base: Option<String>,
    cost: Option<Spread>,
    /// The ratio to the base in the same repetition; for bytes the difference.
    against: Option<Spread>,
    rate: Option<Spread>,
    rate_ratio: Option<Spread>,
    p50: Option<Spread>,
    p99: Option<Spread>,
    p50_ratio: Option<Spread>,
    p99_ratio: Option<Spread>,
    growth: Option<Spread>,
}

/// Median, lowest and highest.
#[derive(Clone, Copy, Debug)]
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

/// Printed instead of a missing cost.
const FAILED: &str = "failed";

impl Report {
    pub(crate) fn new(repetitions: usize) -> Self {
        Self { repetitions, open: BTreeMap::new(), tables: Vec::new() }
    }

    pub(crate) fn add(&mut self, run: usize, outcome: Result<Figures, String>) {
        let all = self.open.entry(run).or_insert(Ok(Vec::new()));
        match (&mut *all, outcome) {
            (Ok(all), Ok(figures)) => all.push(figures),
            (Ok(_), Err(why)) => *all = Err(why),
            (Err(_), _) => {}
        }
    }

    /// Whether a run of the current scenario has failed; it is not repeated then.
    pub(crate) fn has_failed(&self, run: usize) -> bool {
        self.open.get(&run).is_some_and(Result::is_err)
    }

    /// Ends a scenario.
    pub(crate) fn close(&mut self, scenario: Scenario) {
        let all = std::mem::take(&mut self.open);
        let rows = all.iter().map(|(at, outcome)| {
            let run = &scenario.runs[*at];
            let base = run.base.and_then(|base| Some((scenario.runs[base].name.clone(), all.get(&base)?)));
            Row::new(run.name.clone(), outcome, base, scenario.unit)
        });
        self.tables.push(Table { name: scenario.name, unit: scenario.unit, rows: rows.collect() });
    }

    pub(crate) fn failures(&self) -> impl Iterator<Item = &Row> {
        self.tables.iter().flat_map(|table| &table.rows).filter(|row| row.failure.is_some())
    }

    pub(crate) fn markdown(&self) -> String {
        let head = format!(
            "{}; {}. Medians of at most {} repetitions [lowest–highest].",
            machine::describe(),
            machine::date(),
            self.repetitions
        );
        format!("{head}\n\n{}\n{}", summary::render(&self.tables), markdown::render(&self.tables))
    }

    pub(crate) fn write(&self, dir: impl AsRef<Path>) {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).expect("a directory");
        let tables: Vec<Value> = self.tables.iter().map(Table::json).collect();
        let (machine, date) = (machine::describe(), machine::date());
        let report = json!({ "machine": machine, "date": date, "repetitions": self.repetitions, "scenarios": tables });
        fs::write(dir.join("compare.json"), format!("{report:#}\n")).expect("a file");
        fs::write(dir.join("compare.md"), format!("{}\n", self.markdown())).expect("a file");
        fs::write(dir.join("compare.svg"), plot::svg(&self.tables)).expect("a file");
        eprintln!("written to {}", dir.display());
    }
}

impl Row {
    fn new(name: String, outcome: &Outcome, base: Option<(String, &Outcome)>, unit: Unit) -> Self {
        let figures = outcome.as_deref().unwrap_or_default();
        let latency = |share| move |run: &Figures| run.latency(share);
        let against = |value: &dyn Fn(&Figures) -> Option<f64>, compare: fn(f64, f64) -> f64| {
            let base = base.as_ref()?.1.as_deref().unwrap_or_default();
            Spread::of(figures.iter().zip(base).map(|(run, base)| Some(compare(value(run)?, value(base)?))))
        };
        let compare = if matches!(unit, Unit::Bytes(_)) { |a, b| a - b } else { |a, b| a / b };
        Self {
            cost: Spread::of(figures.iter().map(|run| Some(run.cost))),
            against: against(&|run| Some(run.cost), compare),
            rate: Spread::of(figures.iter().map(|run| run.rate)),
            rate_ratio: against(&|run| run.rate, |a, b| a / b),
            p50: Spread::of(figures.iter().map(latency(0.5))),
            p99: Spread::of(figures.iter().map(latency(0.99))),
            p50_ratio: against(&latency(0.5), |a, b| a / b),
            p99_ratio: against(&latency(0.99), |a, b| a / b),
            growth: Spread::of(figures.iter().map(|run| run.growth)),
            base: base.map(|(name, _)| name),
            failure: outcome.as_ref().err().cloned(),
            name,
        }
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.name.starts_with("ours")
    }

    fn is_base(&self) -> bool {
        self.base.as_ref() == Some(&self.name)
    }

    fn json(&self) -> Value {
        let spread = |spread: Option<Spread>| spread.map(|s| json!([s.median, s.low, s.high]));
        json!({
            "server": self.name, "base": self.base, "failure": self.failure, "cost": spread(self.cost), "against_base": spread(self.against),
            "per_second": spread(self.rate), "per_second_ratio": spread(self.rate_ratio), "p50_ms": spread(self.p50), "p99_ms": spread(self.p99),
            "p50_ratio": spread(self.p50_ratio), "p99_ratio": spread(self.p99_ratio), "growth_bytes": spread(self.growth),
        })
    }
}

impl Table {
    fn json(&self) -> Value {
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        json!({ "scenario": self.name, "unit": self.unit.to_string(), "rows": rows })
    }
}

impl Spread {
    /// `None` if there are no runs, or one has no value.
    fn of(values: impl Iterator<Item = Option<f64>>) -> Option<Self> {
        let mut values = values.collect::<Option<Vec<_>>>()?;
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 0 {
            (values.get(middle)? + values.get(middle.checked_sub(1)?)?) / 2.0
        } else {
            *values.get(middle)?
        };
        Some(Self { median, low: *values.first()?, high: *values.last()? })
    }
}
