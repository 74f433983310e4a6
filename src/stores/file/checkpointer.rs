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
    connection,
    checkpoint::{self, CheckpointMode},
    core::Core,
    error::is_failed_sync,
};

/// The end that asks for copies; when it is dropped, the thread ends.
pub(super) struct Checkpointer {
    request: SyncSender<()>,
}

impl Checkpointer {
    pub(super) fn start(core: Arc<Core>) -> std::io::Result<Self> {
        let (request, requests) = sync_channel(1);
        thread::Builder::new().name("events-ckpt".into()).spawn(move || run(&core, &requests))?;
        Ok(Self { request })
    }

    /// Asks for a copy, unless one is asked for already.
    pub(super) fn request(&self) {
        _ = self.request.try_send(());
    }
}

fn run(core: &Core, requests: &Receiver<()>) {
    let mut db = None;
    for () in requests {
        let Err(error) = run_checkpoint(core, &mut db) else { continue };
        tracing::warn!(%error, file = %core.paths.db.display(), "a checkpoint of an event file failed");
        db = None;
        if is_failed_sync(&error) {
            core.stop_writing(error);
        }
    }
}

fn run_checkpoint(core: &Core, db: &mut Option<Connection>) -> rusqlite::Result<()> {
    let db = match db {
        Some(db) => db,
        none => none.insert(connection::open_checkpointer(&core.paths, core.options.durability)?),
    };
    checkpoint::run(db, CheckpointMode::Passive).map(|_| ())
}
