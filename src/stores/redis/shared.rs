//! What all operations of a store share: its connections, the place as it is known, and calls of scripts on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Client, Cmd, Value};
use tokio::time::Instant;

use super::{
    codec::{self, Packed, parse_epoch},
    failure::{Failure, strange},
    link::Link,
    options::{ConnectError, Settings},
    script::{Op, Scripts, hex},
    writer::expected,
};
use crate::{
    channel::Channel,
    cursor::epoch_of,
    event::Event,
    store::{Expect, Head, StoreError, resume},
};

/// What all operations of a store share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) scripts: Arc<Scripts>,
    /// Apart from reads, so that a large page does not delay appends, nor waiting for replicas reads.
    pub(super) writes: Link,
    pub(super) reads: Link,
    /// The place's epoch as it was last seen; 0 when it is not known.
    place: AtomicU64,
    started: Instant,
    /// When the janitor's next round is due, in milliseconds since the start.
    next_sweep: AtomicU64,
}

impl Shared {
    pub(super) fn new(client: Client, settings: Settings) -> Self {
        let scripts = Arc::new(Scripts::new(&settings));
        let link = || Link::new(client.clone(), Arc::clone(&scripts), settings.timeout);
        let (writes, reads) = (link(), link());
        let (place, next_sweep) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { client, settings, scripts, writes, reads, place, started: Instant::now(), next_sweep }
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
        fastrand::u64(1..=1 << 16)
    }

    /// How long after its last append a channel's record is kept, in milliseconds.
    pub(super) fn kept_for(&self) -> u64 {
        let keep = &self.settings.retention;
        let longest = keep.age.saturating_add(keep.forget_after).max(keep.key_window);
        u64::try_from(longest.as_millis()).unwrap_or(u64::MAX)
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
        for _ in 0..4 {
            let place = self.place(deadline).await?;
            let now = self.settings.clock.as_ref().map(|clock| clock.now());
            let mut cmd = self.scripts.call(op, place, now, channels);
            build(place, &mut cmd);
            let answer = match self.settings.replicas.filter(|_| matches!(op, Op::Append | Op::Init)) {
                None => link.send(&cmd, deadline).await.map_err(failed)?,
                Some((replicas, within)) => self.send_and_wait(cmd, replicas, within, deadline).await?,
            };
            let Value::Array(answer) = answer else { return Err(strange("list")) };
            let mut answer = answer.into_iter();
            match answer.next() {
                Some(Value::BulkString(kind)) if kind == b"moved" => self.place_moved(place),
                Some(_) => return Ok((place, answer.collect())),
                None => return Err(strange("kind")),
            }
        }
        Err(StoreError::Unavailable("the place changes all the time".into()))
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

    /// The place's epoch; the place is made when there is none.
    pub(super) async fn place(&self, deadline: Instant) -> Result<u64, StoreError> {
        match self.place.load(Ordering::Relaxed) {
            0 => {}
            known => return Ok(known),
        }
        // A server that is full, or a replica, can still be read from.
        let there = self.reads.send(&self.scripts.place(), deadline).await.map_err(Failure::of_read)?;
        let answer = match there {
            // Always a new epoch: one that was known before belongs to a place that is gone, and so do its cursors.
            Value::Nil => {
                let cmd = self.scripts.call(Op::Open, resume::fresh_epoch().max(1), None, &[]);
                self.writes.send(&cmd, deadline).await.map_err(Failure::of_read)?
            }
            there => there,
        };
        let Value::BulkString(epoch) = answer else { return Err(strange("epoch")) };
        let epoch = parse_epoch(&epoch).ok_or_else(|| strange("epoch"))?;
        self.place.store(epoch, Ordering::Relaxed);
        Ok(epoch)
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
        let (kind, head) = (answer.kind(), answer.head().ok_or_else(|| strange("head"))?);
        if kind == Some(b'C') { Err(StoreError::Conflict { head }) } else { Ok(head) }
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

    /// Starts the janitor's round, if it is due.
    pub(super) fn sweep_soon(self: &Arc<Self>) {
        if self.sweep_is_due() {
            let shared = Arc::clone(self);
            tokio::spawn(async move { shared.sweep().await });
        }
    }

    /// Takes the janitor's round, if it is due: often enough to keep what is too old below twice its age, and rarely enough to
    /// cost nothing.
    pub(super) fn sweep_is_due(&self) -> bool {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = self.next_sweep.load(Ordering::Relaxed);
        let every = (self.settings.retention.age / 16).clamp(Duration::from_secs(1), Duration::from_secs(30));
        let next = now.saturating_add(every.as_millis() as u64);
        now >= due && self.next_sweep.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) async fn sweep(&self) {
        let build = |_, cmd: &mut Cmd| _ = cmd.arg(self.step()).arg(SWEPT);
        if let Err(error) = self.at(&self.writes, Op::Sweep, &[], self.deadline(), Failure::of_read, build).await {
            tracing::debug!(%error, "the janitor's round failed");
        }
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
            Ok(_) => Ok(()),
            Err(failure) => Err(failure
                .moved_to()
                .map_or_else(|| ConnectError::Unreachable(failure.into_source()), |to| ConnectError::Moved { to })),
        }
    }
}

fn about(channel: &Channel) -> &[Channel] {
    std::slice::from_ref(channel)
}

/// Most channels that one round of the janitor looks at.
const SWEPT: u64 = 64;
