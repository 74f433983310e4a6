//! What all operations of a store share: its connections, the place as it is known, and calls of scripts on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::{
    codec::{self, Keeps, Packed},
    dial::Dial,
    failure::{Failure, strange},
    janitor::Janitor,
    link::Link,
    options::{ConnectError, Settings},
    primary::Primary,
    script::{FORMAT, Op, Scripts, hex, parse_epoch_text},
    trouble::Trouble,
    writer::expected,
};
use crate::{
    channel::Channel,
    cursor::epoch_of,
    event::Event,
    store::{Expect, Format, Head, StoreError, floor, resume},
    stores::absent_channels::AbsentChannels,
};

/// What all operations of a store share.
pub(super) struct Shared {
    pub(super) dial: Arc<Dial>,
    pub(super) settings: Settings,
    pub(super) scripts: Arc<Scripts>,
    pub(super) primary: Arc<Primary>,
    /// Apart from reads, so that a large page does not delay appends, nor waiting for replicas reads.
    pub(super) writes: Link,
    pub(super) reads: Link,
    /// The place's epoch as it was last seen; 0 when it is not known.
    place: AtomicU64,
    pub(super) absent: AbsentChannels,
    pub(super) janitor: Janitor,
    pub(super) trouble: Trouble,
}

impl Shared {
    pub(super) fn new(dial: Dial, settings: Settings) -> Self {
        let scripts = Arc::new(Scripts::new(&settings));
        let (dial, primary) = (Arc::new(dial), Arc::new(Primary::default()));
        let link = || Link::new(Arc::clone(&dial), Arc::clone(&scripts), Arc::clone(&primary), settings.timeout);
        let (writes, reads) = (link(), link());
        let (place, janitor, trouble) = (AtomicU64::new(0), Janitor::default(), Trouble::default());
        Self {
            dial,
            settings,
            scripts,
            primary,
            writes,
            reads,
            place,
            absent: AbsentChannels::default(),
            janitor,
            trouble,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    pub(super) fn is_connected(&self) -> bool {
        !self.writes.is_down() && !self.reads.is_down()
    }

    /// Sees to it that connections that were lost come back without a call that needs them.
    pub(super) fn mend(&self) {
        [&self.writes, &self.reads].into_iter().for_each(Link::mend);
    }

    /// By how much more than it has to the floor moves. Two histories of the floor that parted in a failover would meet
    /// again one day if all went by the same steps, and an absent channel's cursor of the one be taken for the other's.
    pub(super) fn step(&self) -> u64 {
        floor::raised(0, 0)
    }

    /// What this node's own settings say of how long a record is kept.
    pub(super) fn keeps(&self) -> Keeps {
        let keep = &self.settings.retention;
        let [age, forget_after, window] = [keep.age, keep.forget_after, keep.key_window]
            .map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        Keeps { age, forget_after, window }
    }

    /// Calls a script about some channels on the place, whichever it is now, and returns that place and the answer without its kind.
    pub(super) async fn at(
        &self,
        link: &Link,
        op: Op,
        channels: &[Channel],
        deadline: Instant,
        failed: fn(Failure) -> StoreError,
        build: impl Fn(u64, &mut Cmd),
    ) -> Result<(u64, Vec<Value>), StoreError> {
        let answer = self.called(link, op, channels, deadline, failed, build).await;
        match &answer {
            _ if matches!(op, Op::Append | Op::Init) => self.trouble.note(&answer),
            Err(error) => self.trouble.note_read(error),
            Ok(_) => {}
        }
        answer
    }

    async fn called(
        &self,
        link: &Link,
        op: Op,
        channels: &[Channel],
        deadline: Instant,
        failed: fn(Failure) -> StoreError,
        build: impl Fn(u64, &mut Cmd),
    ) -> Result<(u64, Vec<Value>), StoreError> {
        for _ in 0..4 {
            let place = self.place(deadline).await?;
            let now = self.settings.clock.as_ref().map(|clock| clock.now());
            let mut cmd = self.scripts.call(op, place, now, channels);
            build(place, &mut cmd);
            let answer = match self.settings.replicas.filter(|_| matches!(op, Op::Append | Op::Init)) {
                _ if op.only_reads() => self.ask(cmd, deadline).await?,
                None => link.send(&cmd, deadline).await.map_err(failed)?,
                Some((replicas, within)) => self.send_and_wait(cmd, replicas, within, deadline).await?,
            };
            let Value::Array(answer) = answer else { return Err(strange("list")) };
            let mut answer = answer.into_iter();
            match answer.next() {
                Some(Value::BulkString(kind)) if kind == b"moved" => self.place_moved(place),
                Some(Value::BulkString(kind)) if kind == b"format" => self.format_is(answer.next(), op)?,
                Some(_) => return Ok((place, answer.collect())),
                None => return Err(strange("kind")),
            }
        }
        Err(StoreError::Unavailable("the place changes all the time".into()))
    }

    /// Asks the primary, whichever it is now, for one answer.
    async fn ask(&self, cmd: Cmd, deadline: Instant) -> Result<Value, StoreError> {
        let mut asked = redis::pipe();
        asked.add_command(cmd);
        let answers = self.reads.ask(asked, deadline).await.map_err(Failure::of_read)?;
        answers.into_iter().next().ok_or_else(|| strange("answer"))
    }

    /// Sends an append and waits until replicas have it too.
    async fn send_and_wait(
        &self,
        cmd: Cmd,
        replicas: u32,
        within: Duration,
        deadline: Instant,
    ) -> Result<Value, StoreError> {
        let mut pipeline = redis::pipe();
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
        pipeline.add_command(cmd).cmd("WAIT").arg(replicas).arg(within);
        let answers = self.writes.send_all(&pipeline, deadline).await.map_err(Failure::of_write)?;
        match <[Value; 2]>::try_from(answers) {
            Ok([answer, Value::Int(reached)]) if reached >= i64::from(replicas) => Ok(answer),
            Ok([_, Value::Int(reached)]) => {
                Err(StoreError::Unknown(format!("{reached} of {replicas} replicas have it").into()))
            }
            _ => Err(strange("count of replicas")),
        }
    }

    /// The place's epoch; the place is made when there is none, and brought to this version's format.
    pub(super) async fn place(&self, deadline: Instant) -> Result<u64, StoreError> {
        match self.place.load(Ordering::Relaxed) {
            0 => {}
            known => return Ok(known),
        }
        // A server that is full can still be read from.
        let there = self.reads.send(&self.scripts.place(), deadline).await.map_err(Failure::of_read)?;
        match place_of(there)? {
            Some((epoch, format)) => {
                format.may_read(FORMAT.version())?;
                self.place.store(epoch, Ordering::Relaxed);
                Ok(epoch)
            }
            None => self.open(deadline).await,
        }
    }

    /// Makes the place unless it is there, and shows that it can be written to.
    pub(super) async fn open(&self, deadline: Instant) -> Result<u64, StoreError> {
        // Always a new epoch: one that was known before belongs to a place that is gone, and so do its cursors.
        let cmd = self.scripts.open(resume::fresh_epoch().max(1));
        let answer = self.writes.send(&cmd, deadline).await.map_err(Failure::of_read)?;
        let (epoch, format) = place_of(answer)?.ok_or_else(|| strange("epoch"))?;
        format.may_read(FORMAT.version())?;
        self.place.store(epoch, Ordering::Relaxed);
        format.may_write(FORMAT.version())?;
        Ok(epoch)
    }

    /// A script found a format that it may not use; one of an older version is brought up.
    fn format_is(&self, found: Option<Value>, op: Op) -> Result<(), StoreError> {
        let Some(Value::BulkString(text)) = found else { return Err(strange("format")) };
        if let Some(format) = format_of(&text) {
            format.may_read(FORMAT.version())?;
            if !op.only_reads() {
                format.may_write(FORMAT.version())?;
            }
        }
        self.place.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Takes note that the place is not `old` any more.
    pub(super) fn place_moved(&self, old: u64) {
        if self.place.compare_exchange(old, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!("the Redis server holds another log than before: all cursors are reset");
        }
    }

    pub(super) async fn init(&self, channel: &Channel, events: &[Event], expect: Expect) -> Result<Head, StoreError> {
        let epoch = epoch_of(resume::fresh_epoch(), channel);
        let build = |place, cmd: &mut Cmd| {
            cmd.arg(self.step()).arg(hex(epoch_of(place, channel))).arg(hex(epoch)).arg(expected(expect));
            for event in events {
                cmd.arg(codec::blob_of(event, resume::fresh_tag()));
            }
        };
        let (_, answer) =
            self.at(&self.writes, Op::Init, about(channel), self.deadline(), Failure::of_write, build).await?;
        let Some(Value::BulkString(text)) = answer.first() else { return Err(strange("answer")) };
        let mut answer = Packed(text);
        let kind = answer.kind().ok_or_else(|| strange("kind"))?;
        if kind == b'U' {
            return Err(Failure::of_channel(kind, answer.0));
        }
        let head = answer.head().ok_or_else(|| strange("head"))?;
        if kind == b'C' { Err(StoreError::Conflict { head }) } else { Ok(head) }
    }

    /// Forgets a channel: `now`, or when it is `due`.
    pub(super) async fn forget(
        &self,
        channel: &Channel,
        when: &str,
        deadline: Instant,
        failed: fn(Failure) -> StoreError,
    ) -> Result<(), StoreError> {
        let build = |place, cmd: &mut Cmd| {
            cmd.arg(self.step()).arg(hex(epoch_of(place, channel))).arg(when);
        };
        self.at(&self.writes, Op::Forget, about(channel), deadline, failed, build).await.map(drop)
    }

    /// Looks at the server once: whether it is new enough, and set up to keep what it is given.
    pub(super) async fn check(&self) -> Result<(), ConnectError> {
        let info = self.reads.send(&redis::cmd("INFO"), self.deadline()).await;
        let info = match info.map_err(|failure| ConnectError::Unreachable(failure.into_source()))? {
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
            Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        };
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().to_owned()
        };
        let found = field("redis_version");
        if found.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major < 7) {
            return Err(ConnectError::Version { found });
        }
        let policy = field("maxmemory_policy");
        if policy != "noeviction" {
            tracing::warn!(policy, "the Redis server may evict events; set `maxmemory-policy noeviction`");
        }
        if field("aof_enabled") == "0" {
            tracing::info!("the Redis server keeps no append-only file; events are lost when it ends");
        }
        // A server of a cluster answers this, but no question about keys that are elsewhere.
        match self.reads.send(&self.scripts.place(), self.deadline()).await {
            Ok(there) => place_of(there).map(drop).map_err(ConnectError::Format),
            Err(failure) => Err(failure
                .moved_to()
                .map_or_else(|| ConnectError::Unreachable(failure.into_source()), |to| ConnectError::Moved { to })),
        }
    }
}

/// The place's epoch and format; `None` when there is no place, or one of the first format.
fn place_of(answer: Value) -> Result<Option<(u64, Format)>, StoreError> {
    let Value::Array(answer) = answer else { return Err(strange("place")) };
    match &*answer {
        [Value::Nil, _] | [_, Value::Nil] => Ok(None),
        [Value::BulkString(epoch), Value::BulkString(format)] => {
            let format = format_of(format).ok_or_else(|| strange("format"))?;
            // A format that may not be read may have other epochs.
            format.may_read(FORMAT.version())?;
            Ok(Some((parse_epoch_text(epoch).ok_or_else(|| strange("epoch"))?, format)))
        }
        _ => Err(strange("place")),
    }
}

pub(super) fn format_of(text: &[u8]) -> Option<Format> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn about(channel: &Channel) -> &[Channel] {
    std::slice::from_ref(channel)
}
