//! Ends the runs that nobody produces any more. Every process does this for all of them; the store lets one succeed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
};

use tokio::time::{Instant, sleep};

use super::{
    concurrently::concurrently,
    control,
    marks::{End, Owner},
    options::ErrorText,
    outcome::RunOutcome,
    shared::{Shared, in_time},
    watch::{Look, Signs, Watch},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Append, Expect, Head, Page, Start, Store, StoreError},
};

/// Watches the open runs of all processes.
pub(super) async fn reap<S: Store>(shared: Weak<Shared<S>>) {
    let mut reaper = Reaper::default();
    while let Some(shared) = shared.upgrade() {
        if let Err(error) = reaper.round(&shared).await {
            tracing::debug!(%error, "runs could not be watched");
        }
        let pause = shared.options.abandon_after / 8;
        drop(shared);
        // Processes that started together do not stay together.
        sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
    }
}

#[derive(Default)]
struct Reaper {
    watched: HashMap<Channel, Watched>,
    /// Where the listing goes on in the next round.
    listed: Option<Channel>,
}

struct Watched {
    producer: Producer,
    watch: Watch,
}

/// Who produces the events of an open channel.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Producer {
    Known(Owner),
    /// The first entry is no longer kept.
    Forgotten,
    /// The channel was not begun by a run: it is left alone.
    None,
}

impl Reaper {
    async fn round<S: Store>(&mut self, shared: &Arc<Shared<S>>) -> Result<(), StoreError> {
        for _ in 0..PAGES_PER_ROUND {
            if !self.discover(shared).await? {
                break;
            }
        }
        self.tell_own(shared).await?;
        let abandoned = self.look(shared).await?;
        let close = |(channel, head)| {
            let shared = shared.clone();
            async move { (close(&shared, &channel, head).await, channel) }
        };
        for (result, channel) in concurrently(abandoned, close).await {
            if result.is_ok() {
                self.watched.remove(&channel);
            }
        }
        Ok(())
    }

    /// Lists one page of channels, and watches the open ones. Returns whether there is more.
    async fn discover<S: Store>(&mut self, shared: &Arc<Shared<S>>) -> Result<bool, StoreError> {
        let listing = shared.hub.channels(&shared.options.prefix, self.listed.as_ref(), PAGE);
        let page = in_time(listing).await?;
        self.listed = page.last().map(|(channel, _)| channel.clone());
        let room = MAX_WATCHED.saturating_sub(self.watched.len());
        let is_new = |(channel, head): &(Channel, Head)| {
            !head.closed && shared.has(channel) && !self.watched.contains_key(channel)
        };
        let new: Vec<_> = page.iter().filter(|listed| is_new(listed)).take(room).cloned().collect();
        let read = |(channel, _): (Channel, Head)| {
            let shared = shared.clone();
            async move { (shared.read(&channel, Start::Earliest).await, channel) }
        };
        for (first, channel) in concurrently(new, read).await {
            // A channel that cannot be read is looked at again in the next round.
            if let Ok(producer) = first.map(|first| producer_of(&first)) {
                self.watched.insert(channel, Watched { producer, watch: Watch::new(Instant::now()) });
            }
        }
        Ok(!page.is_empty())
    }

    /// Tells the producers of this process whose channels are no longer open. Those that are watched are told by [`Self::look`]; a
    /// channel that was closed before the first listing that had it is never watched.
    async fn tell_own<S: Store>(&self, shared: &Shared<S>) -> Result<(), StoreError> {
        let mut own = shared.active.all();
        own.retain(|feed| !self.watched.contains_key(&feed.channel));
        let channels: Vec<_> = own.iter().map(|feed| feed.channel.clone()).collect();
        for (feed, head) in own.iter().zip(heads(shared, &channels).await?) {
            if !head.is_some_and(is_open) {
                feed.notice();
            }
        }
        Ok(())
    }

    /// Compares the signs of life with those seen before. Returns the runs that are abandoned, with their heads.
    async fn look<S: Store>(&mut self, shared: &Shared<S>) -> Result<Vec<(Channel, Cursor)>, StoreError> {
        let asked = Instant::now();
        let beats = self.beats(shared).await?;
        let channels: Vec<_> = self.watched.keys().cloned().collect();
        let heads = heads(shared, &channels).await?;
        let look = Look { asked, answered: Instant::now() };
        let mut abandoned = Vec::new();
        for (channel, head) in channels.into_iter().zip(heads) {
            let Some(watched) = self.watched.get_mut(&channel) else { continue };
            let (owner, own) = match &watched.producer {
                Producer::Known(owner) => (Some(owner), shared.active.get(&owner.run)),
                Producer::Forgotten | Producer::None => (None, None),
            };
            // One that cannot be read is found again once it can.
            let Some(head) = head.filter(|head| is_open(*head)) else {
                own.inspect(|feed| feed.notice());
                self.watched.remove(&channel);
                continue;
            };
            // A run of this process that has no producer is not kept alive by the process's other runs.
            let beat = owner.filter(|owner| owner.process != shared.process);
            let beat = beat.and_then(|owner| beats.get(&owner.process).copied());
            let signs = Signs { head: head.cursor, beat };
            let is_silent = watched.watch.is_abandoned(signs, look, shared.options.abandon_after);
            if is_silent && own.is_none() && watched.producer != Producer::None {
                abandoned.push((channel, head.cursor));
            }
        }
        Ok(abandoned)
    }

