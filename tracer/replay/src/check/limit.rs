//! What a figure has to be: at most, at least, or both; in the figure's own unit.

use crate::figures::{Figure, Unit};
use bouncescope_model::size::parse_bytes;

/// A limit, in the figure's unit. Both ends are allowed values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// No less.
    pub min: Option<f64>,
    /// No more.
    pub max: Option<f64>,
}

/// By bits: limits come from texts, and are never NaN.
impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        let bits = |limit: &Self| (limit.min.map(f64::to_bits), limit.max.map(f64::to_bits));
        bits(self) == bits(other)
    }
}

impl Eq for Limit {}

impl Limit {
    /// Everything from `low` to `high` is allowed.
    pub fn holds(&self, low: f64, high: f64) -> bool {
        self.min.is_none_or(|min| min <= low) && self.max.is_none_or(|max| high <= max)
    }

    /// Nothing from `low` to `high` is allowed.
    pub(crate) fn excludes(&self, low: f64, high: f64) -> bool {
        self.min.is_some_and(|min| high < min) || self.max.is_some_and(|max| max < low)
    }

    /// As `<= 4`, `>= 1` or `1 to 4`.
    pub fn show(&self, unit: Unit) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("{} to {}", unit.show(min), unit.show(max)),
            (Some(min), None) => format!(">= {}", unit.show(min)),
            (None, Some(max)) => format!("<= {}", unit.show(max)),
            (None, None) => "any".to_owned(),
        }
    }
}

/// The largest limit, 2^53: figures are kept as `f64`, and up to here each whole number is one.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// Reads a percentage.
pub(super) fn percentage(value: &toml::Value) -> Option<f64> {
    number(value, Unit::Percent).filter(|percent| percent.is_finite() && *percent >= 0.0)
}

fn number(value: &toml::Value, unit: Unit) -> Option<f64> {
    match value {
        toml::Value::Integer(number) => Some(*number as f64),
        toml::Value::Float(number) => Some(*number),
        toml::Value::String(text) => parse_text(text, unit),
        _ => None,
    }
}

/// Reads one end of a limit.
pub(super) fn parse(value: &toml::Value, figure: Figure) -> Result<f64, String> {
    let unit = figure.unit();
    let whole = !matches!(unit, Unit::PerSecond | Unit::BytesPerSecond | Unit::Percent);
    number(value, unit)
        .filter(|number| number.is_finite() && *number >= 0.0 && (!whole || number.fract() == 0.0))
        .ok_or_else(|| format!("{value} is no limit for {}: {}", figure.name(), choices(unit)))
        .and_then(|number| {
            if number <= LARGEST { Ok(number) } else { Err(format!("{value} is too large: limits go up to {LARGEST}")) }
        })
}

fn parse_text(text: &str, unit: Unit) -> Option<f64> {
    match unit {
        Unit::Percent => text.strip_suffix('%')?.trim_end().parse().ok(),
        Unit::Bytes | Unit::BytesPerSecond | Unit::Alignment => parse_bytes(text).ok().map(|bytes| bytes as f64),
        Unit::Count | Unit::Slots | Unit::Duration | Unit::Moment | Unit::PerSecond => None,
    }
}

fn choices(unit: Unit) -> &'static str {
    match unit {
        Unit::Count | Unit::Slots | Unit::Duration | Unit::Moment => "a whole number such as 0",
        Unit::PerSecond => "a number such as 0 or 2.5, a second",
        Unit::Bytes | Unit::Alignment => "bytes such as 512, or a size such as \"64K\", \"4M\", \"1G\"",
        Unit::BytesPerSecond => "bytes such as 512, or a size such as \"64K\", \"4M\", \"1G\", a second",
        Unit::Percent => "a percentage such as 50 or \"50 %\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: impl Into<toml::Value>, figure: Figure) -> Result<f64, String> {
        parse(&value.into(), figure)
    }

    #[test]
    fn limits_take_the_units_of_their_figure() {
        assert_eq!(read(3, Figure::Bounces), Ok(3.0));
        assert_eq!(read(2.5, Figure::BouncesPerSecond), Ok(2.5));
        assert_eq!(["50 %", "50%"].map(|text| read(text, Figure::PeakPercent)), [Ok(50.0), Ok(50.0)]);
        assert_eq!(read("64K", Figure::BytesCopied), Ok(65536.0));
    }

    #[test]
    fn limits_in_another_unit_are_told_what_there_is() {
        assert!(read("4M", Figure::Bounces).is_err_and(|error| error.contains("a whole number")));
        assert!(read("50 %", Figure::PeakSlots).is_err_and(|error| error.contains("\"50 %\" is no limit")));
        assert!(read("50", Figure::PeakPercent).is_err_and(|error| error.contains("\"50 %\"")));
        assert!(read("4X", Figure::BytesCopied).is_err_and(|error| error.contains("64K")));
        for nonsense in [toml::Value::from(-1), f64::NAN.into(), f64::INFINITY.into(), 0.5.into(), true.into()] {
            assert!(parse(&nonsense, Figure::Bounces).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn limits_that_would_be_rounded_are_refused() {
        assert_eq!(read(1_i64 << 53, Figure::Bounces), Ok(LARGEST));
        assert_eq!(Unit::Count.show(LARGEST), "9007199254740992");
        for large in [toml::Value::from((1_i64 << 53) + 2), i64::MAX.into(), 1e308.into(), "999999999G".into()] {
            let error = parse(&large, Figure::BytesCopied).unwrap_err();
            assert!(error.contains("9007199254740992") || error.contains("no limit"), "{large}: {error}");
        }
    }

    #[test]
    fn a_range_is_inside_outside_or_neither() {
        let limit = Limit { min: Some(1.0), max: Some(4.0) };
        assert!(limit.holds(1.0, 4.0) && !limit.excludes(1.0, 4.0));
        assert!(limit.excludes(5.0, f64::INFINITY) && limit.excludes(0.0, 0.0));
        assert!(!limit.holds(2.0, f64::INFINITY) && !limit.excludes(2.0, f64::INFINITY));
    }
}
