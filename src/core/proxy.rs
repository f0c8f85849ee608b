//! Headers of trusted proxies (4.6): which of them rewrite the environ, and which are taken out of it.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::subnet::Subnet;

/// The part of the environ that proxies' headers touch.
pub trait EnvironTable {
    /// Value of `key`.
    fn get(&self, key: &str) -> Option<Cow<'_, [u8]>>;
    /// Sets `key`, whether it was there or not.
    fn set(&mut self, key: &str, value: Vec<u8>);
    /// Removes `key`.
    fn unset(&mut self, key: &str);
}

/// One of the headers that `WSGITrustedProxyHeaders` may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Key in the environ.
    key: &'static str,
    role: Role,
}

/// What a header tells. Headers of one role are synonyms: at most one of them stays in the environ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Host,
    Server,
    Port,
    ScriptName,
    Scheme,
}

impl ProxyHeader {
    /// The header of this name, in any case; `None` for names that have no meaning here, such as `Forwarded` and
    /// `X-Forwarded-Prefix`.
    pub fn find(name: &str) -> Option<ProxyHeader> {
        let key = crate::environ::header_key(name.as_bytes());
        HEADERS
            .iter()
            .find(|header| header.key.as_bytes() == key)
            .copied()
    }
}

/// Applies the headers that `listed` names, in their order, if the peer is trusted; takes their synonyms out.
/// `proxies` is `None` where every peer is trusted. Returns whether a header decided on the scheme, so that the
/// connection's own TLS does not count.
pub fn apply(
    environ: &mut dyn EnvironTable,
    listed: &[ProxyHeader],
    proxies: Option<&[Subnet]>,
) -> bool {
    let trusted = match (proxies, environ.get("REMOTE_ADDR")) {
        (None, _) => true,
        (Some(proxies), Some(peer)) => is_trusted(&peer, proxies),
        (Some(_), None) => false,
    };
    let mut kept: Vec<ProxyHeader> = Vec::new();
    if trusted {
        for header in listed {
            if let Some(value) = environ.get(header.key).map(Cow::into_owned) {
                apply_one(environ, header, value, proxies);
                kept.retain(|earlier| earlier.role != header.role);
                kept.push(*header);
            }
        }
    }
    for header in HEADERS {
        let managed = listed.iter().any(|other| other.role == header.role);
        if managed && !kept.contains(header) {
            environ.unset(header.key);
        }
    }
    kept.iter().any(|header| header.role == Role::Scheme)
}

fn apply_one(
    environ: &mut dyn EnvironTable,
    header: &ProxyHeader,
    value: Vec<u8>,
    proxies: Option<&[Subnet]>,
) {
    match header.role {
        Role::Client if header.key == FORWARDED_FOR => forwarded_for(environ, &value, proxies),
        Role::Client => environ.set("REMOTE_ADDR", value),
        Role::Host => environ.set("HTTP_HOST", value),
        Role::Server => environ.set("SERVER_NAME", value),
        Role::Port => environ.set("SERVER_PORT", value),
        Role::ScriptName => {
            environ.set("mod_wsgi.mount_point", value.clone());
            environ.set("SCRIPT_NAME", value);
        }
        Role::Scheme => {
            let (secure, plain): (&[&str], &[&str]) = if is_flag(header.key) {
                (&["on", "true", "1"], &["off", "false", "0"])
            } else {
                (&["https"], &["http"])
            };
            let is_one_of = |words: &[&str]| {
                words
                    .iter()
                    .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
            };
            if is_one_of(secure) {
                environ.set("HTTPS", b"1".to_vec());
            } else if is_one_of(plain) {
                environ.unset("HTTPS");
            }
        }
    }
}

/// The client among the addresses of `X-Forwarded-For`, which each proxy extends on the right.
fn forwarded_for(environ: &mut dyn EnvironTable, value: &[u8], proxies: Option<&[Subnet]>) {
    let chain: Vec<&[u8]> = value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
        .collect();
    let Some(last) = chain.len().checked_sub(1) else {
        return;
    };
    let Some(proxies) = proxies else {
        environ.set("REMOTE_ADDR", chain[0].to_vec());
        return;
    };
    let vouched = chain
        .iter()
        .rev()
        .take_while(|element| is_trusted(element, proxies))
        .count();
    // The element left of the trusted ones was written by a trusted proxy; what is further left was not.
    let client = last.saturating_sub(vouched);
    environ.set("REMOTE_ADDR", chain[client].to_vec());
    environ.set(FORWARDED_FOR, chain[client..].join(&b", "[..]));
}

fn is_trusted(address: &[u8], proxies: &[Subnet]) -> bool {
    let address = std::str::from_utf8(address)
        .ok()
        .and_then(|text| text.parse::<IpAddr>().ok());
    address.is_some_and(|address| proxies.iter().any(|subnet| subnet.contains(address)))
}

/// Whether the header says On or Off instead of naming the scheme.
fn is_flag(key: &str) -> bool {
    matches!(
        key,
        "HTTP_X_FORWARDED_HTTPS" | "HTTP_X_FORWARDED_SSL" | "HTTP_X_HTTPS"
    )
}

const FORWARDED_FOR: &str = "HTTP_X_FORWARDED_FOR";

const HEADERS: &[ProxyHeader] = &[
    ProxyHeader {
        key: FORWARDED_FOR,
        role: Role::Client,
    },
    ProxyHeader {
        key: "HTTP_X_CLIENT_IP",
        role: Role::Client,
    },
    ProxyHeader {
        key: "HTTP_X_REAL_IP",
        role: Role::Client,
    },
    ProxyHeader {
        key: "HTTP_X_FORWARDED_HOST",
        role: Role::Host,
    },
    ProxyHeader {
        key: "HTTP_X_HOST",
        role: Role::Host,
    },
    ProxyHeader {
        key: "HTTP_X_FORWARDED_SERVER",
        role: Role::Server,
    },
    ProxyHeader {
        key: "HTTP_X_FORWARDED_PORT",
        role: Role::Port,
    },
    ProxyHeader {
        key: "HTTP_X_SCRIPT_NAME",
        role: Role::ScriptName,
    },
    ProxyHeader {
        key: "HTTP_X_FORWARDED_SCRIPT_NAME",
        role: Role::ScriptName,
    },
    ProxyHeader {
        key: "HTTP_X_FORWARDED_PROTO",
        role: Role::Scheme,
    },
    ProxyHeader {
        key: "HTTP_X_FORWARDED_SCHEME",
        role: Role::Scheme,
    },
    ProxyHeader {
        key: "HTTP_X_SCHEME",
        role: Role::Scheme,
    },
    ProxyHeader {
        key: "HTTP_X_FORWARDED_HTTPS",
        role: Role::Scheme,
    },
    ProxyHeader {
        key: "HTTP_X_FORWARDED_SSL",
        role: Role::Scheme,
    },
    ProxyHeader {
        key: "HTTP_X_HTTPS",
        role: Role::Scheme,
    },
];
