//! What the audit tells: who let whom in, who was removed, and who got or lost a key or a role.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::ids::ExecutorId;
use crate::domain::time::Timestamp;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// The name or time zone of the exchange was changed.
    ExchangeChanged,
    /// Somebody registered.
    MemberJoined,
    /// The role, kind or highest priority of a member was changed, or it was suspended or allowed
    /// again.
    MemberChanged,
    /// A member was removed, or left.
    MemberRemoved,
    /// A member got a key more.
    KeyAdded,
    /// A member lost a key.
    KeyRevoked,
    /// An invitation was made.
    InvitationMade,
    /// An invitation was taken back.
    InvitationRevoked,
}

/// An entry of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its id, which is that of the mutation.
    pub id: Uuid,
    /// When it happened.
    pub at: Timestamp,
    /// Who did it, or `None` if it was the operator.
    pub by: Option<ExecutorId>,
    /// What was done.
    #[serde(rename = "event")]
    pub deed: Deed,
    /// The member that it was done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_id: Option<ExecutorId>,
    /// What else there is to say.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}
