//! What streams send.

use serde_json::Value;
use support::BOTH;
use tower_events::{Cursors, FileStore, Filter, Grant};

use super::*;

#[tokio::test]
async fn a_fresh_stream_starts_with_the_state_at_the_head() {
    let site = Site::start().await;
    for (http, name) in BOTH.into_iter().zip(["a", "b"]) {
        let head = site.changes(name, 3).await.pop().unwrap();
        let state = *site.application.state.lock().unwrap();
        let mut stream = site.get(&format!("/sse?channel={name}")).over(http).sse().await;
        stream.live().await;
        let (_, blocks) = stream.text().split_once('\n').unwrap();
        let expected = format!(
            "event: state\ndata: {{\"state\":{state}}}\nid: {head}\n\nevent: stream-live\ndata: {{}}\nid: {head}\n\n"
        );
        assert_eq!(blocks, expected);
        let next = site.change(name).await;
        stream.next().await;
        assert_eq!((stream.next().await.id, names(&stream).len()), (next, 3), "nothing comes twice");
    }
}

#[tokio::test]
async fn only_a_request_that_says_nothing_is_fresh() {
    let site = Site::start().await;
    let first = site.changes("a", 3).await.remove(0);
    for start in ["after=latest", "after=earliest", "last=1", "time=1", &format!("after={first}")] {
        let mut stream = site.get(&format!("/sse?channel=a&{start}")).sse().await;
        stream.live().await;
        assert!(!names(&stream).contains(&"state".into()), "{start}");
    }
    assert_eq!(site.application.calls(), 0);
    let mut stream = site.get("/sse?channel=a&after=&last_event_id=").sse().await;
    assert_eq!((stream.next().await.name.as_str(), site.application.calls()), ("state", 1));
}

