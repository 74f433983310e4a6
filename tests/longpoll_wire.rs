//! Long polls on the wire, over HTTP/1.1 and HTTP/2.

mod support;

use std::time::Duration;

use http::{Method, Request};
use serde_json::json;
use support::{App, BOTH, channel};
use tokio::time::Instant;
use tower_events::{Channels, Cursors, Event, Hub, LongPollService, MemoryStore, store::Append};

#[tokio::test]
async fn an_answer_is_an_array_of_events_and_the_next_cursor() {
    let app = App::start().await;
    let named = Event::json(&json!({"n": 1})).unwrap().named("said").unwrap().at(1_732_094_400_123).unwrap();
    let first = app.publish("a", named).await;
    let second = app.publish("a", Event::text("x").at(7).unwrap()).await;
    for http in BOTH {
        for path in ["/events", "/poll"] {
            let answer = app.get(&format!("{path}?channel=a&after=earliest")).over(http).send().await.expect(200);
            let expected = format!(
                r#"[{{"id":"{first}","channel":"a","time":1732094400123,"name":"said","data":{{"n":1}}}},{{"id":"{second}","channel":"a","time":7,"data":"x"}}]"#
            );
            assert_eq!(answer.text(), expected);
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!(answer.header("cache-control"), "no-store");
            assert_eq!(answer.header("vary").to_ascii_lowercase(), "accept");
            assert_eq!(answer.header("content-length"), expected.len().to_string());
            assert_eq!(answer.cursor(), second);
            assert_eq!(answer.try_header("events-reset"), None);
            assert_eq!(answer.try_header("events-closed"), None);
            assert_eq!(answer.header("events-live"), "true");
        }
    }
}

#[tokio::test]
async fn an_answer_says_whether_it_reaches_the_head() {
    let app = App::start().await;
    app.publish_many("a", 3).await;
    app.publish_many("b", 1).await;
    for http in BOTH {
        for (query, live) in [
            ("channel=a&after=earliest&limit=2", None),
            ("channel=a&last=1", Some("true")),
            ("channel=a&channel=b&after=earliest", Some("true")),
            ("channel=a&channel=b&after=earliest&limit=3", None),
            ("channel=c&wait=0", Some("true")),
        ] {
            let answer = app.get(&format!("/poll?{query}")).over(http).send().await.expect(200);
            assert_eq!(answer.try_header("events-live"), live, "{query}");
        }
    }
}

