//! What became of the conditions of `diff --fail-if`, as they were typed.

use super::check::{name, range};
use super::screen::{COLUMNS, line};
use super::wrap::wrapped_to;
use bouncescope_capture::plain::plain;
use bouncescope_replay::check::{Judgement, RunOf, Verdict};

/// What all of them come to, then a line for each.
pub(super) fn text(judgements: &[Judgement]) -> String {
    let count = |wanted: &str| judgements.iter().filter(|judgement| word(&judgement.verdict) == wanted).count();
    let counts = format!("{} met, {} not met, {} inconclusive", count(MET), count(NOT_MET), count(OPEN));
    line(overall(judgements), &counts) + &judgements.iter().map(condition).collect::<String>()
}

/// The word that [`text`] begins with.
pub(super) fn overall(judgements: &[Judgement]) -> &'static str {
    let any = |wanted: &str| judgements.iter().any(|judgement| word(&judgement.verdict) == wanted);
    match (any(MET), any(OPEN)) {
        (true, _) => "MET",
        (false, true) => OPEN,
        (false, false) => "NOT MET",
    }
}

/// A condition, and what its figure is.
fn condition(judgement: &Judgement) -> String {
    let unit = judgement.rule.figure.unit();
    let figure = judgement.figure.as_ref().map_or_else(|| "no figure".to_owned(), |figure| range(figure, unit));
    let run = match judgement.rule.run {
        RunOf::Real => String::new(),
        RunOf::WhatIf(_) => format!(" [{}]", judgement.rule.run.describe()),
    };
    let mut words = format!("{}{run}: {figure}", plain(&name(judgement)));
    if let Some(before) = judgement.before.as_ref().filter(|_| judgement.rule.limit.is_relative()) {
        words += &format!(" (before: {})", range(before, unit));
    }
    if let Some(why) = judgement.verdict.why() {
        words += &format!(": {}", plain(why));
    }
    let label = format!("  {:<12} ", word(&judgement.verdict));
    wrapped_to(COLUMNS, &words, &label, &" ".repeat(label.len()))
}

const MET: &str = "met";
const NOT_MET: &str = "not met";
const OPEN: &str = "CANNOT TELL";

/// A condition is met where its rule is broken.
fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => NOT_MET,
        Verdict::Broken => MET,
        Verdict::CannotTell(_) | Verdict::Unreadable(_) => OPEN,
    }
}
