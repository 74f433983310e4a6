//! The scripts that run in the server: one per operation, so that each operation is atomic. Knows no connection.

use redis::{Cmd, Pipeline, Script, Value};

use super::{
    codec::{hex, parse_epoch},
    settings::Settings,
};
use crate::{
    channel::Channel,
    store::{Format, floor::bucket_of, kit::Keep},
};

/// The operations that have a script.
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
    /// Whether a node without permission to write may run it.
    pub(super) fn is_read_only(self) -> bool {
        matches!(self, Self::Read | Self::List)
    }
}

/// All scripts of a store. Retention and key names are constants in them.
#[derive(Debug)]
pub(super) struct Scripts {
    scripts: [LuaScript; 8],
    place: String,
    turns: String,
}

impl Scripts {
    pub(super) fn new(settings: &Settings) -> Self {
        let constants = constants(settings);
        let base = format!("{constants}{BASE}");
        let on_place = |flags: &str, writes: bool, body: &str| {
            LuaScript::new(format!("#!lua{flags}\n{base}local WRITES = {writes}\n{PLACE}{SETTINGS}{body}"))
        };
        let writing = |flags: &str, body: &str| on_place(flags, true, &format!("{RECORDS}{MAINTENANCE}{WRITE}{body}"));
        // The same code as functions that are only created when needed.
        let rare = |what: &str| format!("local function rare(now, known)\n{base}{SETTINGS}{RECORDS}{what}end\n");
        let read_helpers = rare(READ_HELPERS);
        let append_helpers = rare(&format!("{MAINTENANCE}{WRITE}{APPEND_HELPERS}"));
        let judge = format!("local function judge(PREFIX, WINDOW, RECEIPT, now, head_of, holds)\n{JUDGE}end\n");
        Self {
            scripts: [
                LuaScript::new(format!("#!lua\n{OPEN}")),
                on_place("", true, &format!("{append_helpers}{judge}{APPEND}")),
                writing("", INIT),
                on_place(" flags=no-writes", false, &format!("{read_helpers}{READ}")),
                // These free memory, so they must work when there is none left.
                writing(" flags=allow-oom", FORGET),
                writing(" flags=allow-oom", SWEEP),
                writing(" flags=allow-oom", RENEW),
                on_place(" flags=no-writes", false, &format!("{RECORDS}{LIST}")),
            ],
            place: settings.key("place"),
            turns: settings.key("turns"),
        }
    }

    /// A call of a script on the place with this epoch, for these channels. Without `now`, the server's time applies.
    pub(super) fn call(&self, op: Op, epoch: u64, now: Option<u64>, channels: &[Channel]) -> Cmd {
        let mut cmd = self.on_place(op);
        cmd.arg(epoch_text(epoch));
        match now {
            Some(now) => cmd.arg(now),
            None => cmd.arg(""),
        };
        let floors = if op == Op::Read { channels } else { &[] };
        cmd.arg(channels.len() + floors.len());
        channels.iter().for_each(|channel| _ = cmd.arg(field(channel)));
        floors.iter().for_each(|channel| _ = cmd.arg(floor_field(channel)));
        cmd
    }

    /// Creates the place with this epoch, unless it exists.
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

    /// The records of channels, and the floors of absent ones, need no script: each is a field. Both come from one
    /// command, because the floor of a shared bucket may rise above a channel that is created between two commands.
    pub(super) fn records<'a>(&self, channels: &[Channel], floors: impl Iterator<Item = &'a Channel>) -> Cmd {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(&self.place).arg("epoch").arg("format").arg("floor").arg("keep");
        channels.iter().for_each(|channel| _ = cmd.arg(field(channel)));
        floors.for_each(|channel| _ = cmd.arg(floor_field(channel)));
        cmd
    }

    /// Asks which scripts the server has; it loses them when it restarts.
    pub(super) fn exists_command(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("EXISTS");
        for script in &self.scripts {
            cmd.arg(&script.hash);
        }
        cmd
    }

    /// Loads the scripts that the server does not have.
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

    fn script(&self, op: Op) -> &LuaScript {
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
struct LuaScript {
    text: String,
    hash: String,
}

impl LuaScript {
    /// Drops comments and indentation, which the server does not need: on a slow network, connecting waits for the
    /// text.
    fn new(text: String) -> Self {
        let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with("--") && !line.is_empty());
        let text = with_indexed_fields(&lines.collect::<Vec<_>>().join("\n"));
        let hash = Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }
}

