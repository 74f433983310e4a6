//! The compactions that come with the crate. Pure.

use std::{collections::HashSet, hash::Hash};

use crate::{event::Data, store::Entry};

/// Leaves the newest entry of each key, and those without one.
pub(super) fn keep_newest<K: Hash + Eq>(entries: &mut Vec<Entry>, key: impl Fn(&Entry) -> Option<K>) {
    let mut seen = HashSet::new();
    let is_newest = |entry: &Entry| key(entry).is_none_or(|key| seen.insert(key));
    let newest_first: Vec<_> = entries.iter().rev().map(is_newest).collect();
    let mut kept = newest_first.into_iter().rev();
    entries.retain(|_| kept.next().unwrap_or(true));
}

/// Joins adjacent texts of one name, as long as a joined one has at most `max_bytes`.
pub(super) fn join_texts(entries: &mut Vec<Entry>, max_bytes: usize) {
    let mut joined = Vec::new();
    let mut rest = entries.as_slice();
    while let Some((group, after)) = rest.split_at_checked(joinable(rest, max_bytes)).filter(|_| !rest.is_empty()) {
        joined.extend(join(group));
        rest = after;
    }
    *entries = joined;
}

/// How many of the first entries become one; at least one.
///
/// An entry is added whenever it fits to what was added before, so that joining what was joined before changes nothing: the next
/// entry did not fit then either.
fn joinable(entries: &[Entry], max_bytes: usize) -> usize {
    let Some((first, rest)) = entries.split_first().filter(|(first, _)| first.data.as_text().is_some()) else {
        return 1;
    };
    let mut bytes = first.data.len();
    let fits = |entry: &&Entry| {
        bytes = bytes.saturating_add(entry.data.len());
        entry.data.as_text().is_some() && entry.name == first.name && bytes <= max_bytes
    };
    1 + rest.iter().take_while(fits).count()
}

fn join(group: &[Entry]) -> Option<Entry> {
    let last = group.last()?;
    if group.len() == 1 {
        return Some(last.clone());
    }
    let text: String = group.iter().filter_map(|entry| entry.data.as_text()).collect();
    Some(Entry { data: Data::text(text), ..last.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel::Channel, cursor::Cursor, event::EventName};

    /// Entries with positions from 1 on, each written as `name:data`; a number is data that is not a text.
    fn entries(shown: &[&str]) -> Vec<Entry> {
        let entry = |(at, shown): (usize, &&str)| {
            let (name, data) = shown.split_once(':').unwrap();
            let seq = at as u64 + 1;
            let cursor = Cursor { epoch: 1, seq, tag: seq as u32 * 10 };
            let data =
                if data.starts_with(char::is_numeric) { Data::from_json(data).unwrap() } else { Data::text(data) };
            let name = (!name.is_empty()).then(|| EventName::new(name).unwrap());
            Entry::new(Channel::new("a").unwrap(), cursor, data).named(name).appended(seq).at(100 - seq)
        };
        shown.iter().enumerate().map(entry).collect()
    }

    /// What is left, with its positions.
    fn shown(entries: &[Entry]) -> Vec<String> {
        let name = |entry: &Entry| entry.name.as_ref().map(ToString::to_string).unwrap_or_default();
        entries.iter().map(|entry| format!("{}{}:{}", entry.cursor.seq, name(entry), entry.data.as_shown())).collect()
    }

    #[test]
    fn the_newest_of_each_key_is_left_in_its_place() {
        let by_name = |entry: &Entry| Some(entry.name.clone());
        let table: &[(&[&str], &[&str])] = &[
            (&[], &[]),
            (&["a:x"], &["1a:x"]),
            (&["a:x", "b:y", "a:z"], &["2b:y", "3a:z"]),
            (&["a:x", "a:y", "b:z", "b:v", "a:w"], &["4b:v", "5a:w"]),
            (&[":x", "a:y", ":1"], &["2a:y", "3:1"]),
        ];
        for (before, after) in table {
            let mut left = entries(before);
            keep_newest(&mut left, by_name);
            assert_eq!(shown(&left), *after, "{before:?}");
        }
        let mut left = entries(&["a:x", ":y", "a:z", ":v"]);
        keep_newest(&mut left, |entry| entry.name.clone());
        assert_eq!(shown(&left), ["2:y", "3a:z", "4:v"], "what has no key stays");
    }

    #[test]
    fn adjacent_texts_of_one_name_are_joined_up_to_a_size() {
        let table: &[(&[&str], &[&str])] = &[
            (&[], &[]),
            (&[":x"], &["1:x"]),
            (&[":x", ":y", ":z"], &["3:xyz"]),
            (&["a:x", "a:y", ":z", ":v", "a:w"], &["2a:xy", "4:zv", "5a:w"]),
            (&[":x", ":1", ":y", ":z", ":2", ":3"], &["1:x", "2:1", "4:yz", "5:2", "6:3"]),
            (&[":abcd", ":e", ":fgh", ":i"], &["1:abcd", "3:efgh", "4:i"]),
            (&[":abcde", ":", ":x"], &["1:abcde", "3:x"]),
            (&[":a", ":bcdef", ":g"], &["1:a", "2:bcdef", "3:g"]),
        ];
        for (before, after) in table {
            let mut left = entries(before);
            join_texts(&mut left, 4);
            assert_eq!(shown(&left), *after, "{before:?}");
        }
        let mut left = entries(&[":x", ":y"]);
        join_texts(&mut left, 4);
        assert_eq!(
            (left[0].time, left[0].appended, left[0].cursor.tag),
            (98, 2, 20),
            "all but the text is the last one's"
        );
    }
}
