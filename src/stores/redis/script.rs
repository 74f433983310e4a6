//! The scripts that run in the server: one per operation, so that each is one atomic step. Knows no connection.

use std::time::Duration;

use redis::{Cmd, Pipeline, Script, Value};

use super::{codec::parse_epoch, options::Settings};
use crate::{
    channel::Channel,
    store::{Format, floor::bucket_of},
};

/// Which script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Open,
    Append,
    Init,
    Read,
    Forget,
    Sweep,
    Renew,
    List,
}

impl Op {
    /// Whether a node that may not write may run it.
    pub(super) fn only_reads(self) -> bool {
        matches!(self, Self::Read | Self::List)
    }
}

/// All scripts of a store: retention and key names are constants in them.
#[derive(Debug)]
pub(super) struct Scripts {
    scripts: [Code; 8],
    place: String,
    turns: String,
}

impl Scripts {
    pub(super) fn new(settings: &Settings) -> Self {
        let constants = constants(settings);
        let with_common = |flags: &str, writes: bool, body: &str| {
            Code::new(format!("#!lua{flags}\n{constants}local WRITES = {writes}\n{COMMON}\n{body}"))
        };
        let reading = |body: &str| with_common(" flags=no-writes", false, body);
        let writing = |flags: &str, body: &str| with_common(flags, true, &format!("{SELDOM}\n{WRITE}\n{body}"));
        Self {
            scripts: [
                Code::new(format!("#!lua\n{OPEN}")),
                writing("", APPEND),
                writing("", INIT),
                reading(READ),
                // What frees memory must go on when there is none.
                writing(" flags=allow-oom", FORGET),
                writing(" flags=allow-oom", SWEEP),
                writing(" flags=allow-oom", RENEW),
                reading(LIST),
            ],
            place: settings.key("place"),
            turns: settings.key("turns"),
        }
    }

    /// The call of a script on the place with this epoch, about these channels. Without `now` the server's time counts.
    pub(super) fn call(&self, op: Op, epoch: u64, now: Option<u64>, channels: &[Channel]) -> Cmd {
        let mut cmd = self.on_place(op);
        cmd.arg(epoch_text(epoch));
        match now {
            Some(now) => cmd.arg(now),
            None => cmd.arg(""),
        };
        cmd.arg(channels.len());
        for channel in channels {
            cmd.arg(field(channel));
        }
        cmd
    }

    /// Makes the place with this epoch, unless it is there.
    pub(super) fn open(&self, epoch: u64) -> Cmd {
        let mut cmd = self.on_place(Op::Open);
        cmd.arg(epoch_text(epoch)).arg(EPOCH_MARK).arg(FORMAT.to_string());
        cmd
    }

    fn on_place(&self, op: Op) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.script(op).hash).arg(2).arg(&self.place).arg(&self.turns);
        cmd
    }

    /// Asks for the place's epoch and format.
    pub(super) fn place(&self) -> Cmd {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(&self.place).arg("epoch").arg("format");
        cmd
    }

    /// The heads of channels need no script: a field each, and one for the floor that an absent channel has. All in one
    /// question, for a neighbour's floor may rise above a channel that is made between two.
    pub(super) fn records(&self, channels: &[Channel]) -> Cmd {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(&self.place).arg("epoch").arg("format").arg("floor").arg("keep");
        channels.iter().for_each(|channel| _ = cmd.arg(field(channel)));
        channels.iter().for_each(|channel| _ = cmd.arg(format!("f:{}", bucket_of(channel))));
        cmd
    }

    /// Asks which scripts the server knows; it forgets them when it restarts.
    pub(super) fn are_known(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("EXISTS");
        for script in &self.scripts {
            cmd.arg(&script.hash);
        }
        cmd
    }

    /// Makes the server know those that it does not.
    pub(super) fn load(&self, known: &Value) -> Pipeline {
        let known = known.as_sequence().unwrap_or_default();
        let mut pipeline = redis::pipe();
        for (nth, script) in self.scripts.iter().enumerate() {
            if known.get(nth) != Some(&Value::Int(1)) {
                pipeline.cmd("SCRIPT").arg("LOAD").arg(&script.text);
            }
        }
        pipeline
    }

    fn script(&self, op: Op) -> &Code {
        let [open, append, init, read, forget, sweep, renew, list] = &self.scripts;
        match op {
            Op::Open => open,
            Op::Append => append,
            Op::Init => init,
            Op::Read => read,
            Op::Forget => forget,
            Op::Sweep => sweep,
            Op::Renew => renew,
            Op::List => list,
        }
    }
}

#[derive(Debug)]
struct Code {
    text: String,
    hash: String,
}

impl Code {
    /// Without what the server has no use for: on a slow way the text is what connecting waits for.
    fn new(text: String) -> Self {
        let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with("--") && !line.is_empty());
        let text = lines.collect::<Vec<_>>().join("\n");
        let hash = Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }
}

/// The field of a channel's record.
fn field(channel: &Channel) -> String {
    format!("c:{}", channel.as_str())
}

/// What is written. Nodes of 0.1, whose format had no version yet, know one floor for all channels.
pub(super) const FORMAT: Format = Format::new(2);

/// What stored epochs of places begin with, so that nodes that know no versions understand none.
const EPOCH_MARK: &str = "2.";

/// The epoch of a place as it is stored.
pub(super) fn epoch_text(epoch: u64) -> String {
    format!("{EPOCH_MARK}{}", hex(epoch))
}

/// The epoch of a place from what is stored.
pub(super) fn parse_epoch_text(text: &[u8]) -> Option<u64> {
    parse_epoch(text.strip_prefix(EPOCH_MARK.as_bytes())?)
}

/// An epoch as scripts see it: Lua's numbers do not hold 64 bits.
pub(super) fn hex(epoch: u64) -> String {
    format!("{epoch:016x}")
}

fn constants(settings: &Settings) -> String {
    let keep = &settings.retention;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(MOST);
    let (age, window) = (millis(keep.age), millis(keep.key_window).max(1));
    let own = [keep.events.min(MOST), age, keep.bytes.min(MOST), millis(keep.forget_after), window];
    let [events, _, bytes, forget, _] = own;
    let text = own.map(|number| number.to_string()).join(" ");
    format!(
        "local PREFIX, INLINE, WAITS, FORMAT, OWN_FORMAT = '{}', {}, {}, {}, '{FORMAT}'
local OWN, OWN_AGE, OWN_WINDOW = '{text}', {age}, {window}
local EVENTS, AGE, BYTES, FORGET, WINDOW = {events}, {age}, {bytes}, {forget}, {window}\n",
        settings.prefix(),
        settings.inline,
        settings.replicas.is_some(),
        FORMAT.version(),
    )
}

/// What sums of a few such numbers still hold exactly as floating point.
const MOST: u64 = 1 << 50;

const COMMON: &str = include_str!("lua/common.lua");
const SELDOM: &str = include_str!("lua/seldom.lua");
const WRITE: &str = include_str!("lua/write.lua");
const OPEN: &str = include_str!("lua/open.lua");
const APPEND: &str = include_str!("lua/append.lua");
const INIT: &str = include_str!("lua/init.lua");
const READ: &str = include_str!("lua/read.lua");
const FORGET: &str = include_str!("lua/forget.lua");
const SWEEP: &str = include_str!("lua/sweep.lua");
const RENEW: &str = include_str!("lua/renew.lua");
const LIST: &str = include_str!("lua/list.lua");
