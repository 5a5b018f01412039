//! Restricted pools in a recording: whose they are, and what was in use of each, against the kernel's own marks.

use std::path::Path;

use anyhow::{Context as _, Result};
use tracer::{
    capture::Reader,
    replay::{Replayed, Wanted, replay, settings::Settings},
};

use crate::verdict::Verified;

/// What is off, a line each.
pub(super) fn problems(capture: &Path, verified: &Verified, pools: u32, rebinds: bool) -> Result<Vec<String>> {
    let wanted = |start: &tracer::stream::Start| Wanted {
        settings: vec![Settings::captured(&start.kernel)],
        ..Wanted::default()
    };
    let replayed = replay(&mut Reader::open(capture)?, wanted)?;
    let mut problems = peaks(verified, pools);
    problems.extend(owners(&replayed, pools));
    let outcome = replayed.outcomes.first().context("nothing was simulated")?;
    let allocated: u64 = outcome.coherent.iter().map(|row| row.allocated).sum();
    let given_back: u64 = outcome.coherent.iter().map(|row| row.given_back).sum();
    if rebinds && (allocated == 0 || given_back == 0) {
        problems.push(format!(
            "a driver was bound anew, and yet {allocated} coherent allocations, {given_back} given back"
        ));
    }
    if outcome.coherent_refused > 0 {
        problems.push(format!("{} coherent allocations were refused", outcome.coherent_refused));
    }
    Ok(problems)
}

/// Each pool that was used was as full as the kernel says, to the slot.
fn peaks(verified: &Verified, pools: u32) -> Vec<String> {
    let mut problems = Vec::new();
    if verified.pools.is_empty() || verified.pools.len() > pools as usize {
        problems.push(format!("{} restricted pools were compared, of {pools}", verified.pools.len()));
    }
    let lost = verified.skipped.slots;
    for (name, predicted, kernel) in &verified.pools {
        if kernel.is_none_or(|kernel| kernel.abs_diff(*predicted) > lost) {
            problems.push(format!("{name}: peak of {predicted} slots predicted, {kernel:?} counted"));
        }
    }
    // Where the kernel skipped a program, what it lost is named.
    let unexplained = verified.not_compared.iter().filter(|what| lost == 0 || !what.contains(": lost "));
    problems.extend(unexplained.map(|what| format!("not compared: {what}")));
    problems
}

/// Every device that bounces has the pool that the device tree gives it.
fn owners(replayed: &Replayed, pools: u32) -> Vec<String> {
    let wrong = replayed.devices.iter().filter(|device| device.bus == "pci").filter_map(|device| {
        let wanted = if pools > 1 && device.driver == "xhci_hcd" { "xhci-pool" } else { "lab-pool" };
        let name = device.restricted_pool.as_deref().unwrap_or_default();
        let is_right = device.own_pool && name.split('@').next() == Some(wanted);
        (!is_right).then(|| format!("{} ({}) has the pool {name:?}, not {wanted}", device.name, device.driver))
    });
    wrong.collect()
}
