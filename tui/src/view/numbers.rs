//! Numbers in few columns.

/// A count: exact below ten thousand, then three digits and a unit of 1000.
pub(super) fn count(value: u64) -> String {
    if value < 10_000 { value.to_string() } else { short(value as f64, 1000.0, ["k", "M", "G", "T"]) }
}

/// A rate per second.
pub(super) fn rate(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else if value < 0.1 {
        "<0.1".into()
    } else if value < 10.0 {
        format!("{value:.1}")
    } else if value < 9999.5 {
        format!("{value:.0}")
    } else {
        short(value, 1000.0, ["k", "M", "G", "T"])
    }
}

/// Bytes: exact below 10 KiB, then three digits and a unit of 1024.
pub(super) fn bytes(value: u64) -> String {
    if value < 10 << 10 { format!("{value} B") } else { short(value as f64, 1024.0, [" KiB", " MiB", " GiB", " TiB"]) }
}

/// Bytes that may be less than none.
pub(super) fn signed_bytes(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", bytes(value.unsigned_abs()))
}

fn short(mut value: f64, unit: f64, names: [&str; 4]) -> String {
    let mut name = "";
    for next in names {
        if value < unit * 0.9995 {
            break;
        }
        value /= unit;
        name = next;
    }
    let places = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.places$}{name}")
}

/// A time within a stream, ns, as minutes and seconds.
pub(super) fn clock(ns: u64) -> String {
    let tenths = ns / 100_000_000;
    format!("{}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_three_digits() {
        let shown: Vec<String> = [0, 9999, 10_000, 99_949, 999_499, 999_999, 20_000_000].map(count).into();
        assert_eq!(shown, ["0", "9999", "10.0k", "99.9k", "999k", "1.00M", "20.0M"]);
    }

    #[test]
    fn a_rate_that_is_not_zero_is_not_shown_as_zero() {
        let shown: Vec<String> = [0.0, 0.004, 0.25, 42.4, 9999.0, 123_456.0].map(rate).into();
        assert_eq!(shown, ["0", "<0.1", "0.2", "42", "9999", "123k"]);
    }

    #[test]
    fn bytes_have_units_of_1024() {
        let shown: Vec<String> = [0, 10_239, 10_240, 1 << 20, 3 << 30].map(bytes).into();
        assert_eq!(shown, ["0 B", "10239 B", "10.0 KiB", "1.00 MiB", "3.00 GiB"]);
        assert_eq!(signed_bytes(-64), "-64 B");
    }

    #[test]
    fn times_are_minutes_and_seconds() {
        assert_eq!(clock(83_450_000_000), "1:23.4");
    }
}
