//! The channel where revocations are recorded: an entry whose data is a text revokes the subject of that name.

use crate::{
    channel::{Channel, RESERVED_PREFIX},
    error::InvalidChannel,
};

pub(super) fn revocations_channel() -> Result<Channel, InvalidChannel> {
    Channel::new(format!("{RESERVED_PREFIX}{REVOCATIONS}"))
}

pub(super) fn is_revocations(channel: &Channel) -> bool {
    channel.as_str().strip_prefix(RESERVED_PREFIX) == Some(REVOCATIONS)
}

const REVOCATIONS: &str = "revocations";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_reserved_channel() {
        let channel = revocations_channel().unwrap();
        assert!(is_revocations(&channel) && channel.is_reserved());
        assert!(!is_revocations(&Channel::new("revocations").unwrap()));
    }
}
