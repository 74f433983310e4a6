//! Why a store could not be opened: one error for all stores.

use std::{error::Error, fmt, io};

use super::error::Source;
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
use super::error::StoreError;

/// Why a store could not be opened. `Display` names the store, the condition and what to do about it;
/// [`source`](Error::source) is what the driver, the server or the system reported.
///
/// [`kind`](Self::kind) is for decisions in code, and [`is_retryable`](Self::is_retryable) for the most common one. No text of
/// this error contains a URL, a password or a token.
///
/// ```
/// use tower_events::store::{OpenError, OpenErrorKind};
///
/// fn advice(error: &OpenError) -> &'static str {
///     match error.kind() {
///         OpenErrorKind::NewerFormat { .. } => "deploy the new version here too",
///         OpenErrorKind::Denied => "check the secret",
///         _ if error.is_retryable() => "wait",
///         _ => "read the message",
///     }
/// }
/// let error = OpenError::new("the event server", OpenErrorKind::Unreachable).because("no answer within 3 s");
/// assert_eq!(advice(&error), "wait");
/// ```
#[derive(Debug)]
pub struct OpenError {
    subject: String,
    kind: OpenErrorKind,
    source: Option<Source>,
}

/// The kind of an [`OpenError`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// A URL, a name, a path or a certificate among the settings is invalid, or needs a disabled feature. Nothing was
    /// connected to.
    Settings,
    /// No server that takes reads and writes answered in time. A replica or a standby is none.
    Unreachable,
    /// No encrypted connection was established: a certificate is missing, expired or not trusted, on either side.
    Tls,
    /// The credentials were refused, or the user lacks a permission.
    Denied,
    /// The server, or a library that this program links, has a version that cannot be used.
    UnsupportedVersion,
    /// The server, or what it stores, is configured so that events would be lost, or could not be stored.
    Misconfigured,
    /// Another server of the cluster has the data.
    Moved {
        /// Its host and port, as the server reported them.
        to: String,
    },
    /// A newer version of this crate has raised the format of what is stored.
    NewerFormat {
        /// The version of the stored format.
        stored: u32,
        /// The newest version that this process supports.
        supported: u32,
    },
    /// Something that is not a store of this kind is in its place. It was not changed.
    Foreign,
    /// What is stored is damaged.
    Corrupt,
    /// There is no space left.
    Full,
    /// Another process held the lock until the timeout.
    Locked,
    /// The file is on a file system that several machines may share, but processes on different machines cannot share the
    /// memory that a store needs.
    NetworkFileSystem,
    /// This process was forked from one that had opened a store.
    Forked,
    /// The operating system reported another error.
    Io,
}

impl OpenError {
    /// An error about `subject`, which begins a sentence: `the Redis server`, or a path.
    pub fn new(subject: impl Into<String>, kind: OpenErrorKind) -> Self {
        Self { subject: subject.into(), kind, source: None }
    }

