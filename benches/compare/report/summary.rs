//! The short table: a row per scenario, a column per server.

use std::fmt::Write as _;

use super::{FAILED, Row, Table};
use crate::scenario::Unit;

const COLUMNS: [(&str, &str); 4] = [
    ("ours-hyper", "ours, hyper"),
    ("ours-axum", "ours, axum"),
    ("hand-rolled", "hand-rolled axum"),
    ("nchan", "nginx + nchan"),
];

pub(super) fn render(tables: &[Table]) -> String {
    let heads: Vec<_> = COLUMNS.iter().map(|(_, head)| *head).collect();
    let mut text = format!("| | compared with | {} |\n|---|--:|--:|--:|--:|--:|\n", heads.join(" | "));
    for table in tables {
        let row = |name: &str| table.rows.iter().find(|row| row.name == name);
        let Some(base) = table.rows.first().filter(|base| base.is_base() && row("ours-hyper").is_some()) else {
            continue;
        };
        let cells = COLUMNS.map(|(name, _)| row(name).map_or_else(String::new, |row| cost(row, table.unit)));
        _ = writeln!(
            text,
            "| {}, {} | {} {} | {} |",
            table.name,
            table.unit,
            base.name,
            base.cost.map_or_else(|| FAILED.into(), |cost| amount(cost.median, table.unit)),
            cells.join(" | ")
        );
        if let (true, Some(base99)) = (table.name.contains("a second"), base.p99) {
            let cells = COLUMNS.map(|(name, _)| row(name).map_or_else(String::new, latency));
            _ = writeln!(text, "| the same, p99 in ms | {} {:.2} | {} |", base.name, base99.median, cells.join(" | "));
        }
    }
    text
}

fn cost(row: &Row, unit: Unit) -> String {
    let Some(cost) = row.cost else { return FAILED.into() };
    let cost = amount(cost.median, unit);
    match (row.against, unit) {
        (None, _) => cost,
        (Some(against), Unit::Micros(_)) => format!("{cost} (**{:.2}x**)", against.median),
        // nchan has no baseline in this table.
        (Some(_), Unit::Bytes(_)) if row.is_base() => cost,
        (Some(against), Unit::Bytes(_)) => format!("{cost} (**{:+.0}**)", against.median),
    }
}

fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Micros(_) if value < 100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

fn latency(row: &Row) -> String {
    match (row.p99, row.p99_ratio) {
        (Some(p99), Some(ratio)) => format!("{:.2} (**{:.2}x**)", p99.median, ratio.median),
        _ => String::new(),
    }
}
