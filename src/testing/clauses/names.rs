//! Names, keys and data that are similar, and must not be confused.

use super::super::{
    case::{Case, channel, keyed, texts},
    harness::Harness,
};
use crate::{
    event::{Data, Event, EventName},
    store::{Append, Receipt, Start},
};

/// Texts in groups whose members become equal when they are case-folded, normalised, trimmed, decoded, truncated, or
/// interpreted as a number, pattern or path.
fn lookalikes() -> Vec<String> {
    let long = [16, 31, 32, 63, 64, 127, 128, 200, 254].into_iter().flat_map(|length| {
        let same = "x".repeat(length);
        ["y", "z"].map(|last| format!("{same}{last}"))
    });
    SHORT_LOOKALIKES.iter().map(|text| (*text).to_owned()).chain(long).collect()
}

/// Channels with similar names are different channels.
///
/// # Panics
/// When the clause does not hold.
pub async fn similar_names_are_distinct<H: Harness>(harness: &H) {
    let case = Case::new("similar_names_are_distinct", harness).await;
    for name in lookalikes() {
        case.append(&channel(&name), [&name]).await;
    }
    for name in lookalikes() {
        let page = case.read(&channel(&name), Start::Earliest).await;
        case.same(&format!("the texts of the channel {name:?}"), texts(&page.entries), vec![&*name]);
    }
}

/// Similar keys are different keys.
///
/// # Panics
/// When the clause does not hold.
pub async fn similar_keys_are_distinct<H: Harness>(harness: &H) {
    let case = Case::new("similar_keys_are_distinct", harness).await;
    let a = channel("a");
    let all = || Append::new(lookalikes().iter().map(|key| keyed(key, key)));
    let first = case.append_all(&a, all()).await;
    let duplicates = |receipts: &[Receipt]| receipts.iter().filter(|receipt| receipt.duplicate).count();
    case.same("the number of duplicates among different keys", duplicates(&first.receipts), 0);
    let again = case.append_all(&a, all()).await;
    case.same("the number of duplicates when all keys are repeated", duplicates(&again.receipts), lookalikes().len());
    let cursors = |receipts: &[Receipt]| receipts.iter().map(|receipt| receipt.cursor).collect::<Vec<_>>();
    case.same("the cursors of the repeated keys", cursors(&again.receipts), cursors(&first.receipts));
}

/// A channel's name and a key are not joined ambiguously: the key `b:c` in `a` differs from the key `c` in `a:b`.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_name_and_a_key_are_not_joined<H: Harness>(harness: &H) {
    let case = Case::new("a_name_and_a_key_are_not_joined", harness).await;
    for separator in [":", "/", ".", ",", "|", "-", "_", " ", "::", "\u{2028}", "#", "$", "=", ""] {
        let (before, after) = (format!("a{separator}b"), format!("b{separator}c"));
        for (name, key) in [(&*before, "c"), ("a", &*after)] {
            let done = case.append_all(&channel(name), Append::new([keyed("x", key)])).await;
            case.same(&format!("the number of new entries of the key {key:?} in {name:?}"), done.entries.len(), 1);
        }
    }
}

/// Data is read exactly as it was appended, character by character, whatever its length is.
///
/// # Panics
/// When the clause does not hold.
pub async fn data_is_returned_unchanged<H: Harness>(harness: &H) {
    let case = Case::new("data_is_returned_unchanged", harness).await;
    let a = channel("a");
    let json = [
        "1",
        "1.0",
        "1e0",
        "1E0",
        "1E+0",
        "10",
        "1e1",
        "0.1",
        "0.10",
        "-0",
        "-0.0",
        "9007199254740993",
        "1e-7",
        "[1,2.50]",
        "{\"a\":1.0,\"A\":1}",
        "\"\\u00e9\"",
        "\"\u{e9}\"",
        "\"e\u{301}\"",
        "[]",
        "{}",
        "\"\"",
        "false",
    ];
    let lengths = [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 257];
    let large = [4095, 4096, 4097, 32767, 32768, 65535, 65536, 65537, 100_000];
    let texts =
        lengths.into_iter().chain(large).map(|length| Event::text("\u{e9}x".repeat(length / 3 + 1)[..].to_owned()));
    let json = json.iter().filter_map(|json| Data::from_json(json).ok()).map(Event::new);
    let names = lookalikes().into_iter().filter_map(|name| Event::text("named").named(name).ok());
    let events: Vec<_> = json.chain(texts).chain(names).collect();
    case.append_all(&a, Append::new(events.clone())).await;
    let page = case.read(&a, Start::Earliest).await;
    case.same("the number of entries", page.entries.len(), events.len());
    for (entry, event) in page.entries.iter().zip(&events) {
        case.same("a datum", &entry.data, event.data());
        case.same("a name", entry.name.as_ref().map(EventName::as_str), event.name().map(EventName::as_str));
    }
}

const SHORT_LOOKALIKES: &[&str] = &[
    "a",
    "A",
    " a",
    "a ",
    "a  ",
    "aa",
    "a.",
    "a/",
    "/a",
    "./a",
    "a:",
    "a:b",
    "a::b",
    "a.b",
    "a/b",
    "a b",
    "a_b",
    "a-b",
    "a+b",
    "a%b",
    "a%20b",
    "a%2Fb",
    "a%2fb",
    "%61",
    "a*",
    "a?",
    "a\\",
    "a'",
    "a''",
    "a\"",
    "0",
    "00",
    "1",
    "01",
    "1.0",
    "1e0",
    "-0",
    "null",
    "NULL",
    "true",
    "\u{e1}",
    "a\u{301}",
    "\u{c1}",
    "\u{ff41}",
    "\u{df}",
    "ss",
    "\u{1e9e}",
    "k",
    "K",
    "\u{212a}",
    "i",
    "I",
    "\u{130}",
    "\u{131}",
    "\u{200b}a",
    "a\u{200b}",
    "\u{feff}a",
    "\u{fb01}",
    "fi",
];
