//! Where a request can have a token: the syntax of each place. Does not know which place comes first.

use http::{
    HeaderMap, HeaderValue, Uri,
    header::{AUTHORIZATION, COOKIE},
    uri::PathAndQuery,
};

use crate::request::{Pairs, split_once, trim};

/// The token of the only `Authorization` header.
pub(super) fn in_header(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    // RFC 9110, section 11.1: the scheme is case-insensitive; section 11.4: spaces follow it.
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && is_token(token.as_bytes())).then_some(token)
}

/// The header for the token in the first cookie of this name. HTTP/2 may split cookies into several headers (RFC 9113, section
/// 8.2.3).
pub(super) fn in_cookie(headers: &HeaderMap, name: &str) -> Option<HeaderValue> {
    let cookies = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b';'));
    // Not as parameters of other headers: in a cookie, a quote is a character like others (RFC 6265, section 5.4).
    let mut named = cookies.map(|cookie| split_once(trim(cookie), b'=')).filter(|(key, _)| *key == name.as_bytes());
    named.next().and_then(|(_, value)| authorization(value))
}

/// Removes the parameter of this name from a URI, and returns the header for its token.
pub(super) fn take_from_query(uri: &mut Uri, name: &str) -> Option<HeaderValue> {
    let query = uri.query()?.as_bytes();
    if !Pairs::of(query).any(|pair| *pair.name == *name.as_bytes()) {
        return None;
    }
    let (tokens, rest): (Vec<_>, Vec<_>) = Pairs::of(query).partition(|pair| *pair.name == *name.as_bytes());
    let token = match tokens.as_slice() {
        [only] => authorization(&only.value),
        _ => None,
    };
    let rest: Vec<_> = rest.iter().map(|pair| pair.written).collect();
    *uri = with_query(uri, &rest.join(&b'&'));
    token
}

/// `uri` with another query, which is made of parts of its own.
fn with_query(uri: &Uri, query: &[u8]) -> Uri {
    let separator: &[u8] = if query.is_empty() { b"" } else { b"?" };
    let target = [uri.path().as_bytes(), separator, query].concat();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(target).ok();
    // Cannot fail, because all parts were valid; and if it did, the token must not stay.
    Uri::from_parts(parts).unwrap_or_default()
}

fn authorization(token: &[u8]) -> Option<HeaderValue> {
    let value = is_token(token).then(|| HeaderValue::try_from([b"Bearer ", token].concat()).ok())?;
    value.map(|mut value| {
        value.set_sensitive(true);
        value
    })
}

/// Whether this is written as a token (`b64token`; RFC 6750, section 2.1).
fn is_token(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let (characters, _) = text.split_at(text.len() - padding);
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    !characters.is_empty() && characters.iter().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| HeaderValue::from_bytes(value.as_bytes()).unwrap());
        values.map(|value| (http::HeaderName::from_static(name), value)).collect()
    }

    #[test]
    fn a_header_has_a_token_in_one_way() {
        let table: [(&[&str], Option<&str>); 16] = [
            (&["Bearer abc"], Some("abc")),
            (&["bearer abc"], Some("abc")),
            (&["BEARER   aB9-._~+/=="], Some("aB9-._~+/==")),
            (&["Bearer abc "], Some("abc")),
            (&[], None),
            (&[""], None),
            (&["Bearer"], None),
            (&["Bearer "], None),
            (&["Bearer =="], None),
            (&["Bearer a=b"], None),
            (&["Bearer a b"], None),
            (&["Bearer a,b"], None),
            (&["Bearer ä"], None),
            (&["Basic abc"], None),
            (&["Bearerabc"], None),
            (&["Bearer a", "Bearer a"], None),
        ];
        for (values, token) in table {
            assert_eq!(in_header(&headers("authorization", values)), token, "{values:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let table: [(&[&str], Option<&str>); 11] = [
            (&["token=abc"], Some("Bearer abc")),
            (&["a=b; token=abc; c=d"], Some("Bearer abc")),
            (&["a=b;token=abc"], Some("Bearer abc")),
            (&["a=b", "token=abc"], Some("Bearer abc")),
            (&["a=\"; token=abc"], Some("Bearer abc")),
            (&["token=abc=="], Some("Bearer abc==")),
            (&["token=a; token=b"], Some("Bearer a")),
            (&["Token=abc"], None),
            (&["xtoken=abc; token2=abc"], None),
            (&["token; token=abc"], None),
            (&["token=a b"], None),
        ];
        for (values, value) in table {
            let found = in_cookie(&headers("cookie", values), "token");
            assert_eq!(found.as_ref().map(|found| found.to_str().unwrap()), value, "{values:?}");
        }
    }

    #[test]
    fn a_parameter_is_removed_and_the_rest_stays_as_it_is_written() {
        for (uri, rest, value) in [
            ("/e?t=abc", "/e", Some("Bearer abc")),
            ("/e?a=%20+&t=abc&b", "/e?a=%20+&b", Some("Bearer abc")),
            ("/e?t=a%2Bb%2f%3D", "/e", Some("Bearer a+b/=")),
            ("/e?%74=abc&a=1", "/e?a=1", Some("Bearer abc")),
            ("http://host:1/e?t=abc&a=1", "http://host:1/e?a=1", Some("Bearer abc")),
            ("http://host?t=abc", "http://host/", Some("Bearer abc")),
            ("/e?t=a&a=1&t=a", "/e?a=1", None),
            ("/e?t=", "/e", None),
            ("/e?t", "/e", None),
            ("/e?t=a+b", "/e", None),
            ("/e?t=a%0d%0ab", "/e", None),
            ("/e?t=%ff", "/e", None),
            ("/e?T=abc&tt=abc&a=t", "/e?T=abc&tt=abc&a=t", None),
            ("/e?", "/e?", None),
            ("/e/t=abc", "/e/t=abc", None),
            ("*", "*", None),
            ("host:1", "host:1", None),
        ] {
            let mut left: Uri = uri.parse().unwrap();
            let found = take_from_query(&mut left, "t");
            assert_eq!(found.as_ref().map(|found| found.to_str().unwrap()), value, "{uri}");
            assert_eq!(left.to_string(), rest, "{uri}");
        }
    }

    proptest! {
        /// Whatever the query is, the parameter is gone, other pairs are as they were, and a second look finds nothing.
        #[test]
        fn no_query_keeps_the_parameter(query in "([t%74=&+;a\"{é]|%74|t=abc&){0,24}") {
            let Ok(mut uri) = format!("/e?{query}").parse::<Uri>() else { return Ok(()) };
            let others = |uri: &Uri| {
                let pairs: Vec<_> = Pairs::of(uri.query().unwrap_or_default().as_bytes())
                    .filter(|pair| *pair.name != *b"t")
                    .map(|pair| pair.written.to_vec())
                    .collect();
                pairs
            };
            let before = others(&uri);
            let found = take_from_query(&mut uri, "t");
            prop_assert!(found.is_none_or(|value| value.as_bytes().starts_with(b"Bearer ")));
            prop_assert!(Pairs::of(uri.query().unwrap_or_default().as_bytes()).all(|pair| *pair.name != *b"t"));
            prop_assert_eq!(others(&uri), before);
            prop_assert_eq!((uri.path(), take_from_query(&mut uri.clone(), "t")), ("/e", None));
        }
    }
}
