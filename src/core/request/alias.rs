//! `WSGIScriptAlias` and `WSGIScriptAliasMatch`: which URLs an alias matches and to which file it maps them [M-5].
//!
//! httpd's PCRE compiles and runs patterns; what follows from a match is the same for both kinds.

/// One alias, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptAlias {
    /// URL path, or pattern if `regex` is set.
    pub location: String,
    /// File or directory; may contain `$0` to `$9` if `regex` is set.
    pub target: String,
    /// Whether this is a `WSGIScriptAliasMatch`, whose pattern is unanchored and matched on the decoded URI.
    pub regex: bool,
    /// Options that follow location and target.
    pub options: ScriptOptions,
}

/// Options of an alias or of a `WSGIHandlerScript` [M-4]; `None` for an option that is not written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptOptions {
    /// `process-group=`, before expansion; "" for `%{GLOBAL}`.
    pub process_group: Option<String>,
    /// `application-group=`, before expansion; "" for `%{GLOBAL}`.
    pub application_group: Option<String>,
    /// `callable-object=`, before expansion.
    pub callable_object: Option<String>,
    /// `pass-authorization=`.
    pub pass_authorization: Option<bool>,
}

impl ScriptAlias {
    /// Returns the name of the directive.
    pub fn directive(&self) -> &'static str {
        if self.regex {
            "WSGIScriptAliasMatch"
        } else {
            "WSGIScriptAlias"
        }
    }

    /// Returns how many bytes of `uri` this alias matches; `None` if it does not match, or is a pattern.
    pub fn consumes(&self, uri: &[u8]) -> Option<usize> {
        if self.regex {
            None
        } else {
            match_plain(self.location.as_bytes(), uri)
        }
    }

    /// Returns process group and application group if the alias alone determines the interpreter of its script, so that
    /// the script is loaded ahead of the first request [M-8]: both groups are given, neither needs expansion, and the
    /// target names one script.
    pub fn fixed_groups(&self) -> Option<(&str, &str)> {
        let process_group = self.options.process_group.as_deref()?;
        let application_group = self.options.application_group.as_deref()?;
        let varies = process_group.contains("%{")
            || application_group.contains("%{")
            || self.regex && self.target.contains('$');
        (!varies).then_some((process_group, application_group))
    }
}

/// Returns how many bytes of `uri` the plain alias `location` matches, or `None` if it does not match.
///
/// A run of slashes matches any run of slashes, and an alias ends at the end of a path segment. `/` matches 0 bytes:
/// its target is prefixed to the whole URI.
pub fn match_plain(location: &[u8], uri: &[u8]) -> Option<usize> {
    if location == b"/" {
        return uri.starts_with(b"/").then_some(0);
    }
    let (mut at, mut taken) = (0, 0);
    while at < location.len() {
        if uri.get(taken) != Some(&location[at]) {
            return None;
        }
        if location[at] == b'/' {
            at += slashes(&location[at..]);
            taken += slashes(&uri[taken..]);
        } else {
            at += 1;
            taken += 1;
        }
    }
    let at_boundary = location.last()? == &b'/' || matches!(uri.get(taken), None | Some(b'/'));
    at_boundary.then_some(taken)
}

/// Returns the file name for `uri`, of which an alias matched `consumed` bytes. It is a plain concatenation, so that a
/// slash at the end of only one of location and target is doubled or lost, as in mod_wsgi.
///
/// For a pattern, `target` has its `$n` substituted, and `consumed` is the end of group 0.
pub fn filename(target: &[u8], uri: &[u8], consumed: usize) -> Vec<u8> {
    [target, uri.get(consumed..).unwrap_or_default()].concat()
}

/// Returns the URL path below which an alias has its application; for a pattern, the literal text that it begins with.
pub fn mount_of(alias: &ScriptAlias) -> String {
    if !alias.regex {
        return alias.location.clone();
    }
    let mut mount = String::new();
    let pattern = &alias.location;
    // URLs that match different alternatives need not begin with the same text.
    if pattern.contains('|') {
        return mount;
    }
    for c in pattern.strip_prefix('^').unwrap_or(pattern).chars() {
        match c {
            // The character before may be missing from the URL.
            '?' | '*' | '{' => {
                mount.pop();
                break;
            }
            '\\' | '.' | '[' | '(' | ')' | '+' | '^' | '$' => break,
            _ => mount.push(c),
        }
    }
    mount
}

