//! Rules as TOML. `docs/check.md` says what can be written.

use serde::Deserialize;
use toml::{Spanned, Value};

use super::limit::{self, End, Limit};
use super::select::{Pattern, Selector};
use super::{IfAbsent, Rule, Rules, RunOf, WhatIf};
use crate::figures::{Figure, Scope};
use crate::losses::TOLERATED;
use crate::settings;
use bouncescope_capture::plain::plain;
use bouncescope_model::policy::{self, Lists, PoolChoice, WhenFull, builtin, in_plain_words, line_at};

/// Why a text is no set of rules.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct RulesError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, with the choices there are.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    tolerate_losses: Option<Spanned<Value>>,
    what_if: Option<WhatIfText>,
    #[serde(default)]
    rule: Vec<Spanned<RuleText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WhatIfText {
    policy: Option<Spanned<String>>,
    swiotlb: Option<PoolChoice>,
    cache_line_size: Option<Spanned<i64>>,
    minalign: Option<Spanned<i64>>,
    lists: Option<Lists>,
    when_full: Option<WhenFull>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleText {
    name: Option<Spanned<String>>,
    device: Option<Spanned<String>>,
    driver: Option<Spanned<String>>,
    call_site: Option<Spanned<String>>,
    figure: Spanned<Figure>,
    max: Option<Spanned<Value>>,
    min: Option<Spanned<Value>>,
    each: Option<Spanned<bool>>,
    if_absent: Option<Spanned<IfAbsent>>,
    what_if: Option<Spanned<WhatIfText>>,
    real_run: Option<Spanned<bool>>,
}

/// What is wrong, and at which byte.
type Wrong = (usize, String);

fn wrong<T>(at: &Spanned<T>, message: impl Into<String>) -> Wrong {
    (at.span().start, message.into())
}

impl Rules {
    /// Reads rules. Policies that are not built in are read by `read`, from the path that the text names.
    pub fn from_toml(text: &str, mut read: impl FnMut(&str) -> Result<String, String>) -> Result<Self, RulesError> {
        let located = |(at, message): Wrong| RulesError { line: line_at(text, at), message };
        let file: File = toml::from_str(text).map_err(|error| {
            let message = match error.message() {
                // Rules alone are a list.
                "invalid type: map, expected a sequence" => "write [[rule]], with two brackets".to_owned(),
                message => in_plain_words(message),
            };
            located((error.span().map_or(0, |span| span.start), message))
        })?;
        let common = file.what_if.as_ref().map(|text| what_if(text, &mut read)).transpose().map_err(located)?;
        if file.rule.is_empty() {
            return Err(located((text.len(), "there is no [[rule]]".to_owned())));
        }
        let rules = file.rule.into_iter().map(|text| rule(text, common.as_ref(), &mut read));
        let rules = rules.collect::<Result<_, _>>().map_err(located)?;
        let tolerated_losses = file.tolerate_losses.map_or(Ok(TOLERATED), |value| share(&value)).map_err(located)?;
        Ok(Self { rules, tolerated_losses })
    }
}

/// Parts of a million, from a percentage.
fn share(value: &Spanned<Value>) -> Result<u32, Wrong> {
    let percent = limit::percentage(value.as_ref()).filter(|percent| *percent <= 100.0);
    percent.map(|percent| (percent * 1e4) as u32).ok_or_else(|| {
        wrong(value, format!("{} is not a share of records: a percentage such as 0 or \"0.1 %\"", value.as_ref()))
    })
}

fn rule(
    text: Spanned<RuleText>,
    common: Option<&WhatIf>,
    read: &mut impl FnMut(&str) -> Result<String, String>,
) -> Result<Rule, Wrong> {
    let at = text.span().start;
    let text = text.into_inner();
    let figure = *text.figure.as_ref();
    let limit = read_limit(&text, figure, at)?;
    let selector = read_selector(&text, figure)?;
    if let (Some(each), Selector::Totals) = (&text.each, &selector) {
        return Err(wrong(each, "each is for a rule with device, driver or call-site"));
    }
    if let (Some(if_absent), Selector::Totals) = (&text.if_absent, &selector) {
        return Err(wrong(if_absent, "if-absent is for a rule with device, driver or call-site"));
    }
    let run = match (text.what_if, &text.real_run) {
        (Some(what_if), Some(_)) => return Err(wrong(&what_if, "what-if and real-run exclude each other")),
        (Some(own), None) if figure.is_of_capture() => {
            return Err(wrong(&own, format!("{} is of the recording: a what-if has none", figure.name())));
        }
        (Some(own), None) => RunOf::WhatIf(Box::new(what_if(own.as_ref(), read)?)),
        (None, Some(real)) if *real.as_ref() => RunOf::Real,
        (None, _) if figure.is_of_capture() => RunOf::Real,
        (None, _) => common.map_or(RunOf::Real, |common| RunOf::WhatIf(Box::new(common.clone()))),
    };
    let name = match text.name {
        Some(name) if name.as_ref().is_empty() => return Err(wrong(&name, "name is empty")),
        Some(name) => plain(name.as_ref()).into_owned(),
        None => made_up(&selector, figure, &limit),
    };
    Ok(Rule {
        name,
        selector,
        figure,
        limit,
        each: text.each.is_none_or(Spanned::into_inner),
        if_absent: text.if_absent.map(Spanned::into_inner).unwrap_or_default(),
        run,
    })
}

pub(super) fn made_up(selector: &Selector, figure: Figure, limit: &Limit) -> String {
    let whose = selector.describe().map_or_else(String::new, |selected| format!("{selected}: "));
    format!("{whose}{} {}", figure.name(), limit.show(figure.unit()))
}

fn read_limit(text: &RuleText, figure: Figure, at: usize) -> Result<Limit, Wrong> {
    let read = |end: &Option<Spanned<Value>>| {
        let parsed = end.as_ref().map(|value| limit::parse(value.as_ref(), figure).map_err(|why| wrong(value, why)));
        parsed.transpose()
    };
    let limit = Limit { min: read(&text.min)?, max: read(&text.max)? };
    match (limit.min, limit.max, &text.min) {
        (None, None, _) => Err((at, "the rule has neither max nor min".to_owned())),
        (Some(End::Fixed(min)), Some(End::Fixed(max)), Some(at)) if min > max => Err(wrong(at, "min is more than max")),
        _ => Ok(limit),
    }
}

/// A selector of a pattern.
pub(super) type MakeSelector = fn(Pattern) -> Selector;

/// The keys that say whose figure a rule is about.
pub(super) const SELECTORS: [(&str, MakeSelector); 3] =
    [("device", Selector::Device), ("driver", Selector::Driver), ("call-site", Selector::CallSite)];

fn read_selector(text: &RuleText, figure: Figure) -> Result<Selector, Wrong> {
    let values = [&text.device, &text.driver, &text.call_site];
    let mut given =
        SELECTORS.into_iter().zip(values).filter_map(|((key, make), value)| Some((key, value.as_ref()?, make)));
    let Some((key, value, make)) = given.next() else { return Ok(Selector::Totals) };
    if let Some((other, second, _)) = given.next() {
        return Err(wrong(
            second,
            format!("a rule has one of device, driver, call-site, and this one has {key} and {other}"),
        ));
    }
    selected(key, value.as_ref(), make, figure).map_err(|why| wrong(value, why))
}

/// A selector, where the figure can be told of that.
pub(super) fn selected(key: &str, pattern: &str, make: MakeSelector, figure: Figure) -> Result<Selector, String> {
    let name = figure.name();
    match figure.scope() {
        Some(Scope::Totals) | None => Err(format!("{name} is a figure of everything together: leave out {key}")),
        Some(Scope::Drivers) if key != "driver" => {
            Err(format!("{name} is a figure of drivers or of everything together: leave out {key}"))
        }
        _ if pattern.is_empty() => Err(format!("{key} is empty; * is any")),
        _ => Ok(make(Pattern(pattern.to_owned()))),
    }
}

fn what_if(text: &WhatIfText, read: &mut impl FnMut(&str) -> Result<String, String>) -> Result<WhatIf, Wrong> {
    let mut policy = match &text.policy {
        None => builtin("mainline").ok_or_else(|| (0, "no policy mainline".to_owned()))?,
        Some(name) => policy::named(name.as_ref(), |path| read(path)).map_err(|why| wrong(name, why))?,
    };
    policy.name = plain(&policy.name).into_owned();
    policy.lists = text.lists.unwrap_or(policy.lists);
    policy.when_full = text.when_full.unwrap_or(policy.when_full);
    let change = settings::WhatIf {
        cache_line_size: text.cache_line_size.as_ref().map(alignment).transpose()?,
        minalign: text.minalign.as_ref().map(alignment).transpose()?,
        pool: text.swiotlb,
        ..settings::WhatIf::default()
    };
    Ok(WhatIf { policy, change })
}

fn alignment(bytes: &Spanned<i64>) -> Result<u32, Wrong> {
    u32::try_from(*bytes.as_ref())
        .ok()
        .filter(|number| number.is_power_of_two() && (8..=4096).contains(number))
        .ok_or_else(|| wrong(bytes, format!("{} is not a power of two from 8 to 4096", bytes.as_ref())))
}

#[cfg(test)]
mod tests;
