//! Which two buffers were mapped at once in one cache line, counted by device and origin of both.

use hashbrown::HashMap;

use super::devices::{Devices, Identity};
use super::mapping::{Beside, Mapping, Origin};
use super::names::Names;
use super::outcome::{OverlapRow, OverlapSide};
use super::site::{is_code, named, origin};
use bouncescope_capture::event::DeviceId;

/// Pairs that are told apart; of those beyond only the devices are.
const MOST: usize = 1 << 12;

/// One of the two.
type Side = (Identity, Origin);

/// Counts by pair: the later, the earlier, and whether they had bytes in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlaps(HashMap<(Side, Side, bool), u64>);

impl Overlaps {
    /// A buffer of a mapping was mapped beside another.
    pub(super) fn count(&mut self, mapping: &Mapping, beside: &Beside, devices: &Devices) {
        let later = (devices.identity(mapping.device), mapping.origin(beside.buffer as usize));
        let earlier = (devices.identity(beside.device), beside.origin);
        let mut pair = (later, earlier, beside.from_line == 1);
        if self.0.len() >= MOST && !self.0.contains_key(&pair) {
            (pair.0.1, pair.1.1) = (Origin::default(), Origin::default());
        }
        *self.0.entry(pair).or_default() += 1;
    }

    /// How many in all.
    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// As rows, the most frequent first.
    pub(super) fn rows(&self, names: Names) -> Vec<OverlapRow> {
        let mut pairs: Vec<_> = self.0.iter().collect();
        pairs.sort_by_key(|(pair, count)| (std::cmp::Reverse(**count), **pair));
        let row = |(&(later, earlier, same_bytes), &overlaps): (&(Side, Side, bool), &u64)| OverlapRow {
            later: side(later, names),
            earlier: side(earlier, names),
            same_bytes,
            overlaps,
        };
        pairs.into_iter().map(row).collect()
    }
}

/// An allocation says more than who mapped the list, and that more than what memory it is.
fn side((identity, from): Side, names: Names) -> OverlapSide {
    let device = names.devices.get(names.devices.latest(identity).unwrap_or(DeviceId(u32::MAX)));
    let address = names.objects.address(from.site);
    let is_allocation = address != 0 && is_code(address);
    let (call_site, module) = if is_allocation || from.caller == 0 {
        origin(address, names.symbols)
    } else {
        named(from.caller, names.symbols)
    };
    OverlapSide { device: device.name, driver: device.driver, call_site, module }
}
