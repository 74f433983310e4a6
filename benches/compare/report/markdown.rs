//! The full table.

use std::fmt::Write as _;

use super::{FAILED, Row, Spread, Table};
use crate::scenario::Unit;

pub(super) fn render(tables: &[Table]) -> String {
    let mut text = "| | server | cost | to the first | per second | to the first | p50 / p99, ms | to the first |\n\
                    |---|---|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for table in tables {
        for (at, row) in table.rows.iter().enumerate() {
            let scenario = if at == 0 { format!("{}<br>{}", table.name, table.unit) } else { String::new() };
            let (cost, against) = (cost(row, table.unit), against(row, table.unit));
            let cells =
                [scenario, name(row), cost, against, rate(row), rate_ratio(row), latency(row), latency_ratio(row)];
            _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    text += "\n";
    for table in tables {
        for (row, why) in table.rows.iter().filter_map(|row| Some((row, row.failure.as_ref()?))) {
            _ = writeln!(text, "- {} failed ({}): {}", name(row), table.name, why.trim());
        }
    }
    text
}

fn name(row: &Row) -> String {
    if row.is_ours() { format!("**{}**", row.name) } else { row.name.clone() }
}

fn cost(row: &Row, unit: Unit) -> String {
    let Some(Spread { median, low, high }) = row.cost else { return FAILED.into() };
    match unit {
        Unit::Bytes(_) => format!("{median:.0} [{low:.0}–{high:.0}]"),
        Unit::Micros(_) if median >= 100.0 => format!("{median:.0} [{low:.0}–{high:.0}]"),
        Unit::Micros(_) => format!("{median:.2} [{low:.2}–{high:.2}]"),
    }
}

fn against(row: &Row, unit: Unit) -> String {
    match (row.against, unit) {
        (None, _) => String::new(),
        (Some(_), _) if row.is_base() => "–".into(),
        (Some(Spread { median, low, high }), Unit::Bytes(_)) => format!("**{median:+.0}** [{low:+.0}–{high:+.0}]"),
        (Some(Spread { median, low, high }), Unit::Micros(_)) => format!("**{median:.2}x** [{low:.2}–{high:.2}]"),
    }
}

fn rate(row: &Row) -> String {
    row.rate.map_or_else(String::new, |rate| format!("{:.0}", rate.median))
}

fn rate_ratio(row: &Row) -> String {
    match row.rate_ratio {
        Some(Spread { median, low, high }) if !row.is_base() => format!("{median:.2}x [{low:.2}–{high:.2}]"),
        _ => String::new(),
    }
}

fn latency(row: &Row) -> String {
    let mut text = match (row.p50, row.p99) {
        (Some(p50), Some(p99)) => format!("{:.2} / {:.2}", p50.median, p99.median),
        _ => String::new(),
    };
    if let Some(growth) = row.growth {
        _ = write!(text, "; memory {:+.1} MiB", growth.median / f64::from(1 << 20));
    }
    text
}

fn latency_ratio(row: &Row) -> String {
    match (row.p50_ratio, row.p99_ratio) {
        (Some(p50), Some(p99)) if !row.is_base() => format!("{:.2}x / {:.2}x", p50.median, p99.median),
        _ => String::new(),
    }
}
