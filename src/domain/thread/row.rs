//! A request as lists, reads and webhooks show it.

use serde::Serialize;

use super::state::ThreadState;
use super::status::{Priority, Status};
use crate::domain::ids::{ExecutorId, Ref};
use crate::domain::time::Timestamp;

/// What is shown of a request. Fields that a plain request does not have are left out.
#[derive(Clone, Debug, Serialize)]
pub struct Row<'a> {
    #[serde(rename = "ref")]
    reference: &'a Ref,
    status: Status,
    intent: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    intent_truncated: bool,
    requestor_id: &'a ExecutorId,
    executor_id: Option<&'a ExecutorId>,
    priority: Priority,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    needed_by: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    confirm_before: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    requires: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_until: Option<Timestamp>,
}

/// A row with the thread's version.
#[derive(Clone, Debug, Serialize)]
pub struct VersionedRow<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    version: u64,
}

impl<'a> Row<'a> {
    /// Makes the row of `state`.
    pub fn of(state: &'a ThreadState) -> Self {
        Self {
            reference: &state.reference,
            status: state.status,
            intent: &state.intent,
            intent_truncated: state.intent_truncated,
            requestor_id: &state.requestor_id,
            executor_id: state.executor_id.as_ref(),
            priority: state.priority,
            created_at: state.created_at,
            updated_at: state.updated_at,
            needed_by: state.terms.needed_by,
            confirm_before: state.terms.confirm_before,
            requires: &state.terms.requires,
            lease_until: state.lease_until,
        }
    }
}

impl<'a> VersionedRow<'a> {
    /// Makes the row of `state`, with its version.
    pub fn of(state: &'a ThreadState) -> Self {
        Self {
            row: Row::of(state),
            version: state.version,
        }
    }
}
