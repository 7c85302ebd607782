//! The address of a client, as far as it is limited by it.

use std::net::{IpAddr, Ipv6Addr};

use worker::Request;

use crate::config::{Config, Storage};
use crate::runtime::js;

/// The address of the client, or `None` if it is unknown or this machine itself.
///
/// On Cloudflare its network says it. Elsewhere it is the peer, or what the proxies in front say that
/// the settings trust.
pub fn of_client(config: &Config, request: &Request) -> Option<String> {
    let header = |name| request.headers().get(name).ok().flatten();
    let peer = || js::client_ip(request.inner());
    let told = if config.storage == Storage::R2 {
        header("CF-Connecting-IP").or_else(peer)
    } else if config.trusted_proxies > 0 {
        let list = header("X-Forwarded-For");
        list.and_then(|list| forwarded(&list, config.trusted_proxies))
            .or_else(peer)
    } else {
        peer()
    };
    limited(&told?)
}

/// The address that the first trusted proxy saw: each adds at the end of the list who called it.
fn forwarded(list: &str, proxies: usize) -> Option<String> {
    let address = list.rsplit(',').nth(proxies.checked_sub(1)?)?;
    Some(address.trim().to_owned())
}

/// What is limited of an address: nothing of this machine's own, and of IPv6 the network, because one
/// client has a whole network of addresses.
fn limited(text: &str) -> Option<String> {
    match parse(text)? {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => Some(address.to_string()),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            let network = Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0);
            Some(format!("{network}/64"))
        }
    }
}

/// Reads an address, with or without a port. IPv6 is in brackets if there is a port.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.trim();
    let host = match bare.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None if bare.matches(':').count() == 1 => bare.split_once(':')?.0,
        None => bare,
    };
    Some(host.parse::<IpAddr>().ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_limited_of_an_address() {
        for (text, expected) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("203.0.113.7:43862", Some("203.0.113.7")),
            ("::ffff:203.0.113.7", Some("203.0.113.7")),
            ("[2001:db8:1:2:3:4:5:6]:43862", Some("2001:db8:1:2::/64")),
            ("2001:db8:1:2::9", Some("2001:db8:1:2::/64")),
            ("127.0.0.1:43862", None),
            ("[::1]:43862", None),
            ("::ffff:127.0.0.1", None),
            ("", None),
            ("unknown", None),
            ("example.com:80", None),
        ] {
            assert_eq!(limited(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn only_as_many_proxies_are_believed_as_there_are() {
        let list = "10.0.0.1, 203.0.113.7,198.51.100.2";
        assert_eq!(forwarded(list, 1).as_deref(), Some("198.51.100.2"));
        assert_eq!(forwarded(list, 2).as_deref(), Some("203.0.113.7"));
        assert_eq!(forwarded(list, 4), None);
    }
}
