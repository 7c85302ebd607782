//! Why a tool did not do its work.

use crate::app::SetupError;
use crate::storage::StoreError;

/// Why a tool did not do its work. The text is for whoever ran it.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A setting is wrong, or a binding is missing.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The same for the bucket to copy to.
    #[error("where to copy to, with TO_ before each name: {0}")]
    Target(SetupError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such tool, or the request is not one that the tool accepts.
    #[error("there is no such tool")]
    NoSuchTool,
}
