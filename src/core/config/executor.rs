//! How many threads are inside an interpreter, and how many requests wait how long for a permit: as written, and
//! resolved for a child ([E-7]).

use std::time::Duration;

use wsgi_abi::Strategy;

use crate::config::conf_words::Words;
use crate::config::deadline::named;

/// The words of `WSGIExecutor`; `None` is auto, which depends on the MPM and the GIL.
const STRATEGIES: &[(&str, Option<Strategy>)] = &[
    ("direct", Some(Strategy::Direct)),
    ("delegate", Some(Strategy::Delegate)),
    ("pool", Some(Strategy::Pool)),
    ("auto", None),
];

/// Returns the word of the directive for `strategy`; `None` is auto.
pub(crate) fn word(strategy: Option<Strategy>) -> &'static str {
    let mut known = STRATEGIES.iter();
    let found = known.find(|(_, known)| *known == strategy);
    found.map_or("auto", |(name, _)| name)
}

/// `size=` of `WSGIThreadPool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolSize {
    /// This number of threads.
    Count(u32),
    /// A number that depends on the cores.
    Auto,
}

/// A share of the threads of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// This number of threads.
    Threads(u32),
    /// This percentage of the threads.
    Percent(u8),
}

impl Share {
    /// Returns the share of `threads` as a number, from 1 to `threads`.
    pub fn of(self, threads: u32) -> u32 {
        let part = match self {
            Share::Threads(count) => count,
            Share::Percent(percent) => {
                let part = u64::from(threads) * u64::from(percent) / 100;
                u32::try_from(part).unwrap_or(threads)
            }
        };
        part.clamp(1, threads.max(1))
    }

    fn parse(word: &str) -> Option<Share> {
        match word.strip_suffix('%') {
            Some(digits) => {
                let percent = digits.parse().ok()?;
                (1..=100)
                    .contains(&percent)
                    .then_some(Share::Percent(percent))
            }
            None => count(word).map(Share::Threads),
        }
    }
}

/// The directives on the threads of a group, as written in the server or in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExecutorConfig {
    /// `WSGIExecutor`; the inner `None` is auto.
    pub strategy: Option<Option<Strategy>>,
    /// `min=` of `WSGIExecutor`.
    pub least: Option<u32>,
    /// `max=` of `WSGIExecutor`.
    pub most: Option<u32>,
    /// `WSGIThreadPool`
    pub pool_size: Option<PoolSize>,
    /// `depth=` of `WSGIQueue`.
    pub queue_depth: Option<u32>,
    /// `timeout=` of `WSGIQueue`.
    pub queue_timeout: Option<Duration>,
    /// `WSGIThreadShare`
    pub share: Option<Share>,
}

impl ExecutorConfig {
    /// Returns the values of `self`, or of `outer` where `self` has none. An executor keeps its own bounds, and an
    /// inner `WSGIThreadPool` replaces an outer executor.
    pub(crate) fn or(self, outer: Self) -> Self {
        let says_who = self.strategy.is_some() || self.pool_size.is_some();
        let who = if says_who { &self } else { &outer };
        ExecutorConfig {
            strategy: who.strategy,
            least: who.least,
            most: who.most,
            pool_size: self.pool_size.or(outer.pool_size),
            queue_depth: self.queue_depth.or(outer.queue_depth),
            queue_timeout: self.queue_timeout.or(outer.queue_timeout),
            share: self.share.or(outer.share),
        }
    }

    /// Returns the configured strategy; `None` for auto. `WSGIThreadPool` without `WSGIExecutor` means a pool.
    pub fn asked(&self) -> Option<Strategy> {
        let implied = self.pool_size.map(|_| Strategy::Pool);
        self.strategy.unwrap_or(implied)
    }

