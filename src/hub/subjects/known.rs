//! The revocations that a process knows of, and what they mean for a grant. Pure: time is passed in, in Unix milliseconds.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{cursor::Cursor, store::Retention};

#[derive(Debug, Default)]
pub(super) struct KnownRevocations {
    newest: HashMap<Arc<str>, Revocation>,
    /// When subjects were revoked, oldest first. A subject that was revoked several times is in it several times.
    order: VecDeque<(u64, Arc<str>)>,
    /// Counts what was learned.
    revision: u64,
    /// A revocation from before this time may be missing.
    complete_since: u64,
}

#[derive(Clone, Copy, Debug)]
struct Revocation {
    at: u64,
    revision: u64,
    cursor: Cursor,
}

/// Whether a revocation was known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    New,
    Known,
}

/// When the decision was made that a grant stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Issued {
    /// At this time: the grant is from a token.
    Token(u64),
    /// Just before this time.
    Now(u64),
    /// After everything up to this revision was known.
    AtRevision(u64),
}

/// What is known of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Verdict {
    Valid,
    /// Its subject was revoked after it was issued.
    Revoked,
    /// It was issued so long ago that its revocation may have been dropped.
    TooOld,
    /// Its subject was revoked at about the time at which it was issued: the decision may or may not have taken that into account.
    Undecided,
}

/// What a judgement takes into account besides the revocations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    pub(super) now: u64,
    /// How long the store keeps revocations.
    pub(super) kept_for: Duration,
    pub(super) clock_skew: Duration,
}

impl KnownRevocations {
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Adds the revocation at `cursor`; those that were dropped by the store at `now` are dropped here too.
    pub(super) fn add(&mut self, subject: &Arc<str>, cursor: Cursor, at: u64, circumstances: Circumstances) -> Added {
        let known = self.newest.get(subject);
        if known.is_some_and(|known| known.cursor == cursor) {
            return Added::Known;
        }
        let at = known.map_or(at, |known| known.at.max(at));
        self.revision += 1;
        self.newest.insert(subject.clone(), Revocation { at, revision: self.revision, cursor });
        self.order.push_back((at, subject.clone()));
        self.forget_old(circumstances);
        Added::New
    }

    fn forget_old(&mut self, Circumstances { now, kept_for, .. }: Circumstances) {
        while let Some((at, subject)) = self.order.front() {
            let is_old = *at < now.saturating_sub(millis(kept_for));
            if !is_old && self.order.len() <= MAX_KNOWN {
                break;
            }
            if !is_old {
                self.complete_since = self.complete_since.max(*at);
            }
            // Another of its revocations, which is newer, is still in the list.
            if self.newest.get(subject).is_some_and(|newest| newest.at <= *at) {
                self.newest.remove(subject);
            }
            self.order.pop_front();
        }
    }

    /// Notes what was read: all that the store still had.
    pub(super) fn read_all(&mut self, read: ReadFromStart, retention: &Retention) {
        if let Some(since) = read.complete_since(retention) {
            self.complete_since = self.complete_since.max(since);
        }
    }

    pub(super) fn judge(&self, subject: &str, issued: Issued, circumstances: Circumstances) -> Verdict {
        let Circumstances { now, kept_for, clock_skew } = circumstances;
        let revoked = self.newest.get(subject);
        match issued {
            Issued::Token(at) if at < self.complete_since.max(now.saturating_sub(millis(kept_for))) => Verdict::TooOld,
            Issued::Token(at) if revoked.is_some_and(|revoked| at <= revoked.at.saturating_add(millis(clock_skew))) => {
                Verdict::Revoked
            }
            Issued::Now(at) if revoked.is_some_and(|revoked| at <= revoked.at.saturating_add(millis(clock_skew))) => {
                Verdict::Undecided
            }
            Issued::AtRevision(known) if revoked.is_some_and(|revoked| revoked.revision > known) => Verdict::Undecided,
            _ => Verdict::Valid,
        }
    }
}

/// What a read from the oldest revocation on found.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::hub) struct ReadFromStart {
    pub(in crate::hub) any_dropped: bool,
    pub(in crate::hub) oldest: Option<u64>,
    pub(in crate::hub) entries: u64,
    pub(in crate::hub) bytes: u64,
}

