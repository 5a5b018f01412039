//! The devices of two captures beside each other.

use std::collections::BTreeMap;

use super::label::driver;
use bouncescope_replay::Replayed;
use bouncescope_replay::outcome::Tally;

/// Devices by name and driver.
fn tallies(replayed: &Replayed) -> BTreeMap<(String, String), Tally> {
    let rows = replayed.observed_rows.by_device.iter();
    rows.map(|row| ((row.device.clone(), row.driver.clone()), row.tally)).collect()
}

/// Both, by device; what is in one alone has nothing in the other.
pub(super) fn both(old: &Replayed, new: &Replayed) -> BTreeMap<(String, String), [Option<Tally>; 2]> {
    let mut both: BTreeMap<_, [Option<Tally>; 2]> = BTreeMap::new();
    for (n, replayed) in [old, new].into_iter().enumerate() {
        for (device, tally) in tallies(replayed) {
            both.entry(device).or_default()[n] = Some(tally);
        }
    }
    both
}

/// What matters first: who began or ceased to bounce, who came and went.
pub(super) fn said(old: &Replayed, new: &Replayed) -> Vec<String> {
    let mut said = Vec::new();
    for ((device, driver), [old, new]) in both(old, new) {
        let bounces = |tally: Option<Tally>| tally.map_or(0, |tally| tally.bounces);
        let fails = |tally: Option<Tally>| tally.map_or(0, |tally| tally.failed);
        let who = format!("{device} ({})", self::driver(&driver));
        match (old, new) {
            (None, Some(new)) => {
                said.push(format!("{who} is new: {} mappings, {} bounces", new.mappings, new.bounces));
            }
            (Some(old), None) => {
                said.push(format!("{who} is gone: it had {} mappings, {} bounces", old.mappings, old.bounces));
            }
            _ => {}
        }
        if old.is_some() && new.is_some() {
            match (bounces(old), bounces(new)) {
                (0, now @ 1..) => said.push(format!("{who} now bounces: {now} buffers")),
                (then @ 1.., 0) => said.push(format!("{who} bounces no more: {then} buffers did")),
                _ => {}
            }
        }
        if fails(old) == 0 && fails(new) > 0 {
            said.push(format!("{who} now has mappings refused: {}", fails(new)));
        }
    }
    said
}
