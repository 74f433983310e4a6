//! The address of the next page, for `Link` (RFC 8288). Copies none but our own parameters: a token of the user's in the
//! query must not wander into a header that gets logged and shared.

use std::{collections::HashSet, fmt::Display};

use form_urlencoded::byte_serialize;
use http::HeaderValue;

use super::query::pairs;

/// `channel=a&limit=10&`: what of `query` the next page's address has too, each pair once. A poll that waits keeps this and
/// not the query, which may be as long as a server allows.
pub(crate) fn kept(query: &str) -> String {
    let (mut kept, mut seen) = (String::new(), HashSet::new());
    for (name, value) in pairs(query) {
        let Some(name) = OURS.iter().find(|ours| ours.as_bytes() == name.as_ref()) else { continue };
        if !value.is_empty() && seen.insert((name, value.clone())) {
            kept.extend([name, "="]);
            kept.extend(byte_serialize(&value));
            kept.push('&');
        }
    }
    kept
}

/// `<?channel=a&limit=10&after=CURSOR>; rel="next"`: a reference that keeps the path.
pub(crate) fn next_link(kept: &str, after: &impl Display) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("<?{kept}after={after}>; rel=\"next\"")).ok()
}

/// Not the starts: `after` replaces them.
const OURS: [&str; 4] = ["channel", "limit", "wait", "format"];

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
            assert_eq!(next_link(&kept(query), &"C").unwrap(), link, "{query}");
        }
    }
}