#[tokio::test]
async fn a_reset_is_followed_by_the_state_and_names_no_position() {
    let directory = std::env::temp_dir().join(format!("tower-events-snapshots-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = FileStore::options().retention(Retention::default().events(2)).open(directory.join("events"));
    for site in [Site::trimming().await, Site::on(file.unwrap()).await] {
        let old = site.change("a").await;
        site.changes("a", 9).await;
        for (id, reason) in [(old.as_str(), "trimmed"), ("nonsense", "unknown")] {
            let mut stream = site.get("/sse?channel=a").last_event_id(id).sse().await;
            let live = stream.live().await;
            let [reset, state, _] = &received(&stream)[..] else { panic!("{}", stream.text()) };
            assert_eq!(reset.data, format!(r#"{{"channel":"a","reason":"{reason}","snapshot":true}}"#));
            assert_eq!((reset.name.as_str(), reset.id.as_str()), ("stream-reset", ""));
            assert_eq!((state.data.as_str(), &state.id), (r#"{"state":10}"#, &live.id));
            assert_eq!(live.id, site.hub.position(&channel("a").into()).await.unwrap().to_string());
        }
        // In mid-stream, when the log is made anew.
        let mut stream = site.get("/sse?channel=a").sse().await;
        let before = stream.live().await.id;
        site.application.commit(5);
        site.hub.init(&channel("a"), vec![]).await.unwrap();
        let after = stream.live().await.id;
        let [.., reset, state, _] = &received(&stream)[..] else { panic!("{}", stream.text()) };
        assert!(reset.data.contains("epoch-changed") && reset.id == before, "{reset:?}");
        assert_eq!((state.data.as_str(), &state.id), (r#"{"state":15}"#, &after));
        let next = site.change("a").await;
        assert_eq!(stream.take(4).await.pop().unwrap().id, next);
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_client_that_lost_the_state_on_the_way_gets_it_again() {
    for http in BOTH {
        let site = Site::trimming().await;
        let old = site.change("a").await;
        site.changes("a", 9).await;
        let mut whole = site.get("/sse?channel=a").over(http).last_event_id(&old).sse().await;
        whole.live().await;
        let (reset, state) = whole.text().split_once("event: state").unwrap();
        let state = state.split_once("\n\n").unwrap().0;
        // Cut between the reset and the state, and anywhere within the state's block.
        for bytes in [reset.len(), reset.len() + 5, reset.len() + "event: state".len() + state.len()] {
            let stream = site.get("/sse?channel=a").over(http).last_event_id(&old).sse().await;
            let (messages, id) = stream.cut_after(bytes).await;
            assert_eq!((messages.len(), id.as_str()), (1, ""), "the client keeps the id that it sent");
            let mut again = site.get("/sse?channel=a").over(http).last_event_id(&old).sse().await;
            assert_eq!(again.take(2).await.pop().unwrap().data, r#"{"state":10}"#);
        }
    }
}

#[tokio::test]
async fn a_token_names_only_channels_whose_state_was_sent() {
    let site = Site::start().await;
    let both = Channels::new([channel("a"), channel("b")]).unwrap();
    site.changes("a", 1).await;
    let a = site.hub.position(&channel("a").into()).await.unwrap().position(&channel("a")).unwrap();
    let of_a = Cursors::of([(&channel("a"), a)]);
    let mut stream = site.get("/sse?channel=a&channel=b&format=json").last_event_id(of_a.to_string()).sse().await;
    let first = stream.next().await;
    let object: Value = serde_json::from_str(&first.data).unwrap();
    assert_eq!(
        (&object["channel"], &object["snapshot"], &object["data"]["state"]),
        (&json!("b"), &json!(true), &json!(1))
    );
    assert_eq!(first.id, site.hub.position(&both).await.unwrap().to_string());
    assert_eq!(site.application.calls(), 1, "`a` goes on");
    // A fresh stream of both: the first state's token leaves the other channel out.
    let mut stream = site.get("/sse?channel=a&channel=b").sse().await;
    let states = stream.take(2).await;
    let named = |id: &str| both.iter().filter(|c| id.parse::<Cursors>().unwrap().position(c).is_some()).count();
    assert_eq!([named(&states[0].id), named(&states[1].id)], [1, 2]);
    let mut again = site.get("/sse?channel=a&channel=b").last_event_id(&states[0].id).sse().await;
    assert_eq!(again.next().await.name, "state");
    again.live().await;
    assert_eq!(names(&again), ["state", "stream-live"]);
}

#[tokio::test]
async fn each_filter_has_a_state_of_its_own_and_names_are_those_shown() {
    let (hub, application) = (Hub::new(MemoryStore::default()), Application::new());
    let grant = |request: &http::request::Parts| -> Result<Grant, tower_events::Rejection> {
        let user = request.uri.query().unwrap_or_default().to_owned();
        Ok(Grant::new(channel("a")).names(|_| "mine").filter(Filter::new(user, |_| true)))
    };
    let service = SseService::new(hub.clone(), grant).snapshots(application.snapshots());
    let server =
        serve(service.options(tower_events::sse::SseOptions::default().format(tower_events::sse::Format::Json))).await;
    for user in ["format=json&ann", "format=json&bob", "format=json&ann"] {
        let mut stream = server.get(&format!("/?{user}")).sse().await;
        let state = stream.next().await;
        let object: Value = serde_json::from_str(&state.data).unwrap();
        assert_eq!((&object["channel"], &object["snapshot"]), (&json!("mine"), &json!(true)));
        assert_eq!(object["id"], state.id);
        drop(stream);
        // Resumes under the same filter, without a reset.
        let mut again = server.get(&format!("/?{user}")).last_event_id(&state.id).sse().await;
        assert_eq!(again.live().await.id, state.id);
        assert_eq!(names(&again), ["stream-live"]);
    }
    let asked: Vec<_> = application.requests.lock().unwrap().iter().map(|r| r.filter_id.clone().unwrap()).collect();
    assert_eq!(asked, ["format=json&ann".into(), Box::<str>::from("format=json&bob")], "the third shares the first's");
}

#[tokio::test]
async fn a_closed_channel_ends_after_its_state() {
    let site = Site::start().await;
    site.change("a").await;
    site.hub.close(&channel("a")).await.unwrap();
    let mut stream = site.get("/sse?channel=a").sse().await;
    let id = stream.remaining().await.pop().unwrap().id;
    assert_eq!(names(&stream), ["state", "stream-live", "stream-end"]);
    site.get("/sse?channel=a").header("accept", "text/event-stream").last_event_id(id).send().await.expect(204);
}
