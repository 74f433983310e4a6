//! Splits the input of a fuzz target.

/// The chunks of `bytes`: each follows a byte with its length, and the last may be shorter.
#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "only some engines have several parts"))]
pub(crate) fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first()?;
        let (chunk, after) = rest.split_at_checked(usize::from(*length)).unwrap_or((rest, &[]));
        bytes = after;
        Some(chunk)
    })
}
