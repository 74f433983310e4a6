//! The task behind a run: wins the election, does the work, stores its events and ends the run, exactly once.

use std::{future::Future, sync::Arc};

use tokio::{sync::oneshot, task::JoinSet, time::timeout};

use super::{
    active::ActiveRun,
    appending::{append_once, append_surely},
    error::{RunOver, StartError},
    feed::Feed,
    fencing::{Loss, Step, judge},
    marks::{Cause, End, Owner, with_key},
    outcome::RunState,
    pending::Next,
    shared::{Shared, in_time},
    work::{WorkResult, end_of},
};
use crate::{
    cursor::Cursor,
    event::Event,
    store::{Append, Expect, Store, StoreError},
};

pub(super) struct Producer<S> {
    pub(super) shared: Arc<Shared<S>>,
    pub(super) feed: Arc<Feed>,
    /// Counts the run until the producer is gone.
    pub(super) _active: ActiveRun,
}

impl<S: Store> Producer<S> {
    /// Runs `work` if the run is elected.
    pub(super) async fn run<W>(
        self,
        elected: oneshot::Sender<Result<(), StartError>>,
        work: impl FnOnce() -> W + Send + 'static,
    ) where
        W: Future<Output: WorkResult> + Send + 'static,
    {
        let head = match self.elect().await {
            Ok(head) => head,
            Err(error) => return drop(elected.send(Err(error))),
        };
        // The caller may have gone: the run goes on.
        _ = elected.send(Ok(()));
        let mut task = JoinSet::new();
        task.spawn({
            let reporter = Reporter(self.feed.clone());
            async move { reporter.0.close(end_of(work).await) }
        });
        let over = Writer { producer: &self, head, stored: 1 }.write().await;
        tracing::debug!(channel = %self.feed.channel, %over, "a run is over");
        self.feed.set_over(over);
        _ = timeout(self.shared.options.grace, task.join_next()).await;
        task.shutdown().await;
    }

    /// Only the first append to a channel succeeds.
    async fn elect(&self) -> Result<Cursor, StartError> {
        let Shared { hub, process, .. } = &*self.shared;
        let owner = Owner { run: self.feed.run.clone(), process: process.clone() };
        let first = Append::new([with_key(owner.start(), &self.feed.run, 0)]).expecting(Expect::NeverUsed);
        let channel = &self.feed.channel;
        let answer = match append_once(hub, channel, &first).await {
            // The caller can repeat what is known to have failed, but not this.
            Err(StoreError::Unknown(_)) => append_surely(hub, channel, &first, self.shared.patience()).await,
            answer => answer,
        };
        match judge(answer, Step::Continue) {
            Ok(head) => Ok(head),
            Err(Loss::Store(error)) => Err(StartError::Store(error)),
            Err(Loss::Fenced | Loss::TooLarge) => Err(StartError::AlreadyStarted),
            Err(Loss::Closed) => Err(match self.shared.state(channel).await {
                Ok(Some(RunState::Ended(outcome))) => StartError::Ended(outcome),
                Ok(_) => StartError::Expired,
                Err(error) => StartError::Store(error),
            }),
        }
    }
}

/// Ends the run of a work that is gone without having said how it ended.
struct Reporter(Arc<Feed>);

impl Drop for Reporter {
    fn drop(&mut self) {
        self.0.close(End::error("the work was dropped".to_owned()));
    }
}

/// Appends to the channel, each time at its own last receipt.
struct Writer<'a, S> {
    producer: &'a Producer<S>,
    head: Cursor,
    /// How many events of the run are stored, or may be.
    stored: u64,
}

impl<S: Store> Writer<'_, S> {
    async fn write(mut self) -> RunOver {
        let feed = &self.producer.feed;
        loop {
            let step = match feed.next().await {
                Next::Append(events) => self.append(events, Step::Continue).await,
                Next::Look => self.look().await,
                Next::End(end) => return self.end(&end).await,
                Next::Wait(_) => Ok(()),
            };
            match step {
                Ok(()) => feed.stored(),
                Err(Loss::TooLarge) => return self.end(&End::too_large()).await,
                Err(loss) => return self.over(loss).await,
            }
        }
    }

    async fn append(&mut self, events: Vec<Event>, step: Step) -> Result<(), Loss> {
        let Producer { shared, feed, .. } = self.producer;
        let numbered = events.into_iter().zip(self.stored..);
        let append = Append::new(numbered.map(|(event, n)| with_key(event, &feed.run, n)));
        let count = append.events.len() as u64;
        let append = append.expecting(Expect::At(self.head));
        let append = if step == Step::Close { append.closing() } else { append };
        let answer = append_surely(&shared.hub, &feed.channel, &append, shared.patience()).await;
        self.head = judge(answer, step)?;
        self.stored += count;
        Ok(())
    }

    async fn end(&mut self, end: &End) -> RunOver {
        let Producer { shared, feed, .. } = self.producer;
        if let Cause::Error(error) = &end.cause {
            tracing::warn!(channel = %feed.channel, %error, "the work of a run failed");
        }
        match self.append(vec![end.event(shared.options.error_text)], Step::Close).await {
            Ok(()) => RunOver::of(end),
            Err(loss) => self.over(loss).await,
        }
    }

    /// Somebody may have closed the channel. A store that cannot be read says nothing: the next append will.
    async fn look(&self) -> Result<(), Loss> {
        let Producer { shared, feed, .. } = self.producer;
        let heads = in_time(shared.hub.store().heads(std::slice::from_ref(&feed.channel))).await;
        match heads.ok().and_then(|heads| heads.first().copied()) {
            Some(head) if head.closed => Err(Loss::Closed),
            Some(head) if head.cursor != self.head => Err(Loss::Fenced),
            _ => Ok(()),
        }
    }

    async fn over(&self, loss: Loss) -> RunOver {
        let Producer { shared, feed, .. } = self.producer;
        match loss {
            Loss::Closed => shared.outcome(&feed.channel).await.map_or(RunOver::Fenced, RunOver::Ended),
            Loss::Fenced => RunOver::Fenced,
            Loss::TooLarge => RunOver::TooLarge,
            Loss::Store(error) => RunOver::Store(Arc::new(error)),
        }
    }
}
