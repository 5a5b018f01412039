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
    /// All allocations of the recording are `allocations`: call site, bytes asked for and given, how many. They tell from which caches the
    /// objects of a line come whose bytes are no multiple of its calls ([`split`]); without them, nothing is known of such a line.
    pub fn new(
        live: &'a LiveSites,
        symbols: &'a Symbols,
        allocations: impl Iterator<Item = (u64, u64, u64, u64)>,
    ) -> Self {
        let mut allocated: HashMap<u64, Vec<Allocated>> = HashMap::new();
        let mut sizes: HashMap<Function, BTreeMap<u64, u64>> = HashMap::new();
        for (call_site, requested, given, count) in allocations {
            allocated.entry(given).or_default().push(Allocated { call_site, requested, count });
            if let Some(function) = function(symbols, call_site) {
                let seen = sizes.entry(function).or_default().entry(given).or_default();
                *seen = seen.saturating_add(count);
            }
        }
        // In an order of their own, so that sums of fractions come out the same each time.
        for all in allocated.values_mut() {
            all.sort_unstable_by_key(|one| (one.call_site, one.requested));
        }
        let mut objects: HashMap<Function, BTreeMap<u64, u64>> = HashMap::new();
        for site in &live.sites {
            if site.inexact || site.calls == 0 {
                continue;
            }
            let function: Function = (&site.module, &site.function);
            let by_size = if site.bytes % site.calls == 0 {
                BTreeMap::from([(site.bytes / site.calls, site.calls)])
            } else {
                sizes.get(&function).map(|seen| split(site.calls, site.bytes, seen)).unwrap_or_default()
            };
            for (size, count) in by_size {
                let sum = objects.entry(function).or_default().entry(size).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        Self { symbols, objects, allocated }
    }

    /// The function that a call site is in, where its name is known. What compilers add to names of parts and copies of functions
    /// (`.isra.0`, `.constprop.0`, `.cold`) is not in the kernel's count.
    pub fn of(&self, call_site: u64) -> Option<Function<'a>> {
        function(self.symbols, call_site)
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

fn function(symbols: &Symbols, call_site: u64) -> Option<Function<'_>> {
    let symbol = symbols.get(&call_site)?;
    let name = symbol.name.split(['+', '.']).next().filter(|name| !name.is_empty())?;
    Some((&symbol.module, name))
}

/// With fewer recorded allocations nothing is said about a line of several sizes.
const FEWEST: u64 = 10;
/// Nor with more sizes than kmalloc has caches and a function could ask for pages.
const MOST_SIZES: usize = 64;
/// Halvings until the mean is met: more than a double has bits.
const STEPS: u32 = 60;

/// How many of the `calls` objects of a line, which take `bytes` in all, come from caches of each size. The sizes are those that the function
/// was seen to get (`seen`: bytes given, how many). As many small ones become larger, or large ones smaller, as the mean of the line needs:
/// each size keeps its share times `exp(tilt × size)`, which of all distributions with that mean is the nearest to what was seen. Empty where
/// the sizes that were seen cannot have that mean.
fn split(calls: u64, bytes: u64, seen: &BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    let (Some((&least, _)), Some((&most, _))) = (seen.first_key_value(), seen.last_key_value()) else {
        return BTreeMap::new();
    };
    let wanted = bytes as f64 / calls as f64;
    let enough = seen.values().fold(0_u64, |sum, count| sum.saturating_add(*count)) >= FEWEST;
    if !enough || seen.len() > MOST_SIZES || wanted <= least as f64 || wanted >= most as f64 {
        return BTreeMap::new();
    }
    let span = (most - least) as f64;
    let weights = |tilt: f64| -> Vec<(u64, f64)> {
        // From the end at which the exponent is 0, so that none overflows.
        let from = if tilt > 0.0 { most } else { least };
        let weight =
            |(&size, &count): (&u64, &u64)| (size, count as f64 * (tilt * (size as f64 - from as f64) / span).exp());
        seen.iter().map(weight).collect()
    };
    let mean = |weights: &[(u64, f64)]| {
        let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
        weights.iter().map(|(size, weight)| *size as f64 * weight).sum::<f64>() / sum
    };
    // The mean grows with the tilt.
    let (mut low, mut high) = (-1e4, 1e4);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if mean(&weights(middle)) < wanted { low = middle } else { high = middle }
    }
    let weights = weights(f64::midpoint(low, high));
    let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
    weights.into_iter().map(|(size, weight)| (size, (calls as f64 * weight / sum).round() as u64)).collect()
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
    fn a_line_of_several_sizes_is_split_among_those_that_its_function_was_seen_to_get() {
        let seen = |sizes: &[(u64, u64)]| sizes.iter().copied().collect::<BTreeMap<_, _>>();
        // Two sizes have one solution, whatever their shares in the recording.
        assert_eq!(split(100, 30 * 8 + 70 * 64, &seen(&[(8, 5), (64, 5)])), seen(&[(8, 30), (64, 70)]));
        // The mean of what was seen changes nothing.
        assert_eq!(
            split(300, 300 * 24, &seen(&[(8, 10), (16, 10), (48, 10)])),
            seen(&[(8, 100), (16, 100), (48, 100)])
        );
        let tilted = split(3000, 3000 * 32, &seen(&[(8, 10), (16, 10), (48, 10)]));
        let bytes: u64 = tilted.iter().map(|(size, count)| size * count).sum();
        assert!(tilted[&8] < tilted[&16] && tilted[&16] < tilted[&48], "{tilted:?}");
        assert!(bytes.abs_diff(3000 * 32) < 100 && tilted.values().sum::<u64>().abs_diff(3000) < 3, "{tilted:?}");
        // Sizes that were seen too seldom, or cannot have that mean.
        assert_eq!(split(100, 3000, &seen(&[(8, 4), (64, 5)])), seen(&[]));
        assert_eq!(split(100, 7000, &seen(&[(8, 40), (64, 50)])), seen(&[]));
        assert_eq!(split(100, 3000, &seen(&[])), seen(&[]));

        let symbol = Symbol { addr: 7, name: "f+0x4".into(), module: String::new() };
        let (symbols, live) =
            (Symbols::from_iter([(7, symbol)]), LiveSites { sites: vec![site("", "f", 10, 99)], left_out: 0 });
        let functions = LiveFunctions::new(&live, &symbols, [(7, 5, 8, 9), (7, 16, 16, 9)].into_iter());
        assert_eq!((functions.objects(("", "f"), 8), functions.objects(("", "f"), 16)), (8, 2));
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
