//! `bouncescope check`: verdicts on rules, for people and for programs.

use serde_json::{Value, json};

use super::table::Table;
use crate::check::{Judgement, Measured, Unit, Verdict};

/// For people: a line for each judgement, and why what could not be told could not.
pub fn text(judgements: &[Judgement]) -> String {
    let mut table = Table::new(&["rule", "capture", "run", "figure", "limit", "verdict"]);
    let mut reasons = String::new();
    for judgement in judgements {
        let unit = judgement.rule.figure.unit();
        let figure = judgement.figure.as_ref().map_or_else(|| "?".to_owned(), |figure| range(figure, unit));
        table.row([
            name(judgement),
            judgement.capture.clone(),
            judgement.rule.run.describe(),
            figure,
            judgement.rule.limit.show(unit),
            word(&judgement.verdict).to_owned(),
        ]);
        if let Verdict::CannotTell(why) = &judgement.verdict {
            reasons += &format!("COULD NOT TELL {}, {}: {why}\n", name(judgement), judgement.capture);
        }
    }
    let count = |wanted: &str| judgements.iter().filter(|judgement| word(&judgement.verdict) == wanted).count();
    let (kept, broken, open) = (count(KEPT), count(BROKEN), count(OPEN));
    format!("{}\n{reasons}{kept} kept, {broken} broken, {open} could not be told\n", table.text(0))
}

/// For programs.
pub fn json(judgements: &[Judgement]) -> Value {
    let verdict = |verdict: &Verdict| match verdict {
        Verdict::Kept => "kept",
        Verdict::Broken => "broken",
        Verdict::CannotTell(_) => "cannot_tell",
    };
    let all: Vec<Value> = judgements
        .iter()
        .map(|judgement| {
            let rule = judgement.rule;
            let why = match &judgement.verdict {
                Verdict::CannotTell(why) => Some(why),
                Verdict::Kept | Verdict::Broken => None,
            };
            json!({
                "rule": rule.name,
                "capture": judgement.capture,
                "run": rule.run.describe(),
                "subject": judgement.subject,
                "figure": rule.figure.name(),
                "measured": judgement.figure,
                "limit": { "min": rule.limit.min, "max": rule.limit.max },
                "verdict": verdict(&judgement.verdict),
                "why": why,
            })
        })
        .collect();
    let count = |wanted: &str| judgements.iter().filter(|judgement| verdict(&judgement.verdict) == wanted).count();
    json!({
        "judgements": all,
        "kept": count("kept"),
        "broken": count("broken"),
        "cannot_tell": count("cannot_tell"),
    })
}

const KEPT: &str = "kept";
const BROKEN: &str = "BROKEN";
const OPEN: &str = "could not tell";

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => KEPT,
        Verdict::Broken => BROKEN,
        Verdict::CannotTell(_) => OPEN,
    }
}

/// The rule's name, and what of all that it selects this is, unless the name says it.
pub(super) fn name(judgement: &Judgement) -> String {
    let (name, subject) = (&judgement.rule.name, &judgement.subject);
    if name.contains(subject.as_str()) { name.clone() } else { format!("{name} ({subject})") }
}

/// What was seen, and how far the truth may be from it.
pub(super) fn range(figure: &Measured, unit: Unit) -> String {
    format!("{}{}", figure.mark(), unit.show(figure.value))
}
