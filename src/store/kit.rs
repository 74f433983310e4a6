//! What every store needs, so that whoever writes one builds only what is special about it.

mod change_queue;
mod watchers;

pub use self::watchers::{Changes, Wakers, Watchers};
