//! Read your writes, in order.

use super::super::{
    case::{Case, channel, numbered, seqs, texts, timed},
    harness::Harness,
};
use crate::{
    error::InvalidEvent,
    event::{Data, Event, EventName, RUN_END, RUN_START},
    store::{Append, Entry, Limit, Outcome, Reason, Start, Store},
};

/// Every acknowledged event is read exactly once and in order, page by page as well as at once, with the cursor of its receipt.
///
/// # Panics
/// When the clause does not hold.
pub async fn reads_what_was_appended_exactly_once_in_order<H: Harness>(harness: &H) {
    let case = Case::new("reads_what_was_appended_exactly_once_in_order", harness).await;
    let a = channel("a");
    let mut appended = Vec::new();
    for n in 0..10 {
        let texts: Vec<_> = (0..=n % 4).map(|k| format!("{n}/{k}")).collect();
        let done = case.append(&a, &texts).await;
        let receipts: Vec<_> = done.receipts.iter().map(|receipt| receipt.cursor).collect();
        let cursors: Vec<_> = done.entries.iter().map(|entry| entry.cursor).collect();
        case.same("the cursors of the receipts of new events", receipts, cursors);
        case.same("the head after an append", Some(done.head.cursor), done.entries.last().map(|last| last.cursor));
        appended.extend(done.entries);
    }
    let mut next = case.read_at_most(&a, Start::Earliest, Limit::POSITION).await.next;
    let mut read: Vec<Entry> = Vec::new();
    for _ in 0..=appended.len() {
        let page = case.read_at_most(&a, Start::After(next), Limit { events: 3, ..Limit::default() }).await;
        case.same("the outcome of reading the next page", page.outcome, Outcome::Continued);
        next = page.next;
        read.extend(page.entries);
        if next == page.head.cursor {
            break;
        }
    }
    case.same("all entries, page by page", &read, &appended);
    case.same("all entries, at once", &case.read(&a, Start::Earliest).await.entries, &appended);
    proves_its_order(&case, &read);
}

fn proves_its_order<H: Harness>(case: &Case<'_, H>, entries: &[Entry]) {
    for (before, entry) in entries.iter().zip(entries.iter().skip(1)) {
        case.same("the position before an entry", entry.prev(), before.cursor);
        case.holds("append stamps that never decrease", (before.appended, entry.appended), |(a, b)| a <= b);
    }
    for entry in entries {
        case.holds("a tag that is not 0", entry.cursor, |cursor| cursor.tag != 0);
        case.same("the time of an event without one", entry.time, entry.appended);
    }
}

/// A batch is appended whole and in order, and can be read as soon as the append has returned.
///
/// # Panics
/// When the clause does not hold.
pub async fn appends_a_batch_whole_and_in_order<H: Harness>(harness: &H) {
    let case = Case::new("appends_a_batch_whole_and_in_order", harness).await;
    let a = channel("a");
    for size in [1, 2, 7, 64] {
        let before = case.read(&a, Start::Latest).await.next;
        let done = case.append(&a, numbered(1, size)).await;
        let page = case.continued(&a, before).await;
        case.same("the texts of a batch", texts(&page.entries), numbered(1, size).iter().map(|n| &**n).collect());
        case.same("the number of receipts", done.receipts.len() as u64, size);
        case.same("the head after a batch", case.head(&a).await, done.head);
        case.same("the seq after a batch", done.head.cursor.seq, before.seq + size);
    }
}

/// An empty append changes nothing and returns the head.
///
/// # Panics
/// When the clause does not hold.
pub async fn an_empty_append_returns_the_head<H: Harness>(harness: &H) {
    let case = Case::new("an_empty_append_returns_the_head", harness).await;
    let a = channel("a");
    let absent = case.head(&a).await;
    case.same(
        "the head of an empty append to an absent channel",
        case.append_all(&a, Append::new([])).await.head,
        absent,
    );
    let head = case.append(&a, ["x"]).await.head;
    let empty = case.append_all(&a, Append::new([])).await;
    case.same("the head of an empty append", empty.head, head);
    case.same(
        "the numbers of receipts and entries of an empty append",
        (empty.receipts.len(), empty.entries.len()),
        (0, 0),
    );
    case.same("the number of entries", case.read(&a, Start::Earliest).await.entries.len(), 1);
}