#[tokio::test]
async fn a_parked_poll_is_answered_by_the_next_event() {
    let app = App::start().await;
    for http in BOTH {
        let head = app.head("a").await.to_string();
        let url = format!("/events?channel=a&after={head}");
        let (answer, id) = tokio::join!(app.get(&url).over(http).send(), async {
            app.wait_for_readers(1).await;
            app.publish("a", Event::text("now")).await
        });
        let answer = answer.expect(200);
        assert_eq!((answer.data(), answer.cursor()), (vec![json!("now")], id));
        app.wait_for_readers(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_events_the_answer_is_empty_when_the_wait_is_over() {
    let app = App::in_memory();
    let head = app.publish("a", Event::text("before")).await;
    // The query, the header `Prefer`, the seconds that pass, and the header `Preference-Applied`.
    let table = [
        ("", None, DEFAULT, None),
        ("&wait=3", None, 3, Some("wait=3")),
        ("&wait=0", None, 0, Some("wait=0")),
        ("&wait=600", None, 55, Some("wait=55")),
        ("&wait=99999999999999999999999999", None, 55, Some("wait=55")),
        ("&wait=", None, DEFAULT, None),
        ("", Some("wait=10"), 10, Some("wait=10")),
        ("", Some("wait=0"), 0, Some("wait=0")),
        ("", Some("WAIT=\"10\""), 10, Some("wait=10")),
        ("", Some("respond-async, wait=10; x=y"), 10, Some("wait=10")),
        ("", Some("wait=1000"), 55, Some("wait=55")),
        ("&wait=4", Some("wait=10"), 4, Some("wait=4")),
        ("", Some("wait=soon"), DEFAULT, None),
        ("", Some("wait=-1"), DEFAULT, None),
        ("", Some("wait"), DEFAULT, None),
        ("", Some(";;;=,,\"wait=3"), DEFAULT, None),
    ];
    // A wait that the client did not specify is up to a tenth shorter.
    const DEFAULT: u64 = 25;
    for http in BOTH {
        for (query, prefer, seconds, applied) in table {
            let request = app.get(&format!("/events?channel=a{query}")).over(http);
            let request = if let Some(prefer) = prefer { request.header("prefer", prefer) } else { request };
            let started = Instant::now();
            let answer = request.send().await.expect(200);
            let least = if seconds == DEFAULT { 22_500 } else { seconds * 1_000 };
            let millis = u64::try_from(started.elapsed().as_millis()).unwrap();
            assert!((least..=seconds * 1_000 + 1).contains(&millis), "{query} {prefer:?}: {millis} ms");
            assert_eq!((answer.text(), answer.cursor()), ("[]", head.clone()), "{query} {prefer:?}");
            // RFC 7240 requires the header only for preferences; a parameter may be confirmed in the same way.
            match (prefer, applied) {
                (Some(_), _) if query.is_empty() => {
                    assert_eq!(answer.try_header("preference-applied"), applied, "{prefer:?}");
                }
                _ => assert!([None, applied].contains(&answer.try_header("preference-applied")), "{query} {prefer:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_limit_bounds_an_answer_and_nothing_is_lost_between_answers() {
    let app = App::start().await;
    let cursors = app.publish_many("a", 250).await;
    for http in BOTH {
        let first = app.get("/events?channel=a&after=earliest&limit=7").over(http).send().await.expect(200);
        assert_eq!((first.data().len(), first.cursor()), (7, cursors[6].clone()));
        // A limit above the maximum is the maximum.
        for limit in ["", "&limit=", "&limit=100000", "&limit=99999999999999999999999"] {
            let capped =
                app.get(&format!("/events?channel=a&after=earliest{limit}")).over(http).send().await.expect(200);
            assert_eq!(capped.data().len(), 100, "{limit}");
        }
        let (mut seen, mut after) = (Vec::new(), "earliest".to_owned());
        loop {
            let url = format!("/events?channel=a&wait=0&limit=33&after={after}");
            let answer = app.get(&url).over(http).send().await.expect(200);
            after = answer.cursor();
            if answer.data().is_empty() {
                break;
            }
            seen.extend(answer.data());
        }
        assert_eq!(seen, (1..=250).map(|n| json!(format!("a{n}"))).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_link_leads_to_the_next_page_and_keeps_no_foreign_parameters() {
    let app = App::start().await;
    app.publish_many("a", 2).await;
    app.publish_many("b&c=d", 2).await;
    for http in BOTH {
        let url = "/events?channel=a&token=secret&channel=b%26c%3Dd&after=earliest&wait=0&limit=1&x";
        let (mut url, mut data) = (url.to_owned(), Vec::new());
        while data.len() < 4 {
            let answer = app.get(&url).over(http).last_event_id("").send().await.expect(200);
            assert_eq!(answer.data().len(), 1, "{answer}");
            data.extend(answer.data());
            let link = answer.header("link");
            let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap();
            assert!(target.starts_with('?'), "{link}");
            assert!(!target.contains("secret") && !target.contains("token") && !target.contains("earliest"), "{link}");
            assert!(target.contains(&format!("after={}", answer.cursor())), "{link}");
            url = format!("/events{target}");
        }
        data.sort_by_key(ToString::to_string);
        assert_eq!(json!(data), json!(["a1", "a2", "b&c=d1", "b&c=d2"]));
    }
}

#[tokio::test]
async fn polls_that_wait_at_one_position_each_get_their_own_link() {
    let app = App::start().await;
    for http in BOTH {
        let head = app.head("a").await;
        let poll = async |parameter| {
            let url = format!("/events?channel=a&{parameter}&after={head}");
            let answer = app.get(&url).over(http).send().await.expect(200);
            let link = format!("<?channel=a&{parameter}&after={}>; rel=\"next\"", answer.cursor());
            assert_eq!(answer.header("link"), link);
            answer
        };
        let both = Append::new([Event::text("1"), Event::text("2")]);
        let (one, same, other, first, _) =
            tokio::join!(poll("wait=9"), poll("wait=9"), poll("wait=8"), poll("limit=1"), async {
                app.wait_for_readers(4).await;
                app.hub.append(&channel("a"), both).await.unwrap()
            });
        assert_eq!([&one, &same, &other, &first].map(|answer| answer.data().len()), [2, 2, 2, 1]);
        assert_eq!([same.cursor(), other.cursor()], [one.cursor(), one.cursor()]);
        assert_ne!(first.cursor(), one.cursor());
        app.wait_for_readers(0).await;
    }
}

#[tokio::test]
async fn reading_from_the_head_misses_nothing() {
    let app = App::start().await;
    for http in BOTH {
        for method in [Method::HEAD, Method::GET] {
            // A channel without events has a position too.
            let name = format!("{http:?}{method}");
            let url = format!("/events?channel={name}");
            let start = app.request(method, &format!("{url}&wait=0")).over(http).send().await.expect(200).cursor();
            app.publish(&name, Event::text("between")).await;
            let answer = app.get(&format!("{url}&after={start}")).over(http).send().await.expect(200);
            assert_eq!((answer.data(), answer.try_header("events-reset")), (vec![json!("between")], None));
        }
    }
}

#[tokio::test]
async fn several_channels_are_one_answer_and_one_token() {
    let app = App::start().await;
    for http in BOTH {
        let head =
            app.request(Method::HEAD, "/events?channel=a&channel=b&channel=c").over(http).send().await.expect(200);
        for (name, text) in [("a", "1"), ("b", "2"), ("a", "3")] {
            app.publish(name, Event::text(text)).await;
        }
        let (mut after, mut seen) = (head.cursor(), Vec::new());
        while seen.len() < 3 {
            let url = format!("/events?channel=a&channel=b&channel=c&wait=0&limit=2&after={after}");
            let answer = app.get(&url).over(http).send().await.expect(200);
            assert_eq!(answer.try_header("events-reset"), None);
            for event in answer.json().as_array().unwrap() {
                seen.push((event["channel"].as_str().unwrap().to_owned(), event["data"].as_str().unwrap().to_owned()));
            }
            after = answer.cursor();
        }
        let of =
            |name: &str| seen.iter().filter(|(of, _)| of == name).map(|(_, data)| data.clone()).collect::<Vec<_>>();
        assert_eq!((of("a"), of("b"), of("c")), (vec!["1".into(), "3".into()], vec!["2".into()], vec![]));
    }
}

#[tokio::test]
async fn events_by_time_are_sorted_and_the_next_answers_continue_from_the_cursor() {
    let app = App::start().await;
    for time in [50, 30, 40, 10, 20] {
        app.publish("a", Event::json(&time).unwrap().at(time).unwrap()).await;
    }
    for http in BOTH {
        let answer = app.get("/events?channel=a&time=20&wait=0").over(http).send().await.expect(200);
        assert_eq!(json!(answer.data()), json!([30, 40, 50]));
        // The filter belongs to the start: a late event with an early time is not missed.
        app.publish("a", Event::json(&15).unwrap().at(15).unwrap()).await;
        let next = app.get(&format!("/events?channel=a&after={}&wait=0", answer.cursor())).over(http).send().await;
        let data = next.expect(200).data();
        assert!(data.contains(&json!(15)) && !data.contains(&json!(50)), "{data:?}");
    }
}

#[tokio::test]
async fn a_reset_is_a_header_followed_by_what_is_retained() {
    let app = App::start().await;
    app.publish_many("a", 3).await;
    app.publish_many("é,b", 1).await;
    for http in BOTH {
        let one = app.get("/events?channel=a").over(http).last_event_id("nonsense").send().await.expect(200);
        assert_eq!(one.header("events-reset"), "unknown");
        assert_eq!(json!(one.data()), json!(["a1", "a2", "a3"]));

        let several = app.get("/events?channel=a&channel=%C3%A9,b").over(http).last_event_id("nonsense").send().await;
        let several = several.expect(200);
        // Each reason occurs once, because there may be many channels.
        assert_eq!(several.headers.get_all("events-reset").iter().collect::<Vec<_>>(), ["unknown"]);
        assert_eq!(several.data().len(), 4);
        // Of several channels only one was reset.
        let token = Cursors::of([(&channel("a"), app.head("a").await)]).to_string();
        let one =
            app.get("/events?channel=a&channel=%C3%A9,b").over(http).last_event_id(token).send().await.expect(200);
        assert_eq!(one.header("events-reset"), r#"unknown;channel="%C3%A9%2Cb""#);
        assert_eq!(json!(one.data()), json!(["é,b1"]));
    }
}

#[tokio::test]
async fn a_closed_channel_is_reported_at_once() {
    let app = App::start().await;
    for (http, name) in BOTH.into_iter().zip(["a", "b"]) {
        let url = format!("/events?channel={name}");
        let head = app.head(name).await.to_string();
        // A parked poll is answered by the close.
        let (parked, _) = tokio::join!(app.get(&format!("{url}&after={head}")).over(http).send(), async {
            app.wait_for_readers(1).await;
            app.hub.append(&channel(name), Append::new([Event::text("last")]).closing()).await.unwrap();
        });
        let parked = parked.expect(200);
        assert_eq!((parked.data(), parked.header("events-closed")), (vec![json!("last")], "true"));
        let after = app.get(&format!("{url}&after={}", parked.cursor())).over(http).send().await.expect(200);
        assert_eq!((after.text(), after.header("events-closed")), ("[]", "true"));
        assert_eq!(after.cursor(), parked.cursor());
        for (channels, closed) in [(url.clone(), Some("true")), (format!("{url}&channel=open"), None)] {
            let head = app.request(Method::HEAD, &channels).over(http).send().await.expect(200);
            assert_eq!(head.try_header("events-closed"), closed);
        }
        // Retained events come first.
        let late = app.get(&format!("{url}&after=earliest")).over(http).send().await.expect(200);
        assert_eq!((late.data(), late.header("events-closed")), (vec![json!("last")], "true"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_waits_while_any_of_its_channels_is_open() {
    let app = App::in_memory();
    app.close("shut").await;
    for http in BOTH {
        let head = app.request(Method::HEAD, "/events?channel=open&channel=shut").over(http).send().await.expect(200);
        let started = Instant::now();
        let url = format!("/events?channel=open&channel=shut&wait=9&after={}", head.cursor());
        let answer = app.get(&url).over(http).send().await.expect(200);
        assert_eq!((started.elapsed().as_secs(), answer.text(), answer.try_header("events-closed")), (9, "[]", None));
    }
}

#[tokio::test]
async fn a_drained_poll_is_empty_keeps_its_cursor_and_says_when_to_reconnect() {
    for http in BOTH {
        let app = App::start().await;
        let head = app.publish("a", Event::text("x")).await;
        let url = format!("/events?channel=a&after={head}");
        let (answer, ()) = tokio::join!(app.get(&url).over(http).send(), async {
            app.wait_for_readers(1).await;
            app.hub.drain(Duration::from_secs(30)).await;
        });
        let answer = answer.expect(200);
        assert_eq!((answer.text(), answer.cursor()), ("[]", head.clone()));
        let seconds: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=33).contains(&seconds), "{seconds}");
        // A poll that arrives during the drain is answered in the same way, or with 503.
        let late = app.get(&url).over(http).send().await;
        let seconds: u64 = late.header("retry-after").parse().unwrap();
        assert!((1..=33).contains(&seconds) && [200, 503].contains(&late.status), "{late}");
        app.into_server().stop().await;
    }
}

#[tokio::test]
async fn a_reader_leaves_when_it_is_answered_even_if_the_future_is_not_dropped() {
    let hub = Hub::new(MemoryStore::default());
    let mut service = LongPollService::new(hub.clone(), Channels::from_query);
    let request = Request::get("/?channel=a&wait=0").body(()).unwrap();
    let mut answering = Box::pin(tower::Service::call(&mut service, request));
    assert_eq!(answering.as_mut().await.unwrap().status(), 200);
    assert_eq!(hub.stats().readers, 0);
    drop(answering);
}
