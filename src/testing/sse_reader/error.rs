//! Why reading fails.

use std::{error::Error, fmt};

/// Why a stream cannot be read further.
#[derive(Debug)]
#[non_exhaustive]
pub enum SseReadError {
    /// The body failed.
    Body(Box<dyn Error + Send + Sync>),
    /// A block is larger than [`SseReader::max_block_bytes`](super::SseReader::max_block_bytes).
    BlockTooLarge {
        /// The bound.
        max: usize,
    },
}

impl fmt::Display for SseReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(_) => f.write_str("the body of the event stream failed"),
            Self::BlockTooLarge { max } => write!(f, "a block of the event stream has more than {max} bytes"),
        }
    }
}

impl Error for SseReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Body(source) => Some(source.as_ref()),
            Self::BlockTooLarge { .. } => None,
        }
    }
}
