//! The writer's threads: what they wait for, and what they do then.

use std::{sync::Arc, thread, time::Duration};

use super::{
    core::Core,
    durability::{Acknowledger, PendingReplies},
    queue::{Office, Turn},
};

/// Starts a thread for each promise. They end when nobody can ask any more.
pub(super) fn start(core: &Arc<Core>, office: &Arc<Office>, acknowledgers: Vec<Acknowledger>) -> std::io::Result<()> {
    for acknowledger in acknowledgers {
        // Dropped also when a turn panics, or a thread cannot be started: nobody must wait for an answer that never comes.
        let (core, end) = (Arc::clone(core), EndOnDrop(Arc::clone(office)));
        thread::Builder::new().name("events-writer".into()).spawn(move || run(&core, &end.0, acknowledger))?;
    }
    Ok(())
}

fn run(core: &Core, office: &Office, acknowledger: Acknowledger) {
    let mut pause = Duration::ZERO;
    loop {
        let turn = office.queue.wait(office.awake(), pause);
        let Ok(mut writer) = office.writer.lock() else { return };
        let replies = match turn {
            Turn::Called => writer.serve(&office.queue),
            Turn::Time => {
                writer.tidy();
                PendingReplies::default()
            }
            Turn::Closed => return,
        };
        writer.try_again();
        pause = writer.pause();
        let is_left = writer.wal_should_restart;
        drop(writer);
        // Those who asked meanwhile found the writer at work.
        if is_left || !office.queue.is_empty() {
            office.queue.call();
        }
        acknowledger.acknowledge(core, replies);
    }
}

struct EndOnDrop(Arc<Office>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.queue.end();
    }
}
