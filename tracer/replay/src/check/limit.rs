//! What a figure has to be: at most, at least, or both; in the figure's own unit.

use crate::figures::{Figure, Unit};
use bouncescope_model::size::parse_bytes;

/// One end of a limit, in the figure's unit.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// A number.
    Fixed(f64),
    /// The same figure of the capture before: times a factor that is not negative, and so much more.
    Before {
        /// Factor.
        times: f64,
        /// In the figure's unit.
        plus: f64,
    },
}

/// A limit, in the figure's unit. Both ends are allowed values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// No less.
    pub min: Option<End>,
    /// No more.
    pub max: Option<End>,
}

/// By bits: limits come from texts, and are never NaN.
impl PartialEq for End {
    fn eq(&self, other: &Self) -> bool {
        let bits = |end: &Self| match *end {
            Self::Fixed(number) => (false, number.to_bits(), 0),
            Self::Before { times, plus } => (true, times.to_bits(), plus.to_bits()),
        };
        bits(self) == bits(other)
    }
}

impl Eq for End {}

impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        (self.min, self.max) == (other.min, other.max)
    }
}

impl Eq for Limit {}

impl End {
    /// As a number, where the figure before is this.
    pub fn number(self, before: f64) -> f64 {
        match self {
            Self::Fixed(number) => number,
            Self::Before { times, plus } => (before * times + plus).max(0.0),
        }
    }

    /// It compares with the capture before.
    pub fn is_relative(self) -> bool {
        matches!(self, Self::Before { .. })
    }

    /// As `4`, `before`, `before * 1.1` or `before + 16`.
    pub fn show(self, unit: Unit) -> String {
        match self {
            Self::Fixed(number) => unit.show(number),
            Self::Before { times, plus } => {
                let times = if times.to_bits() == 1.0_f64.to_bits() { String::new() } else { format!(" * {times}") };
                let plus = match plus {
                    plus if plus > 0.0 => format!(" + {}", unit.show(plus)),
                    plus if plus < 0.0 => format!(" - {}", unit.show(-plus)),
                    _ => String::new(),
                };
                format!("{BEFORE}{times}{plus}")
            }
        }
    }
}

impl Limit {
    /// Some end compares with the capture before.
    pub fn is_relative(&self) -> bool {
        [self.min, self.max].into_iter().flatten().any(End::is_relative)
    }

    /// Everything from `low` to `high` is allowed, wherever in `before` the figure before lies.
    pub fn holds(&self, (low, high): (f64, f64), before: (f64, f64)) -> bool {
        self.min.is_none_or(|min| min.number(before.1) <= low)
            && self.max.is_none_or(|max| high <= max.number(before.0))
    }

    /// Nothing from `low` to `high` is allowed, wherever in `before` the figure before lies.
    pub(crate) fn excludes(&self, (low, high): (f64, f64), before: (f64, f64)) -> bool {
        self.min.is_some_and(|min| high < min.number(before.0))
            || self.max.is_some_and(|max| max.number(before.1) < low)
    }

    /// As `<= 4`, `>= 1` or `1 to 4`.
    pub fn show(&self, unit: Unit) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("{} to {}", min.show(unit), max.show(unit)),
            (Some(min), None) => format!(">= {}", min.show(unit)),
            (None, Some(max)) => format!("<= {}", max.show(unit)),
            (None, None) => "any".to_owned(),
        }
    }
}

/// The word for the same figure of the capture before.
const BEFORE: &str = "before";

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
pub(super) fn parse(value: &toml::Value, figure: Figure) -> Result<End, String> {
    let relative = value.as_str().and_then(|text| text.trim().strip_prefix(BEFORE));
    relative.map_or_else(|| fixed(value, figure).map(End::Fixed), |behind| parse_relative(behind.trim(), value, figure))
}

