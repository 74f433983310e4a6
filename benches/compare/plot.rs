//! Bars, one group per scenario.

use std::fmt::Write as _;

use crate::report::Row;

const BAR: usize = 16;
const LEFT: usize = 250;
const WIDTH: usize = 420;

/// Ratios to each scenario's base; bars end at 4.
pub(crate) fn svg(rows: &[Row]) -> String {
    let mut body = String::new();
    let (mut y, mut scenario) = (30, "");
    for row in rows {
        let Some([ratio, low, high]) = row.ratio else { continue };
        if row.scenario != scenario {
            scenario = &row.scenario;
            y += BAR;
            _ = writeln!(body, "<text x='8' y='{}' font-weight='600'>{scenario}</text>", y + 12);
            y += BAR + 4;
        }
        let ours = row.peer.name().starts_with("ours");
        let fill = if ours { "#2563eb" } else { "#9ca3af" };
        let scale = |ratio: f64| (ratio.min(4.0) / 4.0 * WIDTH as f64) as usize;
        let (name, end) = (row.peer.name(), LEFT + scale(ratio));
        _ = writeln!(body, "<text x='{}' y='{}' text-anchor='end'>{name}</text>", LEFT - 8, y + 12);
        _ = writeln!(body, "<rect x='{LEFT}' y='{y}' width='{}' height='{}' fill='{fill}'/>", scale(ratio), BAR - 3);
        let (from, to, middle) = (LEFT + scale(low), LEFT + scale(high), y + (BAR - 3) / 2);
        _ = writeln!(body, "<line x1='{from}' y1='{middle}' x2='{to}' y2='{middle}' stroke='#111827'/>");
        _ = writeln!(body, "<text x='{}' y='{}'>{ratio:.2}</text>", end.max(to) + 6, y + 12);
        y += BAR;
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{}' height='{}' font-family='sans-serif' font-size='12'>\n\
         <rect width='100%' height='100%' fill='white'/>\n\
         <text x='8' y='20' font-size='14' font-weight='600'>Server CPU per delivery, as a ratio to the floor (less is better)</text>\n\
         {body}</svg>\n",
        LEFT + WIDTH + 60,
        y + BAR
    )
}
