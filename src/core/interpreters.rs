//! Which interpreters hold the application groups, and how these hold the GIL: as written, and what follows
//! (architecture 4).

use crate::alias::ScriptAlias;
use crate::config::PythonConfig;
use crate::group::{Variables, application_group};
use crate::interpreter_options::InterpreterOptions;
use crate::telemetry::mount_of;

/// `WSGIInterpreter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// The only application group of a server in the main interpreter; of several, each where its name says.
    #[default]
    Auto,
    /// In the main interpreter, whatever the name.
    Main,
    /// Where its name says: `%{GLOBAL}` in the main interpreter, any other in one of its own.
    Sub,
}

/// `WSGIGILMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GilMode {
    /// Under the GIL of the process.
    Shared,
    /// In replicas with GILs of their own.
    Own,
    /// In a process without a GIL.
    Free,
    /// Without a GIL where the build of Python has none; in replicas where the application can be imported there; else
    /// shared.
    Auto,
}

/// `WSGIInterpreters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// That many.
    Count(u32),
    /// As many as there are cores for a child.
    Auto,
}

impl Replicas {
    /// Most that may be written.
    pub const MOST: u32 = 64;
}

/// `WSGIFreeThreading`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeThreading {
    /// A free-threaded build runs with the GIL.
    Off,
    /// It runs without; any other build is as good.
    Possible,
    /// It runs without.
    On,
    /// It runs without, and does not serve what needs it.
    Require,
}

/// What one application group is to have, before the version of Python is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreters {
    /// `Auto` is resolved by who knows all groups.
    pub placement: Placement,
    /// `Free` is resolved to `Shared`, as it concerns the whole process.
    pub gil: GilMode,
    /// Whether GILs of its own were asked for, and the main interpreter, which cannot have one beside the others.
    pub is_overruled: bool,
    /// The number, where one above 1 was asked for beside a mode that shares the GIL.
    pub in_vain: Option<u32>,
    /// How many; of no meaning where `gil` is `Shared`.
    pub replicas: Replicas,
}

/// What may be written of interpreters, of the server or in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `WSGIInterpreter`
    pub placement: Option<Placement>,
    /// `WSGIGILMode`
    pub gil: Option<GilMode>,
    /// `WSGIPerInterpreterGIL`
    pub per_interpreter_gil: Option<bool>,
    /// `WSGIInterpreters`
    pub replicas: Option<Replicas>,
}

impl Written {
    /// What is written in the most specific place, each for itself.
    pub(crate) fn or(self, outer: Self) -> Self {
        // The two ways to say one thing replace each other.
        let says_gil = self.gil.is_some() || self.per_interpreter_gil.is_some();
        let gil = if says_gil { &self } else { &outer };
        Written {
            placement: self.placement.or(outer.placement),
            gil: gil.gil,
            per_interpreter_gil: gil.per_interpreter_gil,
            replicas: self.replicas.or(outer.replicas),
        }
    }

    /// What follows. `WSGIGILMode` wins over `WSGIPerInterpreterGIL`; who asks for several interpreters and says nothing
    /// else leaves the mode open.
    pub(crate) fn resolve(self) -> Interpreters {
        let of_mod_wsgi = self.per_interpreter_gil.map(|on| match on {
            true => GilMode::Own,
            false => GilMode::Shared,
        });
        let implied = match self.replicas {
            None | Some(Replicas::Count(1)) => GilMode::Shared,
            Some(_) => GilMode::Auto,
        };
        let placement = self.placement.unwrap_or_default();
        let asked = match self.gil.or(of_mod_wsgi).unwrap_or(implied) {
            GilMode::Free => GilMode::Shared,
            mode => mode,
        };
        let is_overruled = placement == Placement::Main && asked != GilMode::Shared;
        // mod_wsgi has one interpreter for each group.
        let default = match self.gil {
            Some(_) => Replicas::Auto,
            None => Replicas::Count(1),
        };
        Interpreters {
            placement,
            gil: if is_overruled { GilMode::Shared } else { asked },
            is_overruled,
            in_vain: match self.replicas {
                Some(Replicas::Count(count)) if count > 1 && asked == GilMode::Shared => {
                    Some(count)
                }
                _ => None,
            },
            replicas: self.replicas.unwrap_or(default),
        }
    }
}

