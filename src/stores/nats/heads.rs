//! The heads of many channels at once. What was told stays known as long as the stream says that nothing came and nothing
//! went, so that channels where nothing happens cost nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::{sync::Mutex, task::JoinSet};

use super::{
    Inner,
    answer::Info,
    asking::{Via, Which},
    fault::{self, Fault},
    log::Log,
    place::Place,
    record::{Kind, Record},
    scan::Scan,
};
use crate::{
    channel::Channel,
    store::{Head, StoreError, resume},
};

/// What is known of the stream at one moment.
#[derive(Default)]
pub(super) struct Heads(Mutex<Option<Table>>);

struct Table {
    place: Arc<Place>,
    moment: Moment,
    /// The record of a channel, none where it has none.
    records: HashMap<Channel, Option<Record>>,
    floors: HashMap<u16, u64>,
}

/// A stream that says the same again has the same messages: one that comes raises the last place, one that goes lowers the
/// count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moment {
    created: String,
    last: u64,
    count: u64,
}

impl Moment {
    fn of(info: &Info) -> Self {
        Self { created: info.created.clone(), last: info.state.last_seq, count: info.state.messages }
    }
}

impl Inner {
    pub(super) async fn heads(self: &Arc<Self>, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let asked = tokio::time::timeout(self.settings.timeout, self.ask_heads(channels)).await;
        self.note(asked.unwrap_or_else(|_| Err(fault::unavailable("no heads in time"))))
    }

    async fn ask_heads(self: &Arc<Self>, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let mut known = self.heads.0.lock().await;
        let info = self.state().await?;
        let moment = Moment::of(&info);
        let mut table = match known.take().filter(|table| table.moment == moment) {
            Some(table) => table,
            None => {
                self.doubt();
                let (records, floors) = (HashMap::new(), HashMap::new());
                Table { place: self.place().await?, moment, records, floors }
            }
        };
        let missing: HashSet<_> = channels.iter().filter(|channel| !table.records.contains_key(*channel)).collect();
        if !missing.is_empty() {
            self.learn_records(&mut table, missing.into_iter().cloned().collect(), &info).await?;
        }
        self.learn_floors(&mut table, channels, &info).await?;
        let mut heads = Vec::with_capacity(channels.len());
        for channel in channels {
            heads.push(self.head(&table, channel).await?);
        }
        table.trim(channels);
        *known = Some(table);
        Ok(heads)
    }

    async fn state(&self) -> Result<Info, StoreError> {
        let asked = self.place().await?.info(&self.link, self.settings.patience).await;
        if let Ok(info) = asked {
            return Ok(info);
        }
        // It may be gone, and made anew when it is looked for.
        self.doubt();
        let place = self.place().await?;
        place.info(&self.link, self.settings.patience).await.map_err(Fault::harmless)
    }

    async fn learn_records(
        self: &Arc<Self>,
        table: &mut Table,
        missing: Vec<Channel>,
        info: &Info,
    ) -> Result<(), StoreError> {
        // Replicas may be behind without saying so, and what they told would stay known.
        let via = if info.config.is_replicated() { Via::Leader } else { Via::Any };
        if via == Via::Any && missing.len() >= MANY && info.state.num_subjects <= missing.len() * SCANNED_FOR_ONE {
            return self.scan_records(table, missing).await;
        }
        let size = missing.len().div_ceil(AT_ONCE);
        let mut asked = JoinSet::new();
        for part in missing.chunks(size) {
            let (inner, place, part) = (Arc::clone(self), Arc::clone(&table.place), part.to_vec());
            asked.spawn(async move {
                let mut records = Vec::with_capacity(part.len());
                for channel in part {
                    let last = Log::new(&inner, Arc::clone(&place), &channel, via).get(Which::Last).await?;
                    let record = last.map(|last| last.record).filter(|record| record.kind != Kind::Gone);
                    records.push((channel, record));
                }
                Ok::<_, StoreError>(records)
            });
        }
        while let Some(part) = asked.join_next().await {
            table.records.extend(part.map_err(|error| StoreError::Unavailable(Box::new(error)))??);
        }
        Ok(())
    }

