//! Whatever a server stores or announces is decoded or refused, without a panic: for the fuzz target `stored_data`, and as a
//! property test.

use bytes::Bytes;

use super::{
    codec::{RecordLifetime, changes_of, record_lifetime, record_of},
    reads::page,
    script::parse_epoch_text,
};
use crate::{channel::Channel, cursor::Cursor, store::Start, stores::chunks::chunks};

/// Decodes `bytes` as everything that is read from a server.
pub fn decode(bytes: &[u8]) {
    let Ok(channel) = Channel::new("a") else { return };
    let answer: Vec<_> = chunks(bytes).map(Bytes::copy_from_slice).collect();
    let cursor = Cursor { epoch: 1, seq: 2, tag: 3 };
    for start in [Start::Beginning, Start::Latest, Start::Last(2), Start::Time(5), Start::After(cursor)] {
        if let Ok(page) = page(1, &channel, start, &answer) {
            assert!(page.entries.iter().all(|entry| entry.channel == channel));
        }
    }
    _ = changes_of(bytes.to_vec());
    _ = record_of(bytes);
    _ = parse_epoch_text(bytes);
    let own = RecordLifetime { age: 1, forget_after: 2, window: 3 };
    assert!(record_lifetime(own, bytes, 0) >= 3);
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A reply as the script makes it, with any numbers.
    fn reply() -> impl Strategy<Value = Vec<u8>> {
        let numbers =
            prop_oneof![Just(u64::MAX), Just(0), any::<u64>()].prop_map(|number| number.to_string().into_bytes());
        let bytes = vec(any::<u8>(), 0..60);
        let part = prop_oneof![numbers, vec(any::<u8>(), 97), vec(any::<u8>(), 40), Just(b"1-0".to_vec()), bytes];
        vec(part, 0..14)
            .prop_map(|parts| parts.into_iter().flat_map(|part| [vec![part.len() as u8], part].concat()).collect())
    }

    proptest! {
        #[test]
        fn whatever_a_server_answers_is_decoded_or_refused(bytes in prop_oneof![vec(any::<u8>(), 0..200), reply()]) {
            decode(&bytes);
        }
    }

    #[test]
    fn a_page_at_the_end_of_all_numbers_is_refused_or_decoded() {
        let record = [&b"0000000000000001"[..], &[0; 81]].concat();
        let parts: [&[u8]; 6] = [&record, b"", b"18446744073709551615", &[0; 4], &[0; 4], b"0"];
        decode(&parts.iter().flat_map(|part| [&[part.len() as u8], *part].concat()).collect::<Vec<_>>());
    }
}
