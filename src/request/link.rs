//! The URL of the next page, for `Link` (RFC 8288). It repeats only this crate's parameters and those that the service is set
//! to keep: a secret in the query must not end up in a header that is logged and shared.

use form_urlencoded::byte_serialize;

use super::{
    position::is_position,
    query::{Pair, Pairs},
};

/// The part of a query that the URL of the next page repeats, as it was written. A poll that waits keeps this and not the
/// whole query, which may be as long as a server allows.
pub(super) struct NextQuery<'a> {
    /// The names of the application's parameters that are repeated.
    names: &'a [Box<str>],
    pairs: Vec<u8>,
}

impl<'a> NextQuery<'a> {
    /// An empty query that takes this crate's parameters and those with these names.
    pub(super) fn new(names: &'a [Box<str>]) -> Self {
        Self { names, pairs: Vec::new() }
    }

    /// Appends the next pair of the query, if it is to be repeated.
    pub(super) fn push(&mut self, pair: &Pair<'_>) {
        if !self.keeps(pair) {
            return;
        }
        if !self.pairs.is_empty() {
            self.pairs.push(b'&');
        }
        self.pairs.extend_from_slice(pair.written);
    }

    fn keeps(&self, pair: &Pair<'_>) -> bool {
        match &*pair.name {
            b"channel" | b"limit" | b"wait" | b"format" | b"transport" => !pair.value.is_empty(),
            // Where to start: the next page has its own.
            b"after" | b"time" | b"last" => false,
            name if is_position(name) => false,
            name => self.names.iter().any(|kept| kept.as_bytes() == name),
        }
    }

    /// The pairs that were appended.
    pub(super) fn into_pairs(self) -> Box<[u8]> {
        self.pairs.into()
    }
}

/// `<?channel=a&limit=10&after=CURSOR>; rel="next"`: a relative reference, which keeps the path.
pub(crate) fn next_link(next_query: &[u8], after: &str) -> String {
    let mut link = String::from(LINK_START);
    for pair in Pairs::of(next_query) {
        let before = link.len();
        link.extend(byte_serialize(&pair.name));
        link.push('=');
        link.extend(byte_serialize(&pair.value));
        link.push('&');
        if is_repeated(&link, before) {
            link.truncate(before);
        }
    }
    link.extend([AFTER_PARAMETER, after, LINK_END]);
    link
}

/// Whether the pair that begins at `last` occurs earlier. Only the first pairs are compared, so that the cost stays linear in
/// the length of the query.
fn is_repeated(link: &str, last: usize) -> bool {
    let Some((before, pair)) = link.split_at_checked(last) else { return false };
    let before = before.strip_prefix(LINK_START).unwrap_or(before);
    before.split_inclusive('&').take(MAX_COMPARED).any(|other| other == pair)
}

const LINK_START: &str = "<?";
const AFTER_PARAMETER: &str = "after=";
const LINK_END: &str = ">; rel=\"next\"";

const MAX_COMPARED: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn next_query(query: &str) -> Box<[u8]> {
        next_query_with(query, &[])
    }

    fn next_query_with(query: &str, names: &[Box<str>]) -> Box<[u8]> {
        let mut next_query = NextQuery::new(names);
        Pairs::of(query.as_bytes()).for_each(|pair| next_query.push(&pair));
        next_query.into_pairs()
    }

    #[test]
    fn only_this_crates_parameters_are_repeated() {
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
            ("ch%61nnel=a&&wait=5&x&limit=3&", r#"<?channel=a&wait=5&limit=3&after=C>; rel="next""#),
            ("&wait=&channel=a=b&after&format=text", r#"<?channel=a%3Db&format=text&after=C>; rel="next""#),
        ];
        for (query, link) in table {
            assert_eq!(next_link(&next_query(query), "C"), link, "{query}");
        }
    }

    #[test]
    fn parameters_of_the_application_are_repeated_when_the_service_is_set_to() {
        let names = ["room", "after", "lastEventId", "q"].map(Box::from);
        let table = [
            ("room=a%20b&wait=5&after=x&token=secret", "<?room=a+b&wait=5&after=C>; rel=\"next\""),
            ("token=secret&room=1&lastEventId=x&room=2&q=", "<?room=1&room=2&q=&after=C>; rel=\"next\""),
            ("rooms=1&Room=2", "<?after=C>; rel=\"next\""),
            ("x&room=1&y&room=2", "<?room=1&room=2&after=C>; rel=\"next\""),
        ];
        for (query, link) in table {
            assert_eq!(next_link(&next_query_with(query, &names), "C"), link, "{query}");
        }
    }

    #[test]
    fn a_pair_that_is_among_the_first_is_not_written_twice() {
        // As many channels as a subscription has by default.
        let named = |count: usize| (0..count).map(|n| format!("channel={n}&")).collect::<String>();
        let repeats = |count: usize, last: &str| {
            let link = next_link(&next_query(&format!("{}{last}", named(count))), "C");
            link != format!("<?{}after=C>; rel=\"next\"", named(count))
        };
        assert_eq!([repeats(32, "channel=0"), repeats(32, "channel=31")], [false, false]);
        assert_eq!([repeats(40, "channel=31"), repeats(40, "channel=32")], [false, true]);
    }

    #[test]
    fn a_client_that_follows_the_link_keeps_its_parameters() {
        for query in ["channel=a&wait=5", "channel=a&wait=5&after=C", "channel=a&wait=5&time=1&x=y"] {
            assert_eq!(&*next_query(query), b"channel=a&wait=5", "{query}");
        }
    }
}