    async fn scan_records(&self, table: &mut Table, missing: Vec<Channel>) -> Result<(), StoreError> {
        let mut scan = Scan::of_channels(self, Arc::clone(&table.place)).await?;
        let wanted: HashSet<_> = missing.into_iter().collect();
        let mut found = HashSet::new();
        loop {
            let some = scan.next().await?;
            if some.is_empty() {
                break;
            }
            for (subject, raw) in some {
                let Some(channel) = table.place.channel(&subject) else { continue };
                let is_wanted = wanted.contains(&channel);
                let record = match raw.header() {
                    Ok((record, _)) => Some(record).filter(|record| record.kind != Kind::Gone),
                    Err(error) if is_wanted => return Err(error),
                    Err(_) => continue,
                };
                if is_wanted {
                    found.insert(channel.clone());
                }
                // Whoever asks for the heads of many asks for others next.
                if is_wanted || table.records.len() < MOST_KNOWN {
                    table.records.insert(channel, record);
                }
            }
        }
        table
            .records
            .extend(wanted.into_iter().filter(|channel| !found.contains(channel)).map(|channel| (channel, None)));
        Ok(())
    }

    /// The floors of those that are absent. After the channels: a floor is raised before a channel goes.
    async fn learn_floors(&self, table: &mut Table, channels: &[Channel], info: &Info) -> Result<(), StoreError> {
        let is_absent = |channel: &&Channel| table.records.get(*channel).is_none_or(Option::is_none);
        let buckets = channels.iter().filter(is_absent).map(Place::floor_of);
        let missing: HashSet<_> = buckets.filter(|bucket| !table.floors.contains_key(bucket)).collect();
        if missing.len() < MANY || info.config.is_replicated() {
            for bucket in missing {
                let floor = self.floor(&table.place, bucket, Via::Leader).await?.0;
                table.floors.insert(bucket, floor);
            }
            return Ok(());
        }
        let mut scan = Scan::of_floors(self, Arc::clone(&table.place)).await?;
        let mut floors: HashMap<_, _> = missing.into_iter().map(|bucket| (bucket, 0)).collect();
        loop {
            let some = scan.next().await?;
            if some.is_empty() {
                break;
            }
            for (subject, raw) in some {
                if let Some(bucket) = table.place.bucket(&subject) {
                    floors.insert(bucket, super::floors::parse(&raw.body)?);
                }
            }
        }
        table.floors.extend(floors);
        Ok(())
    }

    async fn head(self: &Arc<Self>, table: &Table, channel: &Channel) -> Result<Head, StoreError> {
        let place = &table.place;
        if let Some(record) = table.records.get(channel).copied().flatten() {
            if !self.settings.keep.is_forgotten(&record, self.time.since(record.stamp)) {
                return Ok(record.head());
            }
            self.forget(channel).await?;
            let floor = self.floor(place, Place::floor_of(channel), Via::Leader).await?.0;
            return Ok(resume::Record::absent(place.epoch, floor, channel).head);
        }
        let floor = table.floors.get(&Place::floor_of(channel)).copied().unwrap_or(0);
        Ok(resume::Record::absent(place.epoch, floor, channel).head)
    }
}

impl Table {
    /// Keeps what was asked for now, and as much of the rest as there is room for.
    fn trim(&mut self, channels: &[Channel]) {
        if self.records.len() > MOST_KNOWN + channels.len() {
            let asked: HashSet<_> = channels.iter().collect();
            self.records.retain(|channel, _| asked.contains(channel));
        }
    }
}

/// So many channels are asked for at the same time.
const AT_ONCE: usize = 64;

/// From so many on, all are looked at in one go.
const MANY: usize = 32;

/// All are looked at, when that is not more than so many for one that was asked for.
const SCANNED_FOR_ONE: usize = 32;

/// Most channels that are known, besides those that were asked for last.
const MOST_KNOWN: usize = 65_536;
