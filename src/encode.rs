//! The bytes of response bodies: events and this crate's own messages, as the text of a stream or as JSON. Pure functions.

mod escape;
mod object;
mod page;
mod sse;
mod values;
mod view;

pub(crate) use self::{
    object::{ARRAY, Kind, SNAPSHOT_ARRAY, array_for},
    page::{empty_page, page},
    sse::{
        HEARTBEAT_COMMENT, Ids, encoding_for, push_data_block, push_id_and_end, push_json_for, push_retry_field,
        push_stream_end, push_stream_error, push_stream_live, push_stream_ping, push_stream_reset, push_stream_retry,
    },
    values::CORRUPT,
    view::View,
};
