//! How every connection is set.

use std::time::Duration;

use tokio::net::TcpStream;

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
