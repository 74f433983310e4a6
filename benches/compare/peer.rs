//! The servers under comparison.

mod bare;
mod floor;
mod hand_rolled;
mod nchan;
mod ours;
mod ready_made;
mod tokio;

use std::{error::Error, fmt, net::TcpListener, str::FromStr};

use self::floor::Writes;
use crate::{machine, parent};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A bare epoll loop that writes prebuilt bytes: one write per event and socket.
    Floor,
    /// The same, but events that arrive together are sent in one write.
    FloorJoin,
    /// hyper alone, with prebuilt answers to long polls.
    HyperBare,
    /// axum alone, with prebuilt answers to long polls.
    AxumBare,
    OursHyper,
    OursAxum,
    /// The usual hand-written server: `tokio::sync::broadcast` and `axum::response::Sse`, with a history for resumes.
    HandRolled,
    /// nginx with the nchan module, if installed.
    Nchan,
    /// A server on hyper that does nothing: the baseline of ours.
    HyperNothing,
    /// A server in axum that does nothing: the baseline of ours.
    AxumNothing,
}

/// How a server is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Worker threads; a single one is pinned to a core.
    pub(crate) workers: usize,
    /// The send buffer of each socket in bytes; 0 for the kernel's default.
    pub(crate) send_buffer: usize,
}

impl Peer {
    const ALL: [Self; 10] = [
        Self::Floor,
        Self::FloorJoin,
        Self::HyperBare,
        Self::AxumBare,
        Self::OursHyper,
        Self::OursAxum,
        Self::HandRolled,
        Self::Nchan,
        Self::HyperNothing,
        Self::AxumNothing,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::FloorJoin => "floor-join",
            Self::HyperBare => "hyper-bare",
            Self::AxumBare => "axum-bare",
            Self::OursHyper => "ours-hyper",
            Self::OursAxum => "ours-axum",
            Self::HandRolled => "hand-rolled",
            Self::Nchan => "nchan",
            Self::HyperNothing => "hyper-nothing",
            Self::AxumNothing => "axum-nothing",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }

    pub(crate) fn is_installed(self) -> bool {
        self != Self::Nchan || nchan::is_installed()
    }

    /// Serves until the parent process ends this one.
    pub(crate) fn serve(self, settings: Settings) {
        let workers = settings.workers;
        match workers {
            1 => machine::pin(&[machine::SERVER]),
            _ => machine::pin(&[machine::SERVER, machine::CLIENTS]),
        };
        let listener = settings.listen();
        if self == Self::Nchan {
            return nchan::serve(listener);
        }
        parent::end_with_parent();
        parent::announce(listener.local_addr().expect("an address"), &std::process::id().to_string());
        match self {
            Self::Floor => floor::serve(listener, Writes::EachEvent),
            Self::FloorJoin => floor::serve(listener, Writes::Joined),
            Self::HyperBare => ready_made::serve_on_hyper(listener, workers),
            Self::AxumBare => ready_made::serve_in_axum(listener, workers),
            Self::OursHyper => ours::serve_on_hyper(listener, workers),
            Self::OursAxum => ours::serve_in_axum(listener, workers),
            Self::HandRolled => hand_rolled::serve(listener, workers),
            Self::HyperNothing => bare::serve_on_hyper(listener, workers),
            Self::AxumNothing => bare::serve_in_axum(listener, workers),
            Self::Nchan => {}
        }
    }
}

impl Settings {
    fn listen(self) -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        // A large accept queue, because clients that do not fit in retry only after a second.
        rustix::net::listen(&listener, 4096).expect("a backlog");
        if self.send_buffer > 0 {
            rustix::net::sockopt::set_socket_send_buffer_size(&listener, self.send_buffer).expect("a buffer size");
        }
        listener
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { workers: 1, send_buffer: 0 }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.workers, self.send_buffer)
    }
}

impl FromStr for Settings {
    type Err = Box<dyn Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (workers, send_buffer) = text.split_once(',').ok_or("no comma")?;
        Ok(Self { workers: workers.parse()?, send_buffer: send_buffer.parse()? })
    }
}
