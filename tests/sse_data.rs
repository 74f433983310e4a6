//! Content that is hard to encode survives a stream unchanged, except for line ends.

mod support;

use serde_json::{Value, json};
use support::{App, BOTH, Message};
use tower_events::{Data, Event};

/// Texts as published, and as a page's listener sees them.
fn texts() -> Vec<(String, String)> {
    let same = |text: &str| (text.to_owned(), text.to_owned());
    let ends = |sent: &str, seen: &str| (sent.to_owned(), seen.to_owned());
    let lines = (0..2000).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
    vec![
        same(""),
        same(" "),
        same("  two spaces, and at the end  "),
        same(": a leading colon"),
        same("id: 7"),
        same("retry: 1"),
        same("event: fake\ndata: fake\nid: fake\n\ndata: more"),
        same("data"),
        same("\n"),
        same("\n\n\n"),
        same("a\n"),
        same("\na"),
        ends("a\rb", "a\nb"),
        ends("a\r\nb", "a\nb"),
        ends("\r", "\n"),
        ends("\r\n", "\n"),
        ends("\n\r", "\n\n"),
        ends("a\r\r\nb\r", "a\n\nb\n"),
        same("nul \0 in the middle"),
        same("\0"),
        same("line\u{2028}and\u{2029}paragraph\u{85}separators"),
        same("\u{b}\u{c}\u{1}\u{7f}\t"),
        same("\u{feff}a byte order mark"),
        same("😀 👩‍👩‍👧 é ключ"),
        same("\u{fffd}\u{ffff}\u{10ffff}"),
        same(&"x".repeat(400 * 1024)),
        same(&"é😀".repeat(30_000)),
        same(&lines),
    ]
}

/// Every kind of JSON value, compact.
const JSON: [&str; 16] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1.5e-7",
    "1e400",
    "123456789012345678901234567890",
    "[]",
    "{}",
    r#"[[],{},null,"",0]"#,
    r#"{"b":1,"a":2,"b":3}"#,
    r#"{"":" ","\n":"\r\n\u2028"}"#,
    r#"["\u0000","\ud83d\ude00","é"]"#,
    r#"{"deep":{"deep":{"deep":[1,2,3]}}}"#,
    r#"[":","id: 1","\\"]"#,
];

#[tokio::test]
async fn replayed_texts_are_unchanged() {
    let app = App::start().await;
    let (mut sent, mut seen) = (Vec::new(), Vec::new());
    for (text, expected) in texts() {
        sent.push(app.publish("a", Event::text(&text)).await);
        seen.push(expected);
    }
    for http in BOTH {
        let mut replayed = app.get("/events?channel=a&after=earliest").over(http).sse().await;
        check(&replayed.take(seen.len()).await, &seen, &sent);
        assert!(replayed.parser().unknown_fields.is_empty() && replayed.parser().comments.is_empty());
    }
}

#[tokio::test]
async fn live_texts_are_unchanged() {
    let app = App::start().await;
    for http in BOTH {
        let mut live = app.get("/events?channel=a").over(http).sse().await;
        for (text, expected) in texts() {
            let id = app.publish("a", Event::text(&text)).await;
            check(&[live.next().await], &[expected], &[id]);
        }
    }
}

#[tokio::test]
async fn texts_in_long_polls_are_unchanged_including_line_ends() {
    let app = App::start().await;
    let mut sent = Vec::new();
    for (text, _) in texts() {
        app.publish("a", Event::text(&text)).await;
        sent.push(Value::String(text));
    }
    for http in BOTH {
        let (mut got, mut after) = (Vec::new(), "earliest".to_owned());
        while got.len() < sent.len() {
            let answer =
                app.get(&format!("/events?channel=a&wait=0&after={after}")).over(http).send().await.expect(200);
            after = answer.cursor();
            let data = answer.data();
            assert!(!data.is_empty());
            got.extend(data);
        }
        assert!(got == sent, "{http:?}");
    }
}

#[tokio::test]
async fn json_is_unchanged_byte_for_byte() {
    let app = App::start().await;
    for json in JSON {
        app.publish("a", Event::new(Data::from_json(json).unwrap())).await;
    }
    for http in BOTH {
        let mut stream = app.get("/events?channel=a&after=earliest").over(http).sse().await;
        assert_eq!(stream.data(JSON.len()).await, JSON);
        let polled = app.get("/events?channel=a&after=earliest&wait=0").over(http).send().await.expect(200);
        for json in JSON {
            assert!(polled.text().contains(&format!("\"data\":{json}}}")), "{json} in {}", polled.text());
        }
    }
}

#[tokio::test]
async fn format_json_carries_any_text_in_one_line() {
    let app = App::start().await;
    for (text, _) in texts() {
        app.publish("a", Event::text(&text)).await;
    }
    let mut stream = app.get("/events?channel=a&after=earliest&format=json").sse().await;
    for (text, _) in texts() {
        let object: Value = serde_json::from_str(&stream.next().await.data).unwrap();
        assert_eq!(object["data"], Value::String(text));
    }
}

#[tokio::test]
async fn names_are_unchanged() {
    let app = App::start().await;
    let names =
        ["message", "a", " leading", "trailing ", ":colon", "a: b", "data", "имя 😀", "\u{2028}", &"n".repeat(255)];
    for name in names {
        app.publish("a", Event::text("x").named(name).unwrap()).await;
    }
    for http in BOTH {
        let mut stream = app.get("/events?channel=a&after=earliest").over(http).sse().await;
        let seen: Vec<_> = stream.take(names.len()).await.into_iter().map(|message| message.name).collect();
        assert_eq!(seen, names);
        let polled = app.get("/events?channel=a&after=earliest&wait=0").over(http).send().await.expect(200).json();
        let polled: Vec<_> = polled.as_array().unwrap().iter().map(|event| event["name"].clone()).collect();
        assert_eq!(json!(polled), json!(names));
    }
}

fn check(messages: &[Message], data: &[String], ids: &[String]) {
    assert_eq!(messages.len(), data.len());
    for ((message, data), id) in messages.iter().zip(data).zip(ids) {
        assert_eq!(message.name, "message");
        assert_eq!(&message.id, id);
        assert!(message.data == *data, "{:?} instead of {data:?}", &message.data);
    }
}
