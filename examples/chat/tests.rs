//! The chat when its event store fails, and when several processes start at once.

use std::{path::Path, time::Duration};

use axum::http::StatusCode;
use tower_events::{Listen, MemoryStore, Subscription, store::Start, testing::FaultStore};

use super::{
    Chat,
    db::{Db, Draft},
    event,
};

fn draft(content: &str) -> Draft {
    Draft { user: "Ada".into(), content: content.into(), key: Some(format!("key of {content}")) }
}

/// The messages that a reader sees.
async fn visible(chat: &Chat) -> Vec<String> {
    let all = Subscription::new(&chat.channel).start(Start::Earliest);
    let listened = chat.hub.listen(Listen::from(all).wait(Duration::ZERO)).await.unwrap();
    let content =
        |data: &str| serde_json::from_str::<serde_json::Value>(data).unwrap()["content"].as_str().unwrap().into();
    listened.entries().iter().map(|entry| content(entry.data.as_shown())).collect()
}

#[tokio::test]
async fn a_message_that_could_not_be_announced_is_announced_before_the_next_one() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let chat = Chat::new(store, Db::open(Path::new(":memory:")).unwrap()).unwrap();
    chat.start().await.unwrap();
    faults.fail_next_appends(1);
    let failed = chat.write(draft("one")).await.unwrap_err();
    assert_eq!(failed.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(visible(&chat).await, [""; 0]);
    chat.write(draft("two")).await.unwrap();
    assert_eq!(visible(&chat).await, ["one", "two"]);
}

#[tokio::test]
async fn sending_again_is_harmless_whatever_happened_to_the_first_attempt() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let chat = Chat::new(store, Db::open(Path::new(":memory:")).unwrap()).unwrap();
    chat.start().await.unwrap();
    faults.lose_next_answers(1);
    chat.write(draft("announced, but the answer was lost")).await.unwrap_err();
    chat.write(draft("announced, but the answer was lost")).await.unwrap();
    faults.lose_next_appends(1);
    chat.write(draft("lost")).await.unwrap_err();
    chat.write(draft("lost")).await.unwrap();
    chat.write(draft("lost")).await.unwrap();
    assert_eq!(visible(&chat).await, ["announced, but the answer was lost", "lost"]);
}

#[tokio::test]
async fn a_start_announces_what_a_killed_process_had_only_stored() {
    let (store, db) = (MemoryStore::default(), Db::open(Path::new(":memory:")).unwrap());
    let before = Chat::new(store.clone(), db.clone()).unwrap();
    before.start().await.unwrap();
    before.write(draft("one")).await.unwrap();
    db.insert(draft("two")).await.unwrap(); // and the process was killed
    let after = Chat::new(store, db).unwrap();
    after.start().await.unwrap();
    assert_eq!(visible(&after).await, ["one", "two"]);
}

#[tokio::test]
async fn processes_that_start_at_once_fill_the_channel_once() {
    let (store, db) = (MemoryStore::default(), Db::open(Path::new(":memory:")).unwrap());
    for content in ["one", "two", "three"] {
        db.insert(draft(content)).await.unwrap();
    }
    let chats: Vec<_> = (0..4).map(|_| Chat::new(store.clone(), db.clone()).unwrap()).collect();
    // A process has filled the channel, but not recorded that yet.
    let events = db.last(10).await.unwrap().iter().map(event).collect::<Result<_, _>>().unwrap();
    chats[0].hub.init_if_unused(&chats[0].channel, events).await.unwrap();
    let starts = chats.iter().cloned().map(|chat| tokio::spawn(async move { chat.start().await }));
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap().unwrap();
    }
    assert_eq!(visible(&chats[1]).await, ["one", "two", "three"]);
}
