//! The listing of channels.

use super::super::{
    case::{Case, channel, keyed},
    harness::Harness,
};
use crate::{
    channel::Channel,
    event::Event,
    store::{Append, Expect, Head, Retention, Store},
};

/// Channels are listed in the order of their names' bytes, and a prefix is compared literally: it has no wildcards or escapes.
///
/// # Panics
/// When the clause does not hold.
pub async fn channels_are_listed_in_byte_order<H: Harness>(harness: &H) {
    let case = Case::new("channels_are_listed_in_byte_order", harness).await;
    case.same("the channels of an empty place", listed(&case, "", 10).await, vec![]);
    // Collations, patterns and encodings would order or match these differently.
    let names = [
        " ",
        "%",
        "*",
        "A",
        "A b",
        "B",
        "a",
        "a%b",
        "a*b",
        "a.b",
        "a/b",
        "a>b",
        "a[b",
        "a\\b",
        "a_b",
        "aa",
        "ab",
        "b",
        "z",
        "zz",
        "~",
        "\u{e4}",
        "\u{e4}b",
        "\u{ffff}",
        "\u{1f600}",
        "\u{10ffff}",
        "\u{10ffff}b",
    ];
    for name in names.iter().rev() {
        case.append(&channel(name), ["x"]).await;
    }
    for prefix in ["", "a", "a%", "a*", "a.", "a[", "a\\", "a_", "\u{e4}", "\u{10ffff}", "A ", "none"] {
        let due: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).map(|name| channel(name)).collect();
        come_to(&case, prefix, &due).await;
    }
}

/// A page continues after the channel `after`, whether or not that exists; pages of any size together hold each channel once.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_listing_goes_on_after_a_channel<H: Harness>(harness: &H) {
    let case = Case::new("a_listing_goes_on_after_a_channel", harness).await;
    let all: Vec<_> = (10..33).map(|n| channel(&format!("room {n}"))).collect();
    for of in all.iter().chain([&channel("other"), &channel("z")]) {
        case.append(of, ["x"]).await;
    }
    come_to(&case, "room ", &all).await;
    for limit in [1, 2, 7, 23, 24, usize::MAX] {
        case.same("the channels", names(&listed(&case, "room ", limit).await), all.clone());
    }
    for (from, due) in [
        ("a", vec!["room 10", "room 11"]),
        ("room 1", vec!["room 10", "room 11"]),
        ("room 15", vec!["room 16", "room 17"]),
        ("room 15 and more", vec!["room 16", "room 17"]),
        ("room 31", vec!["room 32"]),
        ("room 32", vec![]),
        ("z", vec![]),
    ] {
        let page = names(&case.done("a listing", case.store.channels("room ", Some(&channel(from)), 2).await));
        case.holds(&format!("{due:?}, or the first of these, after {from:?}"), page, |page| {
            due.iter().map(|name| channel(name)).collect::<Vec<_>>().starts_with(page)
                && page.is_empty() == due.is_empty()
        });
    }
    let none = case.done("a listing", case.store.channels("", None, 0).await);
    case.same("the channels with a limit of 0", none, vec![]);
}

/// Exactly the channels that have a record are listed, each with its head.
///
/// # Panics
/// When the clause does not hold.
pub async fn listed_channels_have_a_record<H: Harness>(harness: &H) {
    let case = Case::new("listed_channels_have_a_record", harness).await;
    let [open, closed, filled, deleted, absent] = ["open", "closed", "filled", "deleted", "absent"].map(channel);
    case.append(&open, ["x", "y"]).await;
    case.append_all(&closed, Append::new([]).closing()).await;
    case.done("an init", case.store.init(&filled, vec![Event::text("x")], Expect::Any).await);
    case.append(&deleted, ["x"]).await;
    come_to(&case, "", &[closed.clone(), deleted.clone(), filled.clone(), open.clone()]).await;
    case.done("a delete", case.store.delete(&deleted).await);
    case.head(&absent).await;
    case.append_all(&absent, Append::new([])).await;
    let due = [closed, filled, open];
    come_to(&case, "", &due).await;
    for (of, head) in listed(&case, "", 10).await {
        case.same(&format!("the listed head of {of:?}"), head, case.head(&of).await);
    }
}

/// Once a channel is no longer used, it is forgotten, even if only other channels are used.
///
/// # Panics
/// When the clause does not hold.
pub async fn unused_channels_are_forgotten<H: Harness>(harness: &H) {
    let unit = harness.time().unit();
    let retention = Retention::default().age(unit * 4).key_window(unit * 4).forget_after(unit * 8);
    let case = Case::keeping("unused_channels_are_forgotten", harness, retention).await;
    let (idle, closed, used) = (channel("idle"), channel("idle and closed"), channel("used"));
    case.append(&idle, ["x", "y"]).await;
    case.append_all(&closed, Append::new([keyed("x", "k")]).closing()).await;
    // A store may forget records only while it handles other calls, so some are made.
    for _ in 0..12 {
        case.advance(5).await;
        case.append(&used, ["x"]).await;
    }
    come_to(&case, "idle", &[]).await;
    come_to(&case, "", &[used]).await;
}

/// Waits until exactly these channels are listed: a store may list the channels of another connection a little later.
async fn come_to<H: Harness>(case: &Case<'_, H>, prefix: &str, due: &[Channel]) {
    for _ in 0..250 {
        if names(&listed(case, prefix, 100).await) == due {
            return;
        }
        case.wait().await;
    }
    case.same(
        &format!("the channels that begin with {prefix:?}"),
        names(&listed(case, prefix, 100).await),
        due.to_vec(),
    );
}

/// Reads all pages.
async fn listed<H: Harness>(case: &Case<'_, H>, prefix: &str, limit: usize) -> Vec<(Channel, Head)> {
    let mut all: Vec<(Channel, Head)> = Vec::new();
    // More pages than there are, since each holds at least one channel.
    for _ in 0..100 {
        let after = all.last().map(|(channel, _)| channel);
        let page = case.done("a listing", case.store.channels(prefix, after, limit).await);
        if page.is_empty() {
            return all;
        }
        case.holds(&format!("at most {limit} channels"), page.len(), |len| *len <= limit);
        all.extend(page);
    }
    case.fail("a listing", "an end", &names(&all))
}

fn names(listed: &[(Channel, Head)]) -> Vec<Channel> {
    listed.iter().map(|(channel, _)| channel.clone()).collect()
}
