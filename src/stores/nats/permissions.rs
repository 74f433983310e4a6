//! What the server does not let this user do. It says so beside everything else, without naming the question: here the two
//! are brought together, so that a right that is missing is told of at once and by its name. Knows no JetStream.

use std::{collections::BTreeMap, future::pending};

use tokio::sync::watch;

/// What was denied on one connection.
#[derive(Debug)]
pub(super) struct Denials {
    inbox: String,
    count: u64,
    /// When each subject was denied to be published to, counted in denials.
    publishes: BTreeMap<String, u64>,
    /// The subject of answers that may not be listened to.
    inbox_denied: Option<String>,
}

impl Denials {
    /// Nothing yet; answers come to subjects that begin with `inbox`.
    pub(super) fn new(inbox: &str) -> Self {
        Self { inbox: format!("{inbox}."), count: 0, publishes: BTreeMap::new(), inbox_denied: None }
    }

    /// Nothing is denied on a new connection.
    pub(super) fn clear(&mut self) {
        self.publishes.clear();
        self.inbox_denied = None;
    }

    /// How often anything was denied.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether answers cannot come.
    pub(super) fn is_inbox_denied(&self) -> bool {
        self.inbox_denied.is_some()
    }

    /// Takes note of a denial; says whether it is the first of its kind.
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

    /// What keeps a question to this subject from being answered, if that was denied after `before`.
    fn reason(&self, subject: &str, before: u64) -> Option<String> {
        if let Some(inbox_denied) = &self.inbox_denied {
            return Some(format!("to subscribe to {inbox_denied}"));
        }
        self.publishes.get(subject).filter(|count| **count > before).map(|_| format!("to publish to {subject}"))
    }
}

/// Waits until it is said that this subject may not be asked, or that its answer may not be heard: what is not allowed.
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

/// Takes note of what the server said, if that is a denial.
pub(super) fn note(denied: &watch::Sender<Denials>, error: &str) -> bool {
    let Some(said) = Denial::parse(error) else { return false };
    let mut is_new = false;
    denied.send_modify(|denied| is_new = denied.take(&said));
    if is_new {
        tracing::error!(error, "NATS denies this user what the store needs");
    }
    true
}

#[derive(Debug, PartialEq, Eq)]
enum Denial {
    Publish(String),
    Subscribe(String),
}

impl Denial {
    /// Of `Permissions Violation for Publish to "a.b"`, whatever is around it.
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
    async fn a_question_is_told_why_it_has_no_answer_and_others_are_not() {
        let (sender, mut denied) = watch::channel(Denials::new("_INBOX_a"));
        assert!(!note(&sender, "nats: Unknown Protocol Operation"));
        assert!(note(&sender, "nats: Permissions Violation for Publish to \"a.b\""));
        assert_eq!(denial_of(&mut denied, "a.b", 0).await, "to publish to a.b");
        // What was denied before it was asked again may be allowed by now.
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
