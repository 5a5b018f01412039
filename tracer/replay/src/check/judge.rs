//! Rules held against a replayed capture.

use super::doubt::{Concern, Doubts};
use super::measure::{Measured, Taken, can_tell, measure};
use super::select::{NO_CALL_SITE, Selector, select, totals};
use super::{IfAbsent, Rule, Rules};
use crate::Replayed;
use crate::figures::Run;
use crate::outcome::Rows;

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The figure is as it has to be.
    Kept,
    /// It is not, whatever is missing from the capture.
    Broken,
    /// The capture does not tell, and why.
    CannotTell(String),
}

/// A rule and a capture, and one thing that the rule selects in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// What the capture is called.
    pub capture: String,
    /// The device, driver or call site; what the rule selects by where that is held to it together, or is not there; empty
    /// for the totals.
    pub subject: String,
    /// The figure; `None` where the capture has none.
    pub figure: Option<Measured>,
    /// What came of it.
    pub verdict: Verdict,
}

/// Judges a capture by all rules, in their order: at least one judgement for each.
///
/// `replayed` has the outcomes of [`Rules::settings`] and the verdict on the captured kernel's own.
pub fn judge<'a>(rules: &'a Rules, capture: &str, replayed: &Replayed) -> Vec<Judgement<'a>> {
    let simulations = rules.simulations();
    let doubts = Doubts::new(replayed, rules.tolerated_losses);
    let mut judgements = Vec::new();
    for rule in &rules.rules {
        let make = |subject: String, figure: Option<Measured>, verdict: Verdict| Judgement {
            rule,
            capture: capture.to_owned(),
            subject,
            figure,
            verdict,
        };
        let described = || rule.selector.describe().unwrap_or_default();
        let simulated = rule.simulation().and_then(|wanted| simulations.iter().position(|one| *one == wanted));
        let outcome = simulated.map(|index| replayed.outcomes.get(index));
        if let Err(why) = can_tell(rule, replayed) {
            judgements.push(make(described(), None, Verdict::CannotTell(why)));
            continue;
        }
        let (outcome, rows) = match outcome {
            None => (None, &replayed.observed_rows),
            Some(Some(outcome)) => (Some(outcome), &outcome.rows),
            Some(None) => {
                judgements.push(make(described(), None, Verdict::CannotTell("it was not simulated".to_owned())));
                continue;
            }
        };
        let run = Run { replayed, outcome };
        let taken = Taken { run, doubts: &doubts };
        let selected = select(rule, totals(run), rows);
        if selected.is_empty() {
            judgements.push(make(described(), None, absent(rule, &doubts, rows)));
        }
        for one in selected {
            let subject = one.name.clone();
            judgements.push(match measure(rule.figure, &one, taken) {
                Ok(figure) => {
                    let verdict = verdict(rule, &figure);
                    make(subject, Some(figure), verdict)
                }
                Err(why) => make(subject, None, Verdict::CannotTell(why)),
            });
        }
    }
    judgements
}

/// What is said by all rules of a capture that cannot be read.
pub fn unreadable<'a>(rules: &'a Rules, capture: &str, why: &str) -> Vec<Judgement<'a>> {
    let judgement = |rule: &'a Rule| Judgement {
        rule,
        capture: capture.to_owned(),
        subject: rule.selector.describe().unwrap_or_default(),
        figure: None,
        verdict: Verdict::CannotTell(why.to_owned()),
    };
    rules.rules.iter().map(judgement).collect()
}

fn verdict(rule: &Rule, figure: &Measured) -> Verdict {
    if rule.limit.holds(figure.low, figure.high) {
        Verdict::Kept
    } else if rule.limit.excludes(figure.low, figure.high) {
        Verdict::Broken
    } else {
        Verdict::CannotTell(figure.doubts.join("; "))
    }
}

fn absent(rule: &Rule, doubts: &Doubts, rows: &Rows) -> Verdict {
    let nothing = format!("nothing is called {} in the capture", rule.selector.describe().unwrap_or_default());
    if rule.if_absent == IfAbsent::Unknown {
        return Verdict::CannotTell(nothing);
    }
    let mut missing = doubts.about(&[Concern::Whole, Concern::Mappings]);
    if matches!(rule.selector, Selector::CallSite(_)) && rows.by_call_site.iter().any(|row| row.call_site.is_empty()) {
        missing.push(NO_CALL_SITE.to_owned());
    }
    if missing.is_empty() {
        return Verdict::Kept;
    }
    Verdict::CannotTell(format!("{nothing}, but {}", missing.join("; ")))
}
