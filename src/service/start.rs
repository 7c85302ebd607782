//! Checks whether the exchange can run here. A start script asks this before the exchange serves.

use crate::app::App;
use crate::storage::format::{self, FormatError};
use crate::storage::layout;
use crate::storage::probe::{Unfit, try_conditions};

/// Why the exchange cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store is not fit for the exchange.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// This version may not write the bucket.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Tries the store and checks the bucket's format. Returns the kind of store.
///
/// # Errors
///
/// Fails if the exchange cannot run here. The text is a sentence for whoever starts it.
pub async fn check(app: &App) -> Result<&'static str, StartError> {
    let store = app.store.as_ref();
    try_conditions(store, &layout::trial(app.clock.new_id())).await?;
    format::ensure(store).await?;
    Ok(store.kind())
}
