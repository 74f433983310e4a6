//! The scripts that run in the server: one per operation, so that each is one atomic step. Knows no connection.

use std::time::Duration;

use redis::{Cmd, Script};

use super::options::Settings;
use crate::channel::Channel;

/// Which script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Open,
    Append,
    Init,
    Read,
    Forget,
    Sweep,
}

/// All scripts of a store: retention and key names are constants in them.
#[derive(Debug)]
pub(super) struct Scripts {
    scripts: [Code; 6],
    place: String,
    turns: String,
}

impl Scripts {
    pub(super) fn new(settings: &Settings) -> Self {
        let constants = constants(settings);
        let with_common = |flags: &str, body: &str| Code::new(format!("#!lua{flags}\n{constants}{COMMON}\n{body}"));
        Self {
            scripts: [
                Code::new(format!("#!lua\n{OPEN}")),
                with_common("", APPEND),
                with_common("", INIT),
                with_common(" flags=no-writes", READ),
                // What frees memory must go on when there is none.
                with_common(" flags=allow-oom", FORGET),
                with_common(" flags=allow-oom", SWEEP),
            ],
            place: settings.key("place"),
            turns: settings.key("turns"),
        }
    }

    /// The call of a script on the place with this epoch, about these channels. Without `now` the server's time counts.
    pub(super) fn call(&self, op: Op, epoch: u64, now: Option<u64>, channels: &[Channel]) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.script(op).hash).arg(2).arg(&self.place).arg(&self.turns).arg(hex(epoch));
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

    /// Asks for the place's epoch.
    pub(super) fn place(&self) -> Cmd {
        let mut cmd = redis::cmd("HGET");
        cmd.arg(&self.place).arg("epoch");
        cmd
    }

    /// The heads of channels need no script: one field each.
    pub(super) fn records(&self, channels: &[Channel]) -> Cmd {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(&self.place).arg("epoch").arg("floor");
        for channel in channels {
            cmd.arg(field(channel));
        }
        cmd
    }

    /// Makes the server know all scripts, which it forgets when it restarts.
    pub(super) fn load(&self) -> redis::Pipeline {
        let mut pipeline = redis::pipe();
        for script in &self.scripts {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(&script.text);
        }
        pipeline
    }

    fn script(&self, op: Op) -> &Code {
        let [open, append, init, read, forget, sweep] = &self.scripts;
        match op {
            Op::Open => open,
            Op::Append => append,
            Op::Init => init,
            Op::Read => read,
            Op::Forget => forget,
            Op::Sweep => sweep,
        }
    }
}

#[derive(Debug)]
struct Code {
    text: String,
    hash: String,
}

impl Code {
    fn new(text: String) -> Self {
        let hash = Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }
}

/// The field of a channel's record.
fn field(channel: &Channel) -> String {
    format!("c:{}", channel.as_str())
}

/// An epoch as scripts see it: Lua's numbers do not hold 64 bits.
pub(super) fn hex(epoch: u64) -> String {
    format!("{epoch:016x}")
}

fn constants(settings: &Settings) -> String {
    let keep = &settings.retention;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(MOST);
    format!(
        "local PREFIX, EVENTS, AGE, BYTES, FORGET, WINDOW, INLINE = '{}', {}, {}, {}, {}, {}, {}\n",
        settings.prefix(),
        keep.events.min(MOST),
        millis(keep.age),
        keep.bytes.min(MOST),
        millis(keep.forget_after),
        millis(keep.key_window).max(1),
        settings.inline,
    )
}

/// What sums of a few such numbers still hold exactly as floating point.
const MOST: u64 = 1 << 50;

const COMMON: &str = include_str!("lua/common.lua");
const OPEN: &str = include_str!("lua/open.lua");
const APPEND: &str = include_str!("lua/append.lua");
const INIT: &str = include_str!("lua/init.lua");
const READ: &str = include_str!("lua/read.lua");
const FORGET: &str = include_str!("lua/forget.lua");
const SWEEP: &str = include_str!("lua/sweep.lua");
