//! The plot: a group of bars per scenario.

use std::fmt::Write as _;

use super::{Row, Table};
use crate::scenario::Unit;

const BAR: usize = 16;
const LEFT: usize = 190;
const WIDTH: usize = 400;
/// The ratio at which bars are cut off.
const MOST: f64 = 4.0;

/// Ratios to each scenario's first server.
pub(super) fn svg(tables: &[Table]) -> String {
    let mut body = String::new();
    let mut y = 62;
    for table in tables.iter().filter(|table| matches!(table.unit, Unit::Micros(_))) {
        let rows: Vec<_> = table.rows.iter().filter(|row| row.against.is_some()).collect();
        let Some(base) = rows.iter().find(|row| row.is_base()).filter(|_| rows.len() > 1) else { continue };
        let Some(cost) = base.cost else { continue };
        _ = writeln!(
            body,
            "<text x='12' y='{}' font-weight='600'>{}</text>\
             <text x='{}' y='{}' text-anchor='end' fill='#6b7280'>1 = {}, {:.2} {}</text>",
            y + 12,
            table.name,
            LEFT + WIDTH + 70,
            y + 12,
            base.name,
            cost.median,
            table.unit.to_string().replace("CPU ", ""),
        );
        y += BAR + 6;
        for row in rows {
            bar(&mut body, row, y);
            y += BAR;
        }
        y += 12;
    }
    let (width, one) = (LEFT + WIDTH + 82, LEFT + scale(1.0));
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {y}' width='{width}' height='{y}' \
         font-family='system-ui, sans-serif' font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n\
         <text x='12' y='24' font-size='15' font-weight='600'>CPU time of the server, as a ratio</text>\n\
         <text x='12' y='42' fill='#6b7280'>Less is better. Medians, with the lowest and the highest as a line.</text>\n\
         <line x1='{one}' y1='52' x2='{one}' y2='{}' stroke='#d1d5db'/>\n{body}</svg>\n",
        y - 8,
    )
}

fn bar(body: &mut String, row: &Row, y: usize) {
    let Some(ratio) = row.against else { return };
    let fill = match row {
        row if row.is_ours() => "#2563eb",
        row if row.is_base() => "#d1d5db",
        _ => "#9ca3af",
    };
    let (width, low, high) = (scale(ratio.median), LEFT + scale(ratio.low), LEFT + scale(ratio.high));
    let (text, middle) = (y + 11, y + (BAR - 3) / 2);
    _ = writeln!(body, "<text x='{}' y='{text}' text-anchor='end'>{}</text>", LEFT - 8, row.name);
    _ = writeln!(body, "<rect x='{LEFT}' y='{y}' width='{width}' height='{}' fill='{fill}'/>", BAR - 3);
    _ = writeln!(body, "<line x1='{low}' y1='{middle}' x2='{high}' y2='{middle}' stroke='#111827'/>");
    let more = if ratio.median > MOST { " →" } else { "" };
    let end = high.max(LEFT + width) + 6;
    _ = writeln!(body, "<text x='{end}' y='{text}'>{:.2}{more}</text>", ratio.median);
}

fn scale(ratio: f64) -> usize {
    (ratio.min(MOST) / MOST * WIDTH as f64) as usize
}
