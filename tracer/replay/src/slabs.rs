//! The slabs of all kmalloc caches under some settings, from the kernel's own count of each cache: `/proc/slabinfo`, which a capture
//! samples. What was allocated before the recording is in it.
//!
//! `new_kmalloc_cache()` in `mm/slab_common.c` makes no cache whose size is not a multiple of the minimum alignment: its
//! objects come from the next larger one. So where the caches begin later than in the captured kernel, the objects of each cache move
//! as a whole, and their slabs follow from their number. Where they begin earlier, it is not known which objects fit a smaller
//! cache. That none does and that all do are the bounds; an estimate comes from the objects whose allocation was recorded.
//!
//! **The estimate** knows the objects that were recorded, and where the kernel counts live objects by line of source, takes those that a
//! function had allocated before to be like those that it was seen to allocate. For the rest it takes each call site for one observation: its
//! objects have the size of what that code allocates, and how many of them a boot makes says nothing about the others. Its error is four
//! standard errors of the mean over call sites. That the call sites of a recording are like those of the boot is an assumption.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::live_functions::{Function, LiveFunctions};
use super::memory::{at_hand, standard_error};
use super::objects::LiveObjects;
use super::settings::Settings;
use bouncescope_capture::facts::{SlabCache, SlabSample};
use bouncescope_model::kmalloc::{bytes_given, cache_sizes};
use bouncescope_model::slab::{Slab, slab};

/// With fewer call sites of a size nothing is estimated from them.
const FEWEST_SITES: usize = 10;
/// Standard errors of an estimate that its range covers on each side.
const ERRORS: f64 = 4.0;

/// Bytes of the slabs of all kmalloc caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Slabs {
    /// Where they come from.
    pub basis: Basis,
    /// The likeliest; `None` where only the bounds are known.
    pub bytes: Option<u64>,
    /// The least of the range in which they are expected.
    pub low: u64,
    /// The most of it.
    pub high: u64,
    /// The least that the objects can take, whatever their sizes.
    pub least: u64,
    /// The most.
    pub most: u64,
}

/// What the bytes of slabs rest on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The kernel's count: these are its caches.
    #[default]
    Counted,
    /// The kernel's count of objects, which move to larger caches. The range is that of slabs that are not full.
    Moved,
    /// The same, and an estimate of how many objects fit a smaller cache.
    Estimated,
    /// It is not known how many objects fit a smaller cache.
    Bounded,
}

/// By how many bytes something is more than something else; negative for less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Difference {
    /// The likeliest.
    pub bytes: Option<i64>,
    /// The least.
    pub low: i64,
    /// The most.
    pub high: i64,
}

impl Slabs {
    /// What the kernel counted.
    pub fn counted(bytes: u64) -> Self {
        Self { basis: Basis::Counted, bytes: Some(bytes), low: bytes, high: bytes, least: bytes, most: bytes }
    }

    /// How many more these are than others. Two alike do not differ, however little is known of them.
    pub fn more_than(&self, other: &Self) -> Difference {
        if self == other {
            return Difference { bytes: Some(0), low: 0, high: 0 };
        }
        Difference {
            bytes: self.bytes.zip(other.bytes).map(|(one, other)| difference(one, other)),
            low: difference(self.low, other.high),
            high: difference(self.high, other.low),
        }
    }
}

/// No machine has so much memory that this would not be exact.
fn difference(one: u64, other: u64) -> i64 {
    let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    signed(one).saturating_sub(signed(other))
}

impl Difference {
    /// So many bytes more.
    #[must_use]
    pub fn and(self, bytes: i64) -> Self {
        let more = |own: i64| own.saturating_add(bytes);
        Self { bytes: self.bytes.map(more), low: more(self.low), high: more(self.high) }
    }

    /// Whether it is more or less, or nothing, is not known.
    pub fn may_be_either(self) -> bool {
        self.low < 0 && self.high > 0
    }
}

/// The slabs that the kernel counted.
pub fn counted(sample: &SlabSample, page_size: u64) -> Option<Slabs> {
    let bytes = |cache: &SlabCache| counted_bytes(cache, page_size);
    (!sample.caches.is_empty()).then(|| Slabs::counted(sample.caches.iter().map(bytes).fold(0, u64::saturating_add)))
}

fn counted_bytes(cache: &SlabCache, page_size: u64) -> u64 {
    (cache.slabs * u64::from(cache.pages_per_slab)).saturating_mul(page_size)
}

