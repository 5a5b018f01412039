//! How long to record, as it is written on the command line.

use std::time::Duration;

/// Seconds, or with a unit as in `500ms`, `5m` or `2h`; more than nothing.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    /// A hundred years; tokio's clock ends sooner than a Duration does.
    const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;
    let unknown = || "not a time such as 30, 500ms, 10s, 5m, 2h or 1d".to_owned();
    let of_unit = || {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        Some(digits.trim_end().parse::<f64>().ok()? * unit)
    };
    let seconds = text.parse::<f64>().ok().or_else(of_unit).ok_or_else(unknown)?;
    if seconds > LONGEST {
        return Err("too long; without this option a recording goes on until it is ended".to_owned());
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "must be more than 0 seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_more_than_nothing_and_less_than_for_ever() {
        assert_eq!(parse_duration("0.5"), Ok(Duration::from_millis(500)));
        let millis =
            ["500ms", "10s", "2 min", "1.5m", "2h", "1d"].map(|text| parse_duration(text).unwrap().as_millis());
        assert_eq!(millis, [500, 10_000, 120_000, 90_000, 7_200_000, 86_400_000]);
        assert!(
            ["s", "5 parsecs", "1e3x", ""].iter().all(|text| parse_duration(text).unwrap_err().contains("not a time"))
        );
        assert!(["0", "-1", "nan"].iter().all(|text| parse_duration(text).unwrap_err().contains("more than 0")));
        assert!(["inf", "1e300", "1e10"].iter().all(|text| parse_duration(text).unwrap_err().contains("too long")));
    }
}
