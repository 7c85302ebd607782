//! Crossings between WebAssembly and JavaScript. Each of these functions crosses once, or a few
//! times, where the `worker` crate crosses for every piece. A crossing costs a microsecond or more,
//! which matters in a call that takes 200.

use std::cell::RefCell;
use std::collections::HashMap;

use serde::{Serialize, Serializer};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};
use worker::Env;
use worker::js_sys::futures::JsFuture;
use worker::js_sys::{Promise, Reflect, Uint8Array};
use worker::web_sys::{ReadableStream, Response};

// The functions copy bytes before anything else runs: what they get is the memory of WebAssembly,
// which moves.
#[wasm_bindgen(inline_js = r#"
// `init` is JSON of {status, headers}.
export function respond(init, body) {
  return new Response(body instanceof Uint8Array ? body.slice() : body, JSON.parse(init));
}

// `init` is JSON of {method, redirect, headers}, or undefined for a plain GET.
export async function call(service, url, init, body) {
  const given = init && { ...JSON.parse(init), body: body?.slice() };
  const response = await service.fetch(url, given);
  return {
    status: response.status,
    etag: response.headers.get("etag") ?? undefined,
    contentType: response.headers.get("content-type") ?? undefined,
    body: new Uint8Array(await response.arrayBuffer()),
  };
}

// `options` is JSON of what R2's list takes. The answer is JSON of {rows, truncated, cursor}, each row
// with its key, its tag and the metadata under `name`, if it is listed.
export async function list(bucket, options, name) {
  const { objects, truncated, cursor } = await bucket.list(JSON.parse(options));
  const rows = objects.map(({ key, etag, customMetadata }) => [key, etag, customMetadata?.[name]]);
  return JSON.stringify({ rows, truncated, cursor });
}

// The address and the port of the peer, which only this runtime's own extension of requests has.
export function clientIp(request) {
  return request.cf?.clientIp;
}
"#)]
extern "C" {
    /// The address of whoever is connected, with its port, if the runtime says it.
    #[wasm_bindgen(js_name = clientIp)]
    pub fn client_ip(request: &worker::web_sys::Request) -> Option<String>;

    /// A binding of the Worker, such as that of the disk service.
    #[derive(Clone)]
    pub type Binding;

    /// The whole answer of a service.
    pub type Answer;

    #[wasm_bindgen(catch)]
    fn respond(init: &str, body: &JsValue) -> Result<Response, JsValue>;

    #[wasm_bindgen(catch, js_name = respond)]
    fn respond_with_text(init: &str, body: &str) -> Result<Response, JsValue>;

    #[wasm_bindgen(catch, js_name = respond)]
    fn respond_with_bytes(init: &str, body: &[u8]) -> Result<Response, JsValue>;

    #[wasm_bindgen(js_name = call)]
    fn call_service(
        service: &Binding,
        url: &str,
        init: Option<&str>,
        body: Option<&[u8]>,
    ) -> Promise;

    #[wasm_bindgen(js_name = list)]
    fn list_bucket(bucket: &Binding, options: &str, name: &str) -> Promise;

    /// Its status.
    #[wasm_bindgen(method, getter)]
    pub fn status(this: &Answer) -> u16;

    /// Its header `ETag`.
    #[wasm_bindgen(method, getter)]
    pub fn etag(this: &Answer) -> Option<String>;

    /// Its header `Content-Type`.
    #[wasm_bindgen(method, getter, js_name = contentType)]
    pub fn content_type(this: &Answer) -> Option<String>;

    /// Its body.
    #[wasm_bindgen(method, getter)]
    pub fn body(this: &Answer) -> Vec<u8>;
}

#[wasm_bindgen]
extern "C" {
    /// Writes a line to the runtime's log.
    #[wasm_bindgen(js_namespace = console, js_name = log)]
    pub fn console_log(line: &str);
}

/// The body of a response.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// No body.
    None,
    /// A text. It crosses faster than its bytes would.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A stream.
    Stream(&'a ReadableStream),
}

/// The names and values of headers, as an object.
struct Headers<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

#[derive(Serialize)]
struct Init<'a> {
    status: u16,
    headers: Headers<'a>,
}

/// Makes a response. No header may be given twice.
///
/// # Errors
///
/// Fails if the runtime refuses a header or the status.
pub fn response(
    status: u16,
    headers: &[(&str, &str)],
    content: Content<'_>,
) -> worker::Result<Response> {
    let headers = Headers(headers);
    let init = serde_json::to_string(&Init { status, headers })?;
    let response = match content {
        Content::None => respond(&init, &JsValue::UNDEFINED),
        Content::Text(text) => respond_with_text(&init, text),
        Content::Bytes(bytes) => respond_with_bytes(&init, bytes),
        Content::Stream(stream) => respond(&init, stream),
    };
    Ok(response?)
}

#[derive(Serialize)]
struct Sent<'a> {
    method: &'a str,
    /// Redirects are not followed.
    redirect: &'static str,
    headers: Headers<'a>,
}

thread_local! {
    /// The bindings of this isolate: they are the same for as long as it lives.
    static BINDINGS: RefCell<HashMap<String, Binding>> = RefCell::default();
}

/// A binding of the Worker, if it is bound.
pub fn binding(env: &Env, name: &str) -> Option<Binding> {
    if let Some(known) = BINDINGS.with_borrow(|bindings| bindings.get(name).cloned()) {
        return Some(known);
    }
    let binding = Reflect::get(env, &name.into()).ok()?;
    let bound: Binding = binding.is_object().then(|| binding.unchecked_into())?;
    BINDINGS.with_borrow_mut(|bindings| bindings.insert(name.to_owned(), bound.clone()));
    Some(bound)
}

/// Sends a request to a service and reads its whole answer.
///
/// # Errors
///
/// Fails if no whole answer comes.
pub async fn call(
    service: &Binding,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> worker::Result<Answer> {
    let init = if method == "GET" && headers.is_empty() {
        None
    } else {
        Some(serde_json::to_string(&Sent {
            method,
            redirect: "manual",
            headers: Headers(headers),
        })?)
    };
    let promise = call_service(service, url, init.as_deref(), body);
    Ok(JsFuture::from(promise).await?.unchecked_into())
}

/// Lists an R2 bucket, all rows in one crossing: JSON of `{rows, truncated, cursor}`, each row with
/// its key, its tag and its metadata `name`.
///
/// # Errors
///
/// Fails with R2's error.
pub async fn list(
    bucket: &Binding,
    options: &impl Serialize,
    name: &str,
) -> worker::Result<String> {
    let options = serde_json::to_string(options)?;
    let answer = JsFuture::from(list_bucket(bucket, &options, name)).await?;
    Ok(answer.as_string().unwrap_or_default())
}

/// Reads a whole body, which should be short.
///
/// # Errors
///
/// Fails if the body breaks off.
pub async fn whole_body(buffer: Result<Promise, JsValue>) -> worker::Result<Vec<u8>> {
    let buffer = JsFuture::from(buffer?).await?;
    Ok(Uint8Array::new(&buffer).to_vec())
}
