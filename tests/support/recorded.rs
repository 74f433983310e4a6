//! What the channel of a run contains, and what it must contain.

use tower_events::{
    Channel, Store,
    store::{Entry, Limit, Start},
};

/// What happens to be the name of a run's channel.
pub(crate) fn channel(name: &str) -> Channel {
    Channel::new(format!("run:{name}")).unwrap()
}

/// Everything that the channel holds, from its first event on.
pub(crate) async fn entries(store: &impl Store, channel: &Channel) -> Vec<Entry> {
    let mut page = store.read(channel, Start::Earliest, Limit::new(usize::MAX, usize::MAX)).await.unwrap();
    assert_eq!(page.from.tag, 0, "the beginning is kept");
    let mut entries = page.entries;
    while page.next != page.head.cursor {
        page = store.read(channel, Start::After(page.next), Limit::new(usize::MAX, usize::MAX)).await.unwrap();
        entries.append(&mut page.entries);
    }
    entries
}

/// The texts between the first and the last event of a run that has ended once, and its outcome.
pub(crate) async fn ended(store: &impl Store, channel: &Channel) -> (Vec<String>, String) {
    let entries = entries(store, channel).await;
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_ref().map_or("", |name| name.as_str())).collect();
    let count = |wanted: &str| names.iter().filter(|name| **name == wanted).count();
    assert_eq!((count("stream-run-start"), count("stream-run-end")), (1, 1), "{names:?}");
    assert_eq!((names[0], names[names.len() - 1]), ("stream-run-start", "stream-run-end"));
    let shown: Vec<_> = entries.iter().map(|entry| entry.data.as_shown().to_owned()).collect();
    (shown[1..shown.len() - 1].to_vec(), shown[shown.len() - 1].clone())
}
