//! `Prefer: wait=<seconds>` (RFC 7240). Pure; what is malformed is ignored, as the RFC asks.

use http::HeaderMap;

use super::{
    field_syntax::{parameter, split, split_parameters, unquote},
    headers::PREFER,
    query::number,
};

/// The wait that the client prefers, in seconds.
pub(crate) fn preferred_wait(headers: &HeaderMap) -> Option<u64> {
    let mut preferences = headers.get_all(PREFER).iter().flat_map(|value| split(value.as_bytes(), b','));
    // RFC 7240, section 2: only the first occurrence of a preference counts.
    let wait = preferences.find_map(|preference| {
        let (name, value) = parameter(split_parameters(preference).0);
        name.eq_ignore_ascii_case(b"wait").then_some(value)
    })?;
    number(&unquote(wait)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wait_counts_and_malformed_values_are_ignored() {
        let table: &[(&[&str], Option<u64>)] = &[
            (&["wait=10"], Some(10)),
            (&["WAIT = 10"], Some(10)),
            (&[r#"wait="10""#], Some(10)),
            (&["respond-async, wait=10; foo=bar"], Some(10)),
            (&["respond-async", "wait=7"], Some(7)),
            (&["wait=3, wait=9"], Some(3)),
            (&["wait=0"], Some(0)),
            (&["wait=99999999999999999999999"], Some(u64::MAX)),
            (&[r#"foo="wait=5, wait=6", wait=7"#], Some(7)),
            (&["wait"], None),
            (&["wait="], None),
            (&["wait=-1"], None),
            (&["wait=1.5"], None),
            (&["wait=abc, wait=9"], None),
            (&[r#"wait="10"#], None),
            (&["waits=10"], None),
            (&[""], None),
        ];
        for (values, expected) in table {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| _ = headers.append(PREFER, value.parse().unwrap()));
            assert_eq!(preferred_wait(&headers), *expected, "{values:?}");
        }
    }
}
