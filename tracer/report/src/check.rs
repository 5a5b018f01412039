//! `bouncescope check`: verdicts on rules, for people and for programs.

use super::screen::COLUMNS;
use super::table::bytes;
use super::wrap::wrapped_to;
use bouncescope_capture::plain::{plain, shortened};
use bouncescope_replay::check::{Judgement, Measured, RunOf, Verdict};
use bouncescope_replay::figures::Unit;

/// Judgements that are shown to people; programs get all.
const SHOWN: usize = 1000;

/// For people: a line for each judgement, with why where it cannot be told, and what all comes to in the last one. Of very many, those
/// that are not kept come first.
pub fn text(judgements: &[Judgement]) -> String {
    let mut shown: Vec<&Judgement> = judgements.iter().collect();
    let left_out = shown.len().saturating_sub(SHOWN);
    if left_out > 0 {
        shown.sort_by_key(|judgement| judgement.verdict == Verdict::Kept);
        shown.truncate(SHOWN);
    }
    let mut text = String::new();
    for of_one in shown.chunk_by(|a, b| a.capture == b.capture) {
        text += &format!("{}\n", plain(&of_one[0].capture));
        text.extend(of_one.iter().map(|judgement| judged(judgement)));
        text.push('\n');
    }
    if left_out > 0 {
        text += &format!("… and {left_out} more: --json has all\n\n");
    }
    let (verdict, counts) = sum(judgements);
    text + &format!("{verdict}: {counts}\n")
}

/// A judgement in one line, without its verdict: the rule, what it is about, the figure and its limit.
pub fn one_line(judgement: &Judgement) -> String {
    let unit = judgement.rule.figure.unit();
    let figure = judgement.figure.as_ref().map_or_else(|| "no figure".to_owned(), |figure| range(figure, unit));
    let run = match judgement.rule.run {
        RunOf::Real => String::new(),
        RunOf::WhatIf(_) => format!(" [{}]", judgement.rule.run.describe()),
    };
    format!("{}{run}: {figure}, limit {}", plain(&name(judgement)), limit(judgement))
}

/// A judgement, and what it rests on.
fn judged(judgement: &Judgement) -> String {
    let mut words = one_line(judgement);
    if let Some(why) = judgement.verdict.why() {
        words += &format!(": {}", plain(why));
    }
    let label = format!("  {:<12} ", word(&judgement.verdict));
    wrapped_to(COLUMNS, &words, &label, &" ".repeat(label.len()))
}

/// What all judgements come to.
fn sum(judgements: &[Judgement]) -> (&'static str, String) {
    let count = |wanted: &str| judgements.iter().filter(|judgement| word(&judgement.verdict) == wanted).count();
    let (kept, broken, open) = (count(KEPT), count(BROKEN), count(OPEN));
    let verdict = match (broken, open) {
        (0, 0) => "OK",
        (0, _) => OPEN,
        _ => BROKEN,
    };
    (verdict, format!("{kept} kept, {broken} broken, {open} inconclusive"))
}

const KEPT: &str = "kept";
const BROKEN: &str = "BROKEN";
const OPEN: &str = "CANNOT TELL";

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => KEPT,
        Verdict::Broken => BROKEN,
        Verdict::CannotTell(_) | Verdict::Unreadable(_) => OPEN,
    }
}

/// Characters of a subject that are shown.
const LONGEST: usize = 64;

/// The rule's name, and what of all that it selects this is, unless the name says it.
pub(super) fn name(judgement: &Judgement) -> String {
    let (name, subject) = (&judgement.rule.name, &judgement.subject);
    let subject = shortened(subject, LONGEST);
    if name.contains(&*subject) { name.clone() } else { format!("{name} ({subject})") }
}

/// The figure with its run, what was seen of it, and its limit after this word.
pub(super) fn figure(judgement: &Judgement, limit: &str) -> String {
    let rule = judgement.rule;
    let unit = rule.figure.unit();
    let seen = judgement.figure.as_ref().map_or_else(|| "no figure".to_owned(), |figure| range(figure, unit));
    format!("{} of {}: {seen}, {limit} {}", rule.figure.name(), rule.run.describe(), self::limit(judgement))
}

/// What the figure has to be, with what it was before where that counts.
fn limit(judgement: &Judgement) -> String {
    let (limit, unit) = (judgement.rule.limit, judgement.rule.figure.unit());
    match judgement.before.as_ref().filter(|_| limit.is_relative()) {
        Some(before) => format!("{} (before: {})", limit.show(unit), range(before, unit)),
        None => limit.show(unit),
    }
}

/// What was seen, and how far the truth may be from it; bytes as `replay` shows them.
pub(super) fn range(figure: &Measured, unit: Unit) -> String {
    let value = match unit {
        Unit::Bytes => bytes(figure.value.round() as u64),
        Unit::BytesPerSecond if figure.value == 0.0 || figure.value >= 1.0 => {
            format!("{}/s", bytes(figure.value.round() as u64))
        }
        _ => unit.show(figure.value),
    };
    format!("{}{value}", figure.mark())
}
