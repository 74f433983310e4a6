//! Checks again and again whether the readers of a subject may go on: one check at a time for all of them.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    stats::EndReason,
    subjects::{SubjectKey, Subjects},
    terms::{Recheck, RecheckPlan},
};

/// Ends all readers of `key` once a check fails. The task is dropped when the last of them leaves.
pub(super) async fn recheck(subjects: Weak<Subjects>, key: SubjectKey, plan: RecheckPlan) {
    loop {
        // Drawn, so that the checks of subjects that came together spread.
        sleep(plan.every.mul_f64(1.0 - fastrand::f64() / 4.0)).await;
        let Some(subjects) = subjects.upgrade() else { return };
        let checked = timeout(CHECK_TIMEOUT, check_in_turn(&subjects, &plan)).await;
        if !matches!(checked, Ok(Recheck::Allowed)) {
            subjects.end(&key, EndReason::Rechecked);
            return;
        }
    }
}

async fn check_in_turn(subjects: &Arc<Subjects>, plan: &RecheckPlan) -> Recheck {
    let Ok(_permit) = subjects.rechecks.acquire().await else { return Recheck::Ended };
    // As a task, because the application's function may panic.
    let mut check = JoinSet::new();
    check.spawn(plan.check());
    match check.join_next().await {
        Some(Ok(Recheck::Allowed)) => Recheck::Allowed,
        _ => Recheck::Ended,
    }
}

/// How long a check may take, from when it is due: a reader that cannot be checked must not go on.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