/// Reads what stands behind `before`.
fn parse_relative(behind: &str, value: &toml::Value, figure: Figure) -> Result<End, String> {
    let amount = |text: &str| fixed(&literal(text.trim()), figure);
    let wrong = || format!("{value} is not a limit for {}: {}", figure.name(), choices(figure.unit()));
    if behind.is_empty() {
        return Ok(End::Before { times: 1.0, plus: 0.0 });
    }
    if let Some(factor) = behind.strip_prefix('*') {
        let factor = factor.trim().parse().ok().filter(|factor: &f64| (0.0..=1e6).contains(factor));
        return factor.map(|times| End::Before { times, plus: 0.0 }).ok_or_else(wrong);
    }
    let (sign, text) = match (behind.strip_prefix('+'), behind.strip_prefix('-')) {
        (Some(text), _) => (1.0, text),
        (_, Some(text)) => (-1.0, text),
        _ => return Err(wrong()),
    };
    if text.trim_end().ends_with('%') && figure.unit() != Unit::Percent {
        return Err(format!("{value} is not a limit for {}: for a tenth more write before * 1.1", figure.name()));
    }
    Ok(End::Before { times: 1.0, plus: sign * amount(text)? })
}

/// A value without quotes, as in a rule of one line.
pub(super) fn literal(text: &str) -> toml::Value {
    let whole = text.parse().ok().map(toml::Value::Integer);
    whole.or_else(|| text.parse().ok().map(toml::Value::Float)).unwrap_or_else(|| text.into())
}

fn fixed(value: &toml::Value, figure: Figure) -> Result<f64, String> {
    let unit = figure.unit();
    let whole = !matches!(unit, Unit::PerSecond | Unit::BytesPerSecond | Unit::Percent | Unit::Seconds);
    number(value, unit)
        .filter(|number| number.is_finite() && *number >= 0.0 && (!whole || number.fract() == 0.0))
        .ok_or_else(|| format!("{value} is not a limit for {}: {}", figure.name(), choices(unit)))
        .and_then(|number| {
            if number <= LARGEST { Ok(number) } else { Err(format!("{value} is too large: limits go up to {LARGEST}")) }
        })
}

fn parse_text(text: &str, unit: Unit) -> Option<f64> {
    match unit {
        Unit::Percent => text.strip_suffix('%')?.trim_end().parse().ok(),
        Unit::Bytes | Unit::BytesPerSecond | Unit::Alignment => parse_bytes(text).ok().map(|bytes| bytes as f64),
        Unit::Seconds => text.strip_suffix('s')?.trim_end().parse().ok(),
        Unit::Count | Unit::Slots | Unit::Duration | Unit::Moment | Unit::PerSecond => None,
    }
}

