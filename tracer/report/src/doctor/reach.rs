//! How far devices reach: memory × windows × bus limit × mask × IOMMU × pool, and what becomes of what they do not reach. The table that
//! people build by hand.
//!
//! Mirrors `translate_phys_to_dma()` and `dma_capable()` (`include/linux/dma-direct.h`, 6.12).

use bouncescope_capture::facts::Device;
use bouncescope_capture::reach::{PoolPlace, Reach, ReachingDevice, Span, Window};
use serde::Serialize;

use crate::table::{Table, bytes};
use crate::wrap::wrapped;

/// What becomes of a buffer anywhere in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The IOMMU gives it an address in reach.
    Iommu,
    /// All memory is in reach.
    All,
    /// What is out of reach bounces.
    Bounces,
    /// Everything bounces through a restricted pool in reach.
    Restricted,
    /// What is out of reach fails: there is no pool, or it is out of reach too.
    Fails,
    /// No memory is in reach, nor a pool.
    Nothing,
    /// Not known.
    Unknown,
}

/// A device's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `dev_name()`.
    pub device: String,
    /// Its driver; empty without.
    pub driver: String,
    /// The mask that was counted with; 32 bits where it is not known.
    pub mask: u64,
    /// The mask is known.
    pub is_mask_known: bool,
    /// The last bus address that the bus reaches.
    pub bus_limit: Option<u64>,
    /// Bus address minus physical address, of the first window.
    pub offset: i128,
    /// Memory in reach, bytes.
    pub reached: u64,
    /// The pool in reach: `None` where there is none that is known.
    pub pool: Option<bool>,
    /// What becomes of the rest.
    pub verdict: Verdict,
}

/// The mask of a device whose mask is not known: that of platform devices before their driver says more.
const DEFAULT_MASK: u64 = u32::MAX as u64;

/// A row for each device; what was seen of a device while it mapped goes before what firmware says.
pub fn rows(reach: &Reach, seen: &[Device]) -> Vec<Row> {
    let mut devices = reach.devices.clone();
    for device in seen {
        let at = devices.iter().position(|known| known.name == device.name).unwrap_or_else(|| {
            devices.push(ReachingDevice { name: device.name.clone(), ..ReachingDevice::default() });
            devices.len() - 1
        });
        let known = &mut devices[at];
        known.driver.clone_from(&device.driver);
        known.mask = Some(device.dma_mask).filter(|mask| *mask > 0).or(known.mask);
        known.bus_limit = Some(device.bus_dma_limit).filter(|limit| *limit > 0).or(known.bus_limit);
        known.iommu = device.iommu_granule.is_some();
    }
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices.iter().map(|device| row(reach, device)).collect()
}

fn row(reach: &Reach, device: &ReachingDevice) -> Row {
    let mask = device.mask.unwrap_or(DEFAULT_MASK);
    let limit = device.bus_limit.map_or(mask, |bus| bus.min(mask));
    let total = sum(reach.memory.iter().map(|span| span.size()));
    let reached = sum(reach.memory.iter().map(|span| in_reach(*span, &device.windows, limit)));
    let whose = |pool: &&PoolPlace| device.restricted.as_deref().map_or(pool.name == "default", |own| own == pool.name);
    let pool =
        reach.pools.iter().find(whose).map(|pool| in_reach(pool.place, &device.windows, limit) == pool.place.size());
    let verdict = match pool {
        _ if device.iommu => Verdict::Iommu,
        Some(true) if device.restricted.is_some() => Verdict::Restricted,
        _ if total == 0 => Verdict::Unknown,
        _ if reached == total => Verdict::All,
        Some(true) => Verdict::Bounces,
        None if !reach.is_pool_known => Verdict::Unknown,
        _ if reached == 0 => Verdict::Nothing,
        _ => Verdict::Fails,
    };
    let offset = device.windows.first().map_or(0, |window| i128::from(window.bus) - i128::from(window.memory.start));
    Row {
        device: device.name.clone(),
        driver: device.driver.clone(),
        mask,
        is_mask_known: device.mask.is_some(),
        bus_limit: device.bus_limit,
        offset,
        reached,
        pool,
        verdict,
    }
}

/// Bytes of a span whose bus addresses are there and within a limit.
fn in_reach(span: Span, windows: &[Window], limit: u64) -> u64 {
    if windows.is_empty() {
        return span.common(Span { start: 0, end: limit.saturating_add(1) }).size();
    }
    let each = windows.iter().map(|window| {
        // The last byte that the limit allows, seen from memory.
        let Some(left) = limit.checked_sub(window.bus) else { return 0 };
        let end = window.memory.start.saturating_add(left.saturating_add(1)).min(window.memory.end);
        span.common(Span { start: window.memory.start, end }).size()
    });
    sum(each).min(span.size())
}

