//! Numbers in a readable form.

use jiff::Timestamp;

/// Converts nanoseconds to seconds.
pub(super) fn seconds(nanoseconds: impl Into<u128>) -> f64 {
    nanoseconds.into() as f64 / 1e9
}

/// Converts a sum to a number that JSON parsers accept.
pub(super) fn whole(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Formats a duration with about three digits.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds <= 0.0 {
        return String::from("0 s");
    }
    if seconds < 0.000_999_5 {
        return format!("{:.0} µs", seconds * 1e6);
    }
    if seconds < 0.009_95 {
        return format!("{:.1} ms", seconds * 1e3);
    }
    if seconds < 0.999_5 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => two(minutes, "min", whole % 60, "s"),
        3_600..86_400 => two(hours, "h", minutes, "min"),
        _ => two(days, "d", hours, "h"),
    }
}

fn two(large: u64, unit: &str, small: u64, fine: &str) -> String {
    if small == 0 {
        format!("{large} {unit}")
    } else {
        format!("{large} {unit} {small} {fine}")
    }
}

/// Formats a duration, or a dash.
pub(crate) fn duration_or_dash(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| String::from("–"), duration)
}

/// Formats a span of time that has just passed, to follow "the last": "minute", "30 s".
pub(crate) fn span(seconds: f64) -> String {
    if (50.0..70.0).contains(&seconds) {
        String::from("minute")
    } else if (0.9..10.0).contains(&seconds) && (seconds - seconds.round()).abs() < 0.1 {
        format!("{seconds:.0} s")
    } else {
        duration(seconds)
    }
}

/// Formats a size in binary units.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] {
        if size < 1000.0 {
            let decimals = usize::from(size < 10.0 && unit != "B");
            return format!("{size:.decimals$} {unit}");
        }
        size /= 1024.0;
    }
    format!("{size:.0} EiB")
}

/// Formats a count with thousands separators.
pub(crate) fn count(count: impl TryInto<u128>) -> String {
    let digits = count.try_into().unwrap_or(u128::MAX).to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a rate per second.
pub(crate) fn rate(per_second: f64) -> String {
    let decimals = match per_second {
        0.0 => 0,
        rate if rate < 0.1 => 3,
        rate if rate < 1.0 => 2,
        rate if rate < 100.0 => 1,
        _ => return count(per_second.round() as u128),
    };
    format!("{per_second:.decimals$}")
}

/// Formats a ratio as a percentage.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if percent == 0.0 || percent >= 10.0 => format!("{percent:.0} %"),
        _ if percent < 0.1 => String::from("< 0.1 %"),
        _ => format!("{percent:.1} %"),
    }
}

/// Formats a number with a noun: "1 request", "2 requests".
pub(crate) fn plural(number: impl TryInto<u128>, one: &str, many: &str) -> String {
    let number = number.try_into().unwrap_or(u128::MAX);
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Returns date and time of day in UTC.
pub(crate) fn calendar(unix_seconds: f64) -> (String, String) {
    let whole = unix_seconds.max(0.0) as i64;
    let moment = Timestamp::from_second(whole).unwrap_or(Timestamp::MAX);
    let text = |format| moment.strftime(format).to_string();
    (text("%Y-%m-%d"), text("%H:%M:%S"))
}

/// Formats date and time in UTC.
pub fn date_and_time(unix_seconds: f64) -> String {
    let (date, time) = calendar(unix_seconds);
    format!("{date} {time} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_about_three_figures() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (-1.0, "0 s"),
            (f64::NAN, "0 s"),
            (0.000_012, "12 µs"),
            (0.000_999_9, "1.0 ms"),
            (0.004_56, "4.6 ms"),
            (0.25, "250 ms"),
            (0.999_9, "1.0 s"),
            (9.94, "9.9 s"),
            (9.97, "10 s"),
            (59.7, "1 min"),
            (252.0, "4 min 12 s"),
            (3_600.0, "1 h"),
            (90_000.0, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert!(duration(u64::MAX as f64).ends_with(" h"));
    }

    #[test]
    fn spans_are_rounded() {
        let spans = [0.1, 1.04, 2.5, 9.96, 61.2, 77.0].map(span);
        assert_eq!(
            spans,
            ["100 ms", "1 s", "2.5 s", "10 s", "minute", "1 min 17 s"]
        );
    }

    #[test]
    fn counts_sizes_rates_and_shares() {
        assert_eq!(
            [
                count(0u64),
                count(999u64),
                count(1_000u64),
                count(1_234_567u64)
            ],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [
                bytes(0),
                bytes(999),
                bytes(1_000),
                bytes(5 << 20),
                bytes(u64::MAX)
            ],
            ["0 B", "999 B", "1.0 KiB", "5.0 MiB", "16 EiB"]
        );
        assert_eq!(
            [0.0, 0.033, 0.5, 12.34, 1_234.5].map(rate),
            ["0", "0.033", "0.50", "12.3", "1,235"]
        );
        assert_eq!(
            [0.0, 0.000_1, 0.034, 0.5, 1.0].map(percent),
            ["0 %", "< 0.1 %", "3.4 %", "50 %", "100 %"]
        );
        assert_eq!(plural(1u64, "child", "children"), "1 child");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, date, time) in [
            (0.0, "1970-01-01", "00:00:00"),
            (951_782_400.0, "2000-02-29", "00:00:00"),
            (1_709_251_199.9, "2024-02-29", "23:59:59"),
            (1_709_251_200.0, "2024-03-01", "00:00:00"),
            (4_107_542_400.0, "2100-03-01", "00:00:00"),
            (f64::MAX, "9999-12-30", "22:00:00"),
            (f64::NAN, "1970-01-01", "00:00:00"),
        ] {
            assert_eq!(calendar(unix), (date.to_owned(), time.to_owned()));
        }
    }
}
