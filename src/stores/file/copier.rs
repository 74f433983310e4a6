//! Copies the log into the file on a thread of its own, while others go on writing: a checkpoint waits for the disk, and who
//! writes should not. It never begins the log anew, which needs a moment without writers (see `log`).

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use rusqlite::Connection;

use super::{
    core::Core,
    error::is_failed_sync,
    log::{Mode, frames},
    schema,
};

/// The end that asks for copies; when it is dropped, the thread ends.
pub(super) struct Copier {
    ask: SyncSender<()>,
}

impl Copier {
    pub(super) fn start(core: Arc<Core>) -> std::io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        thread::Builder::new().name("events-copier".into()).spawn(move || run(&core, &asked))?;
        Ok(Self { ask })
    }

    /// Asks for a copy, unless one is asked for already.
    pub(super) fn ask(&self) {
        _ = self.ask.try_send(());
    }
}

fn run(core: &Core, asked: &Receiver<()>) {
    let mut db = None;
    for () in asked {
        let Err(error) = copy(core, &mut db) else { continue };
        tracing::warn!(%error, file = %core.paths.db.display(), "a checkpoint of an event file failed");
        db = None;
        if is_failed_sync(&error) {
            core.stop(error);
        }
    }
}

fn copy(core: &Core, db: &mut Option<Connection>) -> rusqlite::Result<()> {
    let db = match db {
        Some(db) => db,
        none => none.insert(schema::open_copier(&core.paths, core.options.durability)?),
    };
    frames(db, Mode::Passive).map(|_| ())
}
