//! Escapes characters that are line breaks for some clients, but not in JSON. A pure function.

use memchr::memchr2;

/// Escapes U+2028, U+2029 and U+0085 in the JSON that begins at `start`: some clients end a line at them, although only CR
/// and LF end one. In JSON they occur only inside strings, where an escape means the same character.
pub(super) fn escape_breaks(out: &mut Vec<u8>, start: usize) {
    let Some((at, _)) = find(out, start) else { return };
    let raw = out.split_off(at);
    let mut copied = 0;
    while let Some((at, found)) = find(&raw, copied) {
        out.extend_from_slice(raw.get(copied..at).unwrap_or_default());
        out.extend_from_slice(found.escape);
        copied = at + found.raw.len();
    }
    out.extend_from_slice(raw.get(copied..).unwrap_or_default());
}

struct LineBreak {
    raw: &'static [u8],
    escape: &'static [u8],
}

const BREAKS: [LineBreak; 3] = [
    LineBreak { raw: "\u{2028}".as_bytes(), escape: b"\\u2028" },
    LineBreak { raw: "\u{2029}".as_bytes(), escape: b"\\u2029" },
    LineBreak { raw: "\u{85}".as_bytes(), escape: b"\\u0085" },
];

/// The first of them at or after `from`, and its index.
fn find(json: &[u8], mut from: usize) -> Option<(usize, &'static LineBreak)> {
    loop {
        // Their first bytes, which neither ASCII nor most other text contains.
        let at = from + memchr2(0xe2, 0xc2, json.get(from..)?)?;
        let rest = json.get(at..)?;
        if let Some(found) = BREAKS.iter().find(|candidate| rest.starts_with(candidate.raw)) {
            return Some((at, found));
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_some_clients_take_for_line_breaks_are_escaped() {
        let table = [
            ("", ""),
            ("[\"a\u{2028}b\u{2029}\u{85}\"]", "[\"a\\u2028b\\u2029\\u0085\"]"),
            ("\u{2028}", "\\u2028"),
            ("\u{2027}\u{202a}\u{84}\u{86}â€ÂÅ😀", "\u{2027}\u{202a}\u{84}\u{86}â€ÂÅ😀"),
            ("\u{2019}\u{2028}\u{2019}", "\u{2019}\\u2028\u{2019}"),
        ];
        for (raw, escaped) in table {
            let mut out = "\u{2028}before".to_owned().into_bytes();
            let start = out.len();
            out.extend_from_slice(raw.as_bytes());
            escape_breaks(&mut out, start);
            assert_eq!(String::from_utf8(out).unwrap(), format!("\u{2028}before{escaped}"));
        }
    }
}