/// Of bytes that a damaged log may have beyond all measure.
fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

/// For people.
pub fn text(reach: &Reach, seen: &[Device]) -> String {
    let total = sum(reach.memory.iter().map(|span| span.size()));
    let mut text = String::new();
    if total > 0 {
        let listed: Vec<String> = reach.memory.iter().map(|span| range(*span)).collect();
        text += &wrapped(&format!("{}: {}", bytes(total), listed.join(", ")), "  memory  ", "          ");
    }
    for pool in &reach.pools {
        let name = if pool.name == "default" { "pool" } else { pool.name.as_str() };
        text +=
            &wrapped(&format!("{}: {}", bytes(pool.place.size()), range(pool.place)), &format!("  {name}  "), "    ");
    }
    let rows = rows(reach, seen);
    if rows.is_empty() {
        text += "  no device is known\n";
    } else {
        text += &table(&rows, total, reach.is_pool_known).text(2);
    }
    if rows.iter().any(|row| !row.is_mask_known) {
        text += &wrapped(
            "A mask marked ? is unknown. It is assumed to be 32 bits, as a platform device's is until its driver \
             sets another. Devices that were seen mapping have their own.",
            "  ",
            "  ",
        );
    }
    for note in &reach.notes {
        text += &wrapped(&format!("Not known: {note}."), "  - ", "    ");
    }
    text
}

fn table(rows: &[Row], total: u64, is_pool_known: bool) -> Table {
    let mut table = Table::new(&["device", "driver", "mask", "bus ends at", "bus - memory", "reaches", "pool", ""]);
    for row in rows {
        let bits = u64::BITS - row.mask.leading_zeros();
        table.row([
            row.device.clone(),
            if row.driver.is_empty() { "-".into() } else { row.driver.clone() },
            if row.is_mask_known { format!("{bits} bits") } else { format!("{bits} bits?") },
            row.bus_limit.map_or_else(|| "-".into(), |limit| format!("{limit:#x}")),
            match row.offset {
                0 => "0".into(),
                up if up > 0 => format!("+{up:#x}"),
                down => format!("-{:#x}", -down),
            },
            if total == 0 { "?".into() } else { bytes(row.reached) },
            match row.pool {
                None if is_pool_known => "none".into(),
                None => "?".into(),
                Some(true) => "reached".into(),
                Some(false) => "NOT reached".into(),
            },
            words(row.verdict).to_owned(),
        ]);
    }
    table
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Iommu => "IOMMU",
        Verdict::All => "all",
        Verdict::Bounces => "rest bounces",
        Verdict::Restricted => "all bounces (restricted)",
        Verdict::Fails => "REST FAILS",
        Verdict::Nothing => "REACHES NOTHING",
        Verdict::Unknown => "?",
    }
}

