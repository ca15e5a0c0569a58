//! Blocking work of an async verb: it runs on a thread of its own, and stops when nobody waits for it any more.

use crate::base::progress::Progress;
use crate::error::{Error, Result};

/// Runs `work` on a blocking thread. Dropping the future cancels `progress`, which the work asks between its steps.
pub async fn blocking<T: Send + 'static>(
    progress: Progress,
    work: impl FnOnce(&Progress) -> Result<T> + Send + 'static,
) -> Result<T> {
    let guard = progress.cancel_on_drop();
    let done = tokio::task::spawn_blocking(move || work(&progress)).await;
    guard.disarm();
    done.unwrap_or_else(|error| Err(Error::io(format!("a worker has died: {error}")).caused_by(error)))
}