/// Reading from `Latest`, and then from the cursor that this returned, misses nothing.
///
/// # Panics
/// When the clause does not hold.
pub async fn from_latest_nothing_is_missed<H: Harness>(harness: &H) {
    let case = Case::new("from_latest_nothing_is_missed", harness).await;
    let a = channel("a");
    let mut next = case.read(&a, Start::Latest).await.next;
    for n in 1..=5_u64 {
        case.append(&a, [n.to_string()]).await;
        let page = case.continued(&a, next).await;
        case.same("the texts after the cursor", texts(&page.entries), vec![n.to_string().as_str()]);
        next = page.next;
        let latest = case.read(&a, Start::Latest).await;
        case.same(
            "the next position and the number of entries from `Latest`",
            (latest.next, latest.entries.len()),
            (next, 0),
        );
    }
}

/// A page is within both bounds, by count and by bytes, but holds at least one entry unless `events` is 0.
///
/// # Panics
/// When the clause does not hold.
pub async fn pages_are_bounded_by_count_and_bytes<H: Harness>(harness: &H) {
    let case = Case::new("pages_are_bounded_by_count_and_bytes", harness).await;
    let a = channel("a");
    let text = "x".repeat(1000);
    let done = case.append(&a, vec![text; 10]).await;
    let each = done.entries.first().map_or(0, Entry::size);
    let all = done.entries.len();
    for (events, bytes, most) in
        [(3, usize::MAX, 3), (all, each * 4, 4), (all, each * 5 - 1, 4), (all, 1, 1), (1, 0, 1)]
    {
        let page = case.read_at_most(&a, Start::Earliest, Limit { events, bytes }).await;
        let seen = page.entries.len();
        case.holds(&format!("1 to {most} entries for {events} events, {bytes} bytes"), seen, |n| {
            (1..=most).contains(n)
        });
        case.same("the position after a page", Some(page.next), page.entries.last().map(|last| last.cursor));
    }
    for start in [Start::Earliest, Start::Last(3), Start::Time(0)] {
        let page = case.read_at_most(&a, start, Limit::POSITION).await;
        case.same(
            "the number of entries and the next position of a read of no events",
            (page.entries.len(), page.next),
            (0, page.from),
        );
        case.same("the head in a page without entries", page.head, done.head);
    }
}

/// `heads` returns the heads after the last append, in the order of the channels asked for.
///
/// # Panics
/// When the clause does not hold.
pub async fn heads_are_the_newest_positions<H: Harness>(harness: &H) {
    let case = Case::new("heads_are_the_newest_positions", harness).await;
    let names = ["b", "a", "absent", "b"].map(channel);
    for round in 0..3 {
        let a = case.append(&channel("a"), [format!("a{round}")]).await.head;
        let b = case.append(&channel("b"), ["b", "b"]).await.head;
        let heads = case.done("heads", case.store.heads(&names).await);
        let absent = case.read(&channel("absent"), Start::Latest).await.head;
        case.same("the heads of b, a, absent, b", heads, vec![b, a, absent, b]);
    }
    let none = case.done("heads", case.store.heads(&[]).await);
    case.same("the heads of no channels", none, vec![]);
}