/// The slabs of all caches of a sample under these settings, on so many CPUs; `live` are the recorded objects, one allocation in
/// `sample` of all, and `functions` what the kernel itself counted by line of source, where it did. `None` where the names of the
/// caches say nothing.
pub(crate) fn under(
    slabs: &SlabSample,
    live: &[LiveObjects],
    settings: &Settings,
    cpus: u32,
    sample: u64,
    functions: Option<&LiveFunctions>,
) -> Option<Slabs> {
    let caches = moved(slabs, settings, cpus)?;
    let objects = recorded(live, settings, sample.max(1));
    let moving = || caches.iter().filter(|cache| !cache.stays);
    let staying = || caches.iter().filter(|cache| cache.stays);
    let bytes_of = |cache: &Cache| cache.bytes;
    if moving().next().is_none() {
        return Some(Slabs::counted(staying().map(bytes_of).fold(0, u64::saturating_add)));
    }
    let geometry = Geometry::new(&caches, settings, cpus, slabs.live_sites.is_some());
    // These are computed from the slabs that they belong to.
    let of_vectors = |cache: &&Cache| geometry.reference > 0 && cache.kind == VECTORS;
    let stay = staying().filter(|cache| !of_vectors(cache)).map(bytes_of).fold(0, u64::saturating_add);
    let stay = stay.saturating_sub(geometry.vectors_of(moving()));
    let unfilled_vectors = caches.iter().filter(of_vectors).map(|cache| cache.unfilled).fold(0, u64::saturating_add);
    let movers = || moving().filter(|cache| !of_vectors(cache));
    let unfilled: u64 = movers().map(|cache| cache.unfilled).fold(0, u64::saturating_add);
    let place = |place: &dyn Fn(&Cache) -> Vec<(u64, f64)>| stay.saturating_add(geometry.bytes(movers(), place));
    let full = |cache: &Cache| (cache.objects - cache.at_hand) as f64;
    let least = place(&|cache| vec![(cache.to_least, full(cache))]);
    let most_placed = |cache: &Cache| vec![(cache.to_most, cache.objects as f64)];
    let most = place(&most_placed).saturating_add(unfilled).saturating_add(unfilled_vectors);
    let most = most.saturating_add(geometry.new_caches(movers()));
    if movers().all(|cache| cache.to_least == cache.to_most) {
        let packed = place(&|cache| vec![(cache.to_most, cache.likely())]);
        let bytes = packed.saturating_add(unfilled / 2).clamp(least, most);
        return Some(Slabs { basis: Basis::Moved, bytes: Some(bytes), low: least, high: most, least, most });
    }
    let estimates = estimates(&caches, &objects, &geometry, functions, settings);
    if estimates.is_empty() {
        return Some(Slabs { basis: Basis::Bounded, bytes: None, low: least, high: most, least, most });
    }
    // A size without an estimate keeps its bounds, and is taken to lie in their middle.
    let placed = |cache: &Cache, otherwise: &[u64]| match estimates.get(&cache.size) {
        Some(estimate) => estimate.shares.iter().map(|(to, share)| (*to, share * cache.likely())).collect(),
        None => otherwise.iter().map(|to| (*to, cache.likely() / otherwise.len() as f64)).collect::<Vec<_>>(),
    };
    let packed = place(&|cache| placed(cache, &[cache.to_least, cache.to_most]));
    let bytes = packed.saturating_add(unfilled / 2).clamp(least, most);
    let error = estimates.values().map(|estimate| estimate.variance).sum::<f64>().sqrt() * ERRORS;
    // Half of it is in the likeliest number.
    let at_hand: u64 = movers().map(|cache| cache.at_hand.saturating_mul(cache.size) / 2).fold(0, u64::saturating_add);
    let low = place(&|cache| placed(cache, &[cache.to_least])).saturating_sub(error as u64).saturating_sub(at_hand);
    let high = place(&|cache| placed(cache, &[cache.to_most]))
        .saturating_add(error as u64)
        .saturating_add(unfilled)
        .saturating_add(at_hand);
    let high = high.saturating_add(unfilled_vectors);
    let (low, high) = (low.clamp(least, most), high.clamp(least, most));
    Some(Slabs { basis: Basis::Estimated, bytes: Some(bytes), low: low.min(bytes), high: high.max(bytes), least, most })
}

/// A captured cache, and where its objects go.
#[derive(Debug)]
struct Cache<'a> {
    /// Its type: what stands before the size in its name.
    kind: &'a str,
    /// The size in its name, bytes.
    size: u64,
    /// Bytes that debugging adds to an object.
    debugging: u64,
    slab: Slab,
    /// Objects in use, those included that CPUs have at hand.
    objects: u64,
    /// Of them those that may be free.
    at_hand: u64,
    /// Bytes of its slabs.
    bytes: u64,
    /// Of them those that full slabs would not take.
    unfilled: u64,
    /// The smallest cache that any of its objects may go to.
    to_least: u64,
    /// The largest.
    to_most: u64,
    /// Its objects stay, and no others come.
    stays: bool,
}

