//! Numbers as people read them, by Grafana's names of units.

/// Returns a value with its unit.
pub(crate) fn text(unit: &str, value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    match unit {
        "s" => duration(value),
        "percentunit" => format!("{} %", digits(value * 100.0)),
        "bytes" => prefixed(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"]),
        "Bps" => prefixed(value, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s"]),
        "reqps" => format!("{} req/s", plain(value)),
        "ops" | "cps" => format!("{} /s", plain(value)),
        _ => plain(value),
    }
}

/// What a unit is called in a heading, if it is not plain numbers.
pub(crate) fn name(unit: &str) -> &str {
    match unit {
        "s" => "time",
        "percentunit" => "share",
        "bytes" => "bytes",
        "Bps" => "bytes per second",
        "reqps" => "requests per second",
        "ops" => "per second",
        "cps" => "lines per second",
        _ => "count",
    }
}

/// Returns the steps at which a unit is counted: axes look even at multiples of these.
pub(crate) fn base(unit: &str, magnitude: f64) -> f64 {
    match unit {
        "bytes" => 1024f64.powf(magnitude.max(1.0).log(1024.0).floor()),
        "s" if magnitude >= 86_400.0 => 86_400.0,
        "s" if magnitude >= 3_600.0 => 3_600.0,
        "s" if magnitude >= 60.0 => 60.0,
        _ => 1.0,
    }
}

fn duration(seconds: f64) -> String {
    let magnitude = seconds.abs();
    let (value, unit) = match magnitude {
        0.0 => return "0 s".into(),
        _ if magnitude < 1e-3 => (seconds * 1e6, "µs"),
        _ if magnitude < 1.0 => (seconds * 1e3, "ms"),
        _ if magnitude < 60.0 => (seconds, "s"),
        _ if magnitude < 3_600.0 => (seconds / 60.0, "min"),
        _ if magnitude < 86_400.0 => (seconds / 3_600.0, "h"),
        _ => (seconds / 86_400.0, "d"),
    };
    format!("{} {unit}", digits(value))
}

fn plain(value: f64) -> String {
    match value.abs() {
        it if it >= 1e9 => format!("{} G", digits(value / 1e9)),
        it if it >= 1e6 => format!("{} M", digits(value / 1e6)),
        it if it >= 1e4 => format!("{} k", digits(value / 1e3)),
        _ => digits(value),
    }
}

fn prefixed(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut at = 0;
    while value.abs() >= base && at + 1 < units.len() {
        value /= base;
        at += 1;
    }
    format!("{} {}", digits(value), units[at])
}

/// Three figures, without zeros at the end.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        it if it >= 100.0 => 0,
        it if it >= 10.0 => 1,
        it if it >= 1.0 => 2,
        it if it >= 0.1 || it == 0.0 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    if text == "-0" {
        "0".into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn values_read_well() {
        for (unit, value, wanted) in [
            ("s", 0.0, "0 s"),
            ("s", 0.00025, "250 µs"),
            ("s", 0.0052, "5.2 ms"),
            ("s", 90.0, "1.5 min"),
            ("percentunit", 0.0144, "1.44 %"),
            ("percentunit", 1.0, "100 %"),
            ("bytes", 1536.0, "1.5 KiB"),
            ("Bps", 1e6, "1 MB/s"),
            ("reqps", 12_345.0, "12.3 k req/s"),
            ("short", 100.0, "100"),
            ("short", 0.05, "0.05"),
            ("short", f64::NAN, "–"),
        ] {
            assert_eq!(text(unit, value), wanted);
        }
    }
}
