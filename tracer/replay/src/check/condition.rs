//! Rules of one line, for a command line: `driver nvme: bounces > before * 1.1`. What they say is that something is wrong.

use std::str::FromStr;

use super::limit::{self, Limit};
use super::select::Selector;
use super::text::{SELECTORS, selected};
use super::{IfAbsent, Rule, RunOf};
use crate::figures::Figure;
use bouncescope_capture::plain::plain;

/// A condition under which something is wrong, and the run that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The rule that is broken by it, called as the condition was written; of the real run.
    pub rule: Rule,
    /// The policy in brackets behind it, where there is one.
    pub policy: Option<String>,
}

/// What a condition looks like.
const FORM: &str =
    "FIGURE > LIMIT or FIGURE < LIMIT, such as 'failed > before' or 'driver nvme: bounces-per-second > before * 1.1'";

impl FromStr for Condition {
    type Err = String;

    /// Reads `[device|driver|call-site PATTERN:] FIGURE >|< LIMIT [POLICY]`; the brackets around the policy are part of it.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (text, policy) = match text.strip_suffix(']').and_then(|text| text.rsplit_once('[')) {
            Some((text, policy)) => (text.trim_end(), Some(policy.trim().to_owned())),
            None => (text, None),
        };
        let at = text.rfind(['>', '<']).ok_or_else(|| format!("'{text}' is not a condition: {FORM}"))?;
        let (whose, value) = (text[..at].trim(), text[at + 1..].trim());
        if let Some((_, policy)) = value.split_once('[').filter(|_| policy.is_none()) {
            return Err(format!("a ] is missing behind '[{policy}'"));
        }
        if value.starts_with('=') {
            return Err(format!("'{text}': a limit is an allowed value; write > or <"));
        }
        let (whose, figure) = whose.rsplit_once(": ").map_or((None, whose), |(whose, figure)| (Some(whose), figure));
        let figure = figure.trim().trim_matches('"');
        let figure = Figure::named(figure).map_err(|why| match with_colon(figure) {
            Some(whose) => format!("did you mean '{whose} {}'?", text[at..].trim()),
            None => why,
        })?;
        let selector = whose.map(str::trim).map_or(Ok(Selector::Totals), |whose| {
            let (key, pattern) = whose.split_once(' ').unwrap_or((whose, ""));
            let (key, make) = SELECTORS
                .into_iter()
                .find(|(known, _)| *known == key)
                .ok_or_else(|| format!("'{key}' is none of device, driver, call-site"))?;
            selected(key, pattern.trim(), make, figure)
        })?;
        let end = limit::parse(&limit::literal(value), figure)?;
        let limit = match text.as_bytes()[at] {
            b'>' => Limit { min: None, max: Some(end) },
            _ => Limit { min: Some(end), max: None },
        };
        let name = plain(text).into_owned();
        let rule = Rule { name, selector, figure, limit, each: true, if_absent: IfAbsent::Unknown, run: RunOf::Real };
        Ok(Self { rule, policy })
    }
}

/// A selector and a figure with the colon between them that was forgotten, or stands without a blank behind it.
fn with_colon(text: &str) -> Option<String> {
    let (whose, figure) = text.rsplit_once(|c: char| c == ':' || c.is_whitespace())?;
    let (key, pattern) = whose.trim_end().split_once(' ')?;
    let is_one = SELECTORS.iter().any(|(known, _)| *known == key) && Figure::named(figure).is_ok();
    is_one.then(|| format!("{key} {}: {figure}", pattern.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::text::made_up;
    use super::*;

    fn read(text: &str) -> Result<Condition, String> {
        text.parse()
    }

    #[test]
    fn a_condition_is_the_rule_that_it_breaks() {
        let broken_by = |text: &str| {
            let rule = read(text).unwrap().rule;
            assert_eq!(rule.name, text, "it is called as it was written");
            made_up(&rule.selector, rule.figure, &rule.limit)
        };
        assert_eq!(broken_by("failed > 0"), "failed <= 0");
        assert_eq!(broken_by("failed>before"), "failed <= before");
        assert_eq!(
            broken_by("driver *hci*: bounces-per-second > before * 1.1"),
            "driver *hci*: bounces-per-second <= before * 1.1"
        );
        assert_eq!(broken_by("device 0000:00:04.0: bytes-copied > 64K"), "device 0000:00:04.0: bytes-copied <= 64K");
        assert_eq!(broken_by("peak-percent > 50 %"), "peak-percent <= 50 %");
        assert_eq!(broken_by("mappings < before * 0.5"), "mappings >= before * 0.5");
        let of_policy = read("failed > 0 [legacy line 128]").unwrap();
        assert_eq!(
            (of_policy.policy.as_deref(), of_policy.rule.name.as_str()),
            (Some("legacy line 128"), "failed > 0")
        );
    }

    #[test]
    fn what_is_no_condition_is_answered_with_what_one_looks_like() {
        for (wrong, says) in [
            ("", "is not a condition: FIGURE > LIMIT"),
            ("failed = 0", "is not a condition"),
            ("failed >= 1", "write > or <"),
            ("bounce > 0", "no figure 'bounce'; figures are: mappings, "),
            ("driver nvme bounces > 0", "did you mean 'driver nvme: bounces > 0'?"),
            ("driver nvme:bounces > 0", "did you mean 'driver nvme: bounces > 0'?"),
            ("device 0000:00:04.0 failed > before * 2", "did you mean 'device 0000:00:04.0: failed > before * 2'?"),
            ("driver nvme bounce > 0", "no figure 'driver nvme bounce'; figures are: "),
            ("failed > 0 [mainline", "a ] is missing behind '[mainline'"),
            ("failed > some", "is not a limit for failed: a whole number, before, before * 1.1, before + 5"),
            ("modem x: failed > 0", "'modem' is none of device, driver, call-site"),
            ("device x: peak-slots > 0", "peak-slots is a figure of everything together"),
            ("device : failed > 0", "device is empty"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
