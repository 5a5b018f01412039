//! What the flight recorder's file must say of a burst that filled the pool: why it was written, that it is not the whole recording, who took the
//! slots, and a pool that would have been enough.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tracer::{
    capture::Reader,
    replay::{Wanted, replay},
};

/// The driver whose requests the burst is.
const DRIVER: &str = "xhci_hcd";
/// What the kernel says when the pool is full (`swiotlb_tbl_map_single()`, `kernel/dma/swiotlb.c`).
const MESSAGE: &str = "swiotlb buffer is full";

/// What is off, a line each.
pub(super) fn problems(product: &Path, capture: &Path) -> Result<Vec<String>> {
    let replayed =
        replay(&mut Reader::open(capture)?, |_| Wanted { verdict: true, holders: true, ..Wanted::default() })?;
    let mut problems = Vec::new();
    let mut check = |right: bool, problem: String| {
        if !right {
            problems.push(problem);
        }
    };
    let start = &replayed.start;
    check(start.is_window(), "the file holds the whole recording".into());
    let notes = &start.notes;
    check(notes.iter().any(|note| note.contains(MESSAGE)), format!("the file does not say why: {notes:?}"));
    let seconds = replayed.span_ns as f64 / 1e9;
    check(
        (9.0..16.0).contains(&seconds),
        format!("5 s before and 4 s after were asked for, the file has {seconds:.1} s"),
    );
    let held = replayed.held.context("no holders")?;
    let of_driver: u64 = held.at_peak.rows.iter().filter(|row| row.driver == DRIVER).map(|row| row.slots).sum();
    check(of_driver >= 500, format!("{DRIVER} held {of_driver} slots at the fullest moment: {:?}", held.at_peak.rows));
    let output = Command::new(product).args(["replay", "--advise", "--json"]).arg(capture).output()?;
    let advice: Value = serde_json::from_slice(&output.stdout).context("replay --advise says nothing")?;
    let slots = advice["advice"]["pool"]["slots"].as_u64();
    check(
        slots.is_some_and(|slots| slots >= 600),
        format!("600 requests were made, and a pool of {slots:?} slots is advised"),
    );
    Ok(problems)
}
