//! `bouncescope check`: verdicts on rules, for people and for programs.

use super::table::Table;
use bouncescope_capture::plain::{plain, shortened};
use bouncescope_replay::check::{Judgement, Measured, Verdict};
use bouncescope_replay::figures::Unit;

/// Judgements that are shown to people; programs get all.
const SHOWN: usize = 1000;

/// For people: a line for each judgement, and why what could not be told could not. Of very many those that are not kept come first.
pub fn text(judgements: &[Judgement]) -> String {
    let mut shown: Vec<&Judgement> = judgements.iter().collect();
    let left_out = shown.len().saturating_sub(SHOWN);
    if left_out > 0 {
        shown.sort_by_key(|judgement| judgement.verdict == Verdict::Kept);
        shown.truncate(SHOWN);
    }
    let mut table = Table::new(&["rule", "capture", "run", "figure", "limit", "verdict"]);
    let mut reasons = String::new();
    for judgement in shown {
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
            reasons +=
                &format!("COULD NOT TELL {}, {}: {}\n", plain(&name(judgement)), plain(&judgement.capture), plain(why));
        }
    }
    let more = if left_out > 0 { format!("… and {left_out} more: --json has all\n") } else { String::new() };
    let count = |wanted: &str| judgements.iter().filter(|judgement| word(&judgement.verdict) == wanted).count();
    let (kept, broken, open) = (count(KEPT), count(BROKEN), count(OPEN));
    format!("{}{more}\n{reasons}{kept} kept, {broken} broken, {open} could not be told\n", table.text(0))
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

/// Characters of a subject that are shown.
const LONGEST: usize = 64;

/// The rule's name, and what of all that it selects this is, unless the name says it.
pub(super) fn name(judgement: &Judgement) -> String {
    let (name, subject) = (&judgement.rule.name, &judgement.subject);
    let subject = shortened(subject, LONGEST);
    if name.contains(&*subject) { name.clone() } else { format!("{name} ({subject})") }
}

/// What was seen, and how far the truth may be from it.
pub(super) fn range(figure: &Measured, unit: Unit) -> String {
    format!("{}{}", figure.mark(), unit.show(figure.value))
}
