//! Line breaks that are none in JSON. A pure function.

use memchr::memchr2;

/// Escapes U+2028, U+2029 and U+0085 in the JSON that begins at `start`: some clients end a line at them, though only CR and
/// LF end one. In JSON they stand in strings alone, and an escape is the same character.
pub(super) fn escape_breaks(out: &mut Vec<u8>, start: usize) {
    let Some((at, _)) = find(out, start) else { return };
    let raw = out.split_off(at);
    let mut done = 0;
    while let Some((at, found)) = find(&raw, done) {
        out.extend_from_slice(raw.get(done..at).unwrap_or_default());
        out.extend_from_slice(found.escape);
        done = at + found.raw.len();
    }
    out.extend_from_slice(raw.get(done..).unwrap_or_default());
}

struct Break {
    raw: &'static [u8],
    escape: &'static [u8],
}

const BREAKS: [Break; 3] = [
    Break { raw: "\u{2028}".as_bytes(), escape: b"\\u2028" },
    Break { raw: "\u{2029}".as_bytes(), escape: b"\\u2029" },
    Break { raw: "\u{85}".as_bytes(), escape: b"\\u0085" },
];

/// The first of them from `from` on, and where it is.
fn find(json: &[u8], mut from: usize) -> Option<(usize, &'static Break)> {
    loop {
        // Their first bytes; ASCII and most of what is not have neither.
        let at = from + memchr2(0xe2, 0xc2, json.get(from..)?)?;
        let here = json.get(at..)?;
        if let Some(found) = BREAKS.iter().find(|one| here.starts_with(one.raw)) {
            return Some((at, found));
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_that_json_knows_otherwise_are_escaped() {
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
