//! What an open exchange on a machine of one's own refuses to browsers.
//!
//! An exchange that anybody may join, and that only one's own machine or network can reach, is still
//! reached by every web page that is open in a browser there. A page must not join in its reader's
//! place. It could do so by calling the exchange from its own origin, or by giving its own name the
//! exchange's address (DNS rebinding), which makes the exchange part of its own origin.

use std::net::IpAddr;

use super::problem::ApiError;
use crate::config::{Config, Join, Storage};

/// Checks that the exchange was called under a name of its own, where that matters.
///
/// # Errors
///
/// Fails if the exchange is open, and a page could have given it the name in `url`.
pub fn check_host(config: &Config, url: &str) -> Result<(), ApiError> {
    let host = host_of(url);
    if !is_exposed(config) || is_own(config, host) {
        return Ok(());
    }
    Err(ApiError::ForeignHost {
        host: host.to_owned(),
    })
}

/// Checks that a registration does not come from a web page of another origin.
///
/// # Errors
///
/// Fails if it does, and the exchange is open.
pub fn check_origin(config: &Config, url: &str, origin: Option<&str>) -> Result<(), ApiError> {
    let Some(origin) = origin.filter(|_| is_exposed(config)) else {
        return Ok(());
    };
    let public = config.public_url.as_deref();
    if origin == origin_of(url) || public.is_some_and(|url| origin == origin_of(url)) {
        return Ok(());
    }
    Err(ApiError::ForeignOrigin)
}

/// The origin of a URL, as the runtime and browsers write it: scheme, host and port.
fn origin_of(url: &str) -> &str {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let end = scheme.len().saturating_add(3).saturating_add(host.len());
    url.get(..end).unwrap_or(url)
}

/// The host of a URL, without its port. An IPv6 address is in brackets.
fn host_of(url: &str) -> &str {
    let (_, host) = origin_of(url).split_once("://").unwrap_or_default();
    match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => host,
    }
}

/// Whether pages could use what their readers can reach: not on Cloudflare, which everybody reaches,
/// and not where strangers cannot join.
fn is_exposed(config: &Config) -> bool {
    config.storage != Storage::R2 && config.join == Join::Open
}

/// Whether no stranger can have made `host` a name of this server: an IP address, a name that no
/// public name server knows, or one that the settings name.
fn is_own(config: &Config, host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let public = config.public_url.as_deref();
    address.parse::<IpAddr>().is_ok()
        || !host.trim_end_matches('.').contains('.')
        || public.is_some_and(|url| host_of(url) == host)
        || config
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::member::quiet_hours::tests::Iana;

    fn config(settings: &[(&str, &str)]) -> Config {
        let find = |name: &str| settings.iter().find(|(given, _)| *given == name);
        let variable = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
        Config::read(variable, &Iana).unwrap()
    }

    const OPEN: (&str, &str) = ("STORAGE_TYPE", "filesystem");

    #[test]
    fn an_open_exchange_answers_only_to_names_of_its_own() {
        let named = [
            OPEN,
            ("PUBLIC_URL", "https://mess.example/base"),
            ("ALLOWED_HOSTS", "mess.lan, Exchange.home.arpa"),
        ];
        for (settings, host, expected) in [
            (&[OPEN][..], "localhost:3000", true),
            (&[OPEN], "127.0.0.1:3000", true),
            (&[OPEN], "192.168.1.5", true),
            (&[OPEN], "[::1]:3000", true),
            (&[OPEN], "server", true),
            (&[OPEN], "evil.example", false),
            (&[OPEN], "localhost.evil.example", false),
            (&[OPEN], "127.0.0.1.evil.example", false),
            (&[OPEN], "mess.example", false),
            (&named, "mess.example", true),
            (&named, "MESS.lan:3000", true),
            (&named, "exchange.home.arpa", true),
            (&named, "home.arpa", false),
            (&[OPEN, ("REGISTRATION_TOKEN", "x")], "evil.example", true),
            (&[], "mess.you.workers.dev", true),
        ] {
            let outcome = check_host(&config(settings), &format!("http://{host}/health"));
            assert_eq!(outcome.is_ok(), expected, "{host}");
        }
    }

    #[test]
    fn pages_of_other_origins_cannot_join_an_open_exchange() {
        let url = "http://localhost:3000/api/v1/exchanges/home/register";
        let public = [OPEN, ("PUBLIC_URL", "https://mess.example")];
        for (settings, origin, expected) in [
            (&[OPEN][..], None, true),
            (&[OPEN], Some("http://localhost:3000"), true),
            (&[OPEN], Some("http://localhost:3001"), false),
            (&[OPEN], Some("https://localhost:3000"), false),
            (&[OPEN], Some("https://evil.example"), false),
            (&[OPEN], Some("null"), false),
            (&[OPEN], Some(""), false),
            (&[OPEN], Some("file://"), false),
            (&public, Some("https://mess.example"), true),
            (
                &[OPEN, ("REGISTRATION_TOKEN", "x")],
                Some("https://evil.example"),
                true,
            ),
            (&[], Some("https://evil.example"), true),
        ] {
            let outcome = check_origin(&config(settings), url, origin);
            assert_eq!(outcome.is_ok(), expected, "{origin:?}");
        }
    }
}
