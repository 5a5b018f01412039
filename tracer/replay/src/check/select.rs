//! Whose figure a rule is about: patterns of names, and the rows that they select.

use std::collections::BTreeMap;

use super::Rule;
use crate::figures::{Figure, Run};
use crate::outcome::{Rows, Tally};

/// Why a call site may have more than is known to be its.
pub(super) const NO_CALL_SITE: &str = "the call sites of some buffers are not known";

/// A name with `*` for any part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub String);

/// Whose figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Everything's.
    Totals,
    /// `dev_name()`.
    Device(Pattern),
    /// The driver when last described.
    Driver(Pattern),
    /// Where the buffers' objects were allocated: `function+0xoffset`, or `function` for all of its call sites.
    CallSite(Pattern),
}

/// What a rule is about in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selected {
    /// Its name, in the words of the rule; empty for the totals.
    pub(super) name: String,
    /// Counts.
    pub(super) tally: Tally,
    /// Scatterlists that lose their concatenation.
    pub(super) lists_losing: u64,
    /// Counts of buffers that may belong to this too: nobody knows where they were allocated.
    pub(super) unattributed: Tally,
}

impl Pattern {
    /// Whether the whole of `name` is as the pattern says.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl Selector {
    /// In the words of a rule; `None` for the totals.
    pub fn describe(&self) -> Option<String> {
        let (key, pattern) = match self {
            Self::Totals => return None,
            Self::Device(pattern) => ("device", pattern),
            Self::Driver(pattern) => ("driver", pattern),
            Self::CallSite(pattern) => ("call-site", pattern),
        };
        Some(format!("{key} {}", pattern.0))
    }

    fn rows(&self, rows: &Rows) -> Vec<Selected> {
        let selected = |name: &str, tally: Tally| Selected { name: name.to_owned(), tally, ..Selected::default() };
        match self {
            Self::Totals => Vec::new(),
            Self::Device(pattern) => {
                let matching = rows.by_device.iter().filter(|row| pattern.matches(&row.device));
                matching.map(|row| selected(&row.device, row.tally)).collect()
            }
            Self::Driver(pattern) => {
                let matching = rows.by_driver.iter().filter(|row| pattern.matches(&row.driver));
                let with_lists = matching.map(|row| Selected {
                    lists_losing: row.lists_losing_concatenation,
                    ..selected(&row.driver, row.tally)
                });
                with_lists.collect()
            }
            Self::CallSite(pattern) => {
                let known = rows.by_call_site.iter().filter(|row| row.is_site());
                let function = |site: &str| site.split('+').next().map(|function| pattern.matches(function));
                let matching =
                    known.filter(|row| pattern.matches(&row.call_site) || function(&row.call_site).unwrap_or_default());
                matching.map(|row| selected(&row.call_site, row.tally)).collect()
            }
        }
    }
}

/// What the rule is about; nothing where nothing has a name as the rule says.
pub(super) fn select(rule: &Rule, totals: Selected, rows: &Rows) -> Vec<Selected> {
    let Some(described) = rule.selector.describe() else { return vec![totals] };
    let mut selected = rule.selector.rows(rows);
    let unattributed = unattributed(rule, rows);
    if !rule.each && !selected.is_empty() {
        let mut sum = Selected { name: described, ..Selected::default() };
        for one in &selected {
            sum.tally.add(&one.tally);
            sum.lists_losing += one.lists_losing;
        }
        selected = vec![sum];
    }
    for one in &mut selected {
        one.unattributed = unattributed;
    }
    selected
}

/// What nobody is known to have done, and what any call site may have.
fn unattributed(rule: &Rule, rows: &Rows) -> Tally {
    let mut unattributed = Tally::default();
    if matches!(rule.selector, Selector::CallSite(_)) {
        rows.by_call_site.iter().filter(|row| !row.is_site()).for_each(|row| unattributed.add(&row.tally));
    }
    unattributed
}

/// What a rule selects in a run, by name; what is not in it did nothing there.
pub(super) struct ByName {
    selected: BTreeMap<String, Selected>,
    unattributed: Tally,
}

impl ByName {
    pub(super) fn new(rule: &Rule, totals: Selected, rows: &Rows) -> Self {
        let selected = select(rule, totals, rows).into_iter().map(|one| (one.name.clone(), one)).collect();
        Self { selected, unattributed: unattributed(rule, rows) }
    }

    pub(super) fn get(&self, name: &str) -> Selected {
        let nothing = || Selected { name: name.to_owned(), unattributed: self.unattributed, ..Selected::default() };
        self.selected.get(name).cloned().unwrap_or_else(nothing)
    }
}

/// All of a run.
pub(super) fn totals(run: Run) -> Selected {
    let lists_losing = run.outcome.map_or(0, |outcome| outcome.lists_losing_concatenation);
    Selected { tally: run.total(), lists_losing, ..Selected::default() }
}

impl Selected {
    /// A count among those that can be told of anything.
    pub(super) fn count(&self, figure: Figure) -> Option<u64> {
        match figure {
            Figure::ListsLosingConcatenation => Some(self.lists_losing),
            _ => figure.count(&self.tally),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_stars_anywhere_and_the_whole_name() {
        let matches = |pattern: &str, name: &str| Pattern(pattern.to_owned()).matches(name);
        assert!(matches("1-1", "1-1") && !matches("1-1", "1-1.2") && !matches("1-1", "11-1"));
        assert!(matches("usb*", "usb1") && matches("*_hcd", "xhci_hcd") && matches("*", ""));
        assert!(matches("0000:*:00.0", "0000:00:00.0") && matches("*a*b*", "xaxxbx") && !matches("*a*b*", "ba"));
        assert!(!matches("ab*ba", "aba"), "a part is not used twice");
    }
}
