//! Pages of metrics, parsed more strictly than by Prometheus.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a sample: values by name.
pub type Labels = BTreeMap<String, String>;

/// A sample: one line with a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name of the family, with `_bucket`, `_sum` or `_count` for histograms.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// Name and labels, which identify the sample in another page.
    pub fn series(&self) -> String {
        format!("{}{:?}", self.name, self.labels)
    }
}

/// A whole page in Prometheus's text format.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// All samples, in their order.
    pub samples: Vec<Sample>,
    /// The type of each family, by name.
    pub types: BTreeMap<String, String>,
}

impl Exposition {
    /// Parses a page.
    ///
    /// # Errors
    /// The first mistake: a line that is not a sample, a sample without `HELP` and `TYPE` before it, a family in two
    /// places, a series twice, a histogram whose counts do not add up.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut page = Exposition::default();
        let (mut helped, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut family = String::new();
        if !text.ends_with('\n') {
            return Err("the last line has no end".into());
        }
        for line in text.lines() {
            let wrong = |why: &str| Err(format!("{why}: {line:?}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let name = rest.split(' ').next().unwrap_or_default();
                if !helped.insert(name.to_owned()) {
                    return wrong("a second HELP");
                }
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let Some((name, kind)) = rest.split_once(' ') else {
                    return wrong("a TYPE without type");
                };
                if !helped.contains(name) {
                    return wrong("a TYPE without HELP before it");
                }
                if page.types.insert(name.into(), kind.into()).is_some() {
                    return wrong("a second TYPE");
                }
                family = name.into();
            } else {
                let Some(sample) = parse_sample(line) else {
                    return wrong("not a sample");
                };
                if family_of(&sample.name, &page.types).as_deref() != Some(&*family) {
                    return wrong("a sample outside of its family");
                }
                if !seen.insert(sample.series()) {
                    return wrong("a series twice");
                }
                page.samples.push(sample);
            }
        }
        page.check_histograms()?;
        Ok(page)
    }

    /// Returns the sum of the samples of that name that have all of these labels; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.select(name, labels).map(|sample| sample.value).sum()
    }

    /// Returns the samples of that name that have all of these labels.
    pub fn select<'s>(
        &'s self,
        name: &'s str,
        labels: &'s [(&'s str, &'s str)],
    ) -> impl Iterator<Item = &'s Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| {
                    sample.labels.get(*label).map(String::as_str) == Some(*value)
                })
        })
    }

    /// Returns the number of observations of a histogram that are at most `le`.
    pub fn at_most(&self, histogram: &str, le: &str, labels: &[(&str, &str)]) -> f64 {
        let name = format!("{histogram}_bucket");
        let labels = [labels, &[("le", le)]].concat();
        self.sum(&name, &labels)
    }

    /// Returns the samples that may never decrease: counters, and all samples of histograms.
    pub fn growing(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(|sample| {
            let kind = family_of(&sample.name, &self.types)
                .and_then(|family| self.types.get(&family).map(String::as_str));
            matches!(kind, Some("counter" | "histogram"))
        })
    }

    fn check_histograms(&self) -> Result<(), String> {
        let mut histograms: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
        for sample in &self.samples {
            let Some(name) = sample.name.strip_suffix("_bucket") else {
                continue;
            };
            let mut labels = sample.labels.clone();
            let Some(le) = labels.remove("le") else {
                return Err(format!("a bucket without bound: {sample:?}"));
            };
            let count = Sample {
                name: format!("{name}_count"),
                labels,
                value: 0.0,
            };
            histograms
                .entry(count.series())
                .or_default()
                .push((le, sample.value));
        }
        let counts: BTreeMap<String, f64> = self
            .samples
            .iter()
            .map(|sample| (sample.series(), sample.value))
            .collect();
        for (series, buckets) in histograms {
            let Some((last, rest)) = buckets.split_last() else {
                continue;
            };
            if last.0 != "+Inf" || counts.get(&series) != Some(&last.1) {
                return Err(format!("+Inf is not the count of {series}"));
            }
            let mut before = (f64::NEG_INFINITY, 0.0);
            for (le, count) in rest {
                let bound: f64 = le.parse().map_err(|_| format!("{le} in {series}"))?;
                if canonical(bound) != *le {
                    return Err(format!("{le} in {series} is not as Prometheus 3 writes it"));
                }
                if bound <= before.0 || *count < before.1 || *count > last.1 {
                    return Err(format!("{series} is not cumulative at {le}"));
                }
                before = (bound, *count);
            }
        }
        Ok(())
    }
}

/// Formats a bound like Go's shortest form, with a point added if it has none: `1.0`, `0.0005`, `5e-05`.
fn canonical(bound: f64) -> String {
    if bound != 0.0 && bound.abs() < 1e-4 {
        let text = format!("{bound:e}");
        let (mantissa, exponent) = text.split_once("e-").expect("it is small");
        return format!("{mantissa}e-{exponent:0>2}");
    }
    format!("{bound:?}")
}

/// Returns the family to which a sample of this name belongs.
fn family_of(name: &str, types: &BTreeMap<String, String>) -> Option<String> {
    if types.contains_key(name) {
        return Some(name.into());
    }
    let family = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))?;
    (types.get(family).map(String::as_str) == Some("histogram")).then(|| family.into())
}

fn parse_sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let is_name = |text: &str| {
        !text.is_empty()
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = parse_value(after)?;
            if !is_name(label) || labels.insert(label.into(), value).is_some() {
                return None;
            }
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ')?;
    // No timestamp may follow, and Rust parses more forms of numbers than the format allows.
    let is_number = value == "NaN"
        || value == "+Inf"
        || value == "-Inf"
        || value
            .chars()
            .all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    (is_name(name) && is_number).then_some(Sample {
        name: name.into(),
        labels,
        value: value.parse().ok()?,
    })
}

/// Parses the value of a label after its opening quote. Returns the value and the text after the closing quote.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            c if c.is_control() => return None,
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total A.\n# TYPE a_total counter\na_total{app=\"x\\\"\\\\\\n\",code=\"2xx\"} 3\n\
        a_total{app=\"y\",code=\"2xx\"} 4\n# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"5e-05\"} 1\n\
        h_bucket{le=\"1.0\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum 0.5\nh_count 2\n";

    #[test]
    fn a_page_is_read() {
        let page = Exposition::parse(GOOD).unwrap();
        assert_eq!(page.sum("a_total", &[("code", "2xx")]), 7.0);
        assert_eq!(page.sum("a_total", &[("app", "x\"\\\n")]), 3.0);
        assert_eq!(page.at_most("h", "1.0", &[]), 2.0);
        assert_eq!(page.growing().count(), 7);
    }

    #[test]
    fn mistakes_are_found() {
        for (from, to) in [
            ("# HELP a_total A.\n", ""),
            ("app=\"y\"", "app=\"x\\\"\\\\\\n\""),
            ("app=\"y\"", "app=\"y"),
            ("app=\"y\"", "app=\"\\y\""),
            ("} 4", "} four"),
            ("} 4", "} inf"),
            ("} 4", "} 4 1234"),
            ("h_count 2", "h_count 3"),
            ("le=\"1.0\"", "le=\"1\""),
            ("le=\"5e-05\"", "le=\"0.00005\""),
            ("le=\"5e-05\"} 1", "le=\"5e-05\"} 3"),
            ("h_sum 0.5\n", "h_sum 0.5\na_total 1\n"),
            ("h_count 2\n", "h_count 2"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD);
            assert!(Exposition::parse(&text).is_err(), "{text}");
        }
    }
}
