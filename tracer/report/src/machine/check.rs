//! `check --json`.

use serde::Serialize;

use super::Document;
use bouncescope_replay::check::{End, Judgement, Measured, Verdict};

/// `check --json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Check<'a> {
    /// For each rule and capture, one for each thing that the rule selects, in the order of both.
    judgements: Vec<Judged<'a>>,
    /// Judgements by verdict.
    kept: usize,
    /// Judgements by verdict.
    broken: usize,
    /// Judgements by verdict.
    cannot_tell: usize,
}

/// One thing held to one rule.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Judged<'a> {
    /// The rule's name.
    rule: &'a str,
    /// The capture's path.
    capture: &'a str,
    /// `real`, or the policy with what else is changed.
    run: String,
    /// The device, driver or call site; empty for the totals.
    subject: &'a str,
    /// The figure's name, as in rules.
    figure: &'static str,
    /// What it comes to; `null` where the capture has no such figure.
    measured: Option<&'a Measured>,
    /// What it came to in the capture before; `null` without one, and where that has no such figure.
    before: Option<&'a Measured>,
    /// What it has to be. An end that compares with the capture before is the number that this makes.
    limit: Limits,
    /// What became of the rule.
    verdict: Word,
    /// Why it cannot be told; else `null`.
    why: Option<&'a str>,
}

/// What a figure has to be, in its unit.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Limits {
    /// At least this.
    min: Option<f64>,
    /// At most this.
    max: Option<f64>,
}

/// A verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum Word {
    /// The figure is as it has to be.
    Kept,
    /// It is not, whatever is missing from the capture.
    Broken,
    /// The capture does not tell.
    CannotTell,
}

impl Document for Check<'_> {
    const KIND: &'static str = "check";
}

impl<'a> Check<'a> {
    /// Of all judgements.
    pub fn new(judgements: &'a [Judgement]) -> Self {
        let judgements: Vec<_> = judgements.iter().map(Judged::new).collect();
        let count = |verdict| judgements.iter().filter(|judged| judged.verdict == verdict).count();
        let (kept, broken, cannot_tell) = (count(Word::Kept), count(Word::Broken), count(Word::CannotTell));
        Self { judgements, kept, broken, cannot_tell }
    }
}

impl<'a> Judged<'a> {
    fn new(judgement: &'a Judgement) -> Self {
        let verdict = match &judgement.verdict {
            Verdict::Kept => Word::Kept,
            Verdict::Broken => Word::Broken,
            Verdict::CannotTell(_) | Verdict::Unreadable(_) => Word::CannotTell,
        };
        let rule = judgement.rule;
        let before = judgement.before.as_ref();
        let end = |end: End| match before {
            None if end.is_relative() => None,
            before => Some(end.number(before.map_or(0.0, |before| before.value))),
        };
        Self {
            rule: &rule.name,
            capture: &judgement.capture,
            run: rule.run.describe(),
            subject: &judgement.subject,
            figure: rule.figure.name(),
            measured: judgement.figure.as_ref(),
            before: judgement.before.as_ref(),
            limit: Limits { min: rule.limit.min.and_then(end), max: rule.limit.max.and_then(end) },
            verdict,
            why: judgement.verdict.why(),
        }
    }
}
