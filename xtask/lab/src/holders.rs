//! Who held slots, as replay names them, held against what the workload held.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use tracer::{
    capture::Reader,
    replay::{Wanted, holders::HolderRow, replay},
};

/// What is off, a line each. `workload` is its name with its arguments, `facts` what it saw.
pub(super) fn problems(capture: &Path, workload: &str, facts: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let replayed = replay(&mut Reader::open(capture)?, |_| Wanted { holders: true, ..Wanted::default() })?;
    let held = replayed.held.context("no holders")?;
    let fact = |name: &str| facts.get(name).and_then(|value| value.parse::<u64>().ok());
    let mut problems = Vec::new();
    let (leaks, others): (Vec<&HolderRow>, _) = held.at_end.rows.iter().partition(|row| row.is_leak());
    if let Some(leaked) = fact("leaked") {
        let named: Vec<_> = leaks.iter().map(|row| (row.driver.as_str(), row.outlasting.iter().sum::<u64>())).collect();
        if named != [("xhci_hcd", leaked)] {
            problems.push(format!("{leaked} requests were leaked, named as leaks were {named:?}, others {others:?}"));
        }
    } else if !leaks.is_empty() {
        problems.push(format!("{workload}: nothing was leaked, and yet {leaks:?}"));
    }
    if workload.starts_with("hold ") && fact("refused") == Some(0) {
        let slots: u64 = held.at_peak.rows.iter().map(|row| row.slots).sum();
        if fact("used_while_held") != Some(slots) {
            problems
                .push(format!("the pool counted {:?} slots in use, the holders have {slots}", fact("used_while_held")));
        }
    }
    Ok(problems)
}