fn slashes(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|&&byte| byte == b'/').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_aliases_match_whole_segments() {
        for (location, uri, expected) in [
            ("/", "/", Some(0)),
            ("/", "/a/b", Some(0)),
            ("/", "*", None),
            ("/app", "/app", Some(4)),
            ("/app", "/app/", Some(4)),
            ("/app", "/app/x", Some(4)),
            ("/app", "/apple", None),
            ("/app", "/ap", None),
            ("/app", "/", None),
            ("/app", "//app/x", Some(5)),
            ("/app/", "/app", None),
            ("/app/", "/app/", Some(5)),
            ("/app/", "/app/x", Some(5)),
            ("/app/", "/app///x", Some(7)),
            ("/a//b", "/a/b", Some(4)),
            ("/a/b", "/a///b/c", Some(6)),
            ("//", "///x", Some(3)),
            ("app", "/app", None),
            ("", "/app", None),
            ("/app", "", None),
            ("/app", "*", None),
        ] {
            assert_eq!(
                match_plain(location.as_bytes(), uri.as_bytes()),
                expected,
                "{location} {uri}"
            );
        }
    }

    #[test]
    fn filename_is_target_and_remainder() {
        for (location, target, uri, expected) in [
            ("/", "/s/app.wsgi", "/", "/s/app.wsgi/"),
            ("/", "/s/app.wsgi", "/a/b", "/s/app.wsgi/a/b"),
            ("/m", "/s/app.wsgi", "/m", "/s/app.wsgi"),
            ("/m", "/s/app.wsgi", "/m/x//y", "/s/app.wsgi/x//y"),
            ("/m/", "/s/", "/m/app.wsgi/z", "/s/app.wsgi/z"),
            ("/x", "/d/", "/x/y", "/d//y"),
            ("/x/", "/d", "/x/y", "/dy"),
        ] {
            let consumed = match_plain(location.as_bytes(), uri.as_bytes()).unwrap_or(usize::MAX);
            let name = filename(target.as_bytes(), uri.as_bytes(), consumed);
            assert_eq!(String::from_utf8_lossy(&name), expected);
        }
    }

    #[test]
    fn a_pattern_never_matches_as_a_path() {
        let alias = ScriptAlias {
            location: "/app".into(),
            regex: true,
            ..ScriptAlias::default()
        };
        assert_eq!(alias.consumes(b"/app"), None);
    }

    #[test]
    fn an_alias_preloads_where_its_interpreter_is_known() {
        let alias =
            |process: Option<&str>, application: Option<&str>, regex, target: &str| ScriptAlias {
                location: "/".into(),
                target: target.into(),
                regex,
                options: ScriptOptions {
                    process_group: process.map(String::from),
                    application_group: application.map(String::from),
                    ..ScriptOptions::default()
                },
            };
        for (process, application, regex, target, expected) in [
            (Some(""), Some(""), false, "/t", Some(("", ""))),
            (Some("p"), Some("a"), false, "/t$", Some(("p", "a"))),
            (Some("p"), None, false, "/t", None),
            (None, Some("a"), false, "/t", None),
            (Some("%{ENV:P}"), Some("a"), false, "/t", None),
            (Some("p"), Some("%{HOST}"), false, "/t", None),
            (Some("p"), Some("x%{y"), false, "/t", None),
            (Some("p"), Some("a"), true, "/t/$1", None),
            (Some("p"), Some("a"), true, "/t", Some(("p", "a"))),
        ] {
            assert_eq!(
                alias(process, application, regex, target).fixed_groups(),
                expected
            );
        }
    }

    #[test]
    fn the_mount_of_a_pattern_is_what_all_its_urls_begin_with() {
        for (pattern, mount) in [
            ("^/users/([^/]+)", "/users/"),
            ("^/(.*)$", "/"),
            ("/app", "/app"),
            ("^/apps?/", "/app"),
            ("^/x{2}", "/"),
            ("^/a/b+", "/a/b"),
            ("^/a\\.wsgi", "/a"),
            ("^/a|/b", ""),
            ("^.*/x", ""),
        ] {
            let alias = ScriptAlias {
                location: pattern.into(),
                regex: true,
                ..ScriptAlias::default()
            };
            assert_eq!(mount_of(&alias), mount, "{pattern}");
            let plain = ScriptAlias {
                regex: false,
                ..alias
            };
            assert_eq!(mount_of(&plain), pattern);
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_a_prefix_that_ends_a_segment(
            location in "/[ab/]{0,6}", uri in "[ab/]{0,10}",
        ) {
            if let Some(taken) = match_plain(location.as_bytes(), uri.as_bytes()) {
                prop_assert!(taken <= uri.len());
                let rest = &uri[taken..];
                prop_assert!(rest.is_empty() || rest.starts_with('/') || location.ends_with('/'));
                // The matched part is the alias, apart from runs of slashes.
                let squeeze = |text: &str| String::from_utf8_lossy(&crate::request::environ::collapse_slashes(text.as_bytes())).into_owned();
                if location != "/" {
                    prop_assert_eq!(squeeze(&uri[..taken]), squeeze(&location));
                }
            }
        }

        #[test]
        fn an_alias_takes_everything_below_it(location in "(/[ab]{1,3}){1,3}", below in "(/[ab]{0,3}){0,3}") {
            let uri = format!("{location}{below}");
            prop_assert_eq!(match_plain(location.as_bytes(), uri.as_bytes()), Some(location.len()));
        }
    }
}