impl Cache<'_> {
    /// Objects in use, of those at hand the half: the kernel counts all of a CPU's slab or sheaf, which is anything between full and empty.
    fn likely(&self) -> f64 {
        self.objects as f64 - self.at_hand as f64 / 2.0
    }
}

/// The captured caches under these settings.
fn moved<'a>(slabs: &'a SlabSample, settings: &Settings, cpus: u32) -> Option<Vec<Cache<'a>>> {
    let mut caches: Vec<Cache> = Vec::new();
    for cache in &slabs.caches {
        let (kind, size) = cache.kind_and_size()?;
        let per_slab = Slab {
            objects: u64::from(cache.objects_per_slab.max(1)),
            bytes: u64::from(cache.pages_per_slab) * settings.page_size,
        };
        let bytes = counted_bytes(cache, settings.page_size);
        caches.push(Cache {
            kind,
            size,
            debugging: u64::from(cache.size).saturating_sub(size),
            slab: per_slab,
            objects: cache.active_objects,
            at_hand: at_hand(cache, slabs.shrunk, cpus),
            bytes,
            unfilled: bytes.saturating_sub(per_slab.bytes_for(cache.active_objects)),
            to_least: size,
            to_most: size,
            stays: true,
        });
    }
    let sizes: Vec<(&str, u64)> = caches.iter().map(|cache| (cache.kind, cache.size)).collect();
    let (smallest, largest) = settings.minaligns();
    for cache in &mut caches {
        let smaller =
            sizes.iter().filter(|(kind, size)| *kind == cache.kind && *size < cache.size).map(|(_, size)| *size);
        let shortest = smaller.max().unwrap_or(0) + 1;
        cache.to_least = bytes_given(shortest, smallest, settings.page_size);
        cache.to_most = bytes_given(cache.size, largest, settings.page_size).max(cache.to_least);
    }
    let goes: Vec<(&str, u64, u64, u64)> =
        caches.iter().map(|cache| (cache.kind, cache.size, cache.to_least, cache.to_most)).collect();
    for cache in &mut caches {
        let comes = |&(kind, size, least, most): &(&str, u64, u64, u64)| {
            kind == cache.kind && size != cache.size && (least..=most).contains(&cache.size)
        };
        cache.stays = cache.objects == 0
            || (cache.to_least, cache.to_most) == (cache.size, cache.size) && !goes.iter().any(comes);
    }
    (!caches.is_empty()).then_some(caches)
}

/// Caches of kmalloc whose own slabs have no vectors: those that the vectors of `kmalloc-` come from.
const VECTORS: &str = "kmalloc-no-objext";
/// Bytes of `struct slabobj_ext` (`include/linux/memcontrol.h`, 6.10 on): a reference to the line of source, and with `CONFIG_MEMCG` a pointer.
const REFERENCES: [u64; 2] = [16, 8];

/// What slabs of each type and size are like.
struct Geometry<'a> {
    captured: BTreeMap<(&'a str, u64), Slab>,
    debugging: BTreeMap<&'a str, u64>,
    page_size: u64,
    cpus: u32,
    /// Where allocations are counted by line, each slab has a vector with so many bytes for each of its objects, which is an object of kmalloc
    /// itself (`alloc_slab_obj_exts()`, `mm/slub.c`); 0 where there are none.
    reference: u64,
    /// Where the caches begin that vectors come from.
    minalign: u32,
    /// Vectors of the slabs of caches that stay, by size: those that come from [`VECTORS`].
    standing: BTreeMap<u64, u64>,
}

