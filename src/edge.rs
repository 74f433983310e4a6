//! The HTTP edge of the reading services, and what all services answer alike: which requests are served, which are refused,
//! and what the heads of the answers share. How a transport answers is the business of [`sse`](crate::sse) and
//! [`longpoll`](crate::longpoll).

mod decision;
mod response;
mod service;
mod target;

pub(crate) use self::{
    decision::Refusal,
    response::{
        ACCEPT, MAX_CHANNELS_IN_HEADERS, announce_close, finish, insert_position, options_response, position_header,
    },
    service::{ReadService, Responder, read_service},
    target::ReadTarget,
};
