//! Advances an import, one stretch at a time. Calls do it in the background, and so does the tick.
use std::rc::Rc;

use super::progress::{Progress, Stage, begin, save};
use super::{keys, log, threads};
use crate::app::App;
use crate::domain::ids::ExchangeId;
use crate::runtime::log::warn;
use crate::storage::cas::{Loaded, load};
use crate::storage::{Condition, StoreError, layout};

/// Milliseconds after which work in the background counts as lost, because the runtime has ended
/// it.
const BACKGROUND: i64 = 60_000;

/// Imports a stretch after the answer, unless this isolate is importing one already.
pub fn continue_in_background(app: &Rc<App>, exchange: &ExchangeId) {
    let now = app.clock.now();
    let mut importing = app.isolate.importing.borrow_mut();
    if importing.get(exchange).is_some_and(|until| *until > now) {
        return;
    }
    importing.insert(exchange.clone(), now.plus_millis(BACKGROUND));
    drop(importing);
    let (at_work, exchange) = (app.clone(), exchange.clone());
    app.background.run(async move {
        if let Err(error) = advance(&at_work, &exchange).await {
            warn("an exchange could not be imported further", &error);
        }
        at_work.isolate.importing.borrow_mut().remove(&exchange);
    });
}

/// Imports one stretch, and saves the progress unless another was faster. Returns whether the
/// import is complete.
///
/// # Errors
///
/// Fails with the store's error. What was imported before the error is kept.
pub async fn advance(app: &App, exchange: &ExchangeId) -> Result<bool, StoreError> {
    let key = layout::import_progress(exchange);
    let Some(Loaded { document, tag }) = load::<Progress>(app.store.as_ref(), &key).await? else {
        // Whoever began the obligation did not get any further.
        begin(app, exchange).await?;
        return Ok(false);
    };
    let next = match document.stage {
        Stage::Executors => keys::make(app, exchange, document.clone()).await?,
        Stage::Log => log::sort(app, exchange, document.clone()).await?,
        Stage::Threads => threads::put(app, exchange, document.clone()).await?,
        Stage::Complete => return Ok(true),
    };
    if next == document {
        return Ok(false);
    }
    let saved = save(app, exchange, &next, Condition::Matches(&tag)).await?;
    Ok(saved && next.stage == Stage::Complete)
}