impl<'a> Geometry<'a> {
    fn new(caches: &[Cache<'a>], settings: &Settings, cpus: u32, counts_by_line: bool) -> Self {
        let captured = caches.iter().map(|cache| ((cache.kind, cache.size), cache.slab)).collect();
        let debugging = caches.iter().map(|cache| (cache.kind, cache.debugging)).collect();
        let (page_size, minalign, standing) = (settings.page_size, settings.minaligns().0, BTreeMap::new());
        let mut geometry = Self { captured, debugging, page_size, cpus, reference: 0, minalign, standing };
        if counts_by_line {
            let off_by = |reference: &u64| geometry.vectors_off_by(caches, *reference);
            let vectors: u64 = caches.iter().filter(|cache| cache.kind == VECTORS).map(|cache| cache.objects).sum();
            let best = REFERENCES.into_iter().min_by_key(off_by);
            // The kernel may be told not to count, and then has hardly any.
            geometry.reference = best.filter(|reference| off_by(reference) < vectors).unwrap_or(0);
        }
        if geometry.reference > 0 {
            for cache in caches.iter().filter(|cache| cache.stays && has_vectors_of_its_own(cache.kind)) {
                let size = geometry.vector_size(cache.slab.objects);
                *geometry.standing.entry(size).or_default() += cache.bytes / cache.slab.bytes.max(1);
            }
        }
        geometry
    }

    /// Of the object that holds the vector of a slab with so many objects, bytes.
    fn vector_size(&self, objects: u64) -> u64 {
        bytes_given(objects.saturating_mul(self.reference), self.minalign, self.page_size)
    }

    /// By how many the vectors that the slabs of `kmalloc-` should have, with references of so many bytes, differ from those that there are.
    fn vectors_off_by(&self, caches: &[Cache], reference: u64) -> u64 {
        let mut vectors: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for cache in caches {
            if cache.kind == VECTORS {
                vectors.entry(cache.size).or_default().0 += cache.objects;
            } else if has_vectors_of_its_own(cache.kind) {
                let size = bytes_given(cache.slab.objects.saturating_mul(reference), 8, self.page_size);
                vectors.entry(size).or_default().1 += cache.bytes / cache.slab.bytes.max(1);
            }
        }
        vectors.values().map(|(there, expected)| there.abs_diff(*expected)).fold(0, u64::saturating_add)
    }

    /// Bytes of the vector of a slab with so many objects, where it comes from `kmalloc-`.
    fn vector(&self, kind: &str, objects: u64) -> u64 {
        if self.reference == 0 || kind == VECTORS || has_vectors_of_its_own(kind) {
            return 0;
        }
        let slab = self.slab("kmalloc", self.vector_size(objects));
        slab.bytes / slab.objects.max(1)
    }

    /// Bytes of the vectors of all slabs of these caches, of those that come from `kmalloc-`.
    fn vectors_of<'c>(&self, caches: impl Iterator<Item = &'c Cache<'c>>) -> u64 {
        let bytes = |cache: &Cache| {
            let slabs = cache.bytes / cache.slab.bytes.max(1);
            slabs.saturating_mul(self.vector(cache.kind, cache.slab.objects))
        };
        caches.map(bytes).fold(0, u64::saturating_add)
    }

    /// A slab with its vector.
    fn with_vector(&self, kind: &str, size: u64) -> Slab {
        let slab = self.slab(kind, size);
        Slab { bytes: slab.bytes.saturating_add(self.vector(kind, slab.objects)), ..slab }
    }

    /// As the captured kernel makes them; where it has no such cache, as `calculate_order()` does.
    fn slab(&self, kind: &str, size: u64) -> Slab {
        let debugging = || self.debugging.get(kind).copied().unwrap_or(0);
        let same = self.captured.get(&(kind, size)).copied();
        same.unwrap_or_else(|| slab(size.saturating_add(debugging()), self.page_size, self.cpus))
    }

    /// Bytes of full slabs with the objects of these caches where `place` puts them.
    fn bytes<'c>(&self, caches: impl Iterator<Item = &'c Cache<'c>>, place: &dyn Fn(&Cache) -> Vec<(u64, f64)>) -> u64 {
        let mut objects: BTreeMap<(&str, u64), f64> = BTreeMap::new();
        for cache in caches {
            for (to, count) in place(cache) {
                *objects.entry((cache.kind, to)).or_default() += count;
            }
        }
        let mut vectors = self.standing.clone();
        let mut bytes = 0_u64;
        for ((kind, to), count) in objects {
            let slab = self.with_vector(kind, to);
            let all = slab.bytes_for(count.round() as u64);
            bytes = bytes.saturating_add(all);
            if self.reference > 0 && has_vectors_of_its_own(kind) {
                *vectors.entry(self.vector_size(slab.objects)).or_default() += all / slab.bytes.max(1);
            }
        }
        let of_vectors = |(size, count): (u64, u64)| self.slab(VECTORS, size).bytes_for(count);
        vectors.into_iter().map(of_vectors).fold(bytes, u64::saturating_add)
    }

    /// Bytes of the slabs that CPUs would have at hand of caches that the captured kernel has not.
    fn new_caches<'c>(&self, caches: impl Iterator<Item = &'c Cache<'c>>) -> u64 {
        let sizes = cache_sizes(8, self.page_size);
        let mut new: BTreeSet<(&str, u64)> = BTreeSet::new();
        for cache in caches.filter(|cache| cache.objects > 0) {
            let reached = sizes.iter().filter(|size| (cache.to_least..=cache.to_most).contains(size));
            new.extend(reached.map(|size| (cache.kind, *size)).filter(|one| !self.captured.contains_key(one)));
        }
        let at_hand = |(kind, size)| self.with_vector(kind, size).bytes.saturating_mul(self.cpus.into());
        new.into_iter().map(at_hand).fold(0, u64::saturating_add)
    }
}

