//! Which interpreters hold the application groups, and which GIL these have: as written, and resolved ([E-9], [E-10]).

use wsgi_abi::GilMode;

/// `WSGIInterpreter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// The only application group of a server runs in the main interpreter; if there are several, as
    /// [`Placement::Sub`].
    #[default]
    Auto,
    /// The group runs in the main interpreter, whatever its name.
    Main,
    /// `%{GLOBAL}` runs in the main interpreter, any other group in its own sub-interpreter.
    Sub,
}

/// `WSGIInterpreters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// This number.
    Count(u32),
    /// One for each core that a child has.
    Auto,
}

impl Replicas {
    /// The largest number that may be written.
    pub const MOST: u32 = 64;
}

/// The interpreters that one application group asks for, before the version of Python is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreters {
    /// Which interpreter the group runs in. `Auto` is resolved when all groups are known.
    pub placement: Placement,
    /// Which GIL the interpreters have.
    pub gil: GilMode,
    /// Whether the configuration asks for own GILs and for the main interpreter, which cannot have an own GIL beside
    /// other interpreters.
    pub is_overruled: bool,
    /// The configured number of interpreters, if it is above 1 and the mode shares the GIL, so that it has no effect.
    pub in_vain: Option<u32>,
    /// How many interpreters; no meaning if `gil` is `Shared`.
    pub replicas: Replicas,
}

/// The directives on interpreters, as written in the server or in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterpreterConfig {
    /// `WSGIInterpreter`
    pub placement: Option<Placement>,
    /// `WSGIGILMode`; `shared` for `free`, which concerns the whole process.
    pub gil: Option<GilMode>,
    /// Whether `WSGIGILMode` is `free`.
    pub without_gil: bool,
    /// `WSGIPerInterpreterGIL`
    pub per_interpreter_gil: Option<bool>,
    /// `WSGIInterpreters`
    pub replicas: Option<Replicas>,
}

impl InterpreterConfig {
    /// Returns each value of `self`, or of `outer` if `self` has none.
    pub(crate) fn or(self, outer: Self) -> Self {
        // `WSGIGILMode` and `WSGIPerInterpreterGIL` say the same thing, so the inner one replaces the outer one.
        let says_gil = self.gil.is_some() || self.per_interpreter_gil.is_some();
        let gil = if says_gil { &self } else { &outer };
        InterpreterConfig {
            placement: self.placement.or(outer.placement),
            gil: gil.gil,
            without_gil: gil.without_gil,
            per_interpreter_gil: gil.per_interpreter_gil,
            replicas: self.replicas.or(outer.replicas),
        }
    }

    /// Resolves the directives. `WSGIGILMode` wins over `WSGIPerInterpreterGIL`; several interpreters without either of
    /// them mean `auto`.
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
        let asked = self.gil.or(of_mod_wsgi).unwrap_or(implied);
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: InterpreterConfig = InterpreterConfig {
        placement: None,
        gil: None,
        without_gil: false,
        per_interpreter_gil: None,
        replicas: None,
    };

    fn resolved(written: InterpreterConfig) -> (GilMode, Replicas) {
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
            (Some(GilMode::Shared), None, None, (GilMode::Shared, Auto)),
        ] {
            let written = InterpreterConfig {
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
        let outer = InterpreterConfig {
            gil: Some(GilMode::Auto),
            replicas: Some(Replicas::Count(4)),
            placement: Some(Placement::Sub),
            ..NOTHING
        };
        let inner = InterpreterConfig {
            per_interpreter_gil: Some(false),
            ..NOTHING
        };
        let both = inner.or(outer);
        assert_eq!(resolved(both), (GilMode::Shared, Replicas::Count(4)));
        assert_eq!(both.placement, Some(Placement::Sub));
    }
}
