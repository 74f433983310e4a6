//! Whatever a stream holds is decoded or refused, without a panic: for the fuzz target `stored_data`, and as a property test.

use bytes::Bytes;

use super::{
    body::{Message, take_keys},
    floors,
    identity::Identity,
    node_settings::NodeSettings,
    record::Record,
    turns,
};
use crate::channel::Channel;

/// Decodes `bytes` as everything that is read from a stream: up to the first line feed as a header, the rest as a body.
pub fn decode(bytes: &[u8]) {
    let Ok(channel) = Channel::new("a") else { return };
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (header, body) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    let body = Bytes::copy_from_slice(body.get(1..).unwrap_or_default());
    if let Ok(text) = std::str::from_utf8(header) {
        if let Ok(record) = Record::parse(text) {
            message(&channel, record, body.clone());
        }
        if let Some(settings) = NodeSettings::parse(text) {
            assert_eq!(NodeSettings::parse(settings.to_text().trim_end()), Some(settings));
        }
        _ = (Identity::parse(text), turns::parse(text));
    }
    _ = (take_keys(body), floors::parse(header));
}

fn message(channel: &Channel, record: Record, body: Bytes) {
    assert_eq!(Record::parse(&record.to_text()).ok(), Some(record));
    let message = Message { at: 1, after: None, record, body };
    if let Ok(entries) = message.entries(channel) {
        assert_eq!(entries.len() as u64, record.count);
        assert!(entries.last().is_none_or(|last| last.cursor.seq == record.end()));
    }
    _ = message.keys();
    assert!(record.following(record.stamp).follows(&record));
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A header of the right form with any numbers, and any body.
    fn stored() -> impl Strategy<Value = Vec<u8>> {
        let number = prop_oneof![Just(u64::MAX), 0..3_u64, any::<u64>()];
        let body = vec(prop_oneof![Just(0_u8), 0..4_u8, any::<u8>()], 0..80);
        (prop_oneof![Just("append"), Just("init"), Just("gone")], vec(number, 13..19), body).prop_map(
            |(kind, numbers, body)| {
                let numbers: String = numbers.iter().map(|number| format!(" {number:x}")).collect();
                [format!("1 {kind}{numbers}\n").into_bytes(), body].concat()
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_a_stream_holds_is_decoded_or_refused(bytes in prop_oneof![vec(any::<u8>(), 0..200), stored()]) {
            decode(&bytes);
        }
    }
}
