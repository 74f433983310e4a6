//! Socket options of every connection.

use std::time::Duration;

use tokio::net::TcpStream;

/// Disconnects a client that reads nothing for `stall_timeout`. HTTP itself has no timeout for a response that is not read:
/// the client would count as a reader, and the data sent to it would stay buffered, for as long as it likes.
pub(crate) fn prepare(io: &TcpStream, stall_timeout: Duration) {
    _ = io.set_nodelay(true); // or small events wait for the client's ACK
    // Other systems need a wrapper of the socket that times its writes.
    #[cfg(target_os = "linux")]
    {
        let millis = u32::try_from(stall_timeout.as_millis()).unwrap_or(u32::MAX);
        _ = rustix::net::sockopt::set_tcp_user_timeout(io, millis); // covers a receive window that stays closed, too
    }
    #[cfg(not(target_os = "linux"))]
    let _ = stall_timeout;
}
