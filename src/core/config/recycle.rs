//! `WSGIRecycle`: after how many requests, how much memory or how much time a child is replaced.

use std::time::Duration;

use crate::config::conf_words::Words;

/// `WSGIRecycle`, as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recycle {
    /// Most requests that a child serves.
    pub requests: Option<u64>,
    /// Most private memory of a child, bytes.
    pub memory: Option<u64>,
    /// How long a child serves.
    pub age: Option<Duration>,
    /// By how many percent, at most, requests and age of one child are reduced by chance.
    pub jitter: u8,
}

/// What a child has used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Number of requests that the child has served.
    pub requests: u64,
    /// Private memory of the child, bytes.
    pub memory: u64,
    /// Time since the child started.
    pub age: Duration,
}

/// The limit that a child has reached, with the amount used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// The number of requests.
    Requests(u64),
    /// The private memory, in bytes.
    Memory(u64),
    /// The age.
    Age(Duration),
}

impl Recycle {
    /// Parses one line. Its options replace those of earlier lines.
    pub(crate) fn parse(&mut self, args: &str) -> Result<(), String> {
        const NAMES: &str = "requests=, memory=, age= or jitter=";
        let mut words = Words::new(args);
        if words.is_empty() {
            return Err(format!("takes {NAMES}, and there is nothing"));
        }
        while !words.is_empty() {
            let (name, value) = words
                .option()
                .ok_or_else(|| format!("'{}' is not of the form name=value", words.rest()))?;
            match name.to_ascii_lowercase().as_str() {
                "requests" => self.requests = Some(above_zero(name, &value, value.parse().ok())?),
                "memory" => self.memory = Some(above_zero(name, &value, bytes(&value))?),
                "age" => {
                    let seconds = above_zero(name, &value, value.parse().ok())?;
                    self.age = Some(Duration::from_secs(seconds));
                }
                "jitter" => {
                    let percent = value.parse().ok().filter(|percent| *percent <= 90);
                    self.jitter = percent
                        .ok_or_else(|| format!("jitter={value} is no percentage from 0 to 90"))?;
                }
                _ => return Err(format!("'{name}' is none of {NAMES}")),
            }
        }
        Ok(())
    }

    /// Returns whether there is any limit to check.
    pub fn is_set(&self) -> bool {
        self.requests.is_some() || self.memory.is_some() || self.age.is_some()
    }

    /// Returns the limits of one child, reduced by the jitter. `chance` is a random number, so that children do not all
    /// end at once.
    pub fn for_child(self, chance: u64) -> Self {
        let thousandths = 1000 - u64::from(self.jitter) * (chance % 1000) / 100;
        let part = |whole: u64| {
            let part = u128::from(whole) * u128::from(thousandths) / 1000;
            u64::try_from(part).unwrap_or(whole).max(1)
        };
        Self {
            requests: self.requests.map(part),
            age: self.age.map(|age| Duration::from_secs(part(age.as_secs()))),
            ..self
        }
    }

    /// Returns the limit that `used` has reached, if any.
    pub fn spent(&self, used: &Used) -> Option<Spent> {
        let is_over = |limit: Option<u64>, used| limit.is_some_and(|limit| used >= limit);
        if is_over(self.memory, used.memory) {
            Some(Spent::Memory(used.memory))
        } else if is_over(self.requests, used.requests) {
            Some(Spent::Requests(used.requests))
        } else if is_over(self.age.map(|age| age.as_secs()), used.age.as_secs()) {
            Some(Spent::Age(used.age))
        } else {
            None
        }
    }
}

fn above_zero(name: &str, value: &str, number: Option<u64>) -> Result<u64, String> {
    number.filter(|number| *number > 0).ok_or_else(|| {
        let kind = match name.to_ascii_lowercase().as_str() {
            "memory" => "a size above 0, such as 512M",
            "age" => "a whole number of seconds above 0",
            _ => "a whole number above 0",
        };
        format!("{name}={value} is not {kind}")
    })
}

/// Parses a number of bytes; K, M and G stand for powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(args: &str) -> Result<Recycle, String> {
        let mut recycle = Recycle::default();
        recycle.parse(args).map(|()| recycle)
    }

    #[test]
    fn words_are_read() {
        let all = parsed("requests=10000 Memory=512M age=3600 jitter=10").unwrap();
        let expected = Recycle {
            requests: Some(10_000),
            memory: Some(512 << 20),
            age: Some(Duration::from_secs(3600)),
            jitter: 10,
        };
        assert_eq!(all, expected);
        for (text, number) in [("7", 7), ("7k", 7 << 10), ("7G", 7 << 30)] {
            assert_eq!(
                parsed(&format!("memory={text}")).unwrap().memory,
                Some(number)
            );
        }
        let mut more = all;
        more.parse("age=60").unwrap();
        assert_eq!(
            (more.age, more.requests),
            (Some(Duration::from_secs(60)), Some(10_000))
        );
    }

    #[test]
    fn wrong_words_are_named() {
        for (args, expected) in [
            (
                "",
                "takes requests=, memory=, age= or jitter=, and there is nothing",
            ),
            ("10000", "'10000' is not of the form name=value"),
            (
                "hits=1",
                "'hits' is none of requests=, memory=, age= or jitter=",
            ),
            ("requests=0", "requests=0 is not a whole number above 0"),
            ("requests=1.5", "requests=1.5 is not a whole number above 0"),
            ("memory=1T", "memory=1T is not a size above 0, such as 512M"),
            (
                "memory=99999999999G",
                "memory=99999999999G is not a size above 0, such as 512M",
            ),
            (
                "memory=\u{fc}M",
                "memory=\u{fc}M is not a size above 0, such as 512M",
            ),
            ("age=-1", "age=-1 is not a whole number of seconds above 0"),
            ("jitter=91", "jitter=91 is no percentage from 0 to 90"),
        ] {
            assert_eq!(parsed(args).unwrap_err(), expected, "{args}");
        }
    }

    #[test]
    fn children_end_at_different_times_but_none_later() {
        let all = parsed("requests=1000 memory=1M age=1000 jitter=20").unwrap();
        let of = |chance| all.for_child(chance);
        assert_eq!(of(0), all);
        assert_eq!(of(999).requests, Some(801));
        assert_eq!(of(1500).requests, Some(900));
        assert_eq!(of(1500).age, Some(Duration::from_secs(900)));
        assert_eq!(of(999).memory, all.memory);
        assert_eq!(
            parsed("requests=1 jitter=90")
                .unwrap()
                .for_child(999)
                .requests,
            Some(1)
        );
        let most = parsed("requests=18446744073709551615 jitter=50").unwrap();
        assert!(most.for_child(998).requests.unwrap() > u64::MAX / 2);
    }

    #[test]
    fn what_is_used_up_is_found() {
        let limits = parsed("requests=10 memory=1K age=60").unwrap();
        let used = |requests, memory, seconds| Used {
            requests,
            memory,
            age: Duration::from_secs(seconds),
        };
        assert_eq!(limits.spent(&used(9, 1023, 59)), None);
        assert_eq!(limits.spent(&used(10, 0, 0)), Some(Spent::Requests(10)));
        assert_eq!(limits.spent(&used(10, 2048, 0)), Some(Spent::Memory(2048)));
        let age = Duration::from_secs(60);
        assert_eq!(limits.spent(&used(0, 0, 60)), Some(Spent::Age(age)));
        assert_eq!(Recycle::default().spent(&used(u64::MAX, u64::MAX, 9)), None);
    }
}
