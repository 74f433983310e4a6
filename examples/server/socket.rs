//! How the listener and every connection are set.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Listens with room for thousands that connect at once, as clients do when a node before this one has gone. A listener has
/// room for 128 unless it is told otherwise; of those above, the system drops the packets, and they try again after 1, 3, 7
/// and 15 seconds. Linux allows no more than `net.core.somaxconn`.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    #[cfg(not(windows))] // as `TcpListener::bind` does: a restart finds the port free
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

/// A client that takes nothing for `stalled` is cut off: HTTP has no end of its own for a response that nobody reads, and
/// the stream's place among the readers, and what was sent to it, would be kept for as long as the client likes.
pub(crate) fn prepare(io: &TcpStream, stalled: Duration) {
    _ = io.set_nodelay(true); // else small events wait for the client's ACK
    // Elsewhere than on Linux a wrapper of the socket has to time its writes.
    #[cfg(target_os = "linux")]
    {
        let millis = u32::try_from(stalled.as_millis()).unwrap_or(u32::MAX);
        _ = rustix::net::sockopt::set_tcp_user_timeout(io, millis); // also of a window that stays closed
    }
    #[cfg(not(target_os = "linux"))]
    let _ = stalled;
}
