//! Headers of trusted proxies [M-15]: which of them change the environ, and which are removed from it.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::request::subnet::Subnet;

/// Access to the environ for headers of proxies.
pub trait EnvironTable {
    /// Returns the value of `key`.
    fn get(&self, key: &str) -> Option<Cow<'_, [u8]>>;
    /// Sets `key`, and replaces a value that it has.
    fn set(&mut self, key: &str, value: Vec<u8>);
    /// Removes `key`.
    fn unset(&mut self, key: &str);
}

/// One of the headers that `WSGITrustedProxyHeaders` may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The header's key in the environ.
    key: &'static str,
    role: Role,
}

/// What a header reports. Headers of one role are synonyms: at most one of them stays in the environ.
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
    /// Returns the header of this name, in any case; `None` for names that have no meaning here, such as `Forwarded`
    /// and `X-Forwarded-Prefix`.
    pub fn find(name: &str) -> Option<ProxyHeader> {
        let key = crate::request::environ::header_key(name.as_bytes());
        HEADERS
            .iter()
            .find(|header| header.key.as_bytes() == key)
            .copied()
    }
}

/// Applies the headers in `listed`, in order, if the peer is trusted, and removes their synonyms. `proxies` is `None`
/// if every peer is trusted. Returns whether a header determined the scheme, so that the connection's own TLS does not
/// count.
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

/// Finds the client among the addresses of `X-Forwarded-For`, which each proxy extends on the right, and sets it.
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
    // A trusted proxy wrote the address left of the trusted ones; the addresses further left are not vouched for.
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