impl ReadFromStart {
    /// Since when nothing is missing, if that is later than the age up to which the store keeps everything. It keeps less only
    /// if it has as much as it keeps by count or, since the size of what it dropped is not known, by more than half of its bytes.
    fn complete_since(self, retention: &Retention) -> Option<u64> {
        let by_size = self.entries >= retention.events || self.bytes > retention.bytes / 2;
        self.oldest.filter(|_| self.any_dropped && by_size)
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Most revocations in memory; beyond it the oldest are forgotten, and the tokens that are older than they are refused.
const MAX_KNOWN: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn cursor(seq: u64) -> Cursor {
        Cursor { epoch: 1, seq, tag: 1 }
    }

    fn at(now: u64) -> Circumstances {
        Circumstances { now, kept_for: Duration::from_millis(HOUR), clock_skew: Duration::from_secs(1) }
    }

    #[test]
    fn a_grant_is_judged_by_when_it_was_issued() {
        let mut known = KnownRevocations::default();
        let (ann, now) = ("ann".into(), 10 * HOUR);
        let before = known.revision();
        assert_eq!(known.add(&ann, cursor(1), now - 5_000, at(now)), Added::New);
        assert_eq!(known.add(&ann, cursor(1), now - 5_000, at(now)), Added::Known);
        let after = known.revision();
        let table = [
            ("bob", Issued::Token(now - 9_000), Verdict::Valid),
            ("bob", Issued::Token(now - HOUR - 1), Verdict::TooOld),
            ("bob", Issued::AtRevision(before), Verdict::Valid),
            ("ann", Issued::Token(now - 9_000), Verdict::Revoked),
            ("ann", Issued::Token(now - 5_000), Verdict::Revoked),
            ("ann", Issued::Token(now - 4_000), Verdict::Revoked),
            ("ann", Issued::Token(now - 3_999), Verdict::Valid),
            ("ann", Issued::Now(now - 4_000), Verdict::Undecided),
            ("ann", Issued::Now(now - 3_999), Verdict::Valid),
            ("ann", Issued::AtRevision(before), Verdict::Undecided),
            ("ann", Issued::AtRevision(after), Verdict::Valid),
        ];
        for (subject, issued, verdict) in table {
            assert_eq!(known.judge(subject, issued, at(now)), verdict, "{subject} {issued:?}");
        }
    }

    #[test]
    fn what_the_store_dropped_is_forgotten_and_bounded() {
        let mut known = KnownRevocations::default();
        let (ann, bob) = ("ann".into(), "bob".into());
        known.add(&ann, cursor(1), 1_000, at(1_000));
        known.add(&ann, cursor(2), HOUR, at(HOUR));
        known.add(&bob, cursor(3), HOUR + 2_000, at(HOUR + 2_000));
        assert_eq!((known.order.len(), known.newest.len()), (2, 2), "the newer one of two remains");
        known.add(&bob, cursor(4), 3 * HOUR, at(3 * HOUR));
        assert_eq!((known.order.len(), known.newest.len()), (1, 1));
        for n in 0..=MAX_KNOWN as u64 {
            known.add(&n.to_string().into(), cursor(5 + n), 3 * HOUR + n, at(3 * HOUR));
        }
        assert_eq!((known.order.len(), known.newest.len()), (MAX_KNOWN, MAX_KNOWN));
        assert_eq!(known.complete_since, 3 * HOUR);
        assert_eq!(known.judge("carl", Issued::Token(3 * HOUR - 1), at(3 * HOUR + 5)), Verdict::TooOld);
    }

    #[test]
    fn what_was_dropped_by_number_may_be_younger_than_what_is_kept_by_age() {
        let retention = Retention::default().events(10).bytes(1_000);
        let read = |any_dropped, entries, bytes| {
            ReadFromStart { any_dropped, oldest: Some(7), entries, bytes }.complete_since(&retention)
        };
        let table = [(false, 10, 600, None), (true, 9, 500, None), (true, 10, 0, Some(7)), (true, 1, 501, Some(7))];
        for (any_dropped, entries, bytes, since) in table {
            assert_eq!(read(any_dropped, entries, bytes), since, "{any_dropped} {entries} {bytes}");
        }
    }
}
