//! Access tokens that providers gave, kept until they expire.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::domain::time::Timestamp;

/// Access tokens that this isolate was given, until they expire.
#[derive(Default)]
pub struct Tokens(RefCell<HashMap<String, (String, Timestamp)>>);

/// Tokens that an isolate keeps; when there are more it begins anew.
const TOKENS_KEPT: usize = 1_000;

impl Tokens {
    /// The token kept under `key`, if it is still good at `now`.
    pub fn find(&self, key: &str, now: Timestamp) -> Option<String> {
        let tokens = self.0.borrow();
        let (token, until) = tokens.get(key)?;
        (*until > now).then(|| token.clone())
    }

    /// Keeps a token until it expires.
    pub fn keep(&self, key: &str, token: &str, until: Timestamp) {
        let mut tokens = self.0.borrow_mut();
        if tokens.len() >= TOKENS_KEPT {
            tokens.clear();
        }
        tokens.insert(key.to_owned(), (token.to_owned(), until));
    }

    /// Forgets a token that was refused.
    pub fn forget(&self, key: &str) {
        self.0.borrow_mut().remove(key);
    }
}
