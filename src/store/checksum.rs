//! A checksum that detects damage, not tampering. It is stored, so it never changes.

/// Depends on the order of the numbers and bytes.
#[derive(Clone, Copy)]
pub(crate) struct Checksum(u64);

impl Checksum {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn number(self, number: u64) -> Self {
        // As in FxHash and wyhash: an odd multiplier spreads each bit upwards, and the rotation brings the upper ones
        // down.
        Self((self.0.rotate_left(26) ^ number).wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let words = bytes.chunks(8).map(|chunk| {
            let whole = chunk.try_into().map(u64::from_le_bytes);
            whole.unwrap_or_else(|_| chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
        });
        words.fold(self.number(bytes.len() as u64), Self::number)
    }

    pub(crate) fn finish(self) -> u64 {
        let folded = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        folded ^ (folded >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_changes_the_checksum() {
        let whole: Vec<u8> = (0..37).collect();
        let checksum = |bytes: &[u8]| Checksum::new().bytes(bytes).finish();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(checksum(&flipped), checksum(&whole), "{bit}");
        }
        assert_ne!(checksum(&whole[..36]), checksum(&whole));
        assert_ne!(Checksum::new().bytes(b"a").bytes(b"").finish(), Checksum::new().bytes(b"").bytes(b"a").finish());
    }

    #[test]
    fn stored_checksums_stay_valid() {
        assert_eq!(Checksum::new().number(1).bytes(b"tower-events").finish(), PINNED);
    }

    const PINNED: u64 = 3_726_505_847_073_888_584;
}
