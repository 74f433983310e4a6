//! Does the same for many items, a few at a time.

use std::future::Future;

use tokio::task::JoinSet;

/// The outputs of `act` for all items, in no order. Dropping the future ends those under way.
pub(super) async fn concurrently<T, F>(items: impl IntoIterator<Item = T>, act: impl Fn(T) -> F) -> Vec<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let (mut under_way, mut outputs) = (JoinSet::new(), Vec::new());
    for item in items {
        if under_way.len() >= AT_ONCE {
            outputs.extend(under_way.join_next().await.and_then(Result::ok));
        }
        under_way.spawn(act(item));
    }
    while let Some(output) = under_way.join_next().await {
        outputs.extend(output.ok());
    }
    outputs
}

/// How many at a time.
const AT_ONCE: usize = 16;
