//! An entry as a JSON object: an element of a long poll's array, or the data of an event of a stream. A pure function of the
//! entry.

use serde::Serialize;

use super::{escape::escape_breaks, view::View};
use crate::{
    cursor::Cursors,
    hub::{Delimiters, Encoding, Listened},
    store::Entry,
};

/// Whether an object is an event or a snapshot, which its object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Event,
    Snapshot,
}

/// Entries as a JSON array of objects.
pub(crate) static ARRAY: Encoding = Encoding { delimiters: IN_ARRAY, encode: object };

/// A snapshot as a JSON array of one object.
pub(crate) static SNAPSHOT_ARRAY: Encoding = Encoding { delimiters: IN_ARRAY, encode: snapshot_object };

const IN_ARRAY: Delimiters = Delimiters { before: b"[", between: b",", after: b"]" };

/// The snapshots, then the events, as an array as one client sees it.
pub(crate) fn array_for(listened: &Listened, view: &View) -> Vec<u8> {
    let snapshots = listened.snapshots.iter().map(|snapshot| (snapshot.entry(), Kind::Snapshot));
    let events = listened.entries().into_iter().map(|entry| (entry, Kind::Event));
    let mut out = vec![b'['];
    for (index, (entry, kind)) in snapshots.chain(events).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        object_for(entry, kind, view, &mut out);
    }
    out.push(b']');
    out
}

/// Appends `{"id":…,"channel":…,"time":…,"name":…,"data":…}`; an event without a name has no `name`.
pub(super) fn object(entry: &Entry, out: &mut Vec<u8>) {
    push_object(&entry.cursor.to_text(), entry.channel.as_str(), entry, Kind::Event, out);
}

/// The same object for a snapshot, which has `"snapshot":true` as well.
pub(super) fn snapshot_object(entry: &Entry, out: &mut Vec<u8>) {
    push_object(&entry.cursor.to_text(), entry.channel.as_str(), entry, Kind::Snapshot, out);
}

/// The same object, as one client sees it.
pub(super) fn object_for(entry: &Entry, kind: Kind, view: &View, out: &mut Vec<u8>) {
    let id = view.token(Cursors::from(entry.cursor)).to_string();
    push_object(id.as_bytes(), view.channel(&entry.channel), entry, kind, out);
}

fn push_object(id: &[u8], channel: &str, entry: &Entry, kind: Kind, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\",\"channel\":");
    push_json(channel, out);
    out.extend_from_slice(b",\"time\":");
    push_json(&entry.time, out);
    if let Some(name) = &entry.name {
        out.extend_from_slice(b",\"name\":");
        push_json(name.as_str(), out);
    }
    if kind == Kind::Snapshot {
        out.extend_from_slice(b",\"snapshot\":true");
    }
    out.extend_from_slice(b",\"data\":");
    match entry.data.as_text() {
        Some(text) => push_json(text, out),
        // Already compact JSON. It is not parsed again, so that numbers of any size stay as they were published.
        None => out.extend_from_slice(entry.data.as_shown().as_bytes()),
    }
    out.push(b'}');
    escape_breaks(out, start);
}

/// Cannot fail: strings and numbers always serialise, and writing to a vector always succeeds.
fn push_json<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::Channel,
        cursor::Cursor,
        event::{Data, EventName},
    };

    fn encoded(data: Data, name: Option<&str>) -> String {
        let entry = Entry {
            channel: Channel::new("a \"b\"").unwrap(),
            cursor: Cursor { epoch: 1, seq: 2, tag: 3 },
            prev_tag: 0,
            appended: 5,
            time: 1_732_094_400_123,
            name: name.map(|name| EventName::new(name).unwrap()),
            data,
        };
        let mut out = Vec::new();
        object(&entry, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_object_has_these_fields_in_this_order() {
        let id = Cursor { epoch: 1, seq: 2, tag: 3 };
        assert_eq!(
            encoded(Data::text("x\ny"), Some("n")),
            format!(r#"{{"id":"{id}","channel":"a \"b\"","time":1732094400123,"name":"n","data":"x\ny"}}"#)
        );
        let plain = encoded(Data::from_json("{ \"n\" : 1e400 }").unwrap(), None);
        let breaks = encoded(Data::text("\u{2028}"), Some("\u{2029}"));
        assert!(breaks.contains(r#""name":"\u2029","data":"\u2028""#), "{breaks}");
        assert_eq!(plain, format!(r#"{{"id":"{id}","channel":"a \"b\"","time":1732094400123,"data":{{"n":1e400}}}}"#));
    }
}
