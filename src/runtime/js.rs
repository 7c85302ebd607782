//! Crossings between WebAssembly and JavaScript. Each of these functions crosses once, or a few
//! times, where the `worker` crate crosses for every piece. A crossing costs a microsecond or more,
//! which matters in a call that takes 200.

use serde::{Serialize, Serializer};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};
use worker::Env;
use worker::js_sys::futures::JsFuture;
use worker::js_sys::{JSON, Promise, Reflect, Uint8Array};
use worker::web_sys::{ReadableStream, RequestInit, Response, ResponseInit};

#[wasm_bindgen]
extern "C" {
    /// The binding of a service, such as the disk service.
    #[derive(Clone)]
    pub type ServiceBinding;

    #[wasm_bindgen(method, catch, js_name = fetch)]
    fn fetch_url(this: &ServiceBinding, url: &str) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch, js_name = fetch)]
    fn fetch_with(this: &ServiceBinding, url: &str, init: &RequestInit)
    -> Result<Promise, JsValue>;

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
    let init: ResponseInit = object(&Init { status, headers })?.unchecked_into();
    let response = match content {
        Content::None => Response::new_with_opt_str_and_init(None, &init),
        Content::Text(text) => Response::new_with_opt_str_and_init(Some(text), &init),
        // This is a copy, because the response must not hold memory of WebAssembly, which can move.
        Content::Bytes(bytes) => {
            let copy = Uint8Array::from(bytes);
            Response::new_with_opt_buffer_source_and_init(Some(copy.unchecked_ref()), &init)
        }
        Content::Stream(stream) => {
            Response::new_with_opt_readable_stream_and_init(Some(stream), &init)
        }
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

/// The service behind a binding of the Worker, if it is bound.
pub fn service(env: &Env, name: &str) -> Option<ServiceBinding> {
    let binding = Reflect::get(env, &name.into()).ok()?;
    binding.is_object().then(|| binding.unchecked_into())
}

/// Sends a request to a service.
///
/// # Errors
///
/// Fails if there is no answer.
pub async fn fetch(
    service: &ServiceBinding,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> worker::Result<Response> {
    let promise = if method == "GET" && headers.is_empty() {
        service.fetch_url(url)?
    } else {
        let headers = Headers(headers);
        let init: RequestInit = object(&Sent {
            method,
            redirect: "manual",
            headers,
        })?
        .unchecked_into();
        if let Some(body) = body {
            init.set_body(&Uint8Array::from(body));
        }
        service.fetch_with(url, &init)?
    };
    Ok(JsFuture::from(promise).await?.unchecked_into())
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

/// Makes a JavaScript object from the JSON of `value`, in one crossing whatever it contains.
///
/// # Errors
///
/// Fails if `value` cannot be written as JSON.
pub fn object(value: &impl Serialize) -> worker::Result<JsValue> {
    let text = serde_json::to_string(value)?;
    Ok(JSON::parse(&text)?)
}
