//! Whether the exchange can run here: asked before it serves, where it is started by a script.

use crate::app::App;
use crate::storage::format::{self, FormatError};
use crate::storage::layout;
use crate::storage::probe::{Unfit, try_conditions};

/// Why the exchange cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store is not fit for it.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The bucket is not for this version.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Tries the bucket; gives its kind.
///
/// # Errors
///
/// The exchange cannot run here; the text is a sentence for who starts it.
pub async fn check(app: &App) -> Result<&'static str, StartError> {
    let store = app.store.as_ref();
    try_conditions(store, &layout::trial(app.clock.new_id())).await?;
    format::ensure(store).await?;
    Ok(store.kind())
}
