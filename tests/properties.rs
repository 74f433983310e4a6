//! The checks of the fuzz targets as property tests, for stable compilers.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a check that panics is a failed test")]

#[allow(dead_code, unreachable_pub)]
#[path = "../fuzz/checks.rs"]
mod checks;

use checks::{AnyRequest, Step};
use proptest::{collection::vec, option, prelude::*};

/// Texts that are hard to encode on an event stream.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "(?s).{0,60}",
        "[\r\n :a]{0,20}",
        "((data|id|event|retry|)(: ?|)[a-z0-9]{0,3}(\r\n|\n|\r|)){0,6}",
        "[\u{feff}\u{0}\u{2028}\u{85}😀é\n]{0,10}",
    ]
}

fn query() -> impl Strategy<Value = String> {
    let name = "(channel|after|last_event_id|time|last|wait|limit|format|heartbeat|name|x)";
    let value = "(a|b|earliest|latest|event|json|text|-?[0-9]{0,22}|[A-Za-z0-9_-]{28}|(%[0-9A-Fa-f]{2}){0,6}|[!-~&&[^#]]{0,12})";
    let regex = format!("({name}={value}&?){{0,5}}");
    proptest::string::string_regex(&regex).expect("a regular expression")
}

fn header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = "(last-event-id|accept|prefer|idempotency-key|events-closed|content-type|x)";
    let value = prop_oneof![
        vec(any::<u8>(), 0..40),
        "(wait=[0-9]{1,5}|true|text/plain|application/(json|x-ndjson)|text/event-stream;q=0[.][0-9]|[*]/[*]|\"k\")"
            .prop_map(String::into_bytes),
    ];
    (name, value)
}

fn request() -> impl Strategy<Value = AnyRequest> {
    let body = prop_oneof![
        vec(any::<u8>(), 0..60),
        "([{]\"data\":(1|null|\"x\")(,\"(name|time|key)\":(1|\"n\"|null))?[}]\n?){0,4}".prop_map(String::into_bytes),
    ];
    ("(GET|HEAD|OPTIONS|POST|POST|PUT)", query(), vec(header(), 0..5), body)
        .prop_map(|(method, query, headers, body)| AnyRequest { method, query, headers, body })
}

/// A line of a batch: mostly an event.
fn line() -> impl Strategy<Value = String> {
    let data = "(1|-0|1e400|null|\"[a-z\\\\\"]{0,4}\"|\\[1,[]\\[]{0,3}|[{]\"a\":1[}])";
    let field = ",\"(name|time|key|data)\":(1|\"[a-b]\"|null)";
    let event =
        proptest::string::string_regex(&format!("[{{]\"data\":{data}({field})?[}}]")).expect("a regular expression");
    prop_oneof![8 => event, 1 => Just("{\"data\":1}".to_owned()), 1 => "[ -~\r]{0,12}"]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..8_u8).prop_map(Step::Append),
        3 => any::<u8>().prop_map(Step::Keyed),
        4 => any::<u8>().prop_map(Step::Resume),
        2 => Just(Step::Expecting),
        1 => Just(Step::Close),
        1 => (0..8_u8).prop_map(Step::Init),
        1 => Just(Step::Delete),
    ]
}

proptest! {
    #[test]
    fn texts_and_names_survive_a_stream_unchanged(
        events in vec((text(), option::of(prop_oneof![text(), "[a-z -]{1,8}"])), 0..8),
        cut in 0..400_usize,
    ) {
        checks::sse_roundtrip(&events, cut);
    }

    #[test]
    fn bytes_parse_as_a_cursor_or_fail_with_an_error(bytes in prop_oneof![vec(any::<u8>(), 0..80), "[A-Za-z0-9_-]{0,80}".prop_map(String::into_bytes)]) {
        checks::cursor_parse(&bytes);
    }

    #[test]
    fn positions_can_be_read_back_from_their_token(positions in vec(("[a-z]{1,3}", any::<u64>(), any::<u64>(), any::<u32>()), 0..40)) {
        checks::token_roundtrip(&positions);
    }

    #[test]
    fn no_request_causes_a_panic_or_a_500(request in request()) {
        checks::request_parse(&request);
    }

    #[test]
    fn a_batch_is_appended_as_a_whole_or_not_at_all(lines in vec(line(), 0..6), end in prop_oneof![Just(""), Just("\n"), Just("x")]) {
        checks::publish_lines((lines.join("\n") + end).as_bytes());
    }

    #[test]
    fn a_memory_store_behaves_like_a_plain_list(steps in vec(step(), 0..60), keep in 0..12_u8) {
        checks::store_ops(&steps, keep);
    }
}
