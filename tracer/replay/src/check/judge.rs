//! Rules held against a replayed capture.

use super::doubt::{Concern, Doubts};
use super::measure::{Measured, Taken, can_tell, measure};
use super::select::{ByName, NO_CALL_SITE, Selector, select, totals};
use super::{IfAbsent, Rule, Rules, Simulation};
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
    /// The capture could not be opened or read, and why.
    Unreadable(String),
}

impl Verdict {
    /// Why it cannot be told; `None` where it can.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Kept | Self::Broken => None,
            Self::CannotTell(why) | Self::Unreadable(why) => Some(why),
        }
    }
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
    /// The same figure of the capture before, where there is one that has it.
    pub before: Option<Measured>,
    /// What came of it.
    pub verdict: Verdict,
}

/// A capture, with what has to be known of it to judge it.
struct Side<'a> {
    replayed: &'a Replayed,
    doubts: Doubts,
    simulations: Vec<Simulation<'a>>,
}

impl<'a> Side<'a> {
    fn new(rules: &'a Rules, replayed: &'a Replayed) -> Self {
        Self { replayed, doubts: Doubts::new(replayed, rules.tolerated_losses), simulations: rules.simulations() }
    }

    /// The run that a rule is about, with its rows; else why it cannot be told.
    fn run(&self, rule: &Rule) -> Result<(Taken<'_>, &Rows), String> {
        can_tell(rule, self.replayed)?;
        let simulated = rule.simulation().and_then(|wanted| self.simulations.iter().position(|one| *one == wanted));
        let outcome = simulated.map(|index| self.replayed.outcomes.get(index).ok_or("it was not simulated"));
        let outcome = outcome.transpose()?;
        let rows = outcome.map_or(&self.replayed.observed_rows, |outcome| &outcome.rows);
        Ok((Taken { run: Run { replayed: self.replayed, outcome }, doubts: &self.doubts }, rows))
    }

    /// Everything that the rule selects, by name.
    fn by_name(&self, rule: &Rule) -> Result<(Taken<'_>, ByName), String> {
        let (taken, rows) = self.run(rule)?;
        Ok((taken, ByName::new(rule, totals(taken.run), rows)))
    }
}

/// Judges a capture by all rules, in their order: at least one judgement for each. Rules that compare with a capture before cannot be told.
///
/// `replayed` has the outcomes of [`Rules::settings`] and the verdict on the captured kernel's own.
pub fn judge<'a>(rules: &'a Rules, capture: &str, replayed: &Replayed) -> Vec<Judgement<'a>> {
    judge_sides(rules, capture, &Side::new(rules, replayed), None)
}

/// The same for rules that may compare with a capture before. What is not in that one did nothing in it.
pub fn judge_against<'a>(
    rules: &'a Rules,
    capture: &str,
    replayed: &Replayed,
    before: &Replayed,
) -> Vec<Judgement<'a>> {
    judge_sides(rules, capture, &Side::new(rules, replayed), Some(&Side::new(rules, before)))
}

fn judge_sides<'a>(rules: &'a Rules, capture: &str, side: &Side, before: Option<&Side>) -> Vec<Judgement<'a>> {
    let mut judgements = Vec::new();
    for rule in &rules.rules {
        let make = |subject: String, figure: Option<Measured>, before: Option<Measured>, verdict: Verdict| Judgement {
            rule,
            capture: capture.to_owned(),
            subject,
            figure,
            before,
            verdict,
        };
        let described = || rule.selector.describe().unwrap_or_default();
        let (taken, rows) = match side.run(rule) {
            Ok(run) => run,
            Err(why) => {
                judgements.push(make(described(), None, None, Verdict::CannotTell(why)));
                continue;
            }
        };
        let before = before.map(|before| before.by_name(rule));
        let figure_before = |name: &str| {
            before.as_ref().map(|before| match before {
                Ok((taken, by_name)) => measure(rule.figure, &by_name.get(name), *taken),
                Err(why) => Err(why.clone()),
            })
        };
        let selected = select(rule, totals(taken.run), rows);
        if selected.is_empty() {
            judgements.push(make(described(), None, None, absent(rule, &side.doubts, rows)));
        }
        for one in selected {
            let subject = one.name.clone();
            let before = figure_before(&subject);
            judgements.push(match measure(rule.figure, &one, taken) {
                Ok(figure) => {
                    let verdict = verdict(rule, &figure, before.as_ref());
                    make(subject, Some(figure), before.and_then(Result::ok), verdict)
                }
                Err(why) => make(subject, None, before.and_then(Result::ok), Verdict::CannotTell(why)),
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
        before: None,
        verdict: Verdict::Unreadable(why.to_owned()),
    };
    rules.rules.iter().map(judgement).collect()
}

fn verdict(rule: &Rule, figure: &Measured, before: Option<&Result<Measured, String>>) -> Verdict {
    let mut doubts = figure.doubts.clone();
    let range = match before.filter(|_| rule.limit.is_relative()) {
        None if rule.limit.is_relative() => {
            return Verdict::CannotTell("there is no capture to compare with: --baseline".to_owned());
        }
        // No end of the limit asks for it.
        None => (0.0, 0.0),
        Some(Err(why)) => return Verdict::CannotTell(format!("before: {why}")),
        Some(Ok(before)) => {
            doubts.extend(before.doubts.iter().map(|why| format!("before: {why}")));
            (before.low, before.high)
        }
    };
    if rule.limit.holds((figure.low, figure.high), range) {
        Verdict::Kept
    } else if rule.limit.excludes((figure.low, figure.high), range) {
        Verdict::Broken
    } else {
        Verdict::CannotTell(doubts.join("; "))
    }
}

fn absent(rule: &Rule, doubts: &Doubts, rows: &Rows) -> Verdict {
    let nothing = format!("the capture has no {}", rule.selector.describe().unwrap_or_default());
    if rule.if_absent == IfAbsent::Unknown {
        return Verdict::CannotTell(nothing);
    }
    let mut missing = doubts.about(&[Concern::Whole, Concern::Mappings]);
    if matches!(rule.selector, Selector::CallSite(_)) && rows.by_call_site.iter().any(|row| !row.is_site()) {
        missing.push(NO_CALL_SITE.to_owned());
    }
    if missing.is_empty() {
        return Verdict::Kept;
    }
    Verdict::CannotTell(format!("{nothing}, but {}", missing.join("; ")))
}
