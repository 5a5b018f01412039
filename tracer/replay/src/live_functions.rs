//! Live objects since boot by the function that allocated them, from the kernel's own count by line of source (`/proc/allocinfo`); and
//! which call sites of a recording lie in these functions.
//!
//! The kernel counts an object with the bytes of its cache (`alloc_tagging_slab_alloc_hook()`, `mm/slub.c`), so what was asked for
//! is not in it. A function that was seen to allocate tells that for those that it allocated before: all allocations of a recording are
//! counted by call site and size, those of objects that are gone too.

use std::collections::{BTreeMap, HashMap};

use bouncescope_capture::facts::{LiveSites, Symbol};

/// Names of code addresses.
type Symbols = hashbrown::HashMap<u64, Symbol>;

/// A function: its module, empty for the kernel itself, and its name.
pub type Function<'a> = (&'a str, &'a str);

/// Live objects by function and bytes given, and what functions were seen to ask for.
#[derive(Debug)]
pub struct LiveFunctions<'a> {
    symbols: &'a Symbols,
    objects: HashMap<Function<'a>, BTreeMap<u64, u64>>,
    /// By bytes given.
    allocated: HashMap<u64, Vec<Allocated>>,
}

/// Allocations of one call site and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allocated {
    /// Address of the call site.
    pub(crate) call_site: u64,
    /// Bytes asked for.
    pub(crate) requested: u64,
    /// How many.
    pub(crate) count: u64,
}

impl<'a> LiveFunctions<'a> {
    /// Of lines all of whose objects come from caches of one size: of others it is not known how many come from which.
    /// All allocations of the recording are `allocations`: call site, bytes asked for and given, how many.
    pub fn new(
        live: &'a LiveSites,
        symbols: &'a Symbols,
        allocations: impl Iterator<Item = (u64, u64, u64, u64)>,
    ) -> Self {
        let mut allocated: HashMap<u64, Vec<Allocated>> = HashMap::new();
        for (call_site, requested, given, count) in allocations {
            allocated.entry(given).or_default().push(Allocated { call_site, requested, count });
        }
        // In an order of their own, so that sums of fractions come out the same each time.
        for all in allocated.values_mut() {
            all.sort_unstable_by_key(|one| (one.call_site, one.requested));
        }
        let mut objects: HashMap<Function, BTreeMap<u64, u64>> = HashMap::new();
        for site in &live.sites {
            if site.inexact || site.calls == 0 || site.bytes % site.calls != 0 {
                continue;
            }
            let by_size = objects.entry((&site.module, &site.function)).or_default();
            let count = by_size.entry(site.bytes / site.calls).or_default();
            *count = count.saturating_add(site.calls);
        }
        Self { symbols, objects, allocated }
    }

    /// The function that a call site is in, where its name is known. What compilers add to names of parts and copies of functions
    /// (`.isra.0`, `.constprop.0`, `.cold`) is not in the kernel's count.
    pub fn of(&self, call_site: u64) -> Option<Function<'a>> {
        let symbol = self.symbols.get(&call_site)?;
        let name = symbol.name.split(['+', '.']).next().filter(|name| !name.is_empty())?;
        Some((&symbol.module, name))
    }

    /// Every allocation of the recording that came from caches of one size, those of objects that are gone too.
    pub(crate) fn allocated(&self, given: u64) -> &[Allocated] {
        self.allocated.get(&given).map_or(&[], Vec::as_slice)
    }

    /// Live objects of a function in caches of one size.
    pub fn objects(&self, function: Function, given: u64) -> u64 {
        self.objects.get(&function).and_then(|by_size| by_size.get(&given)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::facts::LiveSite;

    fn site(module: &str, function: &str, calls: u64, bytes: u64) -> LiveSite {
        LiveSite { module: module.into(), function: function.into(), calls, bytes, ..LiveSite::default() }
    }

    #[test]
    fn lines_of_a_function_add_up_and_a_line_of_several_sizes_says_nothing() {
        let sites = vec![
            site("", "f", 10, 640),
            site("", "f", 2, 128),
            site("", "f", 3, 100),
            site("usbcore", "f", 1, 64),
            LiveSite { inexact: true, ..site("", "g", 10, 640) },
        ];
        let (live, symbols) = (LiveSites { sites, left_out: 0 }, Symbols::default());
        let functions = LiveFunctions::new(&live, &symbols, std::iter::empty());
        assert_eq!(functions.objects(("", "f"), 64), 12);
        assert_eq!(functions.objects(("usbcore", "f"), 64), 1);
        assert_eq!((functions.objects(("", "f"), 33), functions.objects(("", "g"), 64)), (0, 0));
    }

    #[test]
    fn a_call_site_is_in_the_function_without_what_the_compiler_added() {
        let symbol = |addr, name: &str| (addr, Symbol { addr, name: name.into(), module: "nvme".into() });
        let symbols =
            Symbols::from_iter([symbol(1, "nvme_probe.isra.0+0x8"), symbol(2, "nvme_probe+0x40"), symbol(3, "+0x1")]);
        let live = LiveSites::default();
        let functions = LiveFunctions::new(&live, &symbols, std::iter::empty());
        assert_eq!(
            [1, 2, 3, 4].map(|site| functions.of(site)),
            [Some(("nvme", "nvme_probe")), Some(("nvme", "nvme_probe")), None, None]
        );
    }
}