/// Whether the vectors of a type's slabs come from caches without vectors: `kmalloc-` and its random copies (`is_kmalloc_normal()` in
/// `mm/slab.h`). Those of other types come from `kmalloc-`.
fn has_vectors_of_its_own(kind: &str) -> bool {
    kind == "kmalloc" || kind.starts_with("kmalloc-rnd-") || kind.starts_with("kmalloc-part-")
}

/// Recorded objects of one call site in caches of one size.
#[derive(Debug, Default)]
struct Site {
    /// By the size of the cache that they would come from.
    to: BTreeMap<u64, u64>,
}

/// By bytes given, then call site; and the standard error of their number is that of a sample of one in the number beside.
struct Recorded {
    by_given: BTreeMap<u64, BTreeMap<u64, Site>>,
    sample: u64,
}

fn recorded(live: &[LiveObjects], settings: &Settings, sample: u64) -> Recorded {
    let mut by_given: BTreeMap<u64, BTreeMap<u64, Site>> = BTreeMap::new();
    for objects in live {
        let minalign = settings.caches(objects.call_site).minalign;
        let to = bytes_given(objects.requested, minalign, settings.page_size);
        let site = by_given.entry(objects.given).or_default().entry(objects.call_site).or_default();
        *site.to.entry(to).or_default() += objects.count;
    }
    Recorded { by_given, sample }
}

/// Where the objects of caches of one size go.
struct Estimated {
    /// Of each cache, which part of them.
    shares: BTreeMap<u64, f64>,
    /// Square of the standard error of their bytes.
    variance: f64,
}

/// For each size of which some objects may go elsewhere than others, and of which enough call sites were seen.
fn estimates(
    caches: &[Cache],
    recorded: &Recorded,
    geometry: &Geometry,
    functions: Option<&LiveFunctions>,
    settings: &Settings,
) -> BTreeMap<u64, Estimated> {
    let mut estimates = BTreeMap::new();
    for cache in caches.iter().filter(|cache| cache.to_least != cache.to_most) {
        let Some(sites) = recorded.by_given.get(&(cache.size + cache.debugging)) else { continue };
        if sites.len() < FEWEST_SITES || estimates.contains_key(&cache.size) {
            continue;
        }
        let objects: u64 = caches.iter().filter(|other| other.size == cache.size).map(|other| other.objects).sum();
        let bytes = |to: u64| {
            let slab = geometry.with_vector(cache.kind, to);
            slab.bytes as f64 / slab.objects as f64
        };
        let given = cache.size + cache.debugging;
        let older = functions.map(|functions| Older::new(sites, recorded.sample, given, functions, settings, bytes));
        let older = older.unwrap_or_default();
        estimates.insert(cache.size, estimate(sites, objects, recorded.sample, cache.size, &older, bytes));
    }
    estimates
}

fn estimate(
    sites: &BTreeMap<u64, Site>,
    objects: u64,
    sample: u64,
    size: u64,
    older: &Older,
    bytes: impl Fn(u64) -> f64,
) -> Estimated {
    let counts = || sites.values().flat_map(|site| &site.to);
    let seen: u64 = counts().map(|(_, count)| count).sum();
    // What was recorded is known, and what the same functions had allocated before is like it; the rest is like the mean of the call
    // sites.
    let whole = (objects as f64).max(1.0);
    let known = (seen as f64 * sample as f64).min(objects as f64);
    let of_older: f64 = older.to.values().sum();
    let older_part = of_older.min(objects as f64 - known) / of_older.max(1.0);
    let unknown = (objects as f64 - known - of_older * older_part).max(0.0);
    let (known_part, unknown_part) = (known / whole, unknown / whole);
    let mut shares: BTreeMap<u64, f64> = older.to.iter().map(|(to, count)| (*to, count * older_part / whole)).collect();
    for (to, count) in counts() {
        *shares.entry(*to).or_default() += known_part * *count as f64 / seen.max(1) as f64;
    }
    let mut means = Vec::new();
    for site in sites.values() {
        let count = site.to.values().sum::<u64>().max(1) as f64;
        means.push(site.to.iter().map(|(to, part)| bytes(*to) * *part as f64).sum::<f64>() / count);
        for (to, part) in &site.to {
            *shares.entry(*to).or_default() += unknown_part * *part as f64 / count / sites.len() as f64;
        }
    }
    let number = means.len() as f64;
    let mean = means.iter().sum::<f64>() / number;
    let of_mean = means.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (number - 1.0) / number;
    let of_sample = (standard_error(seen, sample) as f64 * size as f64).powi(2);
    Estimated { shares, variance: of_mean * unknown.powi(2) + of_sample + older.variance * older_part.powi(2) }
}

