//! The address of the next page, for `Link` (RFC 8288). Copies none but our own parameters: a token of the user's in the
//! query must not wander into a header that gets logged and shared.

use form_urlencoded::byte_serialize;
use http::HeaderValue;

use super::query::pairs;

/// `<?channel=a&limit=10&after=`: the beginning of the reference, with what of `query` the next page's address has too. A
/// poll that waits keeps this and not the query, which may be as long as a server allows.
pub(crate) fn kept(query: &str) -> Box<str> {
    let mut kept = String::with_capacity(BEGIN.len() + query.len());
    kept.push_str(BEGIN);
    for (name, value) in pairs(query) {
        let Some(&name) = OURS.iter().find(|ours| ours.as_bytes() == name.as_ref()) else { continue };
        if value.is_empty() {
            continue;
        }
        let before = kept.len();
        kept.extend([name, "="]);
        kept.extend(byte_serialize(&value));
        kept.push('&');
        if is_repeated(&kept, before) {
            kept.truncate(before);
        }
    }
    kept.push_str("after=");
    kept.into()
}

/// Whether the pair that begins at `last` was there before. It is looked for among the first only, so that a long query
/// costs no more than it is long.
fn is_repeated(kept: &str, last: usize) -> bool {
    let Some((before, pair)) = kept.split_at_checked(last) else { return false };
    let before = before.strip_prefix(BEGIN).unwrap_or(before);
    before.split_inclusive('&').take(MOST_SEEN).any(|other| other == pair)
}

/// `<?channel=a&limit=10&after=CURSOR>; rel="next"`: a reference that keeps the path.
pub(crate) fn next_link(kept: &str, after: &[u8]) -> Option<HeaderValue> {
    HeaderValue::try_from([kept.as_bytes(), after, END].concat()).ok()
}

const BEGIN: &str = "<?";
const END: &[u8] = b">; rel=\"next\"";

/// Not the starts: `after` replaces them.
const OURS: [&str; 4] = ["channel", "limit", "wait", "format"];

const MOST_SEEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_parameters_go_on() {
        let table = [
            ("", r#"<?after=C>; rel="next""#),
            ("token=secret&after=x&time=1&channel=a", r#"<?channel=a&after=C>; rel="next""#),
            (
                "channel=a%20b&channel=%D1%87%26&limit=10",
                r#"<?channel=a+b&channel=%D1%87%26&limit=10&after=C>; rel="next""#,
            ),
            ("wait=5&format=json&limit=", r#"<?wait=5&format=json&after=C>; rel="next""#),
            ("channel=a&channel=b&channel=%61&channel=a", r#"<?channel=a&channel=b&after=C>; rel="next""#),
            ("channel=%0d%0a%3E%22%ff", r#"<?channel=%0D%0A%3E%22%FF&after=C>; rel="next""#),
        ];
        for (query, link) in table {
            assert_eq!(next_link(&kept(query), b"C").unwrap(), link, "{query}");
        }
    }
}