fn range(span: Span) -> String {
    format!("{:#x}-{:#x}", span.start, span.end.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn reach(devices: Vec<ReachingDevice>, pool: Option<Span>) -> Reach {
        Reach {
            memory: vec![Span { start: 0, end: 4 * GIB }, Span { start: 4 * GIB, end: 8 * GIB }],
            pools: pool.map(|place| PoolPlace { name: "default".into(), place }).into_iter().collect(),
            is_pool_known: true,
            devices,
            notes: Vec::new(),
        }
    }

    fn device(mask_bits: u32, windows: Vec<Window>) -> ReachingDevice {
        let bus_limit = windows.iter().map(|window| window.bus + window.memory.size() - 1).max();
        ReachingDevice {
            name: "x".into(),
            mask: Some((1 << mask_bits) - 1),
            bus_limit,
            windows,
            ..ReachingDevice::default()
        }
    }

    fn one(reach: &Reach) -> (u64, Option<bool>, Verdict) {
        let row = &rows(reach, &[])[0];
        (row.reached, row.pool, row.verdict)
    }

    const LOW: Span = Span { start: 0x1000_0000, end: 0x1400_0000 };

    #[test]
    fn a_mask_alone_divides_memory_at_its_end() {
        assert_eq!(one(&reach(vec![device(32, vec![])], Some(LOW))), (4 * GIB, Some(true), Verdict::Bounces));
        assert_eq!(one(&reach(vec![device(36, vec![])], Some(LOW))), (8 * GIB, Some(true), Verdict::All));
        assert_eq!(one(&reach(vec![device(32, vec![])], None)), (4 * GIB, None, Verdict::Fails));
    }

    #[test]
    fn behind_an_offset_beyond_the_mask_nothing_is_in_reach() {
        let window = Window { memory: Span { start: 0, end: 8 * GIB }, bus: 16 * GIB };
        assert_eq!(one(&reach(vec![device(32, vec![window])], Some(LOW))), (0, Some(false), Verdict::Nothing));
        assert_eq!(one(&reach(vec![device(35, vec![window])], Some(LOW))), (8 * GIB, Some(true), Verdict::All));
    }

    #[test]
    fn a_window_narrower_than_memory_limits_it_and_the_pool() {
        let window = Window { memory: Span { start: 0, end: GIB }, bus: 3 * GIB };
        assert_eq!(one(&reach(vec![device(32, vec![window])], Some(LOW))), (GIB, Some(true), Verdict::Bounces));
        let high = Span { start: 2 * GIB, end: 2 * GIB + 4096 };
        assert_eq!(one(&reach(vec![device(32, vec![window])], Some(high))), (GIB, Some(false), Verdict::Fails));
    }

    #[test]
    fn what_was_seen_of_a_device_goes_before_what_firmware_says() {
        let seen = Device { name: "x".into(), dma_mask: u64::MAX, driver: "nvme".into(), ..Device::default() };
        let unknown = ReachingDevice { mask: None, ..device(32, vec![]) };
        let rows = rows(&reach(vec![unknown], Some(LOW)), &[seen]);
        assert_eq!((rows[0].is_mask_known, rows[0].verdict, rows[0].driver.as_str()), (true, Verdict::All, "nvme"));
    }

    #[test]
    fn where_the_pool_is_not_known_what_becomes_of_the_rest_is_not() {
        let mut reach = reach(vec![device(32, vec![])], None);
        reach.is_pool_known = false;
        assert_eq!(one(&reach), (4 * GIB, None, Verdict::Unknown));
    }

    #[test]
    fn an_iommu_reaches_all_and_a_restricted_pool_takes_all() {
        let iommu = ReachingDevice { iommu: true, ..device(32, vec![]) };
        assert_eq!(one(&reach(vec![iommu], None)).2, Verdict::Iommu);
        let mut reach = reach(vec![ReachingDevice { restricted: Some("pool@1".into()), ..device(32, vec![]) }], None);
        reach.pools.push(PoolPlace { name: "pool@1".into(), place: LOW });
        assert_eq!(one(&reach).2, Verdict::Restricted);
    }

    #[test]
    fn extreme_figures_do_not_overflow() {
        let all = Span { start: 0, end: u64::MAX };
        let window = Window { memory: Span { start: u64::MAX - 1, end: u64::MAX }, bus: u64::MAX };
        let reach = Reach {
            memory: vec![all, all],
            pools: vec![PoolPlace { name: "default".into(), place: all }],
            is_pool_known: true,
            devices: vec![ReachingDevice {
                mask: Some(u64::MAX),
                bus_limit: Some(u64::MAX),
                windows: vec![window],
                ..ReachingDevice::default()
            }],
            notes: Vec::new(),
        };
        text(&reach, &[]);
    }

    #[test]
    fn the_table_is_as_expected() {
        let window = Window { memory: Span { start: 0, end: 4 * GIB }, bus: 16 * GIB };
        let mut tuner = device(32, vec![window]);
        tuner.name = "0000:01:00.0".into();
        let mut nvme = device(63, vec![]);
        (nvme.name, nvme.driver) = ("0001:01:00.0".into(), "nvme".into());
        let mmc = ReachingDevice { name: "fe300000.mmc".into(), mask: None, ..ReachingDevice::default() };
        let text = text(&reach(vec![tuner, nvme, mmc], Some(LOW)), &[]);
        let expected = concat!(
            "  memory  8.0 GiB: 0x0-0xffffffff, 0x100000000-0x1ffffffff\n",
            "  pool  64.0 MiB: 0x10000000-0x13ffffff\n",
            "  device        driver      mask  bus ends at  bus - memory  reaches         pool\n",
            "  0000:01:00.0       -   32 bits  0x4ffffffff  +0x400000000      0 B  NOT reached  REACHES NOTHING\n",
            "  0001:01:00.0    nvme   63 bits            -             0  8.0 GiB      reached              all\n",
            "  fe300000.mmc       -  32 bits?            -             0  4.0 GiB      reached     rest bounces\n",
            "  A mask marked ? is unknown. It is assumed to be 32 bits, as a platform device's is until its\n",
            "  driver sets another. Devices that were seen mapping have their own.\n",
        );
        assert_eq!(text, expected);
    }
}