    /// Parses `WSGIExecutor`.
    pub(crate) fn parse_executor(&mut self, args: &str) -> Result<(), String> {
        let mut words = Words::new(args);
        let Some(word) = words.next() else {
            return Err("takes one of direct, delegate, pool, auto, and there is nothing".into());
        };
        let known = STRATEGIES
            .iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name));
        let (name, strategy) =
            *known.ok_or_else(|| format!("'{word}' is none of direct, delegate, pool, auto"))?;
        let (mut least, mut most) = (None, None);
        while !words.is_empty() {
            let (option, value) = option(&mut words)?;
            let bound = match option.to_ascii_lowercase().as_str() {
                "min" => &mut least,
                "max" => &mut most,
                _ => return Err(unknown(option, "min= or max=")),
            };
            if matches!(strategy, Some(Strategy::Direct | Strategy::Pool)) {
                return Err(format!(
                    "{option}= may not stand after {name}; it is for delegate and auto"
                ));
            }
            *bound = Some(whole(option, &value)?);
        }
        if let (Some(least), Some(most)) = (least, most)
            && least > most
        {
            return Err(format!("min={least} is more than max={most}"));
        }
        (self.strategy, self.least, self.most) = (Some(strategy), least, most);
        Ok(())
    }

    /// Parses `WSGIThreadPool`.
    pub(crate) fn parse_pool(&mut self, args: &str) -> Result<(), String> {
        let mut words = Words::new(args);
        if words.is_empty() {
            return Err("takes size=, and there is nothing".into());
        }
        while !words.is_empty() {
            let (name, value) = option(&mut words)?;
            if !name.eq_ignore_ascii_case("size") {
                return Err(unknown(name, "size="));
            }
            let size = match value.to_ascii_lowercase().as_str() {
                "auto" => Some(PoolSize::Auto),
                _ => count(&value).map(PoolSize::Count),
            };
            let problem =
                || format!("{name}={value} is neither auto nor an integer from 1 to {MOST}");
            self.pool_size = Some(size.ok_or_else(problem)?);
        }
        Ok(())
    }

    /// Parses `WSGIQueue`. Values that it does not name stay as an earlier line set them.
    pub(crate) fn parse_queue(&mut self, args: &str) -> Result<(), String> {
        const NAMES: &str = "depth= or timeout=";
        let mut words = Words::new(args);
        if words.is_empty() {
            return Err(format!("takes {NAMES}, and there is nothing"));
        }
        while !words.is_empty() {
            let (name, value) = option(&mut words)?;
            match name.to_ascii_lowercase().as_str() {
                "depth" => {
                    let depth = integer(&value).filter(|depth| *depth <= DEEPEST);
                    let problem =
                        || format!("{name}={value} is not an integer from 0 to {DEEPEST}");
                    self.queue_depth = Some(depth.ok_or_else(problem)?);
                }
                "timeout" => self.queue_timeout = Some(named(name, &value)?),
                _ => return Err(unknown(name, NAMES)),
            }
        }
        Ok(())
    }
}

/// `WSGIThreadShare`: the share of a group, and the threads that all groups together leave to other requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) share: Option<Share>,
    pub(crate) reserve: Option<Share>,
}

impl Shares {
    /// Parses a share, a reserve, or both.
    pub(crate) fn parse(args: &str) -> Result<Shares, String> {
        let mut words = Words::new(args);
        if words.is_empty() {
            return Err("takes a number of threads or a percentage, and there is nothing".into());
        }
        let mut shares = Shares::default();
        while !words.is_empty() {
            let (what, value, place) = match words.option() {
                Some((name, value)) if name.eq_ignore_ascii_case("reserve") => {
                    (format!("{name}={value}"), value, &mut shares.reserve)
                }
                Some((name, _)) => return Err(unknown(name, "reserve=")),
                None => {
                    let word = words.next().unwrap_or_default();
                    (format!("'{word}'"), word, &mut shares.share)
                }
            };
            if place.is_some() {
                return Err(format!("{what} is one argument too many"));
            }
            let problem = || {
                format!(
                    "{what} is neither an integer from 1 to {MOST} nor a percentage from 1% to 100%"
                )
            };
            *place = Some(Share::parse(&value).ok_or_else(problem)?);
        }
        Ok(shares)
    }
}

/// The resolved executor of one group, for each child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Executor {
    /// Which thread runs a request.
    pub strategy: Strategy,
    /// Threads that may always be inside an interpreter, for [`Strategy::Delegate`].
    pub least: u32,
    /// Most threads that may be inside, for [`Strategy::Delegate`].
    pub most: u32,
    /// Threads of an interpreter, for [`Strategy::Pool`].
    pub pool_size: u32,
    /// Most requests that may wait for a permit; [`u32::MAX`] for no limit.
    pub queue_depth: u32,
    /// How long a request may wait.
    pub queue_timeout: Duration,
    /// Most threads that requests of the group may hold; [`u32::MAX`] for no limit.
    pub share: u32,
}

