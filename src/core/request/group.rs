//! Names that are expanded for each request [M-9]: application group, process group, callable.
//!
//! Only a whole value is a token: `prefix-%{HOST}` is a literal name. A token that cannot be expanded is the name
//! itself.

use std::borrow::Cow;

use crate::request::environ::collapse_slashes;

/// The values from which a name may be made.
pub trait Variables {
    /// `ServerName` of the virtual host.
    fn server_name(&self) -> &[u8];
    /// `ap_get_server_port`.
    fn port(&self) -> u16;
    /// Returns the name in the `Host` header, without the port.
    fn host(&self) -> Option<&[u8]>;
    /// Returns the URI without path info; slashes need not be collapsed.
    fn script_name(&self) -> &[u8];
    /// Returns the first one that exists of: note of the request, variable of the request, variable of the process.
    fn env(&self, name: &str) -> Option<Cow<'_, [u8]>>;
}

/// Returns the name of an application group from `WSGIApplicationGroup` or `application-group=`; "" for the main
/// interpreter. `case_sensitive` is `WSGICaseSensitivity`. A literal is returned as it is.
pub fn application_group<'a>(
    written: &'a str,
    variables: &'a dyn Variables,
    case_sensitive: bool,
) -> Cow<'a, [u8]> {
    let literal = Cow::Borrowed(written.as_bytes());
    if !written.starts_with('%') {
        return literal;
    }
    match written {
        "%{GLOBAL}" => Cow::Borrowed(b""),
        "%{SERVER}" => Cow::Owned(with_port(variables.server_name(), variables.port())),
        "%{HOST}" => Cow::Owned(with_port(host(variables), variables.port())),
        "%{RESOURCE}" => Cow::Owned(resource(variables, case_sensitive)),
        _ => match env_token(written).and_then(|name| variables.env(name)) {
            // A value may be one of the other tokens, but never `%{ENV:}` again.
            Some(value) if value.starts_with(b"%") && !value.starts_with(b"%{ENV:") => {
                match std::str::from_utf8(&value) {
                    Ok(token) => {
                        Cow::Owned(application_group(token, variables, case_sensitive).into_owned())
                    }
                    Err(_) => value,
                }
            }
            Some(value) => value,
            None => literal,
        },
    }
}

/// Returns the name of a process group from `WSGIProcessGroup` or `process-group=`, with the same expansions; "" for
/// embedded.
pub fn process_group<'a>(
    written: &'a str,
    variables: &'a dyn Variables,
    case_sensitive: bool,
) -> Cow<'a, [u8]> {
    application_group(written, variables, case_sensitive)
}

/// Returns the name of the callable from `WSGICallableObject` or `callable-object=`. Only `%{ENV:}` is expanded.
/// Anything else that begins with `%`, or a variable that is not set, gives `application`.
pub fn callable_object<'a>(written: &'a str, variables: &'a dyn Variables) -> Cow<'a, [u8]> {
    if !written.starts_with('%') {
        return Cow::Borrowed(written.as_bytes());
    }
    env_token(written)
        .and_then(|name| variables.env(name))
        .unwrap_or(Cow::Borrowed(b"application"))
}

/// Returns the name of a group without expansion, except that `%{GLOBAL}` is "".
pub(crate) fn literal_group(written: String) -> String {
    if written == "%{GLOBAL}" {
        String::new()
    } else {
        written
    }
}

/// Returns whether requests may choose the process group `name` ("" for httpd's children). `permitted` is
/// `WSGIRestrictProcess`, with "" for `%{GLOBAL}`; `None` permits every group. The case of ASCII letters is ignored.
pub fn may_choose(permitted: Option<&[String]>, name: &[u8]) -> bool {
    let is_name = |listed: &String| listed.as_bytes().eq_ignore_ascii_case(name);
    permitted.is_none_or(|listed| listed.iter().any(is_name))
}