/// Data, names and times are read exactly as they were appended, however unusual they are.
///
/// # Panics
/// When the clause does not hold.
pub async fn data_and_names_are_returned_unchanged<H: Harness>(harness: &H) {
    let case = Case::new("data_and_names_are_returned_unchanged", harness).await;
    let names =
        ["a", " ", "😀", "чат", "a'b\"c", "%00", "a/../b", "*", ">", "a.b", "{x}", "\u{2028}", &"x".repeat(255)];
    for name in names {
        let of = channel(name);
        let mut events = awkward_events();
        events.extend(names.iter().map(|name| of_suite(Event::text("named").named(name))));
        events.extend([RUN_START, RUN_END].map(|name| Event::own(name, Data::text("of a run"))));
        case.append_all(&of, Append::new(events.clone())).await;
        let page = case.read(&of, Start::Earliest).await;
        case.same("the number of entries", page.entries.len(), events.len());
        for (entry, event) in page.entries.iter().zip(&events) {
            let seen = (&entry.channel, &entry.data, entry.name.as_ref().map(EventName::as_str));
            let expected = (&of, event.data(), event.name().map(EventName::as_str));
            case.same("channel, data and name", seen, expected);
            case.same("the time", entry.time, event.time().unwrap_or(entry.appended));
        }
    }
}

fn awkward_events() -> Vec<Event> {
    let texts = ["", "\0", "\r\n\r", "data: x\n\n", "\"", "\\", "😀\u{feff}", "null", "{}", &"long ".repeat(20_000)];
    let json =
        ["null", "1e400", "-0", "123456789012345678901234567890", r#"{"b":1,"a":[ ],"b":2}"#, r#""\u0000""#, "[[]]"];
    let texts = texts.iter().map(|text| Event::text(*text));
    let json = json.iter().map(|json| Event::new(of_suite(Data::from_json(json))));
    let times = [0, 1, crate::event::MAX_TIME].map(|time| timed("timed", time));
    texts.chain(json).chain(times).collect()
}

/// The suite's own events must be valid: leaving out an invalid one would go unnoticed.
fn of_suite<T>(made: Result<T, InvalidEvent>) -> T {
    made.unwrap_or_else(|error| panic!("an event of the suite: {error}"))
}

/// Channels are independent: an append to one leaves the others as they are, and a cursor of another channel is `EpochChanged`.
///
/// # Panics
/// When the clause does not hold.
pub async fn channels_are_independent<H: Harness>(harness: &H) {
    let case = Case::new("channels_are_independent", harness).await;
    let (a, b, upper) = (channel("a"), channel("a "), channel("A"));
    case.append(&a, ["in a"]).await;
    case.append(&b, ["in b", "in b"]).await;
    let page = case.read(&a, Start::Earliest).await;
    case.same("the texts of the channel a", texts(&page.entries), vec!["in a"]);
    case.same("the entries of a channel without appends", case.read(&upper, Start::Earliest).await.entries, vec![]);
    for other in [&b, &upper] {
        let foreign = case.read(other, Start::After(page.next)).await;
        case.same("the outcome of another channel's cursor", foreign.outcome, Outcome::Reset(Reason::EpochChanged));
        let all = case.read(other, Start::Earliest).await.entries;
        case.same("the seqs after another channel's cursor", seqs(&foreign.entries), seqs(&all));
    }
}

/// An event that was appended through one store is read through every store on the same place.
///
/// # Panics
/// When the clause does not hold.
pub async fn stores_on_one_place_agree<H: Harness>(harness: &H) {
    let case = Case::new("stores_on_one_place_agree", harness).await;
    let (a, second) = (channel("a"), case.second().await);
    let mut next = case.read(&a, Start::Latest).await.next;
    for n in 1..=10_u64 {
        let append = Append::new([Event::text(n.to_string())]);
        let (writer, reader) = if n % 2 == 0 { (&case.store, &second) } else { (&second, &case.store) };
        let done = case.done("an append", writer.append(&a, append).await);
        let page = case.done("a read", reader.read(&a, Start::After(next), Limit::default()).await);
        case.same("the outcome through the other store", page.outcome, Outcome::Continued);
        case.same("the entries through the other store", &page.entries, &done.entries);
        let heads = case.done("heads", reader.heads(std::slice::from_ref(&a)).await);
        case.same("the head through the other store", heads, vec![done.head]);
        next = page.next;
    }
}
