//! The heads of many channels at once. Known heads stay valid while the stream reports that nothing was added or
//! deleted, so idle channels cost nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::task::JoinSet;

use super::{
    api::ReadFrom,
    error::{self, CallError},
    head_table::{HeadTable, MAX_REMEMBERED, Newest, StreamVersion},
    place::Place,
    record::Kind,
    response::StreamInfo,
    scan::Scan,
    shared::Inner,
};
use crate::{
    channel::Channel,
    store::{Head, StoreError, floor, resume},
};

impl Inner {
    pub(super) async fn heads(self: &Arc<Self>, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let result = tokio::time::timeout(self.settings.timeout, self.read_heads(channels)).await;
        self.note_read(result.unwrap_or_else(|_| Err(error::unavailable("the heads were not read in time"))))
    }

    async fn read_heads(self: &Arc<Self>, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let mut cached = self.heads.0.lock().await;
        let changes = self.connection.changes();
        let (place, info) = self.state().await?;
        let version = StreamVersion::of(&info, changes);
        let is_same = |table: &HeadTable| table.version == version && Arc::ptr_eq(&table.place, &place);
        let mut table = match cached.take().filter(is_same) {
            Some(table) => table,
            None => {
                self.invalidate_place();
                let (newest, floors) = (HashMap::new(), HashMap::new());
                HeadTable { place: self.place().await?, version, newest, doubtful: None, floors }
            }
        };
        let missing: HashSet<_> = channels.iter().filter(|channel| !table.newest.contains_key(*channel)).collect();
        if !missing.is_empty() {
            self.load_newest(&mut table, missing.into_iter().cloned().collect(), &info).await?;
        }
        self.load_floors(&mut table, channels, &info).await?;
        let mut heads = Vec::with_capacity(channels.len());
        for channel in channels {
            heads.push(self.head(&table, channel).await?);
        }
        table.trim(channels);
        *cached = Some(table);
        Ok(heads)
    }

    async fn state(&self) -> Result<(Arc<Place>, StreamInfo), StoreError> {
        let place = self.place().await?;
        if let Ok(info) = place.stream.info(&self.connection, self.settings.request_timeout).await {
            return Ok((place, info));
        }
        // The stream may be gone; then the lookup creates it again.
        self.invalidate_place();
        let place = self.place().await?;
        let info = place
            .stream
            .info(&self.connection, self.settings.request_timeout)
            .await
            .map_err(CallError::into_store_error)?;
        Ok((place, info))
    }

    async fn load_newest(
        self: &Arc<Self>,
        table: &mut HeadTable,
        missing: Vec<Channel>,
        info: &StreamInfo,
    ) -> Result<(), StoreError> {
        // A replica may be behind without saying so, and its answers would be remembered.
        let can_scan = !info.config.is_replicated() && missing.len() >= SCAN_FROM;
        if table.doubtful.is_none() && can_scan && info.state.num_subjects <= missing.len() * MAX_SCANNED_PER_CHANNEL {
            self.scan(table, &missing).await?;
        }
        let (absent, unknown) = table.look_up(&missing);
        self.look_up_each(table, unknown.clone()).await?;
        table.newest.extend(absent.into_iter().map(|channel| (channel, Newest::Absent { least: 0 })));
        // Their floors may have been read before a log of theirs was lost.
        for channel in unknown.iter().filter(|channel| !matches!(table.newest.get(*channel), Some(Newest::Record(_)))) {
            table.floors.remove(&Place::floor_of(channel));
        }
        Ok(())
    }

    async fn look_up_each(self: &Arc<Self>, table: &mut HeadTable, channels: Vec<Channel>) -> Result<(), StoreError> {
        let mut tasks = JoinSet::new();
        for part in channels.chunks(channels.len().div_ceil(MAX_CONCURRENT).max(1)) {
            let (inner, place, part) = (Arc::clone(self), Arc::clone(&table.place), part.to_vec());
            tasks.spawn(async move {
                let mut found = Vec::with_capacity(part.len());
                for channel in part {
                    let newest = inner.newest(&place, &channel).await?;
                    found.push((channel, newest));
                }
                Ok::<_, StoreError>(found)
            });
        }
        while let Some(part) = tasks.join_next().await {
            table.newest.extend(part.map_err(|error| StoreError::Unavailable(Box::new(error)))??);
        }
        Ok(())
    }