/// Of functions that were seen to allocate fewer objects than this, nobody knows what they had asked for before.
const FEW: u64 = 10;

/// Objects of one size that functions had allocated before the recording, of functions that were seen to allocate such in it.
#[derive(Debug, Default)]
struct Older {
    /// By the size of the cache that they would come from.
    to: BTreeMap<u64, f64>,
    /// Square of the standard error of their bytes: a function may have asked for several sizes.
    variance: f64,
}

/// Objects of a function by where they go, and of how many call sites they are.
#[derive(Debug, Default)]
struct Seen {
    to: BTreeMap<u64, u64>,
    sites: BTreeSet<u64>,
}

impl Seen {
    fn add(&mut self, call_site: u64, to: u64, count: u64) {
        *self.to.entry(to).or_default() += count;
        self.sites.insert(call_site);
    }

    fn objects(&self) -> u64 {
        self.to.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl Older {
    fn new(
        live: &BTreeMap<u64, Site>,
        sample: u64,
        given: u64,
        functions: &LiveFunctions,
        settings: &Settings,
        bytes: impl Fn(u64) -> f64,
    ) -> Self {
        // What lives at the end says most of what lived before; where that is little, what is gone is of the same code.
        let (mut living, mut allocated) = (BTreeMap::<Function, Seen>::new(), BTreeMap::<Function, Seen>::new());
        for (call_site, site) in live {
            let Some(function) = functions.of(*call_site) else { continue };
            let seen = living.entry(function).or_default();
            for (to, count) in &site.to {
                seen.add(*call_site, *to, *count);
            }
        }
        for one in functions.allocated(given) {
            let Some(function) = functions.of(one.call_site) else { continue };
            let minalign = settings.caches(one.call_site).minalign;
            let to = bytes_given(one.requested, minalign, settings.page_size);
            allocated.entry(function).or_default().add(one.call_site, to, one.count);
        }
        let mut older = Self::default();
        let all: BTreeSet<&Function> = living.keys().chain(allocated.keys()).collect();
        for function in all {
            let seen_live = living.get(function).map_or(0, Seen::objects);
            let enough = |seen: &&Seen| seen.objects() >= FEW;
            let Some(seen) = living.get(function).filter(enough).or_else(|| allocated.get(function).filter(enough))
            else {
                continue;
            };
            let before = functions.objects(*function, given).saturating_sub(seen_live.saturating_mul(sample)) as f64;
            let objects = seen.objects() as f64;
            let share = |count: u64| count as f64 / objects;
            let mean: f64 = seen.to.iter().map(|(size, count)| bytes(*size) * share(*count)).sum();
            let spread: f64 = seen.to.iter().map(|(size, count)| (bytes(*size) - mean).powi(2) * share(*count)).sum();
            older.variance += spread * before.powi(2) / seen.sites.len() as f64;
            for (size, count) in &seen.to {
                *older.to.entry(*size).or_default() += before * share(*count);
            }
        }
        older
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::facts::{KernelFacts, LiveSite, LiveSites, Symbol};

    const PAGE: u64 = 4096;

    /// A cache with all slabs full.
    fn cache(name: &str, size: u32, objects: u64) -> SlabCache {
        let Slab { objects: per_slab, bytes } = slab(size.into(), PAGE, 1);
        SlabCache {
            name: name.into(),
            size,
            objects_per_slab: per_slab as u32,
            pages_per_slab: (bytes / PAGE) as u32,
            active_objects: objects,
            objects,
            slabs: objects.div_ceil(per_slab),
            cpu_slabs: Some(0),
            sheaf_capacity: 0,
        }
    }

    fn caches_from(minalign: u32) -> Settings {
        let mut settings = Settings::captured(&KernelFacts { page_size: PAGE as u32, ..KernelFacts::default() });
        settings.decider.minalign = minalign;
        settings
    }

    fn slabs(caches: Vec<SlabCache>, live: &[LiveObjects], minalign: u32) -> Slabs {
        let sample = SlabSample { caches, ..SlabSample::default() };
        under(&sample, live, &caches_from(minalign), 1, 1, None).unwrap()
    }

    /// One of 64 bytes, from 12 call sites of which the first made most: it asked for 8 bytes, the others for 64.
    fn live() -> Vec<LiveObjects> {
        let of = |call_site| LiveObjects { call_site, requested: 64, given: 64, count: 1 };
        let mut live: Vec<LiveObjects> = (0..12).map(of).collect();
        (live[0].requested, live[0].count) = (8, 1000);
        live
    }

    #[test]
    fn caches_of_the_captured_kernel_are_as_counted_full_or_not() {
        let mut half_empty = cache("kmalloc-64", 64, 64);
        half_empty.slabs = 2;
        let slabs = slabs(vec![half_empty, cache("kmalloc-4k", 4096, 0)], &live(), 64);
        assert_eq!(slabs, Slabs::counted(2 * PAGE));
    }

    #[test]
    fn objects_of_small_caches_move_to_the_larger_one_of_their_type() {
        let small = |kind: &str| [cache(&format!("{kind}-32"), 32, 128), cache(&format!("{kind}-64"), 64, 64)];
        let caches = [small("kmalloc"), small("kmalloc-cg")].concat();
        // 192 objects of 64 bytes of each type, and kmalloc-192 stays what it is.
        let larger = vec![cache("kmalloc-128", 128, 0), cache("kmalloc-192", 192, 21)];
        let slabs = slabs([caches, larger].concat(), &[], 64);
        assert_eq!((slabs.basis, slabs.bytes), (Basis::Moved, Some((2 * 3 + 1) * PAGE)));
        assert_eq!((slabs.low, slabs.high), (slabs.least, slabs.most));
    }

    #[test]
    fn objects_that_cpus_have_at_hand_may_be_none_and_slabs_that_are_not_full_may_stay() {
        let mut of_8 = cache("kmalloc-8", 8, 1024);
        (of_8.cpu_slabs, of_8.slabs) = (Some(1), 4);
        let slabs = slabs(vec![of_8], &[], 64);
        // The likeliest number has half of the 512 that a CPU may have at hand, and half of the two slabs that are not full.
        assert_eq!((slabs.low, slabs.bytes, slabs.high), (8 * PAGE, Some(13 * PAGE), (16 + 2 + 1) * PAGE));
    }

    #[test]
    fn what_fits_a_smaller_cache_is_bounded_where_no_call_site_tells() {
        let slabs = slabs(vec![cache("kmalloc-64", 64, 6400)], &[], 8);
        assert_eq!((slabs.basis, slabs.bytes), (Basis::Bounded, None));
        // All in 8 bytes; none, and a slab of each new cache at hand.
        assert_eq!((slabs.least, slabs.most), (13 * PAGE, (100 + 3) * PAGE));
    }

    #[test]
    fn an_estimate_takes_each_call_site_once_and_what_was_recorded_as_it_is() {
        let objects = 64_000;
        let estimate = slabs(vec![cache("kmalloc-64", 64, objects)], &live(), 8);
        assert_eq!(estimate.basis, Basis::Estimated);
        let unknown = (objects - 1011) as f64;
        let expected = 1000.0 * 8.0 + 11.0 * 64.0 + unknown * (8.0 + 11.0 * 64.0) / 12.0;
        let bytes = estimate.bytes.unwrap() as f64;
        assert!((bytes - expected).abs() < 3.0 * PAGE as f64, "{bytes} {expected}");
        assert!(estimate.least < estimate.low && estimate.high <= estimate.most, "{estimate:?}");
        // One of 12 differs by 56 bytes: the standard error of their mean is 56 / 12.
        let error = (bytes - estimate.low as f64) / unknown;
        assert!((error - 4.0 * 56.0 / 12.0).abs() < 0.5, "{error}");
        let all_known = slabs(vec![cache("kmalloc-64", 64, 1011)], &live(), 8);
        assert_eq!(all_known.bytes, Some((2 + 1) * PAGE));
        let few = slabs(vec![cache("kmalloc-64", 64, objects)], &live()[..9], 8);
        assert_eq!(few.basis, Basis::Bounded);
    }

    #[test]
    fn what_a_function_allocated_before_is_like_what_it_was_seen_to_allocate() {
        let objects = 64_000;
        let named = |addr| (addr, Symbol { addr, name: format!("f{addr}+0x4"), module: String::new() });
        let symbols: hashbrown::HashMap<u64, Symbol> = (0..12).map(named).collect();
        let of = |function: &str, calls| LiveSite {
            function: function.into(),
            calls,
            bytes: 64 * calls,
            ..LiveSite::default()
        };
        // The function that asks for 8 bytes allocated nearly all, one that was not recorded the rest.
        let sites = vec![of("f0", 60_000), of("g", 3_989)];
        let live_sites = LiveSites { sites, left_out: 0 };
        let functions = LiveFunctions::new(&live_sites, &symbols, std::iter::empty());
        let sample = SlabSample { caches: vec![cache("kmalloc-64", 64, objects)], ..SlabSample::default() };
        let with = |functions| under(&sample, &live(), &caches_from(8), 1, 1, functions).unwrap();
        let (without, with) = (with(None), with(Some(&functions)));
        let unknown = (objects - 60_000 - 11) as f64;
        let expected = 60_000.0 * 8.0 + 11.0 * 64.0 + unknown * (8.0 + 11.0 * 64.0) / 12.0;
        assert!((with.bytes.unwrap() as f64 - expected).abs() < 3.0 * PAGE as f64, "{with:?} {expected}");
        assert!(with.high - with.low < (without.high - without.low) / 10, "{with:?} {without:?}");
        assert_eq!((with.least, with.most), (without.least, without.most));
        // No more than there are, whatever is said.
        let more = LiveSites { sites: vec![of("f0", 1 << 40)], left_out: 0 };
        let functions = LiveFunctions::new(&more, &symbols, std::iter::empty());
        let all = under(&sample, &live(), &caches_from(8), 1, 1, Some(&functions)).unwrap();
        assert!(all.bytes.unwrap() <= objects * 8 + 12 * 64 + 2 * PAGE, "{all:?}");
    }

    #[test]
    fn a_function_whose_recorded_objects_are_gone_tells_what_it_asked_for_all_the_same() {
        let objects = 64_000;
        let symbol = Symbol { addr: 99, name: "gone+0x4".into(), module: String::new() };
        let symbols: hashbrown::HashMap<u64, Symbol> = [(99, symbol)].into_iter().collect();
        let site = LiveSite { function: "gone".into(), calls: 60_000, bytes: 64 * 60_000, ..LiveSite::default() };
        let live_sites = LiveSites { sites: vec![site], left_out: 0 };
        let sample = SlabSample { caches: vec![cache("kmalloc-64", 64, objects)], ..SlabSample::default() };
        let with = |count: u64| {
            let functions = LiveFunctions::new(&live_sites, &symbols, [(99, 16, 64, count)].into_iter());
            under(&sample, &live(), &caches_from(8), 1, 1, Some(&functions)).unwrap()
        };
        // One of 16 bytes takes a 256th of a page.
        let unknown = (objects - 60_000 - 1011) as f64;
        let expected = 60_000.0 * 16.0 + 1000.0 * 8.0 + 11.0 * 64.0 + unknown * (8.0 + 11.0 * 64.0) / 12.0;
        let bytes = with(10).bytes.unwrap() as f64;
        assert!((bytes - expected).abs() < 4.0 * PAGE as f64, "{bytes} {expected}");
        assert!(with(9).bytes.unwrap() as f64 > 2.0 * expected, "too few to tell");
    }

    #[test]
    fn what_debugging_adds_to_an_object_is_added_in_any_cache() {
        let debugged = cache("kmalloc-32", 96, 42);
        let slabs = slabs(vec![debugged], &[], 64);
        assert_eq!(slabs.bytes, Some(slab(128, PAGE, 1).bytes_for(42)));
    }

    #[test]
    fn two_alike_do_not_differ_however_little_is_known_of_them() {
        let known = Slabs::counted(100);
        let unknown = Slabs { basis: Basis::Bounded, bytes: None, low: 50, high: 120, least: 50, most: 120 };
        assert_eq!(unknown.more_than(&unknown), Difference { bytes: Some(0), low: 0, high: 0 });
        let difference = unknown.more_than(&known).and(10);
        assert_eq!(difference, Difference { bytes: None, low: -40, high: 30 });
        assert!(difference.may_be_either() && !difference.and(-30).may_be_either());
    }

    #[test]
    fn where_allocations_are_counted_by_line_each_slab_has_a_vector() {
        let with_vectors = |vectors: u64| {
            // Eight slabs of 128 objects, and as many vectors of 2 KiB in two slabs of 16.
            let mut of_vectors = cache("kmalloc-no-objext-2k", 2048, vectors);
            of_vectors.slabs = 1;
            let smaller = cache("kmalloc-no-objext-1k", 1024, 0);
            let caches = vec![cache("kmalloc-32", 32, 1024), smaller, of_vectors];
            let live_sites = Some(LiveSites::default());
            let sample = SlabSample { caches, live_sites, ..SlabSample::default() };
            under(&sample, &[], &caches_from(64), 1, 1, None).unwrap().bytes.unwrap()
        };
        // 16 slabs of 64 objects, with as many vectors of 1 KiB.
        let slab_of_vectors = slab(2048, PAGE, 1);
        assert_eq!(with_vectors(8), 16 * PAGE + slab(1024, PAGE, 1).bytes_for(16));
        assert_eq!(with_vectors(0), 16 * PAGE + slab_of_vectors.bytes, "the kernel was told not to count");
    }

    #[test]
    fn caches_of_other_names_say_nothing() {
        let sample = SlabSample { caches: vec![cache("dentry", 192, 5)], ..SlabSample::default() };
        assert_eq!(under(&sample, &[], &caches_from(8), 1, 1, None), None);
        assert_eq!(counted(&SlabSample::default(), PAGE), None);
    }
}