/// Returns the name of a group without its port, so that the names of one group for different ports of its server
/// compare equal.
pub fn without_port(group: &[u8]) -> Vec<u8> {
    let end = group.iter().position(|&byte| byte == b'|');
    let (host, rest) = group.split_at(end.unwrap_or(group.len()));
    let host = match host.iter().rposition(|&byte| byte == b':') {
        Some(at) if host.len() > at + 1 && host[at + 1..].iter().all(u8::is_ascii_digit) => {
            &host[..at]
        }
        _ => host,
    };
    [host, rest].concat()
}

/// Returns how many interpreters a child has for groups that the configuration does not name. `limit` is
/// `WSGIApplicationGroupLimit`, `most` the most interpreters of a child, and `named` the number of groups that the
/// configuration names. If `named` is more than a child can have, a part is still left for the others, as a child
/// hardly uses all named groups.
pub fn most_unnamed(limit: Option<u32>, most: u32, named: u32) -> u32 {
    limit.unwrap_or_else(|| most.saturating_sub(named).max(most / 4))
}

fn env_token(written: &str) -> Option<&str> {
    written.strip_prefix("%{ENV:")?.strip_suffix('}')
}

fn host(variables: &dyn Variables) -> &[u8] {
    variables
        .host()
        .filter(|host| !host.is_empty())
        .unwrap_or(variables.server_name())
}

fn resource(variables: &dyn Variables, case_sensitive: bool) -> Vec<u8> {
    let mut name = with_port(variables.server_name(), variables.port());
    name.push(b'|');
    let server = name.len();
    name.extend_from_slice(&collapse_slashes(variables.script_name()));
    if !case_sensitive {
        name[server..].make_ascii_lowercase();
    }
    name
}

