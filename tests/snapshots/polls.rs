//! What long polls answer.

use std::time::{Duration, Instant};

use super::*;

#[tokio::test]
async fn a_fresh_poll_is_answered_at_once_with_the_state() {
    let site = Site::start().await;
    let head = site.changes("a", 3).await.pop().unwrap();
    let object =
        format!(r#"{{"id":"{head}","channel":"a","time":7,"name":"state","snapshot":true,"data":{{"state":3}}}}"#);
    let began = Instant::now();
    let array = site.get("/poll?channel=a&wait=20").send().await.expect(200);
    assert_eq!(array.text(), format!("[{object}]"));
    assert_eq!((array.cursor(), array.header("events-live")), (head.clone(), "true"));
    let page = site.get("/poll?channel=a&wait=20&format=page").send().await.expect(200).json();
    assert_eq!(page["events"].to_string(), format!("[{object}]").parse::<serde_json::Value>().unwrap().to_string());
    assert_eq!((&page["cursor"], &page["live"]), (&json!(head), &json!(true)));
    assert!(began.elapsed() < Duration::from_secs(10));
    let none = site.get("/poll?channel=a&wait=0&after=latest").send().await.expect(200);
    assert_eq!((none.text(), none.cursor()), ("[]", head));
}

#[tokio::test]
async fn the_state_comes_before_events_and_does_not_count_in_the_limit() {
    let site = Site::start().await;
    site.change("a").await;
    // A poll that joins late gets the state of then, and what was published since.
    site.application.behaviour.send_replace(Behaviour::Hold);
    let (early, late) = (site.get("/poll?channel=a").send(), async {
        support::eventually("the call runs", || site.application.calls() == 1).await;
        site.changes("a", 3).await;
        let late = site.get("/poll?channel=a&limit=2").send();
        let release = async {
            site.readers(2).await;
            site.application.behaviour.send_replace(Behaviour::Answer);
        };
        tokio::join!(late, release).0
    });
    let (early, late) = tokio::join!(early, late);
    for (answer, events) in [(early, 3), (late, 2)] {
        let objects = answer.expect(200).json();
        assert_eq!((objects.as_array().unwrap().len(), &objects[0]["snapshot"]), (1 + events, &json!(true)));
        assert_eq!(objects[1]["data"]["change"], 2, "the first that the head does not cover");
        assert!(objects[1].get("snapshot").is_none());
    }
    assert_eq!(site.application.calls(), 1);
}

#[tokio::test]
async fn a_reset_is_told_with_the_state_also_where_resets_are_refused() {
    let site = Site::trimming().await;
    let old = site.change("a").await;
    site.changes("a", 9).await;
    for path in ["/poll", "/refusing", "/events"] {
        for id in [old.as_str(), "nonsense"] {
            let answer = site.get(&format!("{path}?channel=a")).last_event_id(id).send().await.expect(200);
            assert_eq!(answer.data(), [json!({ "state": 10 })], "{path}");
            assert_eq!(answer.header("events-reset"), if id == old { "trimmed" } else { "unknown" });
            let page =
                site.get(&format!("{path}?channel=a&format=page")).last_event_id(id).send().await.expect(200).json();
            assert_eq!((&page["events"][0]["snapshot"], &page["cursor"]), (&json!(true), &json!(answer.cursor())));
        }
    }
}

#[tokio::test]
async fn events_that_a_snapshot_supersedes_come_in_an_answer_before_it() {
    let site = Site::start().await;
    let two = Channels::new([channel("a"), channel("b")]).unwrap();
    let start = site.hub.position(&two).await.unwrap();
    site.changes("a", 2).await;
    let first = site.get(&format!("/poll?channel=a&channel=b&after={start}")).send().await.expect(200);
    assert_eq!(first.data(), [json!({ "change": 1 }), json!({ "change": 2 })]);
    site.hub.init(&channel("a"), vec![]).await.unwrap();
    site.change("b").await;
    let url = format!("/poll?channel=a&channel=b&after={}", first.cursor());
    let second = site.get(&url).send().await.expect(200);
    assert_eq!(second.header("events-reset"), "epoch-changed;channel=\"a\"");
    assert_eq!(second.data(), [json!({ "state": 3 }), json!({ "change": 3 })]);
}

#[tokio::test]
async fn head_never_calls_the_provider() {
    let site = Site::start().await;
    let head = site.change("a").await;
    for path in ["/poll", "/sse", "/events"] {
        let answer = site.request(http::Method::HEAD, &format!("{path}?channel=a")).send().await.expect(200);
        assert_eq!(answer.cursor(), head, "{path}");
    }
    assert_eq!(site.application.calls(), 0);
}
