//! The existing channels, in the order of their names.

use std::{ops::Bound, sync::Arc};

use redis::Value;

use super::{
    codec::record_of,
    error::{CallError, malformed},
    reads::text_of,
    script::Op,
    shared::Shared,
};
use crate::{
    channel::Channel,
    store::{Head, StoreError, kit::listing_start},
};

/// A page of the existing channels with their heads. An empty page means the end, so an incomplete list is rebuilt
/// first.
pub(super) async fn channels(
    shared: &Arc<Shared>,
    prefix: &str,
    after: Option<&Channel>,
    limit: usize,
) -> Result<Vec<(Channel, Head)>, StoreError> {
    let (deadline, most) = (shared.deadline(), limit.min(MAX_LISTED));
    if most == 0 {
        return Ok(Vec::new());
    }
    let mut from = match listing_start(prefix, after) {
        Bound::Excluded(after) => lex_bound("(", after.as_bytes()),
        Bound::Included(prefix) => lex_bound("[", prefix.as_bytes()),
        Bound::Unbounded => b"-".to_vec(),
    };
    // 0xff is not UTF-8, so it sorts after every name with the prefix.
    let to = lex_bound("(", &[prefix.as_bytes(), &[0xff]].concat());
    let mut is_rebuilt = false;
    loop {
        let build = |_, cmd: &mut redis::Cmd| _ = cmd.arg(&from).arg(&to).arg(most);
        let (_, answer) =
            shared.call(&shared.reads, Op::List, &[], deadline, CallError::into_read_error, build).await?;
        let [is_whole, last, found @ ..] = &*answer else { return Err(malformed("page")) };
        if text_of(is_whole) == Some(b"0") && !is_rebuilt {
            shared.rebuild_listing(deadline).await?;
            is_rebuilt = true;
            continue;
        }
        let last = text_of(last).ok_or_else(|| malformed("name"))?;
        let page: Vec<_> = found.chunks(2).filter_map(|found| listed(shared, found)).collect();
        if !page.is_empty() || last.is_empty() {
            return Ok(page);
        }
        from = lex_bound("(", last);
    }
}

fn lex_bound(kind: &str, name: &[u8]) -> Vec<u8> {
    [kind.as_bytes(), name].concat()
}

fn listed(shared: &Shared, found: &[Value]) -> Option<(Channel, Head)> {
    let [name, record] = found else { return None };
    let name = std::str::from_utf8(text_of(name)?).ok()?;
    match (Channel::new(name), text_of(record).and_then(record_of)) {
        (Ok(channel), Some((record, _))) => Some((channel, record.head)),
        _ => {
            if shared.unreadable.is_due(name) {
                tracing::error!(channel = name, "a channel in the Redis server is unreadable, and is not listed");
            }
            None
        }
    }
}

/// Most channels in one page.
const MAX_LISTED: usize = 1000;
