//! Restricted pools: whose they are, what was in use, and how much of it was coherent memory.

use super::label::driver;
use super::table::{bytes, slots};
use bouncescope_capture::facts::{Device, RestrictedPool};
use bouncescope_model::pool::SLOT;
use bouncescope_replay::Replayed;
use bouncescope_replay::outcome::{CoherentRow, Outcome, PoolRow};

/// Devices and simulated kernels named in one line.
const NAMED: usize = 6;

/// Each restricted pool with its devices, and what each simulated kernel has in it; nothing on a kernel without such pools.
pub(super) fn text(replayed: &Replayed) -> String {
    let mut text = String::new();
    for pool in &replayed.start.kernel.pool.restricted {
        text += &format!("\n{}\n", headed(pool, &replayed.devices));
        for outcome in &replayed.outcomes {
            let Some(row) = row(outcome, &pool.name) else { continue };
            text += &format!("  {}: {}\n", outcome.name, in_use(row));
            let coherent = outcome.coherent.iter().filter(|coherent| coherent.pool == pool.name);
            for row in coherent.take(NAMED) {
                text += &format!("    {}\n", coherent_memory(row));
            }
        }
    }
    text + &unknown(replayed)
}

/// What of it is one line of the first screen: the fullest pool, and the coherent memory in it; `None` without such pools.
pub(super) fn fact(replayed: &Replayed, outcome: &Outcome) -> Option<(String, String)> {
    let restricted = &replayed.start.kernel.pool.restricted;
    let fill = |row: &&PoolRow| (row.peak_slots * 1000).checked_div(row.slots).unwrap_or(0);
    let is_restricted = |row: &&PoolRow| restricted.iter().any(|pool| pool.name == row.name);
    let row = outcome.pools.iter().filter(is_restricted).max_by_key(fill)?;
    let refused = match outcome.coherent_refused {
        0 => String::new(),
        1 => "; coherent memory was refused once".to_owned(),
        times => format!("; coherent memory was refused {times} times"),
    };
    let more = match restricted.len() {
        1 => String::new(),
        pools => format!(", the fullest of {pools} pools"),
    };
    let words = format!("restricted pool {}{more}: {}{refused}", row.name, in_use(row));
    Some((slots(row.coherent_at_peak), words))
}

/// A pool, its size, and who has it.
pub(super) fn headed(pool: &RestrictedPool, devices: &[Device]) -> String {
    let size = format!("restricted pool {}: {} ({})", pool.name, slots(pool.slots), bytes(pool.slots * SLOT));
    format!("{size}, {}", users(pool, devices))
}

/// Who has a pool, of the devices that were described.
pub(super) fn users(pool: &RestrictedPool, devices: &[Device]) -> String {
    let has = |device: &&Device| device.restricted_pool.as_deref() == Some(&pool.name);
    let mut names: Vec<String> =
        devices.iter().filter(has).map(|device| format!("{} ({})", device.name, driver(&device.driver))).collect();
    names.sort();
    names.dedup();
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    match names.len() {
        0 => "no device that mapped is known to have it".to_owned(),
        1 => format!("of {}", names[0]),
        _ => format!("shared by {}{more}", names[..names.len().min(NAMED)].join(", ")),
    }
}

fn row<'a>(outcome: &'a Outcome, pool: &str) -> Option<&'a PoolRow> {
    outcome.pools.iter().find(|row| row.name == pool)
}

/// What was in use of a pool at its fullest moment, and what of that is known.
pub(super) fn in_use(row: &PoolRow) -> String {
    format!(
        "{} of {} in use at its fullest moment: {} of coherent memory allocated since the recording began, when {} were in use",
        row.peak_slots,
        slots(row.slots),
        row.coherent_at_peak,
        row.used_at_start
    )
}

fn coherent_memory(row: &CoherentRow) -> String {
    let refused = if row.refused > 0 { format!(", {} refused", row.refused) } else { String::new() };
    format!(
        "coherent memory of {} ({}): at most {}, {} at the end; {} allocated, {} given back{refused}",
        row.device,
        driver(&row.driver),
        slots(row.peak_slots),
        row.slots_at_end,
        row.allocated,
        row.given_back
    )
}

/// Devices with a pool of their own of which nothing tells which.
fn unknown(replayed: &Replayed) -> String {
    let pools = &replayed.start.kernel.pool.restricted;
    let unnamed = replayed.devices.iter().filter(|device| device.is_of_unknown_pool(pools)).count();
    if unnamed == 0 {
        return String::new();
    }
    format!(
        "\nof {unnamed} devices with a restricted pool it is not known which: they are simulated with the default pool\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coherent_memory_is_told_by_device_beside_what_the_pool_held() {
        let row = CoherentRow {
            device: "0000:00:04.0".into(),
            driver: "xhci_hcd".into(),
            pool: "camera@0".into(),
            allocated: 40,
            given_back: 20,
            refused: 1,
            peak_slots: 40,
            slots_at_end: 32,
        };
        let said = coherent_memory(&row);
        assert_eq!(
            said,
            "coherent memory of 0000:00:04.0 (xhci_hcd): at most 40 slots, 32 at the end; 40 allocated, 20 given back, 1 refused"
        );
        let pool = PoolRow {
            name: row.pool,
            slots: 2048,
            used_at_start: 142,
            peak_slots: 179,
            peak_slots_range: [179, 179],
            mark_at_most: 179,
            coherent_at_peak: 8,
        };
        assert_eq!(
            in_use(&pool),
            "179 of 2048 slots in use at its fullest moment: 8 of coherent memory allocated since the recording began, when 142 were in use"
        );
    }

    #[test]
    fn devices_of_a_pool_are_named_once_however_often_they_were_described() {
        let device = |name: &str, pool: &str| Device {
            name: name.into(),
            driver: "usb".into(),
            restricted_pool: Some(pool.into()),
            ..Device::default()
        };
        let pool = RestrictedPool { name: "camera@0".into(), ..RestrictedPool::default() };
        let devices = [device("b", "camera@0"), device("a", "camera@0"), device("b", "camera@0"), device("c", "usb@0")];
        assert_eq!(users(&pool, &devices), "shared by a (usb), b (usb)");
        assert_eq!(users(&pool, &devices[..1]), "of b (usb)");
        assert_eq!(users(&pool, &[]), "no device that mapped is known to have it");
    }
}
