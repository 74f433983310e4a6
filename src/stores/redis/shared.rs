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
    codec::{self, RecordLifetime, Unpacker, hex},
    connection::Connection,
    endpoint::Endpoint,
    error::{CallError, ConnectError, malformed},
    health::ObservedHealth,
    janitor::Janitor,
    primary::PrimaryTerm,
    script::{FORMAT, Op, Scripts, parse_epoch_text},
    settings::Settings,
};
use crate::{
    channel::Channel,
    cursor::epoch_of,
    event::Event,
    store::{Expect, Format, Head, StoreError, floor, resume},
    stores::absent::Absent,
};

/// What all operations of a store share.
pub(super) struct Shared {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) settings: Settings,
    pub(super) scripts: Arc<Scripts>,
    pub(super) primary: Arc<PrimaryTerm>,
    /// Apart from reads, so that a large page does not delay appends, nor waiting for replicas reads.
    pub(super) writes: Connection,
    pub(super) reads: Connection,
    /// The place's epoch as it was last seen; 0 when it is not known.
    place: AtomicU64,
    pub(super) absent: Absent,
    pub(super) janitor: Janitor,
    pub(super) observed_health: ObservedHealth,
}

impl Shared {
    pub(super) fn new(endpoint: Endpoint, settings: Settings) -> Self {
        let scripts = Arc::new(Scripts::new(&settings));
        let (endpoint, primary) = (Arc::new(endpoint), Arc::new(PrimaryTerm::default()));
        let connection =
            || Connection::new(Arc::clone(&endpoint), Arc::clone(&scripts), Arc::clone(&primary), settings.timeout);
        let (writes, reads) = (connection(), connection());
        let (place, janitor, observed_health) = (AtomicU64::new(0), Janitor::default(), ObservedHealth::default());
        Self {
            endpoint,
            settings,
            scripts,
            primary,
            writes,
            reads,
            place,
            absent: Absent::default(),
            janitor,
            observed_health,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    pub(super) fn is_connected(&self) -> bool {
        !self.writes.is_down() && !self.reads.is_down()
    }

    /// Sees to it that connections that were lost come back without a call that needs them.
    pub(super) fn reconnect(&self) {
        [&self.writes, &self.reads].into_iter().for_each(Connection::reconnect);
    }

    /// By how much more than it has to the floor moves. Two histories of the floor that parted in a failover would meet
    /// again one day if all went by the same steps, and an absent channel's cursor of the one be taken for the other's.
    pub(super) fn floor_step(&self) -> u64 {
        floor::raised(0, 0)
    }

    /// What this node's own settings say of how long a record is kept.
    pub(super) fn own_lifetime(&self) -> RecordLifetime {
        let keep = &self.settings.retention;
        let [age, forget_after, window] = [keep.age, keep.forget_after, keep.key_window]
            .map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        RecordLifetime { age, forget_after, window }
    }

    /// Calls a script about some channels on the place, whichever it is now, and returns that place and the answer without its kind.
    pub(super) async fn call(
        &self,
        connection: &Connection,
        op: Op,
        channels: &[Channel],
        deadline: Instant,
        failed: fn(CallError) -> StoreError,
        build: impl Fn(u64, &mut Cmd),
    ) -> Result<(u64, Vec<Value>), StoreError> {
        let answer = self.call_current_place(connection, op, channels, deadline, failed, build).await;
        match &answer {
            _ if matches!(op, Op::Append | Op::Init) => self.observed_health.note_write(&answer),
            Err(error) => self.observed_health.note_read(error),
            Ok(_) => {}
        }
        answer
    }

    async fn call_current_place(
        &self,
        connection: &Connection,
        op: Op,
        channels: &[Channel],
        deadline: Instant,
        failed: fn(CallError) -> StoreError,
        build: impl Fn(u64, &mut Cmd),
    ) -> Result<(u64, Vec<Value>), StoreError> {
        for _ in 0..4 {
            let place = self.place(deadline).await?;
            let now = self.settings.clock.as_ref().map(|clock| clock.now());
            let mut cmd = self.scripts.call(op, place, now, channels);
            build(place, &mut cmd);
            let answer = match self.settings.replicas.filter(|_| matches!(op, Op::Append | Op::Init)) {
                _ if op.only_reads() => self.ask(cmd, deadline).await?,
                None => connection.send(&cmd, deadline).await.map_err(failed)?,
                Some((replicas, within)) => self.send_and_wait(cmd, replicas, within, deadline).await?,
            };
            let Value::Array(answer) = answer else { return Err(malformed("list")) };
            let mut answer = answer.into_iter();
            match answer.next() {
                Some(Value::BulkString(kind)) if kind == b"moved" => self.note_place_changed(place),
                Some(Value::BulkString(kind)) if kind == b"format" => self.check_format(answer.next(), op)?,
                Some(_) => return Ok((place, answer.collect())),
                None => return Err(malformed("kind")),
            }
        }
        Err(StoreError::Unavailable("the place changes all the time".into()))
    }

    /// Asks the primary, whichever it is now, for one answer.
    async fn ask(&self, cmd: Cmd, deadline: Instant) -> Result<Value, StoreError> {
        let mut asked = redis::pipe();
        asked.add_command(cmd);
        let answers = self.reads.ask(asked, deadline).await.map_err(CallError::into_read_error)?;
        answers.into_iter().next().ok_or_else(|| malformed("answer"))
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
        let answers = self.writes.send_all(&pipeline, deadline).await.map_err(CallError::into_write_error)?;
        match <[Value; 2]>::try_from(answers) {
            Ok([answer, Value::Int(reached)]) if reached >= i64::from(replicas) => Ok(answer),
            Ok([_, Value::Int(reached)]) => {
                Err(StoreError::Unknown(format!("{reached} of {replicas} replicas have it").into()))
            }
            _ => Err(malformed("count of replicas")),
        }
    }

    /// The place's epoch; the place is made when there is none, and brought to this version's format.
    pub(super) async fn place(&self, deadline: Instant) -> Result<u64, StoreError> {
        match self.place.load(Ordering::Relaxed) {
            0 => {}
            known => return Ok(known),
        }
        // A server that is full can still be read from.
        let there = self.reads.send(&self.scripts.place(), deadline).await.map_err(CallError::into_read_error)?;
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
        let answer = self.writes.send(&cmd, deadline).await.map_err(CallError::into_read_error)?;
        let (epoch, format) = place_of(answer)?.ok_or_else(|| malformed("epoch"))?;
        format.may_read(FORMAT.version())?;
        self.place.store(epoch, Ordering::Relaxed);
        format.may_write(FORMAT.version())?;
        Ok(epoch)
    }

    /// A script found a format that it may not use; one of an older version is brought up.
    fn check_format(&self, found: Option<Value>, op: Op) -> Result<(), StoreError> {
        let Some(Value::BulkString(text)) = found else { return Err(malformed("format")) };
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
    pub(super) fn note_place_changed(&self, old: u64) {
        if self.place.compare_exchange(old, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!("the Redis server holds another log than before: all cursors are reset");
        }
    }

    pub(super) async fn init(&self, channel: &Channel, events: &[Event], expect: Expect) -> Result<Head, StoreError> {
        let epoch = epoch_of(resume::fresh_epoch(), channel);
        let build = |place, cmd: &mut Cmd| {
            cmd.arg(self.floor_step())
                .arg(hex(epoch_of(place, channel)))
                .arg(hex(epoch))
                .arg(codec::expectation(expect));
            for event in events {
                cmd.arg(codec::blob_of(event, resume::fresh_tag()));
            }
        };
        let (_, answer) = self
            .call(&self.writes, Op::Init, only(channel), self.deadline(), CallError::into_write_error, build)
            .await?;
        let Some(Value::BulkString(text)) = answer.first() else { return Err(malformed("answer")) };
        let mut answer = Unpacker(text);
        let kind = answer.kind().ok_or_else(|| malformed("kind"))?;
        if kind == b'U' {
            return Err(CallError::channel_error(kind, answer.0));
        }
        let head = answer.head().ok_or_else(|| malformed("head"))?;
        if kind == b'C' { Err(StoreError::Conflict { head }) } else { Ok(head) }
    }

    /// Forgets a channel: `now`, or when it is `due`.
    pub(super) async fn forget(
        &self,
        channel: &Channel,
        when: &str,
        deadline: Instant,
        failed: fn(CallError) -> StoreError,
    ) -> Result<(), StoreError> {
        let build = |place, cmd: &mut Cmd| {
            cmd.arg(self.floor_step()).arg(hex(epoch_of(place, channel))).arg(when);
        };
        self.call(&self.writes, Op::Forget, only(channel), deadline, failed, build).await.map(drop)
    }

    /// Looks at the server once: whether it is new enough, and set up to keep what it is given.
    pub(super) async fn check(&self) -> Result<(), ConnectError> {
        let info = self.reads.send(&redis::cmd("INFO"), self.deadline()).await;
        let info = match info.map_err(|error| ConnectError::Unreachable(error.into_source()))? {
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
            Err(error) => Err(error
                .moved_to()
                .map_or_else(|| ConnectError::Unreachable(error.into_source()), |to| ConnectError::Moved { to })),
        }
    }
}

/// The place's epoch and format; `None` when there is no place, or one of the first format.
fn place_of(answer: Value) -> Result<Option<(u64, Format)>, StoreError> {
    let Value::Array(answer) = answer else { return Err(malformed("place")) };
    match &*answer {
        [Value::Nil, _] | [_, Value::Nil] => Ok(None),
        [Value::BulkString(epoch), Value::BulkString(format)] => {
            let format = format_of(format).ok_or_else(|| malformed("format"))?;
            // A format that may not be read may have other epochs.
            format.may_read(FORMAT.version())?;
            Ok(Some((parse_epoch_text(epoch).ok_or_else(|| malformed("epoch"))?, format)))
        }
        _ => Err(malformed("place")),
    }
}

pub(super) fn format_of(text: &[u8]) -> Option<Format> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn only(channel: &Channel) -> &[Channel] {
    std::slice::from_ref(channel)
}
