//! Where the exchange may send requests: public addresses over `http` and `https`.
//!
//! Anyone who registers can name URLs that this server then calls. Such a URL must not lead into
//! the server's own network: its metadata service, its neighbours or the server itself. This module
//! checks the text of a URL, at registration and again before each request. A name that resolves to
//! a private address must be refused by the runtime, which sees the DNS answer.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Names that lead to this machine or this network: those of RFC 6761, RFC 6762 and RFC 8375,
/// `.internal`, which is reserved for private use, names that routers and offices use, and those of
/// services in clusters.
const PRIVATE_NAMES: [&str; 13] = [
    "localhost",
    "local",
    "internal",
    "home.arpa",
    "localdomain",
    "lan",
    "home",
    "corp",
    "intranet",
    "private",
    "fritz.box",
    "svc",
    "consul",
];

/// Ports of other protocols than HTTP, which the Fetch standard calls bad ports: what HTTP sends
/// there could be taken for a command.
const BAD_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990,
    993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6379, 6566, 6665, 6666,
    6667, 6668, 6669, 6679, 6697,
];

/// Parses a URL that is to be called. The result is the exact spelling that will be called.
///
/// # Errors
///
/// Fails if the URL may not be called. The error is the rest of a sentence whose subject is the
/// URL.
pub fn parse_address(text: &str, allow_private: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "must be an http or https URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must be an http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password");
    }
    if climbs(text) {
        return Err("must not have . or .. in its path");
    }
    if url.port().is_some_and(|port| BAD_PORTS.contains(&port)) {
        return Err("must not have a port of another protocol");
    }
    let private = match url.host() {
        None => return Err("must name a host"),
        Some(Host::Domain(name)) if !name.bytes().all(is_of_host_name) => {
            return Err(
                "must have a host name of letters, digits, . - and _ (punycode for others)",
            );
        }
        Some(Host::Domain(name)) => is_private_name(name),
        Some(Host::Ipv4(address)) => is_private_v4(address),
        Some(Host::Ipv6(address)) => is_private_v6(address),
    };
    if private && !allow_private {
        return Err(
            "must be a public address: private, loopback and link-local ones are not called",
        );
    }
    Ok(url)
}

fn is_of_host_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_".contains(&byte)
}

/// Whether a segment of the path is `.` or `..` in any spelling. The URL parser would resolve it.
fn climbs(text: &str) -> bool {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    path.split(['/', '\\']).any(|segment| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    })
}

/// Whether a host name is private. A name without a dot is one, because it is looked up in the
/// local network.
fn is_private_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let under = |parent: &str| {
        name.strip_suffix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !name.contains('.') || PRIVATE_NAMES.iter().any(|parent| under(parent))
}

/// Whether an IPv4 address is multicast, or listed in the IANA registry of special-purpose
/// addresses as not globally reachable.
fn is_private_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, fourth] = address.octets();
    match first {
        // Azure's services for the machine itself.
        168 => (second, third, fourth) == (63, 129, 16),
        0 | 10 | 127 | 224.. => true,
        100 => (64..=127).contains(&second),
        169 => second == 254,
        172 => (16..=31).contains(&second),
        192 => matches!((second, third), (0, 0 | 2) | (88, 99) | (168, _)),
        198 => matches!((second, third), (18..=19, _) | (51, 100)),
        203 => (second, third) == (0, 113),
        _ => false,
    }
}

/// Whether an IPv6 address is private. An address that embeds an IPv4 address is judged by that.
/// Everything else outside `2000::/3` is private, because it is not global unicast. Inside it,
/// documentation and protocol assignments are private.
fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [first, second, third, fourth, .., before_last, last] = segments;
    let embedded = |high: u16, low: u16| {
        let bits = u32::from(high).rotate_left(16) | u32::from(low);
        is_private_v4(Ipv4Addr::from_bits(bits))
    };
    match (first, second) {
        // NAT64 and 6to4 addresses carry the IPv4 address that they lead to.
        (0x64, 0xff9b) if (third, fourth) == (0, 0) => embedded(before_last, last),
        (0x2002, _) => embedded(second, third),
        (0x2001, 0..=0x1ff | 0xdb8) | (0x3fff, 0..=0xfff) => true,
        (0x2000..=0x3fff, _) => false,
        _ => match address.to_ipv4() {
            Some(inner) if first == 0 => is_private_v4(inner),
            _ => true,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_called() {
        for good in [
            "https://hooks.slack.com/services/T0/B0/x",
            "http://example.com:8080/a?b=c#d",
            "https://8.8.8.8/",
            "https://100.63.255.255/",
            "https://172.32.0.1/",
            "https://168.63.129.15/",
            "https://example.com:8443/",
            "https://svc.example/",
            "https://[2606:4700:4700::1111]/",
            "https://[::ffff:8.8.8.8]/",
            "https://[64:ff9b::8.8.8.8]/",
            "https://localhost.example.com/",
            "https://my-local.example/",
            "https://internal-tools.example/",
        ] {
            assert!(parse_address(good, false).is_ok(), "{good}");
        }
    }

    #[test]
    fn private_addresses_are_not_in_any_spelling() {
        for bad in [
            "http://168.63.129.16/",
            "http://mess.default.svc/",
            "http://redis.service.consul/",
            "http://example.com:25/",
            "http://example.com:6379/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://127.0.0.1./",
            "http://%31%32%37.0.0.1/",
            "http://127。0。0。1/",
            "http://１２７.0.0.1/",
            "http://0/",
            "http://0.0.0.0/",
            "http://10.1.2.3/",
            "http://172.16.0.1/",
            "http://172.31.255.255/",
            "http://192.168.1.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://0xA9FEA9FE/",
            "http://100.64.0.1/",
            "http://100.127.255.255/",
            "http://192.0.0.192/",
            "http://198.18.0.1/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[::]/",
            "http://[::1]/",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://[::127.0.0.1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[64:ff9b:1::1]/",
            "http://[2002:7f00:1::]/",
            "http://[2002:a00:1::1]/",
            "http://[2001::1]/",
            "http://[2001:db8::1]/",
            "http://[fc00::1]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://[fec0::1]/",
            "http://[ff02::1]/",
            "http://localhost/",
            "http://LOCALHOST:8080/",
            "http://localhost./",
            "http://a.localhost/",
            "http://printer.local/",
            "http://Printer.LOCAL./",
            "http://metadata.google.internal/",
            "http://nas.home.arpa/",
            "http://router/",
            "http://nas.lan/",
            "http://nas.fritz.box/",
            "http://wiki.corp./",
            "http://lo%63alhost/",
        ] {
            let refused = parse_address(bad, false);
            assert!(refused.is_err(), "{bad}: {refused:?}");
        }
    }

    #[test]
    fn a_home_may_allow_them() {
        for good in [
            "http://127.0.0.1:8123/",
            "http://homeassistant.local:8123/",
            "http://ha/",
        ] {
            assert!(parse_address(good, true).is_ok(), "{good}");
        }
    }

    #[test]
    fn other_urls_are_refused_even_there() {
        for bad in [
            "",
            "/relative",
            "example.com",
            "ftp://example.com/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:text/plain,x",
            "https://",
            "https://user@example.com/",
            "https://user:pass@example.com/",
            "https://:pass@example.com/",
            "https://exa mple.com/",
            "https://{{x}}.example.com/",
            "https://example.com/a/../b",
            "https://example.com/a/%2e%2E",
            "https://example.com/.%2e/b?c",
            "https://example.com\\..\\b",
            "https://example.com/./b",
        ] {
            assert!(parse_address(bad, true).is_err(), "{bad}");
        }
    }
}
