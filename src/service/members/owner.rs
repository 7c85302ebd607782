//! What an executor sees of itself: its profile, the outcomes of its deliveries, and a test of its
//! channels.

use std::collections::HashMap;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::app::App;
use crate::delivery::FORMS;
use crate::delivery::http::Unreachable;
use crate::delivery::notice::Notice;
use crate::delivery::plan::{CHUNK, Subscription};
use crate::delivery::provider::{Job, Room};
use crate::delivery::retry::Verdict;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::member::access::Role;
use crate::domain::member::executor::{Executor, entry_id, is_enabled};
use crate::domain::member::profile;
use crate::domain::member::profile::mask_credentials;
use crate::domain::member::sealed::Seal;
use crate::domain::member::subscriptions::own;
use crate::isolate::Grant;
use crate::service::deliveries::record::{
    Attempt, Outcome, arrange_sweep, enable, last_attempts, log_attempt, note_success,
};
use crate::service::members::exchange::is_owner;
use crate::service::records::{Owner, read_own};
use crate::service::{ServiceError, records};

/// How many attempts are shown.
const SHOWN: usize = 100;

/// An executor's own profile, and its version. Credentials are masked. Each channel and hook shows its last outcome,
/// if that is among the last attempts.
///
/// # Errors
///
/// Fails if there is no such executor, or with the store's error.
pub async fn profile(
    app: &App,
    exchange: &ExchangeId,
    id: &ExecutorId,
) -> Result<(Value, String), ServiceError> {
    let owner = Owner {
        exchange,
        executor: id,
    };
    let mut executor = read_own(app, owner).await?;
    let version = executor.profile_version();
    let seal = Seal {
        keys: &app.config.secrets,
        owner: &owner.sealed_for(),
    };
    profile::unseal(&mut executor, FORMS, &seal);
    let mut last: HashMap<String, Value> = HashMap::new();
    for mut attempt in last_attempts(app, owner, SHOWN).await? {
        if let Value::Object(fields) = &mut attempt
            && let Some(Value::String(id)) = fields.shift_remove("subscription")
        {
            fields.shift_remove("type");
            last.entry(id).or_insert(attempt);
        }
    }
    mask_credentials(&mut executor, FORMS);
    for (entry, _) in executor.entries_mut(FORMS) {
        let last = last.get(&entry_id(entry));
        if let Value::Object(entry) = entry {
            entry.insert(own::LAST.to_owned(), json!(last));
        }
    }
    let mut shown = executor.public();
    if let Value::Object(shown) = &mut shown {
        let private = [
            ("notifications", json!(executor.notifications)),
            ("hooks", json!(executor.hooks)),
            ("preferences", json!(executor.preferences)),
        ];
        shown.extend(private.map(|(name, value)| (name.to_owned(), value)));
    }
    Ok((shown, version))
}

/// What a caller learns about its own standing: its role, and what the key is good for with which it
/// calls.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn standing(
    app: &App,
    exchange: &ExchangeId,
    id: &ExecutorId,
    grant: &Grant,
) -> Result<Value, ServiceError> {
    let role = if is_owner(app, exchange, id).await? {
        Role::Owner
    } else {
        grant.role
    };
    let key = &grant.key;
    Ok(json!({
        "role": role,
        "max_priority": grant.max_priority,
        "key": {
            "id": key.id(),
            "label": key.label,
            "scopes": key.scopes,
            "expires_at": key.expires_at,
        },
    }))
}

/// An executor's last attempts, newest first.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn deliveries(
    app: &App,
    exchange: &ExchangeId,
    id: &ExecutorId,
) -> Result<Vec<Value>, ServiceError> {
    let owner = Owner {
        exchange,
        executor: id,
    };
    Ok(last_attempts(app, owner, SHOWN).await?)
}

/// Sends a test notification through every channel of an executor, including disabled ones, and
/// returns the outcome of each. A disabled channel that works is enabled again.
///
/// # Errors
///
/// Fails if there is no such executor, or with the store's error.
pub async fn test(
    app: &App,
    exchange: &ExchangeId,
    id: &ExecutorId,
) -> Result<Vec<Value>, ServiceError> {
    let owner = Owner {
        exchange,
        executor: id,
    };
    let executor = read_own(app, owner).await?;
    let notice = Notice::test(exchange, id.clone(), executor.display_name.clone());
    let mut attempts = Vec::new();
    for channels in executor.notifications.chunks(CHUNK) {
        let tests = channels
            .iter()
            .map(|entry| try_channel(app, owner, &notice, &executor, entry));
        attempts.extend(join_all(tests).await);
    }
    for (attempt, entry) in attempts.iter().zip(&executor.notifications) {
        let works = attempt.outcome == Outcome::Delivered;
        if works && !entry.as_object().is_some_and(is_enabled) {
            enable(app, owner, &attempt.subscription).await;
        }
    }
    arrange_sweep(app, exchange, id, app.clock.now()).await?;
    let shown = attempts.into_iter().map(|attempt| {
        json!({
            "id": attempt.subscription,
            "type": attempt.kind,
            "outcome": attempt.outcome,
            "status": attempt.status,
            "error": attempt.error,
        })
    });
    Ok(shown.collect())
}

async fn try_channel(
    app: &App,
    owner: Owner<'_>,
    notice: &Notice,
    executor: &Executor,
    entry: &Value,
) -> Attempt {
    let id = entry_id(entry);
    let kind = entry
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let found = Subscription::Channel(id.clone()).find(executor, None);
    let delivery_id = app.clock.new_id();
    let unsealed = found.map(|(config, provider)| {
        (
            records::unseal(app, owner, &provider.form, config),
            provider,
        )
    });
    let (verdict, status) = match unsealed {
        None => (Verdict::failed("this server does not know the type"), None),
        Some((Err(error), _)) => (Verdict::failed(error.to_string()), None),
        Some((Ok(config), provider)) => {
            let job = Job {
                config: &config,
                notice,
                id: delivery_id,
                hops: app.hops,
                now: app.clock.now(),
                is_bystander: false,
                created: None,
                tokens: &app.isolate.tokens,
                room: Room::default(),
            };
            let busy = || (Verdict::retry(Unreachable::Busy.to_string()), None);
            let conversation = app.outbound.converse(provider, &job).await;
            conversation.unwrap_or_else(busy)
        }
    };
    let (outcome, error) = match verdict {
        Verdict::Delivered { .. } => (Outcome::Delivered, None),
        Verdict::Retry { reason, .. } | Verdict::Failed { reason } | Verdict::Gone { reason } => {
            (Outcome::Failed, Some(reason))
        }
    };
    let attempt = Attempt {
        at: app.clock.now(),
        delivery_id,
        event: notice.event().to_owned(),
        reference: None,
        kind: kind.to_owned(),
        subscription: id,
        attempt: 1,
        outcome,
        status,
        error,
        next_attempt_at: None,
    };
    log_attempt(app, owner, &attempt).await;
    if outcome == Outcome::Delivered {
        note_success(app, owner, &attempt.subscription).await;
    }
    attempt
}
