//! The permissions that the server denies to this user. It reports a denial on the connection, without naming the
//! request. Here the two are matched, so that a request fails at once and the error names the missing permission. Knows
//! no JetStream.

use std::{collections::BTreeMap, future::pending};

use tokio::sync::watch;

use crate::store::log_pace::LogPace;

/// What was denied on one connection.
#[derive(Debug)]
pub(super) struct Denials {
    inbox: String,
    count: u64,
    /// The subjects to which publishing was denied, with the count of denials at that time.
    publishes: BTreeMap<String, u64>,
    /// The inbox subject to which subscribing was denied.
    inbox_denied: Option<String>,
    /// There may be a denial for each channel.
    pace: LogPace,
}

impl Denials {
    /// No denials yet; inboxes start with `inbox`.
    pub(super) fn new(inbox: &str) -> Self {
        Self {
            inbox: format!("{inbox}."),
            count: 0,
            publishes: BTreeMap::new(),
            inbox_denied: None,
            pace: LogPace::default(),
        }
    }

    /// A new connection starts without denials.
    pub(super) fn clear(&mut self) {
        self.publishes.clear();
        self.inbox_denied = None;
    }

    /// How many denials there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether responses cannot arrive.
    pub(super) fn is_inbox_denied(&self) -> bool {
        self.inbox_denied.is_some()
    }

    /// Records a denial; returns whether it is the first of its kind.
    fn take(&mut self, said: &Denial) -> bool {
        self.count += 1;
        match said {
            Denial::Publish(subject) => {
                if self.publishes.len() >= MAX_SUBJECTS {
                    self.publishes.clear();
                }
                self.publishes.insert(subject.clone(), self.count).is_none()
            }
            Denial::Subscribe(subject) => {
                if !subject.starts_with(&self.inbox) {
                    return true;
                }
                self.inbox_denied.replace(subject.clone()).is_none()
            }
        }
    }

    /// Why a request to this subject gets no response, if that was denied after the first `before` denials.
    fn reason(&self, subject: &str, before: u64) -> Option<String> {
        if let Some(inbox_denied) = &self.inbox_denied {
            return Some(format!("to subscribe to {inbox_denied}"));
        }
        self.publishes.get(subject).filter(|count| **count > before).map(|_| format!("to publish to {subject}"))
    }
}

/// Waits until publishing to this subject, or receiving its response, is denied; returns what.
pub(super) async fn denial_of(denied: &mut watch::Receiver<Denials>, subject: &str, before: u64) -> String {
    loop {
        if let Some(reason) = denied.borrow_and_update().reason(subject, before) {
            return reason;
        }
        if denied.changed().await.is_err() {
            return pending().await;
        }
    }
}

/// Records an error from the server if it is a denial; returns whether it is.
pub(super) fn note(denied: &watch::Sender<Denials>, error: &str) -> bool {
    let Some(said) = Denial::parse(error) else { return false };
    let mut is_new = false;
    denied.send_modify(|denied| is_new = denied.take(&said) && denied.pace.is_due());
    if is_new {
        tracing::error!(error, "NATS denies this user a permission that the store needs");
    }
    true
}

#[derive(Debug, PartialEq, Eq)]
enum Denial {
    Publish(String),
    Subscribe(String),
}

impl Denial {
    /// Parses `Permissions Violation for Publish to "a.b"`, whatever surrounds it.
    fn parse(error: &str) -> Option<Self> {
        let (_, what) = error.split_once("ermissions Violation for ")?;
        let subject = what.split('"').nth(1)?.to_owned();
        if what.starts_with("Publish") { Some(Self::Publish(subject)) } else { Some(Self::Subscribe(subject)) }
    }
}

/// Most subjects that are remembered.
const MAX_SUBJECTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_learns_why_it_gets_no_response_and_others_do_not() {
        let (sender, mut denied) = watch::channel(Denials::new("_INBOX_a"));
        assert!(!note(&sender, "nats: Unknown Protocol Operation"));
        assert!(note(&sender, "nats: Permissions Violation for Publish to \"a.b\""));
        assert_eq!(denial_of(&mut denied, "a.b", 0).await, "to publish to a.b");
        // A permission that was denied before this request may have been granted by now.
        let (count, one) = (denied.borrow().count(), |denied: &Denials, before| denied.reason("a.b", before));
        assert_eq!(one(&denied.borrow(), count), None);
        assert_eq!(denied.borrow().reason("a.c", 0), None);
        note(&sender, "nats: Permissions Violation for Subscription to \"turns\"");
        assert!(!denied.borrow().is_inbox_denied());
        note(&sender, "nats: Permissions Violation for Subscription to \"_INBOX_a.x.*\"");
        assert_eq!(denial_of(&mut denied, "a.c", u64::MAX).await, "to subscribe to _INBOX_a.x.*");
        sender.send_modify(Denials::clear);
        assert_eq!(denied.borrow().reason("a.c", 0), None);
    }
}