    /// Reads all records and, if many of the requested channels are absent, finds the doubtful ones: those with an
    /// unreadable record, those with an announcement but no record, and those that exceed the memory limit.
    async fn scan(&self, table: &mut HeadTable, missing: &[Channel]) -> Result<(), StoreError> {
        let wanted: HashSet<_> = missing.iter().collect();
        let (mut gone, mut doubtful) = (HashMap::new(), HashSet::new());
        let mut scan = Scan::of_channels(self, Arc::clone(&table.place)).await?;
        loop {
            let page = scan.next().await?;
            if page.is_empty() {
                break;
            }
            for (subject, raw) in page {
                let Some(channel) = table.place.channel(&subject) else { continue };
                match raw.header() {
                    Ok((record, _)) if record.kind == Kind::Gone => drop(gone.insert(channel, raw.at)),
                    // A caller that asks for many heads is likely to ask for the others next.
                    Ok((record, _)) if wanted.contains(&channel) || table.newest.len() < MAX_REMEMBERED => {
                        table.newest.insert(channel, Newest::Record(record));
                    }
                    _ => drop(doubtful.insert(channel)),
                }
            }
        }
        if missing.iter().filter(|channel| !table.newest.contains_key(*channel)).count() < SCAN_FROM {
            return Ok(());
        }
        let mut scan = Scan::of_announced(self, Arc::clone(&table.place)).await?;
        loop {
            let page = scan.next().await?;
            if page.is_empty() {
                break;
            }
            for (subject, raw) in page {
                let Some(channel) = table.place.announced_channel(&subject) else { continue };
                let is_over = gone.get(&channel).is_some_and(|gone| raw.at <= *gone);
                if !is_over && !matches!(table.newest.get(&channel), Some(Newest::Record(_))) {
                    doubtful.insert(channel);
                }
            }
        }
        table.doubtful = Some(doubtful);
        Ok(())
    }

    /// Reads the floors of absent channels. After the channels, because a floor is raised before a channel is removed.
    async fn load_floors(
        &self,
        table: &mut HeadTable,
        channels: &[Channel],
        info: &StreamInfo,
    ) -> Result<(), StoreError> {
        let is_absent = |channel: &&Channel| !matches!(table.newest.get(*channel), Some(Newest::Record(_)));
        let buckets = channels.iter().filter(is_absent).map(Place::floor_of);
        let missing: HashSet<_> = buckets.filter(|bucket| !table.floors.contains_key(bucket)).collect();
        if missing.len() < SCAN_FROM || info.config.is_replicated() {
            for bucket in missing {
                let floor = self.floor(&table.place, bucket, ReadFrom::Leader).await?.0;
                table.floors.insert(bucket, floor);
            }
            return Ok(());
        }
        let mut scan = Scan::of_floors(self, Arc::clone(&table.place)).await?;
        let mut floors: HashMap<_, _> = (0..floor::BUCKETS).map(|bucket| (bucket, 0)).collect();
        loop {
            let page = scan.next().await?;
            if page.is_empty() {
                break;
            }
            for (subject, raw) in page {
                if let Some(bucket) = table.place.bucket(&subject) {
                    floors.insert(bucket, super::floors::parse(&raw.body)?);
                }
            }
        }
        table.floors.extend(floors);
        Ok(())
    }

    async fn head(self: &Arc<Self>, table: &HeadTable, channel: &Channel) -> Result<Head, StoreError> {
        let place = &table.place;
        let bucket = Place::floor_of(channel);
        let floor = match table.newest.get(channel).copied() {
            Some(Newest::Record(record)) => {
                let now = self.clock.since(record.stamp);
                // Other nodes may have raised the retention a moment ago.
                if !self.recent_keep(place).await?.is_forgotten(&record, now)
                    || !self.current_keep(place).await?.is_forgotten(&record, now)
                {
                    return Ok(record.head());
                }
                let least = self.forget_or_pass_over(channel, &record).await?.unwrap_or(0);
                self.floor(place, bucket, ReadFrom::Leader).await?.0.max(least)
            }
            Some(Newest::Absent { least }) => table.floors.get(&bucket).copied().unwrap_or(0).max(least),
            None => return Err(error::unavailable("the channel was not looked up")),
        };
        Ok(resume::Record::absent(place.epoch, floor, channel).head)
    }
}

/// How many channels are looked up concurrently.
const MAX_CONCURRENT: usize = 64;

/// From this many channels on, a scan replaces individual lookups.
const SCAN_FROM: usize = 32;

/// A scan may read this many channels for each requested one.
const MAX_SCANNED_PER_CHANNEL: usize = 32;