    /// The heads of the beats of all processes whose runs are watched.
    async fn beats<S: Store>(&self, shared: &Shared<S>) -> Result<HashMap<String, Cursor>, StoreError> {
        let known = |watched: &Watched| match &watched.producer {
            Producer::Known(owner) => Some(owner.process.clone()),
            Producer::Forgotten | Producer::None => None,
        };
        let processes: HashSet<_> = self.watched.values().filter_map(known).collect();
        let (names, channels): (Vec<_>, Vec<_>) =
            processes.into_iter().filter_map(|process| Some((process.clone(), control::beats(&process)?))).unzip();
        let heads = heads(shared, &channels).await?;
        Ok(names.into_iter().zip(heads).filter_map(|(name, head)| Some((name, head?.cursor))).collect())
    }
}

/// Who produces the channel that begins with this page.
fn producer_of(first: &Page) -> Producer {
    // A tag means that something came before.
    match first.entries.first() {
        _ if first.from.tag != 0 => Producer::Forgotten,
        Some(entry) => Owner::named_by(entry).map_or(Producer::None, Producer::Known),
        None => Producer::None,
    }
}

/// The head of a channel that does not exist has no tag.
fn is_open(head: Head) -> bool {
    !head.closed && head.cursor.tag != 0
}

/// The heads of these channels, in their order; `None` for one whose record cannot be read, which must not keep the others open.
async fn heads<S: Store>(shared: &Shared<S>, channels: &[Channel]) -> Result<Vec<Option<Head>>, StoreError> {
    let mut heads = Vec::with_capacity(channels.len());
    for some in channels.chunks(HEADS_AT_ONCE) {
        match in_time(shared.hub.store().heads(some)).await {
            Ok(found) => heads.extend(found.into_iter().map(Some)),
            Err(StoreError::Corrupt(_)) => {
                for channel in some {
                    heads.push(head(shared, channel).await?);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(heads)
}

async fn head<S: Store>(shared: &Shared<S>, channel: &Channel) -> Result<Option<Head>, StoreError> {
    match in_time(shared.hub.store().heads(std::slice::from_ref(channel))).await {
        Ok(heads) => Ok(heads.first().copied()),
        Err(StoreError::Corrupt(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends a run whose head has not moved. If it has, somebody else was faster, or the run is alive.
async fn close<S: Store>(shared: &Shared<S>, channel: &Channel, head: Cursor) -> Result<(), StoreError> {
    let end = End::plain(RunOutcome::Abandoned).event(ErrorText::Logged);
    let append = Append::new([end]).expecting(Expect::At(head)).closing();
    match in_time(shared.hub.append(channel, append)).await {
        Ok(_) => tracing::info!(%channel, "a run was abandoned; it has been ended"),
        Err(StoreError::Conflict { .. } | StoreError::Closed { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The names of one listing.
const PAGE: usize = 1_000;
/// The listings of one round.
const PAGES_PER_ROUND: usize = 16;
/// The most runs that one process watches. Further ones are watched when others have ended.
const MAX_WATCHED: usize = 20_000;
/// The channels of one question for heads.
const HEADS_AT_ONCE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Data, Event},
        store::{Entry, Outcome},
    };

    #[test]
    fn a_channel_is_a_run_if_it_begins_as_one_or_if_its_beginning_is_gone() {
        let at = |seq, tag| Cursor { epoch: 1, seq, tag };
        let owner = Owner { run: "r".into(), process: "p".into() };
        let page = |from: Cursor, event: Option<Event>| {
            let entries = event.map(|event| {
                let (data, name) = event.into_parts();
                Entry::new(Channel::new("run:1").unwrap(), at(9, 9), data).named(name)
            });
            Page::new(Outcome::Continued, from, Head::open(at(9, 9))).with_entries(entries.into_iter().collect())
        };
        let table = [
            (page(at(0, 0), Some(owner.start())), Producer::Known(owner.clone())),
            (page(at(0, 0), Some(Event::new(Data::text("hello")))), Producer::None),
            (page(at(0, 0), None), Producer::None),
            (page(at(8, 8), Some(Event::text("token"))), Producer::Forgotten),
            (page(at(9, 9), None), Producer::Forgotten),
        ];
        for (page, expected) in table {
            assert_eq!(producer_of(&page), expected, "{page:?}");
        }
    }
}
