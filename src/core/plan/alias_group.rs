//! The application groups of aliases that are known without a request.

use crate::request::alias::{ScriptAlias, mount_of};
use crate::request::group::{Variables, application_group};

/// The parts of a server from which names of groups are made.
#[derive(Clone, Copy, Debug)]
pub struct ServerIdentity<'a> {
    /// `ServerName`.
    pub name: &'a [u8],
    /// The port of requests to the server.
    pub port: u16,
    /// `WSGICaseSensitivity`
    pub case_sensitive: bool,
}

/// Returns the application group of every request that matches an alias; `None` if it depends on the request. `written`
/// is the group as the alias or its server names it; `is_folder` says whether the target is a folder, in which the URL
/// names the script.
pub fn group_of_alias(
    written: &str,
    alias: &ScriptAlias,
    is_folder: bool,
    server: ServerIdentity<'_>,
) -> Option<Vec<u8>> {
    struct Mount<'a>(ServerIdentity<'a>, Vec<u8>);

    impl Variables for Mount<'_> {
        fn server_name(&self) -> &[u8] {
            self.0.name
        }
        fn port(&self) -> u16 {
            self.0.port
        }
        fn host(&self) -> Option<&[u8]> {
            None
        }
        fn script_name(&self) -> &[u8] {
            &self.1
        }
        fn env(&self, _: &str) -> Option<std::borrow::Cow<'_, [u8]>> {
            None
        }
    }

    let varies = written.starts_with("%{HOST}")
        || written.starts_with("%{ENV:")
        || written == "%{RESOURCE}" && (alias.regex || is_folder);
    if varies {
        return None;
    }
    let mount = mount_of(alias);
    // An alias of `/` has an empty script name.
    let script_name = mount.trim_end_matches('/').as_bytes().to_vec();
    let variables = Mount(server, script_name);
    Some(application_group(written, &variables, server.case_sensitive).into_owned())
}

/// Returns the group that all of `groups` are, if they are all the same; `None` among `groups` is one that depends on
/// the request.
pub fn only_group(groups: impl IntoIterator<Item = Option<Vec<u8>>>) -> Option<Vec<u8>> {
    let mut groups = groups.into_iter();
    let first = groups.next()??;
    groups
        .all(|other| other.as_ref() == Some(&first))
        .then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_aliases_are_known_unless_requests_name_them() {
        let server = ServerIdentity {
            name: b"a.test",
            port: 8080,
            case_sensitive: true,
        };
        for (written, location, regex, is_folder, expected) in [
            ("%{RESOURCE}", "/", false, false, Some("a.test:8080|")),
            (
                "%{RESOURCE}",
                "/App/",
                false,
                false,
                Some("a.test:8080|/App"),
            ),
            ("%{RESOURCE}", "/app", false, true, None),
            ("%{RESOURCE}", "^/(x)", true, false, None),
            ("%{SERVER}", "^/(x)", true, false, Some("a.test:8080")),
            ("%{GLOBAL}", "/app", false, false, Some("")),
            ("", "/app", false, false, Some("")),
            ("blog", "/app", false, true, Some("blog")),
            ("%{HOST}", "/app", false, false, None),
            ("%{ENV:X}", "/app", false, false, None),
        ] {
            let alias = ScriptAlias {
                location: location.into(),
                regex,
                ..ScriptAlias::default()
            };
            assert_eq!(
                group_of_alias(written, &alias, is_folder, server),
                expected.map(|name| name.as_bytes().to_vec()),
                "{written} {location}"
            );
        }
    }

    #[test]
    fn there_is_one_group_where_all_are_the_same_and_known() {
        let group = |name: &str| Some(name.as_bytes().to_vec());
        assert_eq!(only_group([]), None);
        assert_eq!(only_group([group("a")]), group("a"));
        assert_eq!(only_group([group("a"), group("a")]), group("a"));
        assert_eq!(only_group([group("a"), group("b")]), None);
        assert_eq!(only_group([group("a"), None]), None);
        assert_eq!(only_group([None, group("a")]), None);
    }
}
