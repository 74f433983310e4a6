//! The checks of `benches/compare`: a server that loses, repeats or swaps an event is detected on every transport, and a server
//! that fails loses only its own figures.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test of a benchmark"
)]

#[path = "../benches/compare"]
mod compare {
    pub(crate) mod attempt;
    pub(crate) mod in_process;
    pub(crate) mod load;
    pub(crate) mod machine;
    pub(crate) mod options;
    pub(crate) mod parent;
    pub(crate) mod peer;
    pub(crate) mod process;
    pub(crate) mod report;
    pub(crate) mod scenario;
}

// The modules of the benchmark refer to each other at the crate's root.
use compare::{attempt::attempt, in_process, load, machine, options, parent, peer, process, report, scenario};
use load::{
    order::{Order, Wrong},
    parser::{Parser, Seen},
};
use report::Report;
use scenario::{Figures, Scenario};

/// The events that a reader counts in an answer that arrives in pieces of this size, or the first that is out of order.
fn check(answer: &str, piece: usize) -> Result<u64, Wrong> {
    let (mut parser, mut order, mut result) = (Parser::default(), Order::default(), Ok(0));
    for bytes in answer.as_bytes().chunks(piece) {
        parser.push(bytes, &mut |seen| {
            if let Seen::Event(number) = seen {
                result = result.and_then(|count| order.take(number).map(|()| count + 1));
            }
        });
    }
    result
}

fn stream(events: &[u64]) -> String {
    let frame = |number: &u64| format!("data: {number:010} xxxx\nid: {number}\n\n");
    let chunk = |frame: String| format!("{:x}\r\n{frame}\r\n", frame.len());
    let chunks: String = events.iter().map(|number| chunk(frame(number))).collect();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
}

/// One long-poll answer per pair of events.
fn polls(events: &[u64]) -> String {
    let object = |number: &u64| format!("{{\"id\":\"{number}\",\"data\":\"{number:010} xxxx\"}}");
    let array = |events: &[u64]| format!("[{}]", events.iter().map(object).collect::<Vec<_>>().join(","));
    let answer = |body: String| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    events.chunks(2).map(|events| answer(array(events))).collect()
}

#[test]
fn a_server_that_loses_repeats_or_swaps_an_event_is_detected() {
    let table: [(&[u64], Result<u64, Wrong>); 6] = [
        (&[7, 8, 9, 10], Ok(4)),
        (&[], Ok(0)),
        (&[7, 8, 10], Err(Wrong { number: 10, expected: 9 })),
        (&[7, 8, 8, 9], Err(Wrong { number: 8, expected: 9 })),
        (&[7, 9, 8, 10], Err(Wrong { number: 9, expected: 8 })),
        (&[7, 8, 9, 0], Err(Wrong { number: 0, expected: 10 })),
    ];
    for (events, expected) in table {
        for answer in [stream(events), polls(events)] {
            for piece in [1, 7, answer.len().max(1)] {
                assert_eq!(check(&answer, piece), expected, "{events:?} in pieces of {piece}");
            }
        }
    }
}

#[test]
fn a_reader_that_resumes_must_get_the_event_after_its_last() {
    assert_eq!(Order::from(1).take(2), Err(Wrong { number: 2, expected: 1 }));
    let mut order = Order::from(1);
    assert_eq!((order.take(1), order.is_at(2), order.is_at(1)), (Ok(()), true, false));
}

#[test]
fn a_run_that_panics_says_why() {
    assert_eq!(attempt(|| 1), Ok(1));
    assert_eq!(attempt(|| panic!("some readers get nothing")), Err::<(), _>("some readers get nothing".to_owned()));
    assert_eq!(attempt(|| panic!("lost: {}", 7)), Err::<(), _>("lost: 7".to_owned()));
    assert!(attempt(|| std::panic::panic_any(7)).is_err_and(|why: String| !why.is_empty()));
}

/// The report of two repetitions of the first scenario; the server `failing` fails in the second.
fn report(failing: &str) -> String {
    let (mut report, scenario) = (Report::new(2), first_scenario());
    for repetition in 0..2 {
        for (at, run) in scenario.runs.iter().enumerate() {
            let figures = Figures { cost: 2.0 + at as f64, rate: None, latencies: Vec::new(), growth: None };
            let fails = repetition == 1 && run.name == failing;
            report.add(at, if fails { Err("it got nothing".to_owned()) } else { Ok(figures) });
            assert_eq!(report.has_failed(at), fails);
        }
    }
    report.close(scenario);
    let ours = report.failures().any(report::Row::is_ours);
    assert_eq!(ours, failing.starts_with("ours"), "only a failure of ours fails the comparison");
    report.markdown()
}

fn first_scenario() -> Scenario {
    scenario::all(options::Length::Quick).remove(0)
}

#[test]
fn a_server_that_fails_loses_only_its_own_figures() {
    let names: Vec<_> = first_scenario().runs.into_iter().map(|run| run.name).collect();
    assert_eq!(names, ["floor", "ours-hyper", "ours-axum", "hand-rolled", "nchan"]);
    assert!(!report("none").contains("failed"));
    for failing in &names {
        let text = report(failing);
        let row = |name: &str| {
            text.lines().find(|line| line.split(" | ").nth(1).is_some_and(|cell| cell.trim_matches('*') == name))
        };
        for name in &names {
            assert_eq!(
                row(name).expect("a row").contains("failed"),
                name == failing,
                "{name} when {failing} fails:\n{text}"
            );
        }
        let reasons = text.lines().filter(|line| line.contains(failing.as_str()) && line.contains("it got nothing"));
        assert_eq!(reasons.count(), 1, "{text}");
        // If the server that the others are compared with fails, they have no ratios, but keep their costs.
        assert_eq!(text.contains("1.50x"), failing != "floor" && failing != "ours-hyper", "{text}");
    }
}
