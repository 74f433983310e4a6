//! On what terms a reader was granted access: until when, as whom, since when, and checked how often.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What bounds a grant. Only grants that have a bound have terms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) until: Option<SystemTime>,
    pub(crate) subject: Option<Arc<str>>,
    /// When a token was issued; without it the grant is a decision of the moment.
    pub(crate) issued_at: Option<SystemTime>,
    /// When the subject was named.
    pub(crate) created_at: Option<SystemTime>,
    pub(crate) recheck: Option<RecheckPlan>,
}

/// The result of checking again whether a reader may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recheck {
    /// It may go on.
    Allowed,
    /// It may not.
    Ended,
}

/// How often, and how, it is checked again.
#[derive(Clone)]
pub(crate) struct RecheckPlan {
    pub(crate) every: Duration,
    check: Arc<dyn Fn() -> RecheckFuture + Send + Sync>,
}

pub(super) type RecheckFuture = Pin<Box<dyn Future<Output = Recheck> + Send>>;

impl RecheckPlan {
    pub(crate) fn new<F>(every: Duration, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Recheck> + Send + 'static,
    {
        Self { every: every.max(MIN_EVERY), check: Arc::new(move || Box::pin(check())) }
    }

    /// Checks now. Calling the application's function is part of the future, so that its panic is too.
    pub(super) fn check(&self) -> impl Future<Output = Recheck> + Send + 'static + use<> {
        let check = self.check.clone();
        async move { check().await }
    }
}

impl fmt::Debug for RecheckPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecheckPlan").field("every", &self.every).finish_non_exhaustive()
    }
}

const MIN_EVERY: Duration = Duration::from_millis(100);
