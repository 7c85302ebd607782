//! Why a tool did not do its work.

use crate::app::SetupError;
use crate::storage::StoreError;

/// Why a tool did not do its work; its text is for the one who ran it.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The settings, or the bindings.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The same of the bucket to copy to.
    #[error("where to copy to, with TO_ before each name: {0}")]
    Target(SetupError),
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The request is for no tool, or not as it wants it.
    #[error("there is no such tool")]
    NoSuchTool,
}