/// Returns `host:port`, without the port if it is 80 or 443, whatever the scheme. So http and https of one `ServerName`
/// share an interpreter, as in mod_wsgi: existing configurations and logs contain these names.
fn with_port(host: &[u8], port: u16) -> Vec<u8> {
    match port {
        80 | 443 => host.to_vec(),
        _ => [host, format!(":{port}").as_bytes()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Request {
        port: u16,
        host: Option<&'static str>,
        script_name: &'static str,
    }

    const REQUEST: Request = Request {
        port: 80,
        host: Some("h.example"),
        script_name: "/App",
    };

    impl Variables for Request {
        fn server_name(&self) -> &[u8] {
            b"s.example"
        }
        fn port(&self) -> u16 {
            self.port
        }
        fn host(&self) -> Option<&[u8]> {
            self.host.map(str::as_bytes)
        }
        fn script_name(&self) -> &[u8] {
            self.script_name.as_bytes()
        }
        fn env(&self, name: &str) -> Option<Cow<'_, [u8]>> {
            let value: &'static [u8] = match name {
                "A" => b"alpha",
                "EMPTY" => b"",
                "GLOBAL" => b"%{GLOBAL}",
                "HOST" => b"%{HOST}",
                "AGAIN" => b"%{ENV:A}",
                "ODD" => b"%\xff",
                _ => return None,
            };
            Some(Cow::Borrowed(value))
        }
    }

    fn shown(name: Cow<'_, [u8]>) -> String {
        String::from_utf8_lossy(&name).into_owned()
    }

    #[test]
    fn application_groups() {
        for (written, expected) in [
            ("", ""),
            ("literal", "literal"),
            ("prefix-%{HOST}", "prefix-%{HOST}"),
            ("%{GLOBAL}", ""),
            ("%{SERVER}", "s.example"),
            ("%{HOST}", "h.example"),
            ("%{RESOURCE}", "s.example|/App"),
            ("%{ENV:A}", "alpha"),
            ("%{ENV:EMPTY}", ""),
            ("%{ENV:GLOBAL}", ""),
            ("%{ENV:HOST}", "h.example"),
            ("%{ENV:AGAIN}", "%{ENV:A}"),
            ("%{ENV:ODD}", "%\u{fffd}"),
            ("%{ENV:MISSING}", "%{ENV:MISSING}"),
            ("%{ENV:A", "%{ENV:A"),
            ("%{global}", "%{global}"),
            ("%", "%"),
        ] {
            assert_eq!(
                shown(application_group(written, &REQUEST, true)),
                expected,
                "{written}"
            );
            assert_eq!(
                shown(process_group(written, &REQUEST, true)),
                expected,
                "{written}"
            );
        }
    }

    #[test]
    fn a_literal_is_not_copied() {
        assert!(matches!(
            application_group("literal", &REQUEST, true),
            Cow::Borrowed(_)
        ));
        assert!(matches!(
            application_group("%{GLOBAL}", &REQUEST, true),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn the_port_is_part_of_the_name_unless_it_is_80_or_443() {
        for (port, expected) in [
            (80, "s.example|"),
            (443, "s.example|"),
            (8080, "s.example:8080|"),
        ] {
            let request = Request {
                port,
                script_name: "",
                ..REQUEST
            };
            assert_eq!(
                shown(application_group("%{RESOURCE}", &request, true)),
                expected
            );
        }
    }

    #[test]
    fn without_a_host_header_the_server_is_named() {
        for host in [None, Some("")] {
            let request = Request {
                host,
                port: 81,
                ..REQUEST
            };
            assert_eq!(
                shown(application_group("%{HOST}", &request, true)),
                "s.example:81"
            );
        }
    }

    #[test]
    fn resource_has_single_slashes_and_may_ignore_case() {
        let request = Request {
            script_name: "//App//X",
            ..REQUEST
        };
        assert_eq!(
            shown(application_group("%{RESOURCE}", &request, true)),
            "s.example|/App/X"
        );
        assert_eq!(
            shown(application_group("%{RESOURCE}", &request, false)),
            "s.example|/app/x"
        );
    }

    #[test]
    fn groups_are_known_by_any_port() {
        for (group, known) in [
            ("s.example:8080|/app", "s.example|/app"),
            ("s.example|/app:80", "s.example|/app:80"),
            ("s.example:81", "s.example"),
            ("[::1]:8080|", "[::1]|"),
            ("a:b", "a:b"),
            ("a:", "a:"),
            ("", ""),
        ] {
            let found = without_port(group.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), known, "{group}");
        }
    }

    #[test]
    fn groups_that_are_named_keep_their_places() {
        for (limit, named, most) in [
            (None, 0, 255),
            (None, 1, 254),
            (None, 192, 63),
            (None, 193, 63),
            (None, 5_000, 63),
            (Some(3), 0, 3),
            (Some(3), 253, 3),
            (Some(255), 1, 255),
        ] {
            assert_eq!(most_unnamed(limit, 255, named), most, "{limit:?} {named}");
        }
    }

    #[test]
    fn a_list_of_process_groups_permits_its_own_in_any_case() {
        let listed = |names: &[&str]| -> Vec<String> {
            let names = names.iter().map(|name| (*name).to_owned());
            names.map(literal_group).collect()
        };
        for (names, name, expected) in [
            (&["site", "reports"][..], "site", true),
            (&["site", "reports"], "REPORTS", true),
            (&["Site"], "site", true),
            (&["site"], "site2", false),
            (&["site"], "sit", false),
            (&["site"], "", false),
            (&["%{GLOBAL}"], "", true),
            (&["%{GLOBAL}"], "%{GLOBAL}", false),
            (&["\u{c4}"], "\u{c4}", true),
            (&["\u{c4}"], "\u{e4}", false),
            (&[], "site", false),
            (&[], "", false),
        ] {
            let found = may_choose(Some(&listed(names)), name.as_bytes());
            assert_eq!(found, expected, "{names:?} {name}");
        }
        assert!(may_choose(None, b"site") && may_choose(None, b""));
        assert!(!may_choose(Some(&listed(&["site"])), b"\xff"));
    }

    #[test]
    fn callables() {
        for (written, expected) in [
            ("app", "app"),
            ("%{ENV:A}", "alpha"),
            ("%{ENV:HOST}", "%{HOST}"),
            ("%{ENV:MISSING}", "application"),
            ("%{ENV:A", "application"),
            ("%{GLOBAL}", "application"),
            ("%", "application"),
        ] {
            assert_eq!(
                shown(callable_object(written, &REQUEST)),
                expected,
                "{written}"
            );
        }
    }
}
