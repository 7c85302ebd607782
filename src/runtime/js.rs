//! Crossings between WebAssembly and JavaScript, where one does for what the `worker` crate does
//! piece by piece. Each crossing costs a microsecond or more, which shows in a call of 200.

use serde::{Serialize, Serializer};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};
use worker::Env;
use worker::js_sys::futures::JsFuture;
use worker::js_sys::{JSON, Promise, Reflect, Uint8Array};
use worker::web_sys::{ReadableStream, RequestInit, Response, ResponseInit};

#[wasm_bindgen]
extern "C" {
    /// The binding of a service, such as that of a directory.
    #[derive(Clone)]
    pub type ServiceBinding;

    #[wasm_bindgen(method, catch, js_name = fetch)]
    fn fetch_url(this: &ServiceBinding, url: &str) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch, js_name = fetch)]
    fn fetch_with(this: &ServiceBinding, url: &str, init: &RequestInit)
    -> Result<Promise, JsValue>;

    /// Writes a line to the log of the runtime.
    #[wasm_bindgen(js_namespace = console, js_name = log)]
    pub fn console_log(line: &str);
}

/// The body of a response.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// None.
    None,
    /// This text, which crosses faster than its bytes.
    Text(&'a str),
    /// These bytes.
    Bytes(&'a [u8]),
    /// What comes from a stream.
    Stream(&'a ReadableStream),
}

/// Names and values of headers, as an object.
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

/// A response. No header may be given twice.
///
/// # Errors
///
/// The runtime refuses a header or the status.
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
        // A copy: what the response holds must not be the memory of WebAssembly, which moves.
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
/// There is no answer.
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

/// The whole of a body, which is to be short.
///
/// # Errors
///
/// It broke off.
pub async fn whole_body(buffer: Result<Promise, JsValue>) -> worker::Result<Vec<u8>> {
    let buffer = JsFuture::from(buffer?).await?;
    Ok(Uint8Array::new(&buffer).to_vec())
}

/// A JavaScript object of what `value` is as JSON, in one crossing whatever it holds.
///
/// # Errors
///
/// It cannot be written as JSON.
pub fn object(value: &impl Serialize) -> worker::Result<JsValue> {
    let text = serde_json::to_string(value)?;
    Ok(JSON::parse(&text)?)
}
