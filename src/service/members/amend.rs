//! Changes of what members may do, each told in the audit.

use std::rc::Rc;

use futures::future::join;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::audit;
use crate::app::App;
use crate::domain::exchange::Exchange;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::limits::{EXECUTOR_BYTES, RECORD_ROOM};
use crate::domain::member::access::{AccessRefusal, Changes};
use crate::domain::member::audit::{AuditEntry, Deed};
use crate::domain::member::executor::Executor;
use crate::domain::member::invitation::Invitation;
use crate::runtime::background::{Rest, nothing};
use crate::service::due::obligations::{Obligation, Subject};
use crate::service::{ServiceError, to_json};
use crate::storage::cas::{Decision, Target, load, swap};
use crate::storage::rows::whole_body;

/// A document that says who may do what.
pub trait Governing: Serialize + DeserializeOwned + Clone + 'static {
    /// The mutations that changed it.
    fn changes(&mut self) -> &mut Changes;
    /// Its JSON and its summary.
    fn encode(&self) -> Result<(Vec<u8>, Option<String>), ServiceError>;
    /// The error if there is none.
    fn missing() -> ServiceError;
}

impl Governing for Executor {
    fn changes(&mut self) -> &mut Changes {
        &mut self.access.changes
    }

    fn encode(&self) -> Result<(Vec<u8>, Option<String>), ServiceError> {
        let body = to_json(
            self,
            "the record",
            EXECUTOR_BYTES.saturating_add(RECORD_ROOM),
        )?;
        Ok((body, Some(self.summary())))
    }

    fn missing() -> ServiceError {
        ServiceError::NoExecutor
    }
}

impl Governing for Exchange {
    fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    fn encode(&self) -> Result<(Vec<u8>, Option<String>), ServiceError> {
        Ok((to_json(self, "the exchange", EXECUTOR_BYTES)?, None))
    }

    fn missing() -> ServiceError {
        ServiceError::NoExchange
    }
}

impl Governing for Invitation {
    fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    fn encode(&self) -> Result<(Vec<u8>, Option<String>), ServiceError> {
        let body = to_json(self, "the invitation", EXECUTOR_BYTES)?;
        let summary = whole_body(&body);
        Ok((body, summary))
    }

    fn missing() -> ServiceError {
        ServiceError::Access(AccessRefusal::NoInvitation)
    }
}

/// A change, as the audit tells it.
pub struct Amendment {
    /// The exchange.
    pub exchange: ExchangeId,
    /// The key of the document.
    pub object: String,
    /// Who changes it, or `None` if it is the operator.
    pub by: Option<ExecutorId>,
    /// What is done.
    pub deed: Deed,
    /// The member that it is done to.
    pub executor: Option<ExecutorId>,
    /// What else there is to say.
    pub details: Map<String, Value>,
}

impl Amendment {
    /// The entry of the audit for the mutation that an obligation is about.
    pub fn entry(&self, app: &App) -> AuditEntry {
        AuditEntry {
            id: app.clock.new_id(),
            at: app.clock.now(),
            by: self.by.clone(),
            deed: self.deed,
            executor_id: self.executor.clone(),
            details: self.details.clone(),
        }
    }
}

/// Changes a document, and returns whether that changed anything.
type Alter<D> = Box<dyn Fn(&mut D) -> Result<bool, ServiceError>>;

/// Changes a document. `change` returns whether it changed anything.
///
/// # Errors
///
/// Fails if there is no such document, with the error of `change`, or with the store's error.
pub async fn amend<D: Governing>(
    app: &Rc<App>,
    amendment: Amendment,
    change: impl Fn(&mut D) -> Result<bool, ServiceError> + 'static,
) -> Result<D, ServiceError> {
    let work = run(app.clone(), amendment, Box::new(change));
    app.background.finish(work).await?
}

/// 1. Write the obligation, and read the document.
/// 2. Swap the document. This is the commit.
/// 3. Write the audit, and answer.
async fn run<D: Governing>(
    app: Rc<App>,
    amendment: Amendment,
    change: Alter<D>,
) -> (Result<D, ServiceError>, Rest) {
    let entry = amendment.entry(&app);
    let Amendment {
        exchange, object, ..
    } = amendment;
    let subject = Subject::Amendment {
        exchange_id: exchange.clone(),
        object: object.clone(),
        entry: Box::new(entry.clone()),
    };
    let obligation = Obligation {
        id: entry.id,
        ..Obligation::new(&app, subject)
    };
    // 1.
    let store = app.store.as_ref();
    let (loaded, begun) = join(load::<D>(store, &object), obligation.begin(&app)).await;
    let current = match (loaded, begun) {
        (Ok(current), Ok(())) => current,
        (Err(error), _) | (_, Err(error)) => {
            return (Err(error.into()), obligation.end_after(&app));
        }
    };
    // 2.
    let target = Target {
        store,
        clock: app.clock.as_ref(),
        key: &object,
        deadline: obligation.write_deadline(),
    };
    let ours = |stored: &D| {
        let mut stored = stored.clone();
        stored
            .changes()
            .have(obligation.id)
            .then_some((stored, true))
    };
    let swapped = swap(target, current, &ours, &mut |document: Option<D>| {
        let mut document = document.ok_or_else(D::missing)?;
        if !change(&mut document)? {
            return Ok(Decision::Keep((document, false)));
        }
        document.changes().note(obligation.id);
        let (body, summary) = document.encode()?;
        Ok(Decision::Put(body, summary, (document, true)))
    })
    .await;
    // 3.
    match swapped.result {
        Ok((document, true)) => {
            let rest = if audit::write(&app, &exchange, &entry).await {
                obligation.end_after(&app)
            } else {
                nothing()
            };
            (Ok(document), rest)
        }
        Ok((document, false)) => (Ok(document), obligation.end_after(&app)),
        Err(failure) if !swapped.definite => (Err(failure.into()), nothing()),
        Err(failure) => (Err(failure.into()), obligation.end_after(&app)),
    }
}
