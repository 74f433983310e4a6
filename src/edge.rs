//! What the services share at the HTTP edge: which requests are served and which are refused, and what their responses have
//! in common. How a transport responds is in [`sse`](crate::sse) and [`longpoll`](crate::longpoll).

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
