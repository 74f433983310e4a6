//! The name of one ordered sequence of events, and lists of such names.
//!
//! Independent of stores and HTTP.

use std::{borrow::Borrow, collections::HashSet, fmt, str::FromStr, sync::Arc};

use crate::error::{InvalidChannel, InvalidChannels};

/// Validated name of one ordered sequence of events: 1 to 255 bytes of UTF-8 without control characters.
///
/// A line break or NUL can therefore never reach a header, a stream or a store key through a name. Cloning is cheap.
///
/// Names that begin with `tower-events:` are reserved: the services answer every request for such a channel with 403, whatever
/// their resolver says. A [`Hub`](crate::Hub) in the process is not restricted, but what an application publishes there is
/// ignored or harms this crate's own features.
///
/// ```
/// use tower_events::Channel;
///
/// let room = Channel::new("room:1")?;
/// assert_eq!(room.as_str(), "room:1");
/// assert!(Channel::new("a\nb").is_err());
/// # Ok::<(), tower_events::InvalidChannel>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

impl Channel {
    /// The maximum length of a name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Validates `name`.
    ///
    /// # Errors
    /// If the name is empty, longer than [`Channel::MAX_BYTES`], or contains a control character.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidChannel> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(InvalidChannel::Empty);
        }
        if name.len() > Self::MAX_BYTES {
            return Err(InvalidChannel::TooLong { bytes: name.len() });
        }
        match name.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, _)) => Err(InvalidChannel::ControlCharacter { at }),
            None => Ok(Self(name.into())),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of this crate's own channels, which no request may read or publish to.
    pub(crate) fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX)
    }
}

/// What the names of this crate's own channels begin with.
pub(crate) const RESERVED_PREFIX: &str = "tower-events:";

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Channel {
    type Err = InvalidChannel;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Channel {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// One to 255 different channels, in the order in which they were given: what a subscription follows.
///
/// The services accept fewer by default (32); the limit of this type bounds the length of tokens.
///
/// ```
/// use tower_events::{Channel, Channels};
///
/// let both = Channels::new([Channel::new("a")?, Channel::new("b")?])?;
/// assert_eq!(both.len(), 2);
/// let one = Channels::from(Channel::new("a")?);
/// assert_eq!(one.iter().count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels(Repr);

/// Most subscriptions have one channel, which needs no list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Repr {
    One(Channel),
    /// At least two.
    Several(Arc<[Channel]>),
}

impl Channels {
    /// The maximum number of channels.
    pub const MAX: usize = 255;

    /// Collects channels; duplicates are dropped.
    ///
    /// # Errors
    /// If there is none, or more than [`Channels::MAX`].
    pub fn new(channels: impl IntoIterator<Item = Channel>) -> Result<Self, InvalidChannels> {
        Self::collect(channels.into_iter().map(Ok))
    }

    /// As [`Channels::new`], from names that may be invalid. The work is proportional to the names that are accepted, duplicates
    /// included: the iterator is not advanced after the first name that is too many.
    pub(crate) fn collect<E: From<InvalidChannels>>(
        mut channels: impl Iterator<Item = Result<Channel, E>>,
    ) -> Result<Self, E> {
        let first = channels.next().ok_or(InvalidChannels::Empty)??;
        let (mut others, mut known) = (Vec::new(), HashSet::new());
        for channel in channels {
            let channel = channel?;
            if channel != first && known.insert(channel.clone()) {
                others.push(channel);
            }
            if others.len() >= Self::MAX {
                return Err(InvalidChannels::TooMany { max: Self::MAX }.into());
            }
        }
        if others.is_empty() {
            return Ok(first.into());
        }
        others.insert(0, first);
        Ok(Self(Repr::Several(others.into())))
    }

    /// The channels, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Channel> {
        self.as_slice().iter()
    }

    /// The channels as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[Channel] {
        match &self.0 {
            Repr::One(channel) => std::slice::from_ref(channel),
            Repr::Several(channels) => channels,
        }
    }

    /// The number of channels; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }
}

impl From<Channel> for Channels {
    fn from(channel: Channel) -> Self {
        Self(Repr::One(channel))
    }
}

impl From<&Channel> for Channels {
    fn from(channel: &Channel) -> Self {
        Self::from(channel.clone())
    }
}

impl<'a> IntoIterator for &'a Channels {
    type Item = &'a Channel;
    type IntoIter = std::slice::Iter<'a, Channel>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_free_of_control_characters() {
        for good in ["a", "room:1", "чат", "a b", "😀", &"x".repeat(255)] {
            assert_eq!(Channel::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a\nb", "a\rb", "a\0b", "\u{7f}", "\u{85}", &"x".repeat(256)] {
            assert!(Channel::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_set_keeps_order_and_drops_repetitions() {
        let channel = |name: &str| Channel::new(name).unwrap();
        let set = Channels::new([channel("b"), channel("a"), channel("b")]).unwrap();
        assert_eq!(set.as_slice(), [channel("b"), channel("a")]);
        assert!(Channels::new([]).is_err());
        assert!(Channels::new((0..256).map(|n| channel(&n.to_string()))).is_err());
        assert_eq!(Channels::new((0..255).map(|n| channel(&n.to_string()))).unwrap().len(), 255);
        // Duplicates do not count.
        let often = (0..100_000).map(|n| channel(&(n % 255).to_string()));
        assert_eq!(Channels::new(often).unwrap().as_slice()[254], channel("254"));
        assert_eq!(Channels::new((0..100_000).map(|_| channel("a"))).unwrap().len(), 1);
    }

    #[test]
    fn nothing_is_read_after_one_too_many() {
        let (mut read, mut names) = (0, 0..);
        let endless = std::iter::from_fn(|| {
            read += 1;
            names.next().map(|n: u32| Channel::new(n.to_string()).unwrap())
        });
        assert!(matches!(Channels::new(endless), Err(InvalidChannels::TooMany { max: 255 })));
        assert_eq!(read, 256);
    }
}