/// Returns whether the header says On or Off instead of naming the scheme.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Table(BTreeMap<String, Vec<u8>>);

    impl EnvironTable for Table {
        fn get(&self, key: &str) -> Option<Cow<'_, [u8]>> {
            self.0.get(key).map(|value| Cow::Borrowed(&value[..]))
        }
        fn set(&mut self, key: &str, value: Vec<u8>) {
            self.0.insert(key.into(), value);
        }
        fn unset(&mut self, key: &str) {
            self.0.remove(key);
        }
    }

    /// Returns the resulting environ, as "KEY=value" joined by "; ", and whether a header determined the scheme.
    fn applied(environ: &str, listed: &str, proxies: Option<&str>) -> (String, bool) {
        let mut table = Table::default();
        for (key, value) in environ
            .split("; ")
            .filter_map(|entry| entry.split_once('='))
        {
            table.set(key, value.into());
        }
        let listed: Vec<_> = listed.split(' ').filter_map(ProxyHeader::find).collect();
        let proxies: Option<Vec<_>> = proxies.map(|list| {
            list.split(' ')
                .filter(|p| !p.is_empty())
                .map(|p| Subnet::parse(p).unwrap())
                .collect()
        });
        let scheme = apply(&mut table, &listed, proxies.as_deref());
        let shown: Vec<String> = table
            .0
            .iter()
            .map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value)))
            .collect();
        (shown.join("; "), scheme)
    }

    #[test]
    fn headers_are_found_by_their_names() {
        for name in [
            "X-Forwarded-For",
            "x-real-ip",
            "X_FORWARDED_PROTO",
            "X-Forwarded-Script-Name",
        ] {
            assert!(ProxyHeader::find(name).is_some(), "{name}");
        }
        for name in ["Forwarded", "X-Forwarded-Prefix", "Host", ""] {
            assert_eq!(ProxyHeader::find(name), None, "{name}");
        }
        assert_eq!(HEADERS.len(), 15);
    }

    #[test]
    fn every_header_has_its_effect() {
        for (header, value, expected) in [
            (
                "X-Client-IP",
                "1.1.1.1",
                "HTTP_X_CLIENT_IP=1.1.1.1; REMOTE_ADDR=1.1.1.1",
            ),
            (
                "X-Real-IP",
                "1.1.1.1, x",
                "HTTP_X_REAL_IP=1.1.1.1, x; REMOTE_ADDR=1.1.1.1, x",
            ),
            (
                "X-Forwarded-Host",
                "h:8",
                "HTTP_HOST=h:8; HTTP_X_FORWARDED_HOST=h:8; REMOTE_ADDR=9.9.9.9",
            ),
            (
                "X-Host",
                "h",
                "HTTP_HOST=h; HTTP_X_HOST=h; REMOTE_ADDR=9.9.9.9",
            ),
            (
                "X-Forwarded-Server",
                "s",
                "HTTP_X_FORWARDED_SERVER=s; REMOTE_ADDR=9.9.9.9; SERVER_NAME=s",
            ),
            (
                "X-Forwarded-Port",
                "81",
                "HTTP_X_FORWARDED_PORT=81; REMOTE_ADDR=9.9.9.9; SERVER_PORT=81",
            ),
            (
                "X-Script-Name",
                "/m",
                "HTTP_X_SCRIPT_NAME=/m; REMOTE_ADDR=9.9.9.9; SCRIPT_NAME=/m; mod_wsgi.mount_point=/m",
            ),
            (
                "X-Forwarded-Script-Name",
                "/m",
                "HTTP_X_FORWARDED_SCRIPT_NAME=/m; REMOTE_ADDR=9.9.9.9; SCRIPT_NAME=/m; mod_wsgi.mount_point=/m",
            ),
        ] {
            let key = header.to_uppercase().replace('-', "_");
            let environ = format!("REMOTE_ADDR=9.9.9.9; HTTP_{key}={value}");
            assert_eq!(
                applied(&environ, header, None),
                (expected.into(), false),
                "{header}"
            );
        }
    }

    #[test]
    fn schemes_are_words_or_flags() {
        let words = ["X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Scheme"];
        let flags = ["X-Forwarded-HTTPS", "X-Forwarded-SSL", "X-HTTPS"];
        for (headers, value, expected) in [
            (words, "https", Some("1")),
            (words, "HTTPS", Some("1")),
            (words, "http", None),
            (words, "Http", None),
            (words, "ftp", Some("was")),
            (words, "on", Some("was")),
            (flags, "On", Some("1")),
            (flags, "true", Some("1")),
            (flags, "1", Some("1")),
            (flags, "OFF", None),
            (flags, "False", None),
            (flags, "0", None),
            (flags, "https", Some("was")),
        ] {
            for header in headers {
                let entry = format!("HTTP_{}={value}", header.to_uppercase().replace('-', "_"));
                let (environ, scheme) = applied(&format!("HTTPS=was; {entry}"), header, None);
                let https = expected
                    .map(|value| format!("HTTPS={value}; "))
                    .unwrap_or_default();
                assert_eq!(environ, format!("{https}{entry}"), "{header}");
                assert!(scheme, "any word counts");
            }
        }
    }

    #[test]
    fn forwarded_for_names_the_client() {
        let trusted = Some("10.0.0.0/8 fd00::/8");
        for (chain, proxies, address, left) in [
            ("1.1.1.1, 2.2.2.2", None, "1.1.1.1", "1.1.1.1, 2.2.2.2"),
            (
                " , 1.1.1.1 ,2.2.2.2",
                None,
                "1.1.1.1",
                " , 1.1.1.1 ,2.2.2.2",
            ),
            (" , ", None, "10.9.9.9", " , "),
            ("1.1.1.1", trusted, "1.1.1.1", "1.1.1.1"),
            ("1.1.1.1, 10.0.0.1", trusted, "1.1.1.1", "1.1.1.1, 10.0.0.1"),
            (
                "6.6.6.6, 1.1.1.1, 10.0.0.1,10.0.0.2",
                trusted,
                "1.1.1.1",
                "1.1.1.1, 10.0.0.1, 10.0.0.2",
            ),
            (
                "10.0.0.1, 1.1.1.1, 10.0.0.2",
                trusted,
                "1.1.1.1",
                "1.1.1.1, 10.0.0.2",
            ),
            (
                "10.0.0.1, 10.0.0.2",
                trusted,
                "10.0.0.1",
                "10.0.0.1, 10.0.0.2",
            ),
            ("6.6.6.6, 1.1.1.1", trusted, "1.1.1.1", "1.1.1.1"),
            ("1.1.1.1, junk, 10.0.0.1", trusted, "junk", "junk, 10.0.0.1"),
            ("1.1.1.1, 10.0.0.1, junk", trusted, "junk", "junk"),
            (
                "1.1.1.1,, 10.0.0.1 ,",
                trusted,
                "1.1.1.1",
                "1.1.1.1, 10.0.0.1",
            ),
            (
                "2001:db8::1, fd00::1",
                trusted,
                "2001:db8::1",
                "2001:db8::1, fd00::1",
            ),
        ] {
            let environ = format!("REMOTE_ADDR=10.9.9.9; HTTP_X_FORWARDED_FOR={chain}");
            let expected = format!("HTTP_X_FORWARDED_FOR={left}; REMOTE_ADDR={address}");
            assert_eq!(
                applied(&environ, "X-Forwarded-For", proxies).0,
                expected,
                "{chain}"
            );
        }
    }

    #[test]
    fn peers_are_trusted_by_their_address() {
        for (peer, proxies, trusted) in [
            ("9.9.9.9", None, true),
            ("10.1.1.1", Some("10.0.0.0/8"), true),
            ("9.9.9.9", Some("10.0.0.0/8"), false),
            ("9.9.9.9", Some("10.0.0.0/8 9.9.9.9"), true),
            ("::1", Some("::1"), true),
            ("junk", Some("0.0.0.0/0"), false),
            ("9.9.9.9", Some(""), false),
        ] {
            let environ = format!("HTTP_X_HOST=h; REMOTE_ADDR={peer}");
            let expected = if trusted {
                format!("HTTP_HOST=h; {environ}")
            } else {
                format!("REMOTE_ADDR={peer}")
            };
            assert_eq!(
                applied(&environ, "X-Host", proxies).0,
                expected,
                "{peer} {proxies:?}"
            );
        }
        assert_eq!(
            applied("HTTP_X_HOST=h", "X-Host", Some("10.0.0.1")).0,
            "",
            "no peer, no trust"
        );
    }

    #[test]
    fn synonyms_are_taken_out() {
        let all = "HTTP_X_CLIENT_IP=2; HTTP_X_FORWARDED_FOR=1; HTTP_X_HOST=h; HTTP_X_REAL_IP=3; REMOTE_ADDR=9.9.9.9";
        for (listed, proxies, expected) in [
            // The last listed header that is present wins and stays; another role is not touched.
            (
                "X-Real-IP X-Client-IP",
                None,
                "HTTP_X_CLIENT_IP=2; HTTP_X_HOST=h; REMOTE_ADDR=2",
            ),
            (
                "X-Client-IP X-Real-IP",
                None,
                "HTTP_X_HOST=h; HTTP_X_REAL_IP=3; REMOTE_ADDR=3",
            ),
            (
                "X-Host X-Forwarded-Host X-Forwarded-For",
                None,
                "HTTP_HOST=h; HTTP_X_FORWARDED_FOR=1; HTTP_X_HOST=h; REMOTE_ADDR=1",
            ),
            // From an untrusted peer, the listed header is removed as well.
            (
                "X-Real-IP",
                Some("10.0.0.1"),
                "HTTP_X_HOST=h; REMOTE_ADDR=9.9.9.9",
            ),
            // Without listed headers, none is removed.
            ("", None, all),
        ] {
            assert_eq!(applied(all, listed, proxies).0, expected, "{listed}");
        }
        // The listed header is absent; its synonym is removed all the same.
        assert_eq!(applied("HTTP_X_FORWARDED_HOST=evil", "X-Host", None).0, "");
    }

    #[test]
    fn words_and_flags_of_the_scheme_are_synonyms() {
        let environ = "HTTPS=1; HTTP_X_FORWARDED_PROTO=http; HTTP_X_FORWARDED_SSL=on";
        assert_eq!(
            applied(environ, "X-Forwarded-Proto", None),
            ("HTTP_X_FORWARDED_PROTO=http".into(), true)
        );
        assert_eq!(
            applied(environ, "X-Forwarded-Proto X-Forwarded-SSL", None),
            ("HTTPS=1; HTTP_X_FORWARDED_SSL=on".into(), true)
        );
        assert_eq!(
            applied("HTTPS=1", "X-Forwarded-Proto", None),
            ("HTTPS=1".into(), false),
            "absent: not decided"
        );
    }
}