/// Replaces record fields such as `r.seq` by list indexes such as `r[5]`: creating a Lua table with that many named
/// fields costs the server as much as two commands.
fn with_indexed_fields(text: &str) -> String {
    let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut pieces = text.split("r.");
    let mut rewritten = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.bytes().position(|byte| !is_of_word(byte)).unwrap_or(piece.len());
        let (word, rest) = piece.split_at(end);
        let is_record = !rewritten.bytes().next_back().is_some_and(is_of_word);
        match FIELDS.iter().position(|field| is_record && *field == word) {
            Some(nth) => rewritten.extend(["r[", &(nth + 1).to_string(), "]", rest]),
            None => rewritten.extend(["r.", piece]),
        }
    }
    rewritten
}

/// The fields of a record in the scripts: the stored ones, in stored order, and then those that describe planned
/// changes.
const FIELDS: [&str; 22] = [
    "epoch", "tag", "closed", "etag", "seq", "eseq", "dropped", "top", "sum", "esum", "first", "last", "ttl", "name",
    "log", "base", "nth", "acts", "added", "keys", "marks", "remember",
];

/// The field of a channel's record.
fn field(channel: &Channel) -> String {
    format!("c:{}", channel.as_str())
}

/// The field of the floor that a channel has while it is absent.
fn floor_field(channel: &Channel) -> String {
    format!("f:{}", bucket_of(channel))
}

/// The format that this version writes. Nodes of 0.1, before formats had versions, know a single floor for all
/// channels.
pub(super) const FORMAT: Format = Format::new(2);

/// The prefix of stored epochs, so that nodes that do not know formats cannot parse them.
const EPOCH_MARK: &str = "2.";

/// The epoch of a place in its stored form.
pub(super) fn epoch_text(epoch: u64) -> String {
    format!("{EPOCH_MARK}{}", hex(epoch))
}

/// Parses a stored epoch of a place.
pub(super) fn parse_epoch_text(text: &[u8]) -> Option<u64> {
    parse_epoch(text.strip_prefix(EPOCH_MARK.as_bytes())?)
}

fn constants(settings: &Settings) -> String {
    let Keep { events, bytes, age, forget_after: forget, key_window } =
        Keep::new(&settings.retention).at_most(MAX_SETTING);
    let window = key_window.max(1);
    let text = [events, age, bytes, forget, window].map(|number| number.to_string()).join(" ");
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

/// Sums of several such numbers are still exact as doubles.
const MAX_SETTING: u64 = 1 << 50;

const BASE: &str = include_str!("lua/base.lua");
const PLACE: &str = include_str!("lua/place.lua");
const SETTINGS: &str = include_str!("lua/settings.lua");
const RECORDS: &str = include_str!("lua/records.lua");
const MAINTENANCE: &str = include_str!("lua/maintenance.lua");
const WRITE: &str = include_str!("lua/write.lua");
const OPEN: &str = include_str!("lua/open.lua");
const APPEND_HELPERS: &str = include_str!("lua/append_helpers.lua");
const READ_HELPERS: &str = include_str!("lua/read_helpers.lua");
const JUDGE: &str = include_str!("lua/judge.lua");
const APPEND: &str = include_str!("lua/append.lua");
const INIT: &str = include_str!("lua/init.lua");
const READ: &str = include_str!("lua/read.lua");
const FORGET: &str = include_str!("lua/forget.lua");
const SWEEP: &str = include_str!("lua/sweep.lua");
const RENEW: &str = include_str!("lua/renew.lua");
const LIST: &str = include_str!("lua/list.lua");

#[cfg(test)]
mod tests {
    use super::with_indexed_fields;

    #[test]
    fn fields_of_records_become_list_indexes() {
        assert_eq!(
            with_indexed_fields("r.seq = (r.eseq) after.top r.sums r.gone r.ttl"),
            "r[5] = (r[6]) after.top r.sums r.gone r[13]"
        );
    }
}
