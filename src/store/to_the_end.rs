//! Work that goes on although whoever waits for it has gone.

use std::panic::resume_unwind;

use super::error::StoreError;

/// Runs work in a task of its own. A panic of it is one of the caller's;
/// [`StoreError::Closed`] if the runtime shuts down.
///
/// # Cancel safety
/// Dropping the future leaves the work going on.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::spawn(work).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_) => StoreError::Closed,
    })
}
