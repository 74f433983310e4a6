//! Whether a page of another origin made a browser send a publish (cross-site request forgery). Pure.
//!
//! CORS does not prevent this: a `text/plain` body needs no preflight (Fetch, "CORS-safelisted request-header"), the browser
//! adds the user's cookies, and only the response is kept from the page.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};

use crate::problem::Problem;

/// Which origins' pages may publish.
#[derive(Clone, Debug)]
pub(super) enum OriginPolicy {
    /// The service's own origin, and these.
    OwnAnd(Arc<[Box<str>]>),
    Any,
}

impl OriginPolicy {
    pub(super) fn own() -> Self {
        Self::OwnAnd(Arc::new([]))
    }

    pub(super) fn own_and<O: Into<Box<str>>>(origins: impl IntoIterator<Item = O>) -> Self {
        Self::OwnAnd(origins.into_iter().map(Into::into).collect())
    }

    /// Refuses a request that a page of another origin caused.
    pub(super) fn check(&self, request: &Parts) -> Result<(), Problem> {
        let Self::OwnAnd(trusted) = self else { return Ok(()) };
        let origin = only_value(&request.headers, &header::ORIGIN);
        let detail = match only_value(&request.headers, &SEC_FETCH_SITE) {
            Some(b"same-origin" | b"none") => return Ok(()),
            Some(_) => ANOTHER_ORIGIN,
            None => match origin {
                // Not a browser: they send `Origin` with every `POST` (Fetch, "append a request `Origin` header").
                None => return Ok(()),
                Some(origin) if host(request).is_some_and(|host| is_of_host(origin, host)) => return Ok(()),
                Some(_) => NOT_THE_HOST,
            },
        };
        match origin.is_some_and(|origin| trusted.iter().any(|trusted| is_same(trusted, origin))) {
            true => Ok(()),
            false => Err(Problem::new(StatusCode::FORBIDDEN, detail).kind("cross-origin")),
        }
    }
}

/// How the page is related to this service (Fetch Metadata, section 2.4): browsers send it to `https` and to `localhost`, and no
/// script can change it. `same-site` is another origin too, for example another port or a neighbouring subdomain.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

const ANOTHER_ORIGIN: &str = "a page of another origin may not publish here (`Sec-Fetch-Site` is neither `same-origin` nor \
    `none`); if it should, add its origin to the service's `trusted_origins`";

const NOT_THE_HOST: &str = "a page of another origin may not publish here (`Origin` does not match `Host`); if it should, \
    add its origin to the service's `trusted_origins`; if it is this server's own page, a proxy in front replaces `Host` \
    and has to keep it";

/// The value of a header; an empty one is none. Several values are one with commas (RFC 9110, section 5.3), which is none of
/// those that are looked for.
fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes).filter(|value| !value.is_empty());
    let first = values.next()?;
    Some(if values.next().is_some() { b"several" } else { first })
}

/// The host and port that the request was sent to. What the target says precedes `Host` (RFC 9112, section 3.2.2), and HTTP/2
/// has it only there (RFC 9113, section 8.3.1).
fn host(request: &Parts) -> Option<&[u8]> {
    match request.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => only_value(&request.headers, &header::HOST),
    }
}

