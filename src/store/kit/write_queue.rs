//! Group commit: writes that arrive while another one is in progress wait, and then share the next call or transaction. A busy
//! channel then costs one round trip, or one sync of a disk, per group and not per append.
//!
//! [`WriteQueues`] keep a queue per channel, or per whatever else is written by one task at a time. The first write that finds no
//! task gets a [`QueueTask`], which the store runs; the task takes groups until nothing waits. How many writes wait is bounded by a
//! [`WriteBudget`]: one more is refused at once, as [`StoreError::Unavailable`](crate::StoreError::Unavailable) that contains
//! [`QueueIsFull`]. A store that has a thread for its writes, or writes on whichever thread comes first, uses a [`WriteQueue`] behind
//! its own lock instead.
//!
//! # Cancel safety
//! Dropping an [`Answer`] withdraws its write, unless that was already taken; then it is written all the same.
//!
//! # Examples
//! ```
//! use tower_events::{Channel, StoreError, store::kit::write_queue::{QueueTask, Waiting, WriteQueues}};
//!
//! type Queues = WriteQueues<Channel, String, usize>;
//!
//! async fn write(queues: &Queues, channel: &Channel, text: &str) -> Result<usize, StoreError> {
//!     let (answer, task) = queues.push(channel, text.to_owned(), text.len() as u64)?;
//!     if let Some(task) = task {
//!         tokio::spawn(write_all(task));
//!     }
//!     answer.await
//! }
//!
//! async fn write_all(mut task: QueueTask<Channel, String, usize>) {
//!     while let Some(group) = task.next(|group, _| group.len() < 100) {
//!         let texts: Vec<_> = group.iter().map(|waiting| waiting.write.as_str()).collect();
//!         match send(task.key(), &texts).await {
//!             Ok(()) => group.into_iter().for_each(|waiting| {
//!                 let length = waiting.write.len();
//!                 waiting.answer(Ok(length));
//!             }),
//!             Err(error) => Waiting::fail(group, error), // each gets the same error
//!         }
//!     }
//! }
//!
//! async fn send(_: &Channel, _: &[&str]) -> Result<(), StoreError> {
//!     Ok(())
//! }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let (queues, room) = (Queues::default(), Channel::new("room").unwrap());
//! # assert!(matches!(write(&queues, &room, "hello").await, Ok(5)));
//! # }
//! ```

mod budget;
mod queue;
mod queues;
mod waiting;

pub use self::{
    budget::{QueueIsFull, Reservation, WriteBudget},
    queue::WriteQueue,
    queues::{QueueTask, WriteQueues},
    waiting::{Answer, Waiting},
};