    /// Sets the source: what the driver, the server or the system reported.
    #[must_use]
    pub fn because(self, source: impl Into<Source>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// The kind of error.
    #[must_use]
    pub fn kind(&self) -> &OpenErrorKind {
        &self.kind
    }

    /// Whether opening can succeed later without other action by the caller.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, OpenErrorKind::Unreachable | OpenErrorKind::Full | OpenErrorKind::Locked)
    }
}

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
impl OpenError {
    /// The error of a call that was made to open a store. Of an error with a source, `kind_of` may know more.
    pub(crate) fn from_call(
        subject: &str,
        error: StoreError,
        kind_of: impl Fn(&(dyn Error + 'static)) -> Option<OpenErrorKind>,
    ) -> Self {
        let (kind, source) = match error {
            StoreError::NewerFormat { stored, supported, .. } => {
                return Self::new(subject, OpenErrorKind::NewerFormat { stored, supported });
            }
            StoreError::Corrupt(source) => (OpenErrorKind::Corrupt, source),
            StoreError::Full(source) => (OpenErrorKind::Full, source),
            StoreError::Unavailable(source) => (OpenErrorKind::Unreachable, source),
            other => (OpenErrorKind::Unreachable, other.into()),
        };
        Self::new(subject, kind_of(&*source).unwrap_or(kind)).because(source)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match &self.kind {
            OpenErrorKind::Settings => "cannot be opened with these settings; correct them",
            OpenErrorKind::Unreachable => "cannot be reached; retry, and check its address and that it is running",
            OpenErrorKind::Tls => "cannot be reached over TLS; check the certificates of both sides",
            OpenErrorKind::Denied => "denies access; check the credentials, and the permissions of the user",
            OpenErrorKind::UnsupportedVersion => "has a version that cannot be used; upgrade it",
            OpenErrorKind::Misconfigured => "is configured in a way that the store cannot work with; change it",
            OpenErrorKind::Moved { to } => {
                return write!(
                    f,
                    "{} does not have this store: another server of the cluster, {to}, has the keys of this prefix; connect \
                     to that one",
                    self.subject
                );
            }
            OpenErrorKind::NewerFormat { stored, supported } => {
                return write!(
                    f,
                    "{} has format {stored}, which this version of the library, for format {supported}, may not read; \
                     upgrade this process",
                    self.subject
                );
            }
            OpenErrorKind::Foreign => {
                "belongs to something else, and was not changed; choose another place for the events"
            }
            OpenErrorKind::Corrupt => "is damaged; restore it from a backup, or move it away to start empty",
            OpenErrorKind::Full => "is full; retry when there is space",
            OpenErrorKind::Locked => "is locked; retry, or end the process that holds the lock",
            OpenErrorKind::NetworkFileSystem => {
                "is on a file system that other machines may share; put it on a local disk, or set `any_file_system`"
            }
            OpenErrorKind::Forked => "cannot be opened after a fork; open it only after forking, or exec a program",
            OpenErrorKind::Io => "cannot be opened",
        };
        write!(f, "{} {text}", self.subject)
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Lets `?` work in a `main` that returns `std::io::Result`. The text includes the source.
impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        let reported = error.source.as_deref().and_then(|source| source.downcast_ref()).map(io::Error::kind);
        let kind = match &error.kind {
            OpenErrorKind::Settings => io::ErrorKind::InvalidInput,
            OpenErrorKind::Unreachable => reported.unwrap_or(io::ErrorKind::NotConnected),
            OpenErrorKind::Tls | OpenErrorKind::Denied => io::ErrorKind::PermissionDenied,
            OpenErrorKind::Full => io::ErrorKind::StorageFull,
            OpenErrorKind::Locked => io::ErrorKind::WouldBlock,
            OpenErrorKind::NetworkFileSystem | OpenErrorKind::UnsupportedVersion => io::ErrorKind::Unsupported,
            OpenErrorKind::Io => reported.unwrap_or(io::ErrorKind::Other),
            OpenErrorKind::Misconfigured
            | OpenErrorKind::Moved { .. }
            | OpenErrorKind::NewerFormat { .. }
            | OpenErrorKind::Foreign
            | OpenErrorKind::Corrupt
            | OpenErrorKind::Forked => io::ErrorKind::InvalidData,
        };
        let text = error.source.as_ref().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        Self::new(kind, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind, whether opening can succeed later, and the kind of I/O error that it becomes.
    fn every() -> [(OpenErrorKind, bool, io::ErrorKind); 15] {
        [
            (OpenErrorKind::Settings, false, io::ErrorKind::InvalidInput),
            (OpenErrorKind::Unreachable, true, io::ErrorKind::NotConnected),
            (OpenErrorKind::Tls, false, io::ErrorKind::PermissionDenied),
            (OpenErrorKind::Denied, false, io::ErrorKind::PermissionDenied),
            (OpenErrorKind::UnsupportedVersion, false, io::ErrorKind::Unsupported),
            (OpenErrorKind::Misconfigured, false, io::ErrorKind::InvalidData),
            (OpenErrorKind::Moved { to: "10.0.0.2:6379".into() }, false, io::ErrorKind::InvalidData),
            (OpenErrorKind::NewerFormat { stored: 9, supported: 3 }, false, io::ErrorKind::InvalidData),
            (OpenErrorKind::Foreign, false, io::ErrorKind::InvalidData),
            (OpenErrorKind::Corrupt, false, io::ErrorKind::InvalidData),
            (OpenErrorKind::Full, true, io::ErrorKind::StorageFull),
            (OpenErrorKind::Locked, true, io::ErrorKind::WouldBlock),
            (OpenErrorKind::NetworkFileSystem, false, io::ErrorKind::Unsupported),
            (OpenErrorKind::Forked, false, io::ErrorKind::InvalidData),
            (OpenErrorKind::Io, false, io::ErrorKind::Other),
        ]
    }

    #[test]
    fn opening_is_worth_repeating_when_it_may_succeed_later() {
        for (kind, retryable, _) in every() {
            assert_eq!(OpenError::new("it", kind.clone()).is_retryable(), retryable, "{kind:?}");
        }
    }

    #[test]
    fn the_text_begins_with_what_was_opened_and_leaves_the_source_to_be_asked_for() {
        let mut texts = Vec::new();
        for (kind, ..) in every() {
            let error = OpenError::new("the place", kind.clone()).because("the disk says no");
            let text = error.to_string();
            assert!(text.starts_with("the place ") && !text.contains("says no"), "{text}");
            assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("the disk says no"));
            assert_eq!(error.kind(), &kind);
            texts.push(text);
        }
        assert!(texts[6].contains("10.0.0.2:6379"), "{}", texts[6]);
        assert!(texts[7].contains("format 9") && texts[7].contains("format 3"), "{}", texts[7]);
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), every().len(), "each condition has a text of its own");
    }

    #[test]
    fn an_io_error_keeps_the_kind_and_tells_everything() {
        for (kind, _, expected) in every() {
            let io = io::Error::from(OpenError::new("it", kind.clone()).because("the disk says no"));
            assert_eq!(io.kind(), expected, "{kind:?}");
            assert!(io.to_string().ends_with(": the disk says no"), "{io}");
        }
        for kind in [OpenErrorKind::Io, OpenErrorKind::Unreachable] {
            let reported = io::Error::from(io::ErrorKind::TimedOut);
            assert_eq!(io::Error::from(OpenError::new("it", kind).because(reported)).kind(), io::ErrorKind::TimedOut);
        }
        let io = io::Error::from(OpenError::new("it", OpenErrorKind::Forked));
        assert!(io.to_string().ends_with("exec a program"), "{io}");
    }
}