/// Whether `origin`, `scheme://host[:port]`, has this host and port. The scheme is not compared, because behind a proxy the
/// service does not know its own.
fn is_of_host(origin: &[u8], host: &[u8]) -> bool {
    let scheme_end = origin.windows(3).position(|three| three == b"://");
    let authority = scheme_end.and_then(|end| origin.get(end + 3..));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Whether this is the origin that was trusted. Never `null`, which any page can have: that of a sandboxed frame is.
fn is_same(trusted: &str, origin: &[u8]) -> bool {
    let trusted = trusted.strip_suffix('/').unwrap_or(trusted);
    trusted.contains("://") && trusted.as_bytes().eq_ignore_ascii_case(origin)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// Whether a request with these headers is accepted.
    fn accepts(policy: &OriginPolicy, uri: &str, headers: &[(&str, &str)]) -> bool {
        let request = Request::builder().method("POST").uri(uri);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        policy.check(&request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn only_pages_of_the_same_origin_and_clients_that_are_no_browsers_may_publish() {
        let table: &[(&[(&str, &str)], bool)] = &[
            (&[], true),
            (&[("host", "a.example")], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "future-value")], false),
            (&[("sec-fetch-site", "SAME-ORIGIN")], false),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")], false),
            // It decides whatever `Origin` is: a page with `Referrer-Policy: no-referrer` has `null`.
            (&[("sec-fetch-site", "same-origin"), ("origin", "null"), ("host", "a.example")], true),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://a.example"), ("host", "a.example")], false),
            (&[("sec-fetch-site", ""), ("origin", "https://b.example"), ("host", "a.example")], false),
            // Without it the host decides.
            (&[("origin", "https://a.example"), ("host", "a.example")], true),
            (&[("origin", "http://a.example"), ("host", "A.Example")], true),
            (&[("origin", "http://a.example:81"), ("host", "a.example:81")], true),
            (&[("origin", "http://[::1]:81"), ("host", "[::1]:81")], true),
            (&[("origin", "https://b.example"), ("host", "a.example")], false),
            (&[("origin", "http://a.example:81"), ("host", "a.example:82")], false),
            (&[("origin", "http://a.example:81"), ("host", "a.example")], false),
            (&[("origin", "https://evil.a.example"), ("host", "a.example")], false),
            (&[("origin", "https://a.example.evil"), ("host", "a.example")], false),
            (&[("origin", "https://evil/://a.example"), ("host", "a.example")], false),
            (&[("origin", "null"), ("host", "a.example")], false),
            (&[("origin", "null"), ("host", "null")], false),
            (&[("origin", "a.example"), ("host", "a.example")], false),
            (&[("origin", "https://a.example")], false),
            (&[("origin", "https://"), ("host", "")], false),
            (&[("origin", "https://a.example"), ("origin", "https://a.example"), ("host", "a.example")], false),
            (&[("origin", "https://a.example"), ("host", "a.example"), ("host", "a.example")], false),
            (&[("origin", ""), ("host", "a.example")], true),
        ];
        for (headers, accepted) in table {
            assert_eq!(accepts(&OriginPolicy::own(), "/publish", headers), *accepted, "{headers:?}");
            assert!(accepts(&OriginPolicy::Any, "/publish", headers), "{headers:?}");
        }
    }

    #[test]
    fn the_host_of_the_target_precedes_the_header() {
        let own = OriginPolicy::own();
        let headers = [("origin", "https://a.example"), ("host", "b.example")];
        assert!(accepts(&own, "https://a.example/publish", &headers));
        assert!(!accepts(&own, "https://c.example/publish", &headers));
        assert!(!accepts(&own, "https://c.example/publish", &[headers[0], ("host", "a.example")]));
    }

    #[test]
    fn pages_of_trusted_origins_may_publish() {
        let policy =
            OriginPolicy::own_and(["https://b.example", "http://c.example:81/", "null", "*", "d.example", "/"]);
        let table = [
            ("https://b.example", true),
            ("HTTPS://B.example", true),
            ("http://c.example:81", true),
            ("http://b.example", false),
            ("https://b.example:444", false),
            ("https://b.example.evil", false),
            ("http://c.example", false),
            ("null", false),
            ("*", false),
            ("d.example", false),
            ("https://d.example", false),
            ("https://a.example", false),
        ];
        for (origin, accepted) in table {
            for site in [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("host", "elsewhere")] {
                assert_eq!(accepts(&policy, "/", &[("origin", origin), site]), accepted, "{origin} {site:?}");
            }
        }
        assert!(!accepts(&policy, "/", &[("sec-fetch-site", "cross-site")]));
    }
}
