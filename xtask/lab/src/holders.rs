//! Who held slots, as replay names them, held against what the workload held.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use tracer::{
    capture::Reader,
    replay::{Wanted, holders::HolderRow, replay},
};

/// The fact that says how many slots of the default pool were in use while everything was held.
pub(super) const USED: &str = "used_while_held";

/// What is off, a line each. `workload` is its name with its arguments, `facts` what it saw.
pub(super) fn problems(
    product: &Path,
    capture: &Path,
    workload: &str,
    facts: &BTreeMap<String, String>,
) -> Result<Vec<String>> {
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
        // A leak that is over before the last quarter begins no longer raises the floor, but keeps it where it is.
        let [first, .., third, last] = held.trend.floors;
        if last < leaked || first >= last || (held.trend.rise == 0 && third < last) {
            problems.push(format!("the floor is not raised by {leaked} leaked slots: {:?}", held.trend));
        }
    } else if !leaks.is_empty() {
        problems.push(format!("{workload}: nothing was leaked, and yet {leaks:?}"));
    }
    if workload.starts_with("hold ") && held.trend.rise > 0 && !held.at_most {
        problems.push(format!("the floor rises, although everything was returned: {:?}", held.trend));
    }
    if workload.starts_with("hold ") || workload.starts_with("leak ") {
        problems.extend(told(product, capture, &leaks)?);
    }
    if workload.starts_with("hold ") && fact("refused") == Some(0) {
        let slots: u64 = held.at_peak.rows.iter().map(|row| row.slots).sum();
        if let Some(used) = fact(USED)
            && used != slots
        {
            problems.push(format!("the pool counted {used} slots in use, the holders have {slots}"));
        }
    }
    Ok(problems)
}

/// What `stats`, the report and `top` say of these leaks, where they should name them, and nobody else.
fn told(product: &Path, capture: &Path, leaks: &[&HolderRow]) -> Result<Vec<String>> {
    let screen = capture.with_extension("pool.txt");
    let report = capture.with_extension("report.md");
    let run = |arguments: &[&str], files: &[&Path]| {
        let output = Command::new(product).args(arguments).args(files).output().context("cannot run bouncescope")?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let stats = run(&["stats"], &[capture])?;
    run(&["top", "--screen", "6", "--picture"], &[&screen, capture])?;
    run(&["report", "--md", "-o"], &[&report, capture])?;
    let shown = [
        ("stats", stats),
        ("top", fs::read_to_string(&screen)?),
        ("the report", fs::read_to_string(&report)?.replace('\\', "")),
    ];
    let mut problems = Vec::new();
    for (name, text) in shown {
        if text.contains("LEAK?") == leaks.is_empty() {
            problems.push(format!("{name} has LEAK? where {} are to be named", leaks.len()));
        }
        for row in leaks.iter().filter(|row| !(text.contains(&row.device) && text.contains(&row.call_site))) {
            problems.push(format!("{name} does not name {} and {}", row.device, row.call_site));
        }
    }
    Ok(problems)
}
