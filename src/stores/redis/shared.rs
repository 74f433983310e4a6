//! What all operations of a store share: its connections, the known place, and how scripts are called on it.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::{
    codec::RecordLifetime,
    connection::Connection,
    endpoint::Endpoint,
    error::{CallError, malformed},
    janitor::Janitor,
    primary::PrimaryTerm,
    script::{Op, Scripts},
    settings::Settings,
};
use crate::{
    channel::Channel,
    store::{
        StoreError, UpkeepNotes, floor,
        kit::{AbsentChannels, Keep, ObservedHealth},
        log_pace::ChannelLog,
    },
    stores::outage_log::OutageLog,
};

/// What all operations of a store share.
pub(super) struct Shared {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) settings: Settings,
    pub(super) scripts: Arc<Scripts>,
    pub(super) primary: Arc<PrimaryTerm>,
    /// Separate from reads, so that a large page does not delay appends, and waiting for replicas does not delay reads.
    pub(super) writes: Connection,
    pub(super) reads: Connection,
    /// The place's epoch when last seen; 0 when unknown.
    pub(super) place: AtomicU64,
    pub(super) absent: AbsentChannels,
    pub(super) janitor: Janitor,
    pub(super) observed_health: ObservedHealth,
    pub(super) outages: Arc<OutageLog>,
    pub(super) upkeep: UpkeepNotes,
    /// The channels that cannot be read.
    pub(super) unreadable: ChannelLog,
}

impl Shared {
    pub(super) fn new(endpoint: Endpoint, settings: Settings) -> Self {
        let scripts = Arc::new(Scripts::new(&settings));
        let (endpoint, primary) = (Arc::new(endpoint), Arc::new(PrimaryTerm::default()));
        let outages = Arc::<OutageLog>::default();
        let connection = || {
            let shared = (Arc::clone(&endpoint), Arc::clone(&scripts), Arc::clone(&primary), Arc::clone(&outages));
            Connection::new(shared, settings.timeout)
        };
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
            absent: AbsentChannels::default(),
            janitor,
            observed_health,
            outages,
            upkeep: UpkeepNotes::default(),
            unreadable: ChannelLog::default(),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    pub(super) fn is_connected(&self) -> bool {
        !self.writes.is_down() && !self.reads.is_down()
    }

    /// Reopens lost connections without waiting for a call that needs them.
    pub(super) fn reconnect(&self) {
        [&self.writes, &self.reads].into_iter().for_each(Connection::reconnect);
    }

    /// A random amount by which the floor rises further than necessary. If it always rose by equal steps, two histories
    /// of the floor that diverged in a failover could meet again, and an absent channel's cursor from one would be
    /// taken for one of the other.
    pub(super) fn floor_step(&self) -> u64 {
        floor::raised(0, 0)
    }

    /// The settings of this node that determine how long a record is kept.
    pub(super) fn own_lifetime(&self) -> RecordLifetime {
        let Keep { age, forget_after, key_window: window, .. } = Keep::new(&self.settings.retention);
        RecordLifetime { age, forget_after, window }
    }

    /// Calls a script for these channels on the current place; returns the place's epoch and the reply without its
    /// kind.
    pub(super) async fn call(
        &self,
        connection: &Connection,
        op: Op,
        channels: &[Channel],
        deadline: Instant,
        to_store_error: fn(CallError) -> StoreError,
        build: impl Fn(u64, &mut Cmd),
    ) -> Result<(u64, Vec<Value>), StoreError> {
        let answer = self.call_current_place(connection, op, channels, deadline, to_store_error, build).await;
        match &answer {
            _ if matches!(op, Op::Append | Op::Init) => self.note_write(&answer),
            Err(error) => self.note_read(error),
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
        to_store_error: fn(CallError) -> StoreError,
        build: impl Fn(u64, &mut Cmd),
    ) -> Result<(u64, Vec<Value>), StoreError> {
        for _ in 0..4 {
            let place = self.place(deadline).await?;
            let now = self.settings.clock.as_ref().map(|clock| clock.now());
            let mut cmd = self.scripts.call(op, place, now, channels);
            build(place, &mut cmd);
            let answer = match self.settings.replicas.filter(|_| matches!(op, Op::Append | Op::Init)) {
                _ if op.is_read_only() => self.ask(cmd, deadline).await?,
                None => connection.send(&cmd, deadline).await.map_err(to_store_error)?,
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
        Err(StoreError::Unavailable("the place keeps changing".into()))
    }

    /// Asks the current primary for one reply.
    async fn ask(&self, cmd: Cmd, deadline: Instant) -> Result<Value, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.add_command(cmd);
        let answers = self.reads.ask(pipeline, deadline).await.map_err(CallError::into_read_error)?;
        answers.into_iter().next().ok_or_else(|| malformed("answer"))
    }

    /// Sends an append, and waits until the replicas have it too.
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
}