/// What the process asks of a free-threaded build. Containers have no say: there is one GIL, or none.
pub fn free_threading(python: &PythonConfig) -> FreeThreading {
    let by_mode = match python.interpreters.gil {
        Some(GilMode::Free) => FreeThreading::On,
        Some(GilMode::Auto) => FreeThreading::Possible,
        _ => FreeThreading::Off,
    };
    python.free_threading.unwrap_or(by_mode)
}

/// The containers that ask for a mode which only the whole process can have.
pub fn free_in_containers(containers: &[InterpreterOptions]) -> bool {
    let free = |container: &InterpreterOptions| {
        container.interpreters.gil == Some(GilMode::Free) || container.free_threading
    };
    containers.iter().any(free)
}

/// A server, as far as names of groups are made of it.
#[derive(Clone, Copy, Debug)]
pub struct ServerIdentity<'a> {
    /// `ServerName`.
    pub name: &'a [u8],
    /// The port that requests to it have.
    pub port: u16,
    /// `WSGICaseSensitivity`
    pub case_sensitive: bool,
}

/// The application group that every request by an alias has, where requests do not decide: `written` is what the
/// alias or its server says, and `is_folder` whether the target is one, in which a URL names the script.
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
    // What takes every URL has no part of it as its name.
    let script_name = mount.trim_end_matches('/').as_bytes().to_vec();
    let variables = Mount(server, script_name);
    Some(application_group(written, &variables, server.case_sensitive).into_owned())
}

/// The only group of a server: each of `groups`, of which `None` is one that requests name, is this one.
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

    const NOTHING: Written = Written {
        placement: None,
        gil: None,
        per_interpreter_gil: None,
        replicas: None,
    };

    fn resolved(written: Written) -> (GilMode, Replicas) {
        let resolved = written.resolve();
        (resolved.gil, resolved.replicas)
    }

    #[test]
    fn what_is_written_becomes_a_mode() {
        use Replicas::{Auto, Count};
        for (gil, per_interpreter_gil, replicas, expected) in [
            (None, None, None, (GilMode::Shared, Count(1))),
            (None, None, Some(Count(1)), (GilMode::Shared, Count(1))),
            (None, None, Some(Count(2)), (GilMode::Auto, Count(2))),
            (None, None, Some(Auto), (GilMode::Auto, Auto)),
            (None, Some(true), None, (GilMode::Own, Count(1))),
            (None, Some(true), Some(Count(3)), (GilMode::Own, Count(3))),
            (None, Some(false), None, (GilMode::Shared, Count(1))),
            (Some(GilMode::Own), None, None, (GilMode::Own, Auto)),
            (Some(GilMode::Auto), None, None, (GilMode::Auto, Auto)),
            (
                Some(GilMode::Shared),
                Some(true),
                Some(Count(2)),
                (GilMode::Shared, Count(2)),
            ),
            (Some(GilMode::Free), None, None, (GilMode::Shared, Auto)),
        ] {
            let written = Written {
                gil,
                per_interpreter_gil,
                replicas,
                ..NOTHING
            };
            assert_eq!(resolved(written), expected, "{written:?}");
        }
    }

    #[test]
    fn the_inner_one_wins_and_the_two_names_of_a_mode_replace_each_other() {
        let outer = Written {
            gil: Some(GilMode::Auto),
            replicas: Some(Replicas::Count(4)),
            placement: Some(Placement::Sub),
            ..NOTHING
        };
        let inner = Written {
            per_interpreter_gil: Some(false),
            ..NOTHING
        };
        let both = inner.or(outer);
        assert_eq!(resolved(both), (GilMode::Shared, Replicas::Count(4)));
        assert_eq!(both.placement, Some(Placement::Sub));
    }

    #[test]
    fn the_whole_process_is_free_threaded_or_not() {
        for (gil, free, expected) in [
            (None, None, FreeThreading::Off),
            (Some(GilMode::Own), None, FreeThreading::Off),
            (Some(GilMode::Free), None, FreeThreading::On),
            (Some(GilMode::Auto), None, FreeThreading::Possible),
            (
                Some(GilMode::Free),
                Some(FreeThreading::Off),
                FreeThreading::Off,
            ),
            (None, Some(FreeThreading::Require), FreeThreading::Require),
        ] {
            let python = PythonConfig {
                interpreters: Written { gil, ..NOTHING },
                free_threading: free,
                ..PythonConfig::default()
            };
            assert_eq!(free_threading(&python), expected, "{gil:?} {free:?}");
        }
    }

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
