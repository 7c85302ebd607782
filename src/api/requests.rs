//! `/requests`: posts, lists, reads and changes requests.

use super::call::{Call, Caller, versions};
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::limits::BODY_BYTES;
use crate::domain::member::access::{AccessRefusal, Scope};
use crate::domain::quota::Quota;
use crate::domain::text::{Fields, Invalid};
use crate::domain::thread::posted::NewRequest;
use crate::domain::thread::state::ThreadState;
use crate::domain::thread::transition::Update;
use crate::service::ServiceError;
use crate::service::requests::create::create;
use crate::service::requests::list::list as list_requests;
use crate::service::requests::read;
use crate::service::requests::update::{Request, update};
use crate::service::requests::view::{
    Changed, Events, ListQuery, Page, Posted, Reading, entity_tag,
};

/// 201 with the ref of a new request.
pub async fn post(mut call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller(Scope::Request).await?;
    let Caller {
        exchange, executor, ..
    } = &caller;
    let fields = call.fields(BODY_BYTES).await?;
    let nudge_after = |priority| call.app.config.nudges.after(exchange, priority);
    let request = NewRequest::parse(fields, call.app.clock.now(), nudge_after)?;
    if let Some(most) = caller.grant.max_priority
        && request.priority() > most
    {
        return Err(ServiceError::from(AccessRefusal::MaxPriority(most)).into());
    }
    call.take(Quota::Requests, &format!("{exchange}/{executor}"))?;
    let state = create(&call.app, exchange.clone(), executor.clone(), request).await?;
    let location = format!("/api/v1/exchanges/{exchange}/requests/{}", state.reference);
    let version = state.version_as_of(call.app.clock.now());
    Ok(Reply::json(201, &Posted::of(&state))
        .header("Location", location)
        .header("ETag", entity_tag(version)))
}

/// 200 with the request as of now, or 304 if the client has this version and nothing has fallen due
/// since.
pub async fn get(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller(Scope::Read).await?;
    let reference = call.reference()?;
    let document = read::document(&call.app, &caller.exchange, &reference).await;
    let document = caller.found(document)?;
    let mut thread = document.glance()?;
    let now = call.app.clock.now();
    check_may_read(&caller, &thread.state)?;
    let version = thread.state.version_as_of(now);
    let known = call
        .header("If-None-Match")
        .is_some_and(|header| versions(&header, true).is_none_or(|list| list.contains(&version)));
    if let Some(state) = thread.state.as_of(now) {
        thread.state = state;
    }
    // Something may fall due twice for one version, so an equal tag could hide the second time.
    let reply = if known && !version.is_due {
        Reply::empty(304)
    } else {
        let reading = Reading::of(&thread).map_err(|error| document.unreadable(&error))?;
        Reply::json(200, &reading)
    };
    Ok(reply.header("ETag", entity_tag(version)))
}

/// 200 with everything that happened to a request, in order.
pub async fn events(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller(Scope::Read).await?;
    let reference = call.reference()?;
    let document = read::document(&call.app, &caller.exchange, &reference).await;
    let document = caller.found(document)?;
    let thread = document.glance()?;
    check_may_read(&caller, &thread.state)?;
    let events = Events::of(&thread).map_err(|error| document.unreadable(&error))?;
    Ok(Reply::json(200, &events))
}

/// Checks that a request is for the eyes of the caller. A guest is not told that there is something that
/// is not for it.
fn check_may_read(caller: &Caller, state: &ThreadState) -> Result<(), ApiError> {
    if caller.is_guest() && !state.is_addressed_to(&caller.executor) {
        return Err(ServiceError::NoThread.into());
    }
    Ok(())
}

/// 200 with the status after the change.
pub async fn patch(call: Call) -> Result<Reply, ApiError> {
    change(call, true, Update::parse).await
}

/// 200 with the moment at which the renewed claim ends.
pub async fn renew(call: Call) -> Result<Reply, ApiError> {
    change(call, false, Update::parse_renewal).await
}

async fn change(
    mut call: Call,
    needs_body: bool,
    parse: fn(Fields) -> Result<Update, Invalid>,
) -> Result<Reply, ApiError> {
    let caller = call.caller_of_any_scope().await?;
    let reference = call.reference()?;
    let accepted = call.header("If-Match");
    let fields = if needs_body {
        call.fields(BODY_BYTES).await?
    } else {
        call.optional_fields(BODY_BYTES).await?
    };
    let request = Request {
        exchange: caller.exchange.clone(),
        reference,
        actor: caller.executor.clone(),
        update: parse(fields)?,
        powers: caller.powers(),
        versions: accepted.and_then(|header| versions(&header, false)),
    };
    let state = caller.found(update(&call.app, request).await)?;
    let now = call.app.clock.now();
    let version = state.version_as_of(now);
    let state = state.as_of(now).unwrap_or(state);
    Ok(Reply::json(200, &Changed::of(&state)).header("ETag", entity_tag(version)))
}

/// 200 with a page of requests.
pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller(Scope::Read).await?;
    let given = call.query(&ListQuery::NAMES)?;
    let parameter = |name| given.get(name).map(String::as_str);
    let query = ListQuery(&parameter);
    let mut filter = query.filter(&caller.executor)?;
    filter.guest = caller.is_guest().then(|| caller.executor.clone());
    let (limit, cursor) = (query.limit()?, query.cursor(&caller.exchange, &filter)?);
    let listed = list_requests(&call.app, &caller.exchange, &filter, limit, cursor.as_ref());
    let listed = listed.await?;
    let page = Page::of(&listed, &caller.exchange, &filter, caller.is_imported);
    Ok(Reply::json(200, &page))
}
