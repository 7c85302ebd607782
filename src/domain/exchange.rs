//! The document of an exchange: its name, and who owns it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ids::{ExchangeId, ExecutorId};
use super::member::access::{AccessRefusal, Changes};
use super::time::Timestamp;

/// The time in milliseconds within which the record of a founder must be there. After it, somebody
/// else may found the exchange.
pub const FOUNDING: i64 = 60_000;

/// What is stored of an exchange. It alone says who its owners are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// When it was founded, or when its document was made if it is older.
    pub created_at: Timestamp,
    /// The name that people see.
    pub name: String,
    /// The IANA time zone of quiet hours that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Its owners. An exchange that is older than its document has none at first.
    #[serde(default)]
    pub owners: Vec<ExecutorId>,
    /// The mutations that changed the document.
    #[serde(default)]
    pub changes: Changes,
}

impl Exchange {
    /// A new document.
    pub fn new(id: &ExchangeId, owners: Vec<ExecutorId>, now: Timestamp) -> Self {
        Self {
            created_at: now,
            name: id.as_str().to_owned(),
            timezone: None,
            owners,
            changes: Changes::default(),
        }
    }

    /// Whether `id` owns the exchange.
    pub fn is_owned_by(&self, id: &ExecutorId) -> bool {
        self.owners.contains(id)
    }

    /// Makes `id` an owner. Returns whether it was none before.
    pub fn add_owner(&mut self, id: &ExecutorId) -> bool {
        let is_new = !self.is_owned_by(id);
        if is_new {
            self.owners.push(id.clone());
        }
        is_new
    }

    /// Makes `id` an owner no longer. Returns whether it was one.
    ///
    /// # Errors
    ///
    /// Fails if it is the only one.
    pub fn remove_owner(&mut self, id: &ExecutorId) -> Result<bool, AccessRefusal> {
        if !self.is_owned_by(id) {
            return Ok(false);
        }
        if self.owners.len() == 1 {
            return Err(AccessRefusal::LastOwner);
        }
        self.owners.retain(|owner| owner != id);
        Ok(true)
    }

    /// Makes `id` an owner no longer, even if it is the only one: it must not be one, because it is no
    /// member or may do too little. Returns whether it was one.
    pub fn drop_owner(&mut self, id: &ExecutorId) -> bool {
        let before = self.owners.len();
        self.owners.retain(|owner| owner != id);
        self.owners.len() < before
    }

    /// What members see of it.
    pub fn shown(&self, id: &ExchangeId) -> Value {
        json!({
            "id": id,
            "name": self.name,
            "timezone": self.timezone,
            "owners": self.owners,
            "created_at": self.created_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_owner_cannot_go() {
        let id = |text| ExecutorId::parse(text, "").unwrap();
        let home = ExchangeId::parse("home", "").unwrap();
        let (anna, bert) = (id("anna"), id("bert"));
        let mut exchange = Exchange::new(&home, vec![anna.clone()], Timestamp::default());
        assert_eq!(exchange.remove_owner(&anna), Err(AccessRefusal::LastOwner));
        assert_eq!(exchange.remove_owner(&bert), Ok(false));
        assert!(exchange.add_owner(&bert) && !exchange.add_owner(&bert));
        assert_eq!(exchange.remove_owner(&anna), Ok(true));
        assert_eq!(exchange.remove_owner(&bert), Err(AccessRefusal::LastOwner));
        assert_eq!(exchange.owners, [bert]);
    }
}
