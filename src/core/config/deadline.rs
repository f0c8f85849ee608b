//! `WSGIRequestTimeout`, and the seconds that several directives take.

use std::time::Duration;

use crate::config::conf_words::Words;

/// `WSGIRequestTimeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// How long a request may run.
    pub limit: Duration,
    /// How long the request may then take to end, before its child is replaced.
    pub grace: Duration,
}

impl Deadline {
    /// The default of `grace`.
    pub const GRACE: Duration = Duration::from_secs(1);

    /// Parses `seconds [grace=seconds]`, or `Off`, which gives `None`.
    pub(crate) fn parse(args: &str) -> Result<Option<Deadline>, String> {
        let mut words = Words::new(args);
        let Some(first) = words.next() else {
            return Err("takes a number of seconds or Off, and there is nothing".into());
        };
        let limit = or_off(&first)?;
        let mut grace = None;
        while !words.is_empty() {
            let (name, value) = words
                .option()
                .ok_or_else(|| format!("'{}' is not of the form grace=seconds", words.rest()))?;
            if !name.eq_ignore_ascii_case("grace") {
                return Err(format!(
                    "'{name}' is not an option here; permitted is grace="
                ));
            }
            grace = Some(named(name, &value)?);
        }
        match (limit, grace) {
            (None, Some(_)) => Err(format!("grace= may not stand after {first}")),
            (None, None) => Ok(None),
            (Some(limit), grace) => Ok(Some(Deadline {
                limit,
                grace: grace.unwrap_or(Self::GRACE),
            })),
        }
    }
}

/// Parses a number of seconds from 0.001 on, with or without a fraction. A number above [`LONGEST`] becomes that.
fn seconds(word: &str) -> Option<Duration> {
    let number = word.parse::<f64>().ok().filter(|number| *number >= 0.001)?;
    Some(Duration::from_secs_f64(number.min(LONGEST)))
}

/// Parses the value of the option `name` as seconds.
pub(crate) fn named(name: &str, value: &str) -> Result<Duration, String> {
    seconds(value).ok_or_else(|| format!("{name}={value} is not a number of seconds from 0.001 on"))
}

/// Parses a number of seconds; returns `None` for Off and 0.
pub(crate) fn or_off(word: &str) -> Result<Option<Duration>, String> {
    if word.eq_ignore_ascii_case("off") || word.parse() == Ok(0.0) {
        return Ok(None);
    }
    let found = seconds(word).map(Some);
    found.ok_or_else(|| format!("'{word}' is neither Off nor a number of seconds from 0.001 on"))
}

/// Returns `limit`, or [`LONGEST`] if that is shorter, so that the end of a limit is a time that the clock has.
pub(crate) fn capped(limit: Duration) -> Duration {
    limit.min(Duration::from_secs_f64(LONGEST))
}

/// Longest time limit: a year, in seconds.
const LONGEST: f64 = 31_536_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read() {
        let deadline = |limit, grace| {
            let (limit, grace) = (Duration::from_millis(limit), Duration::from_millis(grace));
            Ok(Some(Deadline { limit, grace }))
        };
        for (args, expected) in [
            ("30", deadline(30_000, 1000)),
            ("0.25 grace=0.5", deadline(250, 500)),
            ("\"2\" Grace=3", deadline(2000, 3000)),
            ("1e300", deadline(31_536_000_000, 1000)),
            ("Off", Ok(None)),
            ("off", Ok(None)),
            ("0", Ok(None)),
            ("0.0", Ok(None)),
        ] {
            assert_eq!(Deadline::parse(args), expected, "{args}");
        }
    }

    #[test]
    fn limits_are_at_most_a_year() {
        let year = Duration::from_secs(31_536_000);
        let second = Duration::from_secs(1);
        for (limit, expected) in [
            (Duration::ZERO, Duration::ZERO),
            (year - second, year - second),
            (year, year),
            (year + second, year),
            (Duration::MAX, year),
        ] {
            assert_eq!(capped(limit), expected);
        }
    }

    #[test]
    fn wrong_words_are_named() {
        for (args, expected) in [
            ("", "takes a number of seconds or Off, and there is nothing"),
            (
                "soon",
                "'soon' is neither Off nor a number of seconds from 0.001 on",
            ),
            (
                "-1",
                "'-1' is neither Off nor a number of seconds from 0.001 on",
            ),
            (
                "nan",
                "'nan' is neither Off nor a number of seconds from 0.001 on",
            ),
            (
                "0.0001",
                "'0.0001' is neither Off nor a number of seconds from 0.001 on",
            ),
            ("5 1", "'1' is not of the form grace=seconds"),
            (
                "5 wait=1",
                "'wait' is not an option here; permitted is grace=",
            ),
            (
                "5 grace=0",
                "grace=0 is not a number of seconds from 0.001 on",
            ),
            (
                "5 grace=x",
                "grace=x is not a number of seconds from 0.001 on",
            ),
            ("Off grace=1", "grace= may not stand after Off"),
            ("0 grace=1", "grace= may not stand after 0"),
        ] {
            assert_eq!(Deadline::parse(args), Err(expected.into()), "{args}");
        }
    }
}
