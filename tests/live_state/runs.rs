//! Recorded runs of several nodes: elections, stops, and the list.

use std::time::Duration;

use tower_events::{Channel, Event, Hub, Run, RunOutcome, RunOver, RunState, Runs, StartError};

use super::{
    place::Place,
    recorded::{channel, ended},
};

const FINISHED: &str = r#"{"outcome":"finished"}"#;
const STOPPED: RunState = RunState::Ended(RunOutcome::Stopped);

async fn nodes(place: &Place, count: usize) -> Vec<Runs> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(Runs::new(Hub::new(place.open().await)));
    }
    nodes
}

/// Work that never ends by itself.
async fn idle(_: Run) {
    std::future::pending::<()>().await;
}

pub(crate) async fn one_of_many_is_elected_and_all_are_listed(place: Place) {
    let (store, nodes) = (place.open().await, nodes(&place, 4).await);
    let work = |node: usize| {
        move |run: Run| async move {
            for n in 0..3 {
                run.publish(Event::text(format!("{node}/{n}"))).await?;
            }
            Ok::<_, RunOver>(())
        }
    };
    for round in 0..8 {
        let name = channel(&round.to_string());
        let starts = nodes.iter().enumerate().map(|(n, runs)| {
            let (runs, name) = (runs.clone(), name.clone());
            tokio::spawn(async move { runs.start(&name, work(n)).await })
        });
        let mut elected = Vec::new();
        for (n, start) in starts.collect::<Vec<_>>().into_iter().enumerate() {
            match start.await.unwrap() {
                Ok(run) => elected.push((n, run)),
                // The run may have ended by then.
                Err(StartError::AlreadyStarted | StartError::Ended(RunOutcome::Finished)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let [(n, run)] = &elected[..] else { panic!("{} were elected", elected.len()) };
        assert!(matches!(run.over().await, RunOver::Ended(RunOutcome::Finished)));
        assert_eq!(ended(&store, &name).await, ((0..3).map(|at| format!("{n}/{at}")).collect(), FINISHED.to_owned()));
    }
    nodes[0].start(&channel("8"), idle).await.unwrap();
    for runs in &nodes {
        let mut listed = Vec::new();
        loop {
            let page = runs.list(listed.last().map(|(channel, _)| channel), 4).await.unwrap();
            if page.is_empty() {
                break;
            }
            listed.extend(page);
        }
        let shown: Vec<_> = listed.iter().map(|(channel, state)| format!("{channel} {state}")).collect();
        let state = |n| if n == 8 { "running" } else { "finished" };
        assert_eq!(shown, (0..9).map(|n| format!("run:{n} {}", state(n))).collect::<Vec<_>>());
    }
}

/// Stops before the start, at the same time, and when the work is idle.
pub(crate) async fn no_stop_is_lost(place: Place) {
    let (store, nodes) = (place.open().await, nodes(&place, 2).await);
    assert_eq!(nodes[0].stop(&channel("before")).await.unwrap(), STOPPED);
    let refused = nodes[1].start(&channel("before"), idle).await;
    assert!(matches!(refused, Err(StartError::Ended(RunOutcome::Stopped))), "{refused:?}");

    let races = (0..20_u64).map(|delay| tokio::spawn(race(nodes.clone(), Duration::from_micros(100 * delay))));
    let mut begun = 0;
    for race in races.collect::<Vec<_>>() {
        if let Some(name) = race.await.unwrap() {
            assert_eq!(ended(&store, &name).await, (Vec::new(), r#"{"outcome":"stopped"}"#.to_owned()));
            begun += 1;
        }
    }
    println!("{begun} of 20 had begun when they were stopped");
}

/// A run that one node starts and another one stops after this delay; its channel, if it had begun.
async fn race(nodes: Vec<Runs>, delay: Duration) -> Option<Channel> {
    let name = channel(&format!("stopped after {delay:?}"));
    let (start, stopped) = tokio::join!(nodes[0].start(&name, idle), async {
        tokio::time::sleep(delay).await;
        nodes[1].stop(&name).await.unwrap()
    });
    assert_eq!(stopped, STOPPED);
    match start {
        Ok(run) => {
            assert!(matches!(run.over().await, RunOver::Ended(RunOutcome::Stopped)), "idle work hears of it");
            Some(name)
        }
        Err(error) => {
            assert!(matches!(error, StartError::Ended(RunOutcome::Stopped)), "{error}");
            None
        }
    }
}