impl Executor {
    /// The default of `min=` of `WSGIExecutor`.
    pub const LEAST: u32 = 1;
    /// The default of `timeout=` of `WSGIQueue`.
    pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);
    /// No limit.
    pub const NO_BOUND: u32 = u32::MAX;

    /// Returns whether a request keeps its permit until the application is done with it, as no other request may be
    /// inside at the same time.
    pub fn is_exclusive(&self) -> bool {
        match self.strategy {
            Strategy::Delegate => self.most == 1,
            Strategy::Pool => self.pool_size == 1,
            Strategy::Direct => false,
        }
    }
}

fn option<'a>(words: &mut Words<'a>) -> Result<(&'a str, String), String> {
    words
        .option()
        .ok_or_else(|| format!("'{}' is not of the form name=value", words.rest()))
}

fn unknown(name: &str, permitted: &str) -> String {
    format!("'{name}' is not an option here; permitted is {permitted}")
}

/// Parses the value of the option `name` as a number of threads.
fn whole(name: &str, value: &str) -> Result<u32, String> {
    count(value).ok_or_else(|| format!("{name}={value} is not an integer from 1 to {MOST}"))
}

/// Parses a number of threads.
fn count(word: &str) -> Option<u32> {
    integer(word).filter(|count| (1..=MOST).contains(count))
}

/// Parses an integer of digits only.
fn integer(word: &str) -> Option<u32> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| digits)
}

/// Most threads that a child of any MPM has: the highest `ThreadLimit`.
const MOST: u32 = 20_000;

