//! Recorded runs: work that produces the events of one channel and then ends, such as a generated answer or a job's progress.
//!
//! A run goes on when nobody watches. Anybody can watch it from its beginning, with any reader of its channel, for as long as the
//! store keeps it. And it always comes to an end that readers see: its last event is `stream-run-end` with
//! `{"outcome":"finished"}`, or `failed`, `stopped` or `abandoned`, and closes the channel. The first is `stream-run-start`.
//!
//! * **One producer.** A run begins with an append that succeeds once per channel. From then on each append names the one before
//!   it, so a producer that was suspended, or cut off, cannot add anything to what others have ended: it is told that the run is
//!   over, and its work is dropped.
//! * **Stop from anywhere.** A stop is the closing append itself, so it needs no message to arrive. It holds for a run that has
//!   not begun, too.
//! * **Nothing stays open.** A process with runs shows a sign of life three times in 15 s. When neither it nor the run has shown
//!   any for 15 s, any other process ends the run as `abandoned`: also the first one that starts after all had ended. That takes at
//!   most 20 s from the moment it begins to watch, with up to 16 000 runs in the store.
//! * **Everything that was published is there at the end.** A run that becomes larger or longer than the store keeps of a channel
//!   ends as `failed` before anything of it is dropped. Set [`Retention`](crate::Retention) for the longest run: each event
//!   counts, and the default is 1 000.
//!
//! Channels of runs have names with one prefix (`run:` by default), which belongs to runs alone: [`Runs`] lists them by it, and
//! [`PublishService`](crate::PublishService) refuses it where its hub has `Runs`.
//!
//! # Examples
//! The default:
//! ```
//! use tower_events::{Channel, Event, Hub, MemoryStore, RunOutcome, RunState, Runs};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runs = Runs::new(Hub::new(MemoryStore::default()));
//! let channel = Channel::new("run:1")?;
//! let run = runs.start(&channel, |run| async move {
//!     for word in ["Hello", " ", "world"] {
//!         run.publish(Event::text(word)).await?;
//!     }
//!     Ok::<_, tower_events::RunOver>(())
//! });
//! run.await?.over().await;
//! assert_eq!(runs.state(&channel).await?, Some(RunState::Ended(RunOutcome::Finished)));
//! # Ok(())
//! # }
//! ```
//! Customised, with work that keeps what it has when somebody stops it:
//! ```
//! use std::time::Duration;
//! use tower_events::{Channel, Event, Hub, MemoryStore, Retention, RunOutcome, RunState, Runs, RunsOptions};
//!
//! # async fn keep(_: &str) {}
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new(Retention::default().events(20_000));
//! let options = RunsOptions::default().prefix(&Channel::new("answer:")?).grace(Duration::from_secs(5));
//! let runs = Runs::with_options(Hub::new(store), options);
//! let channel = Channel::new("answer:1")?;
//! let work = |run: tower_events::Run| async move {
//!     let mut text = String::new();
//!     while run.publish(Event::text("word ")).await.is_ok() {
//!         text += "word ";
//!         tokio::time::sleep(Duration::from_millis(100)).await;
//!     }
//!     keep(&text).await;
//! };
//! runs.start(&channel, work).await?;
//! assert_eq!(runs.stop(&channel).await?, RunState::Ended(RunOutcome::Stopped));
//! # Ok(())
//! # }
//! ```

mod active;
mod appending;
mod beat;
mod concurrently;
mod control;
mod error;
mod feed;
mod fencing;
mod handle;
mod limits;
mod marks;
mod options;
mod outcome;
mod pending;
mod producer;
mod reaper;
mod run;
mod shared;
mod stops;
mod watch;
mod work;

pub use self::{
    error::{RunOver, StartError, StopError},
    handle::Runs,
    options::RunsOptions,
    outcome::{RunOutcome, RunState},
    run::Run,
    work::WorkResult,
};