fn choices(unit: Unit) -> &'static str {
    match unit {
        Unit::Count | Unit::Slots | Unit::Duration | Unit::Moment => "a whole number, before, before * 1.1, before + 5",
        Unit::PerSecond => "a number such as 2.5 (per second), before, before * 1.1, before + 5",
        Unit::Bytes | Unit::Alignment => {
            "bytes such as 512, a size such as \"64K\", before, before * 1.1, before + 64K"
        }
        Unit::BytesPerSecond => {
            "bytes such as 512 or a size such as \"64K\" (per second), before, before * 1.1, before + 64K"
        }
        Unit::Seconds => "seconds such as 60 or \"60 s\", before, before * 1.1, before + 5",
        Unit::Percent => "a percentage such as 50 or \"50 %\", before, before * 1.1, before + 5 %",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: impl Into<toml::Value>, figure: Figure) -> Result<f64, String> {
        fixed(&value.into(), figure)
    }

    #[test]
    fn limits_take_the_units_of_their_figure() {
        assert_eq!(read(3, Figure::Bounces), Ok(3.0));
        assert_eq!(read(2.5, Figure::BouncesPerSecond), Ok(2.5));
        assert_eq!(["50 %", "50%"].map(|text| read(text, Figure::PeakPercent)), [Ok(50.0), Ok(50.0)]);
        assert_eq!(read("64K", Figure::BytesCopied), Ok(65536.0));
        assert_eq!(["60 s", "0.5s"].map(|text| read(text, Figure::HeldSeconds)), [Ok(60.0), Ok(0.5)]);
    }

    #[test]
    fn limits_in_another_unit_are_told_what_there_is() {
        assert!(read("4M", Figure::Bounces).is_err_and(|error| error.contains("a whole number")));
        assert!(read("50 %", Figure::PeakSlots).is_err_and(|error| error.contains("\"50 %\" is not a limit")));
        assert!(read("50", Figure::PeakPercent).is_err_and(|error| error.contains("\"50 %\"")));
        assert!(read("4X", Figure::BytesCopied).is_err_and(|error| error.contains("64K")));
        for nonsense in [toml::Value::from(-1), f64::NAN.into(), f64::INFINITY.into(), 0.5.into(), true.into()] {
            assert!(fixed(&nonsense, Figure::Bounces).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn limits_that_would_be_rounded_are_refused() {
        assert_eq!(read(1_i64 << 53, Figure::Bounces), Ok(LARGEST));
        assert_eq!(Unit::Count.show(LARGEST), "9007199254740992");
        for large in [toml::Value::from((1_i64 << 53) + 2), i64::MAX.into(), 1e308.into(), "999999999G".into()] {
            let error = fixed(&large, Figure::BytesCopied).unwrap_err();
            assert!(error.contains("9007199254740992") || error.contains("no limit"), "{large}: {error}");
        }
    }

    #[test]
    fn a_range_is_inside_outside_or_neither() {
        let limit = Limit { min: Some(End::Fixed(1.0)), max: Some(End::Fixed(4.0)) };
        let none = (0.0, f64::INFINITY);
        assert!(limit.holds((1.0, 4.0), none) && !limit.excludes((1.0, 4.0), none));
        assert!(limit.excludes((5.0, f64::INFINITY), none) && limit.excludes((0.0, 0.0), none));
        assert!(!limit.holds((2.0, f64::INFINITY), none) && !limit.excludes((2.0, f64::INFINITY), none));
    }

    #[test]
    fn a_limit_by_what_was_before_is_read_as_it_is_shown() {
        for text in ["before", "before * 1.1", "before + 5", "before - 5"] {
            assert_eq!(parse(&text.into(), Figure::Bounces).unwrap().show(Unit::Count), text);
        }
        let read = |text: &str, figure| parse(&text.into(), figure);
        assert_eq!(read("before+64K", Figure::BytesCopied), Ok(End::Before { times: 1.0, plus: 65536.0 }));
        assert_eq!(read("before + 5 %", Figure::PeakPercent), Ok(End::Before { times: 1.0, plus: 5.0 }));
        for wrong in ["before 3", "before * x", "before * -1", "before / 2", "before + 0.5", "beforehand"] {
            assert!(
                read(wrong, Figure::Bounces).is_err_and(|error| error.contains("is not a limit for bounces")),
                "{wrong}"
            );
        }
        assert!(read("before + 10 %", Figure::Bounces).is_err_and(|error| error.contains("before * 1.1")));
    }

    #[test]
    fn what_was_before_may_itself_be_in_doubt() {
        let limit = Limit { min: None, max: Some(End::Before { times: 2.0, plus: 1.0 }) };
        assert!(limit.holds((0.0, 5.0), (2.0, 4.0)) && !limit.excludes((0.0, 5.0), (2.0, 4.0)));
        assert!(!limit.holds((6.0, 6.0), (2.0, 4.0)) && !limit.excludes((6.0, 6.0), (2.0, 4.0)));
        assert!(limit.excludes((10.0, 10.0), (2.0, 4.0)));
        assert_eq!(End::Before { times: 1.0, plus: -5.0 }.number(3.0).to_bits(), 0.0_f64.to_bits());
    }
}