/// Largest `depth=` that may be written.
const DEEPEST: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    type Parse = fn(&mut ExecutorConfig, &str) -> Result<(), String>;

    fn read(parse: Parse, args: &str) -> Result<ExecutorConfig, String> {
        let mut written = ExecutorConfig::default();
        parse(&mut written, args).map(|()| written)
    }

    fn executor(args: &str) -> Result<ExecutorConfig, String> {
        read(ExecutorConfig::parse_executor, args)
    }

    fn pool(args: &str) -> Result<ExecutorConfig, String> {
        read(ExecutorConfig::parse_pool, args)
    }

    fn queue(args: &str) -> Result<ExecutorConfig, String> {
        read(ExecutorConfig::parse_queue, args)
    }

    #[test]
    fn strategies_are_read_with_their_bounds() {
        for (args, strategy, least, most) in [
            ("direct", Some(Strategy::Direct), None, None),
            ("Delegate", Some(Strategy::Delegate), None, None),
            (
                "delegate min=2 Max=8",
                Some(Strategy::Delegate),
                Some(2),
                Some(8),
            ),
            ("auto max=1", None, None, Some(1)),
            ("POOL", Some(Strategy::Pool), None, None),
        ] {
            let written = executor(args).unwrap();
            assert_eq!(
                (written.strategy, written.least, written.most),
                (Some(strategy), least, most),
                "{args}"
            );
        }
        for (name, strategy) in STRATEGIES {
            assert_eq!(*name, word(*strategy));
        }
        let mut written = executor("delegate min=2").unwrap();
        written.parse_executor("auto").unwrap();
        assert_eq!(written, executor("auto").unwrap(), "the last line holds");
    }

    #[test]
    fn pools_and_lines_are_read() {
        assert_eq!(pool("size=8").unwrap().pool_size, Some(PoolSize::Count(8)));
        assert_eq!(pool("Size=Auto").unwrap().pool_size, Some(PoolSize::Auto));
        let mut written = queue("depth=0").unwrap();
        written.parse_queue("timeout=0.5").unwrap();
        assert_eq!(written, queue("timeout=0.5 depth=0").unwrap());
        assert_eq!(
            (written.queue_depth, written.queue_timeout),
            (Some(0), Some(Duration::from_millis(500)))
        );
    }

    #[test]
    fn shares_are_read() {
        for (args, share, reserve) in [
            ("5", Some(Share::Threads(5)), None),
            ("60%", Some(Share::Percent(60)), None),
            (
                "15 reserve=20%",
                Some(Share::Threads(15)),
                Some(Share::Percent(20)),
            ),
            ("Reserve=2", None, Some(Share::Threads(2))),
        ] {
            let expected = Shares { share, reserve };
            assert_eq!(Shares::parse(args), Ok(expected), "{args}");
        }
    }

    #[test]
    fn wrong_words_are_named() {
        for (found, expected) in [
            (
                executor(""),
                "takes one of direct, delegate, pool, auto, and there is nothing",
            ),
            (
                executor("fork"),
                "'fork' is none of direct, delegate, pool, auto",
            ),
            (executor("delegate 3"), "'3' is not of the form name=value"),
            (
                executor("delegate size=3"),
                "'size' is not an option here; permitted is min= or max=",
            ),
            (
                executor("delegate min=0"),
                "min=0 is not an integer from 1 to 20000",
            ),
            (
                executor("delegate max=+3"),
                "max=+3 is not an integer from 1 to 20000",
            ),
            (executor("delegate min=5 max=4"), "min=5 is more than max=4"),
            (
                executor("direct min=5"),
                "min= may not stand after direct; it is for delegate and auto",
            ),
            (
                executor("pool max=5"),
                "max= may not stand after pool; it is for delegate and auto",
            ),
            (
                executor("direct size=5"),
                "'size' is not an option here; permitted is min= or max=",
            ),
            (pool(""), "takes size=, and there is nothing"),
            (pool("8"), "'8' is not of the form name=value"),
            (
                pool("size=0"),
                "size=0 is neither auto nor an integer from 1 to 20000",
            ),
            (
                pool("size=20001"),
                "size=20001 is neither auto nor an integer from 1 to 20000",
            ),
            (
                pool("min=1"),
                "'min' is not an option here; permitted is size=",
            ),
            (queue(""), "takes depth= or timeout=, and there is nothing"),
            (
                queue("depth=-1"),
                "depth=-1 is not an integer from 0 to 1000000",
            ),
            (
                queue("timeout=abc"),
                "timeout=abc is not a number of seconds from 0.001 on",
            ),
            (
                queue("timeout=0"),
                "timeout=0 is not a number of seconds from 0.001 on",
            ),
            (
                queue("length=1"),
                "'length' is not an option here; permitted is depth= or timeout=",
            ),
        ] {
            assert_eq!(found, Err(expected.into()));
        }
    }

    #[test]
    fn wrong_shares_are_named() {
        const KIND: &str = "is neither an integer from 1 to 20000 nor a percentage from 1% to 100%";
        for (args, expected) in [
            (
                "",
                "takes a number of threads or a percentage, and there is nothing".into(),
            ),
            ("0", format!("'0' {KIND}")),
            ("0%", format!("'0%' {KIND}")),
            ("101%", format!("'101%' {KIND}")),
            ("-1", format!("'-1' {KIND}")),
            ("half", format!("'half' {KIND}")),
            ("5 reserve=0", format!("reserve=0 {KIND}")),
            ("5 6", "'6' is one argument too many".into()),
            (
                "reserve=1 reserve=2",
                "reserve=2 is one argument too many".into(),
            ),
            (
                "5 keep=1",
                "'keep' is not an option here; permitted is reserve=".into(),
            ),
        ] {
            assert_eq!(Shares::parse(args), Err(expected), "{args}");
        }
    }

    #[test]
    fn the_more_specific_place_wins() {
        let outer = ExecutorConfig {
            share: Some(Share::Percent(50)),
            queue_depth: Some(10),
            ..executor("delegate min=2 max=4").unwrap()
        };
        let nothing = ExecutorConfig::default();
        assert_eq!(nothing.or(outer), outer);
        assert_eq!(outer.or(nothing), outer);

        let inner = ExecutorConfig {
            queue_depth: Some(1),
            ..executor("delegate max=9").unwrap()
        };
        let both = inner.or(outer);
        assert_eq!(
            (both.least, both.most, both.queue_depth, both.share),
            (None, Some(9), Some(1), outer.share),
            "bounds belong to their executor"
        );

        let pool = pool("size=5").unwrap();
        assert_eq!(pool.asked(), Some(Strategy::Pool));
        assert_eq!(
            pool.or(outer).asked(),
            Some(Strategy::Pool),
            "an inner pool wins over an outer executor"
        );
        assert_eq!(outer.or(pool).asked(), Some(Strategy::Delegate));
        assert_eq!(nothing.asked(), None);
    }

    #[test]
    fn a_share_is_of_the_threads_and_never_nothing() {
        for (share, threads, expected) in [
            (Share::Threads(5), 25, 5),
            (Share::Threads(50), 25, 25),
            (Share::Percent(50), 25, 12),
            (Share::Percent(1), 25, 1),
            (Share::Percent(100), 25, 25),
            (Share::Percent(100), 0, 1),
        ] {
            assert_eq!(share.of(threads), expected, "{share:?} of {threads}");
        }
    }
}
