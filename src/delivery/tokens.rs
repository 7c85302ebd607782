//! Access tokens from providers, kept until they expire.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::domain::time::Timestamp;

/// The access tokens that this isolate received and keeps until they expire.
#[derive(Default)]
pub struct Tokens(RefCell<HashMap<String, (String, Timestamp)>>);

/// How many tokens an isolate keeps. When it has that many, it drops them all.
const TOKENS_KEPT: usize = 1_000;

impl Tokens {
    /// The token kept under `key`, if it is still valid at `now`.
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

    /// Drops a token that was refused.
    pub fn forget(&self, key: &str) {
        self.0.borrow_mut().remove(key);
    }
}
