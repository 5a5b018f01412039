//! The default swiotlb pool as the running kernel has it: size, areas, how it counts slots, and its own counters in
//! debugfs. The simulated pool is in [`bouncescope_model`].

use std::io;
use std::path::PathBuf;

use super::btf::Btf;

use super::root::Root;
use bouncescope_capture::facts::{PoolFacts, PoolSample, RestrictedPool, RestrictedSample, SlotRule};
use bouncescope_capture::reach::Span;
use bouncescope_model::pool::PoolParameter;
use bouncescope_model::release::Release;

/// `IO_TLB_SEGSIZE`: slots in a segment, and the fewest an area has.
const SEGMENT_SLOTS: u64 = 128;
/// `IO_TLB_SIZE`, bytes.
const SLOT_SIZE: u64 = 2048;
/// Where the default pool shows its counters. A restricted pool has a directory of its own beside them.
const DEBUGFS: &str = "sys/kernel/debug/swiotlb";

/// Why the pool's counters could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct PoolError {
    /// The counter.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// What [`read`] learns of the kernel before it looks at the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) btf: Option<&'a Btf>,
    pub(super) release: Release,
    pub(super) parameter: PoolParameter,
    pub(super) possible_cpus: u32,
    /// `CONFIG_SWIOTLB_DYNAMIC`, where the configuration is known.
    pub(super) dynamic: Option<bool>,
    /// The memory of this guest is encrypted.
    pub(super) encrypted: bool,
}

/// The pool; what could not be read is said in `notes`.
pub(super) fn read(root: &Root, around: Surroundings<'_>, notes: &mut Vec<String>) -> PoolFacts {
    let slots = slots(root, around.parameter, notes);
    let restricted = restricted(root);
    // The log may hold the message of another pool by now, such as one of an added size.
    let start = place(root).filter(|place| place.size() / SLOT_SIZE == slots).map(|place| place.start);
    let dynamic = around.dynamic.or_else(|| Some(around.btf?.member_of("io_tlb_mem", "can_grow").is_some()));
    PoolFacts {
        slots,
        start,
        areas: areas(slots, around),
        force: (around.parameter.force || around.encrypted) && !around.parameter.noforce,
        dynamic: dynamic.unwrap_or_else(|| root.path(DEBUGFS).join("io_tlb_transient_nslabs").exists()),
        used_at_start: root.number(&format!("{DEBUGFS}/io_tlb_used")).unwrap_or(0),
        hiwater_reset: false,
        slot_rule: slot_rule(around.btf, around.release),
        restricted,
    }
}

/// The restricted pools.
fn restricted(root: &Root) -> Vec<RestrictedPool> {
    let pool = |directory: String| {
        let number = |counter: &str| root.number(&format!("{directory}/{counter}"));
        let name = directory.rsplit('/').next().unwrap_or_default().to_owned();
        Some(RestrictedPool {
            name,
            slots: number("io_tlb_nslabs")?,
            used_at_start: number("io_tlb_used").unwrap_or(0),
        })
    };
    restricted_directories(root).into_iter().filter_map(pool).collect()
}

/// Where restricted pools have their counters: in directories named like their reserved memory, beside those of the default
/// pool; or in debugfs itself for a pool that was there before the default one's directory was, as pools of drivers that are
/// built in are (`swiotlb_create_debugfs_files()`, a late initcall).
fn restricted_directories(root: &Root) -> Vec<String> {
    let named = |parent: &'static str| root.names(parent).map(move |name| format!("{parent}/{name}"));
    let all = named(DEBUGFS).chain(named("sys/kernel/debug").filter(|directory| directory != DEBUGFS));
    let mut found: Vec<_> = all.filter(|directory| root.path(directory).join("io_tlb_nslabs").is_file()).collect();
    found.sort();
    found
}

/// Slots of the default pool. `swiotlb_create_debugfs_files()` makes the directory always and the counters only for a
/// pool that has slots.
fn slots(root: &Root, parameter: PoolParameter, notes: &mut Vec<String>) -> u64 {
    if let Some(slots) = root.number(&format!("{DEBUGFS}/io_tlb_nslabs")) {
        return slots;
    }
    if parameter.noforce || root.path(DEBUGFS).is_dir() {
        return 0;
    }
    let why = if root.names("sys/kernel/debug").next().is_none() {
        "debugfs is not mounted or not readable (it needs root or CAP_DAC_READ_SEARCH, and as root: mount -t debugfs nodev /sys/kernel/debug)"
    } else {
        "this kernel has no swiotlb directory in debugfs"
    };
    if let Some(slots) = boot_log(root).as_deref().and_then(place_in_log).map(|place| place.size() / SLOT_SIZE) {
        notes.push(format!("{why}: the pool's size is from the kernel log, and its counters are missing"));
        return slots;
    }
    notes.push(format!("{why}: the pool's size and counters are unknown, so peaks cannot be verified"));
    0
}

/// The kernel's log as `/dev/kmsg` still has it.
pub(super) fn boot_log(root: &Root) -> Option<String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    /// `O_NONBLOCK` of `include/uapi/asm-generic/fcntl.h`, which arm64, riscv and x86 use: read what is there.
    const O_NONBLOCK: i32 = 0o4000;
    /// Longer than any record (`PRINTK_MESSAGE_MAX`).
    const RECORD: usize = 16 << 10;
    const MAX_RECORDS: usize = 1 << 20;

    let mut kmsg = std::fs::OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(root.path("dev/kmsg")).ok()?;
    let (mut log, mut record) = (Vec::new(), vec![0; RECORD]);
    for _ in 0..MAX_RECORDS {
        match kmsg.read(&mut record) {
            Ok(0) => break,
            Ok(len) => log.extend_from_slice(&record[..len]),
            // EPIPE: the record was overwritten before it was read; the next read goes on behind it.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted) => {}
            Err(_) => break,
        }
    }
    Some(String::from_utf8_lossy(&log).into_owned())
}

fn place_in_log(log: &str) -> Option<Span> {
    let range = log.lines().find_map(|line| line.split_once("software IO TLB: mapped [mem ")?.1.split_once(']'))?.0;
    let (start, end) = range.split_once('-')?;
    let address = |text: &str| u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok();
    let place = Span { start: address(start)?, end: address(end)? };
    (place.end >= place.start).then_some(place)
}

/// Where the default pool lies, as the kernel's log has it; a pool that was given up lies nowhere.
pub(super) fn place(root: &Root) -> Option<Span> {
    let log = boot_log(root)?;
    place_in_log(&log).filter(|_| !log.contains("tearing down default memory pool"))
}

/// `swiotlb_adjust_nareas()` and `limit_nareas()`: a power of two, one area for each possible CPU unless the command
/// line says otherwise, none smaller than a segment. Kernels before 6.0 had no areas, which is as if there were one.
fn areas(slots: u64, around: Surroundings<'_>) -> u32 {
    let has_areas = match around.btf {
        Some(btf) => ["io_tlb_mem", "io_tlb_pool"].iter().any(|pool| btf.member_of(pool, "nareas").is_some()),
        None => around.release.is_at_least(6, 0),
    };
    if slots == 0 || !has_areas {
        return u32::from(slots > 0);
    }
    let wanted = match around.parameter.areas.unwrap_or(0) {
        0 => u64::from(around.possible_cpus),
        areas => areas,
    };
    let wanted = wanted.max(1).checked_next_power_of_two().unwrap_or(u64::MAX);
    wanted.min(slots / SEGMENT_SLOTS).max(1) as u32
}

/// How `swiotlb_tbl_map_single()` counts: where it is told the size to allocate (`alloc_size`), its callers have
/// rounded it up; since 6.10 it has no such argument and rounds up itself.
fn slot_rule(btf: Option<&Btf>, release: Release) -> SlotRule {
    let callers_align = match btf.and_then(|btf| btf.function("swiotlb_tbl_map_single")) {
        Some(function) => function.position(&["alloc_size"]).is_some() || function.parameters.len() > 6,
        None => !release.is_at_least(6, 10),
    };
    if callers_align { SlotRule::CallerAligned } else { SlotRule::PoolAligned }
}

/// Whether the kernel keeps the pool's high-water mark.
///
/// 6.4 introduced it. Since 7.3 `inc_used_and_hiwater()` is a static call that does nothing unless the kernel was
/// booted with `swiotlb=…,track_hiwater`: there is a function `inc_used_and_hiwater_nop` then. `has_symbol` tells
/// whether the kernel has a symbol, for kernels without BTF.
pub fn keeps_hiwater(root: &Root, btf: Option<&Btf>, cmdline: &str, has_symbol: impl Fn(&str) -> bool) -> bool {
    match root.number(&format!("{DEBUGFS}/io_tlb_used_hiwater")) {
        None => false,
        Some(mark) if mark > 0 => true,
        Some(_) => {
            const OPT_IN: &str = "inc_used_and_hiwater_nop";
            let opt_in = btf.is_some_and(|btf| btf.function(OPT_IN).is_some()) || has_symbol(OPT_IN);
            !opt_in || PoolParameter::parse(cmdline).track_hiwater
        }
    }
}

/// The counters of the pools.
#[derive(Clone, Debug)]
pub struct PoolCounters {
    root: Root,
    keeps_hiwater: bool,
    /// Where the counters of each pool are: the default one's first, where there is one.
    directories: Vec<String>,
}

impl PoolCounters {
    /// `keeps_hiwater` as [`keeps_hiwater`] says.
    pub fn new(root: &Root, keeps_hiwater: bool) -> Self {
        let default = root.path(DEBUGFS).join("io_tlb_nslabs").exists().then(|| DEBUGFS.to_owned());
        let directories = default.into_iter().chain(restricted_directories(root)).collect();
        Self { root: root.clone(), keeps_hiwater, directories }
    }

    /// Takes note of what is in use in each pool at this moment, when recording begins.
    pub fn begin(&self, pool: &mut PoolFacts) {
        pool.used_at_start = self.root.number(&format!("{DEBUGFS}/io_tlb_used")).unwrap_or(0);
        pool.restricted = restricted(&self.root);
    }

    /// The counters now; `time_ns` is the caller's `CLOCK_MONOTONIC`. `None` for a kernel without any pool: it has none.
    pub fn sample(&self, time_ns: u64) -> Result<Option<PoolSample>, PoolError> {
        if self.directories.is_empty() {
            return Ok(None);
        }
        let sum = |counter: &str| Ok(self.read(counter)?.iter().sum());
        // First, so that it is of that very moment.
        let used = self.read("io_tlb_used")?;
        let marks = if self.keeps_hiwater { self.read("io_tlb_used_hiwater")? } else { Vec::new() };
        let in_use: Vec<u64> = marks.iter().copied().filter(|mark| *mark > 0).collect();
        let hiwater_slots = (self.keeps_hiwater && in_use.len() <= 1).then(|| in_use.iter().sum());
        let restricted =
            self.directories.iter().zip(&used).enumerate().filter(|(_, (directory, _))| *directory != DEBUGFS);
        let restricted = restricted
            .map(|(n, (_, used))| RestrictedSample { used_slots: *used, hiwater_slots: marks.get(n).copied() })
            .collect();
        let (slots, used_slots) = (sum("io_tlb_nslabs")?, used.iter().sum());
        Ok(Some(PoolSample { time_ns, slots, used_slots, hiwater_slots, restricted }))
    }

    /// Sets the high-water marks to 0, so that they count from now on: the next mapping lifts one to what is in use then.
    /// `false` when the kernel keeps none.
    pub fn reset_hiwater(&self) -> Result<bool, PoolError> {
        if !self.keeps_hiwater {
            return Ok(false);
        }
        for directory in &self.directories {
            let path = self.root.path(format!("{directory}/io_tlb_used_hiwater"));
            std::fs::write(&path, "0").map_err(|source| PoolError { path, source })?;
        }
        Ok(true)
    }

    /// A counter of every pool.
    fn read(&self, counter: &str) -> Result<Vec<u64>, PoolError> {
        let one = |directory: &String| {
            let file = format!("{directory}/{counter}");
            let fail = |source| PoolError { path: self.root.path(&file), source };
            let text = self.root.text(&file).map_err(fail)?;
            text.parse().map_err(|_| fail(io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no number"))))
        };
        self.directories.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::btf::sample::Builder;
    use super::super::root::sample::SampleRoot;
    use super::*;

    const AROUND: Surroundings<'_> = Surroundings {
        btf: None,
        release: Release { major: 6, minor: 12 },
        parameter: PoolParameter { slots: None, areas: None, force: false, noforce: false, track_hiwater: false },
        possible_cpus: 6,
        dynamic: None,
        encrypted: false,
    };

    fn with_counters(used: &str, hiwater: &str) -> SampleRoot {
        SampleRoot::new(&[
            ("sys/kernel/debug/swiotlb/io_tlb_nslabs", "1024\n"),
            ("sys/kernel/debug/swiotlb/io_tlb_used", used),
            ("sys/kernel/debug/swiotlb/io_tlb_used_hiwater", hiwater),
        ])
    }

    #[test]
    fn the_pool_is_read_from_debugfs() {
        let mut notes = Vec::new();
        let pool = read(&with_counters("3\n", "7\n").root(), AROUND, &mut notes);
        assert_eq!((pool.slots, pool.areas, pool.used_at_start), (1024, 8, 3));
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn a_directory_without_counters_means_that_there_is_no_pool() {
        let sample = SampleRoot::new(&[("sys/kernel/debug/swiotlb/rmem/io_tlb_nslabs", "512")]);
        let mut notes = Vec::new();
        let pool = read(&sample.root(), AROUND, &mut notes);
        assert_eq!((pool.slots, pool.areas), (0, 0));
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn without_debugfs_the_size_is_in_the_log() {
        let log = "6,203,0,-;software IO TLB: mapped [mem 0x00000000fbfff000-0x00000000fc0ff000] (1MB)\n";
        let sample = SampleRoot::new(&[("dev/kmsg", log)]);
        let mut notes = Vec::new();
        assert_eq!(read(&sample.root(), AROUND, &mut notes).slots, 512);
        assert!(notes[0].contains("mount -t debugfs") && notes[0].contains("kernel log"), "{notes:?}");
    }

    #[test]
    fn areas_are_limited_by_slots_and_set_by_the_command_line() {
        assert_eq!(areas(512, AROUND), 4);
        assert_eq!(areas(4096, AROUND), 8);
        let parameter = PoolParameter { areas: Some(3), ..AROUND.parameter };
        assert_eq!(areas(4096, Surroundings { parameter, ..AROUND }), 4);
        assert_eq!(areas(4096, Surroundings { release: Release { major: 5, minor: 15 }, ..AROUND }), 1);
        assert_eq!(areas(0, AROUND), 0);
    }

    #[test]
    fn the_slot_rule_is_told_by_the_functions_arguments() {
        let rule = |names: &[&str], release| {
            let mut b = Builder::default();
            let int = b.int("int", 4);
            let parameters: Vec<_> = names.iter().map(|&name| (name, int)).collect();
            b.function("swiotlb_tbl_map_single", &parameters);
            slot_rule(Some(&Btf::from_bytes(b.build()).unwrap()), release)
        };
        let old = Release { major: 5, minor: 10 };
        let backported = ["dev", "orig_addr", "mapping_size", "alloc_align_mask", "dir", "attrs"];
        let five_ten = ["dev", "orig_addr", "mapping_size", "alloc_size", "dir", "attrs"];
        assert_eq!(rule(&backported, old), SlotRule::PoolAligned);
        assert_eq!(rule(&five_ten, AROUND.release), SlotRule::CallerAligned);
        assert_eq!(slot_rule(None, old), SlotRule::CallerAligned);
        assert_eq!(slot_rule(None, AROUND.release), SlotRule::PoolAligned);
    }

    #[test]
    fn the_high_water_mark_is_an_option_where_the_kernel_can_do_without() {
        let fresh = with_counters("0", "0");
        let keeps = |cmdline, opt_in: bool| keeps_hiwater(&fresh.root(), None, cmdline, |_| opt_in);
        assert!(keeps("quiet", false));
        assert!(!keeps("swiotlb=512", true));
        assert!(keeps("swiotlb=512,track_hiwater", true));
        assert!(keeps_hiwater(&with_counters("0", "9").root(), None, "", |_| true), "it moved, so it is kept");
        assert!(!keeps_hiwater(&SampleRoot::new(&[]).root(), None, "", |_| false));
    }

    #[test]
    fn counters_are_sampled_and_the_mark_is_reset() {
        let sample = with_counters("3\n", "7\n");
        let counters = PoolCounters::new(&sample.root(), true);
        let before = counters.sample(5).unwrap();
        let restricted = Vec::new();
        assert_eq!(
            before,
            Some(PoolSample { time_ns: 5, slots: 1024, used_slots: 3, hiwater_slots: Some(7), restricted })
        );
        assert!(counters.reset_hiwater().unwrap());
        assert_eq!(counters.sample(6).unwrap().and_then(|sample| sample.hiwater_slots), Some(0));
        let without = PoolCounters::new(&sample.root(), false);
        assert_eq!(without.sample(7).unwrap().and_then(|sample| sample.hiwater_slots), None);
        assert!(!without.reset_hiwater().unwrap());
    }

    #[test]
    fn a_restricted_pool_older_than_the_default_ones_directory_is_found() {
        let sample = with_counters("3\n", "0\n");
        sample.write("sys/kernel/debug/early@1/io_tlb_nslabs", b"128");
        let pool = read(&sample.root(), AROUND, &mut Vec::new());
        assert_eq!(pool.restricted, [RestrictedPool { name: "early@1".into(), slots: 128, used_at_start: 0 }]);
    }

    #[test]
    fn restricted_pools_count_together_with_the_default_one() {
        let sample = with_counters("3\n", "0\n");
        for (counter, value) in [("io_tlb_nslabs", "512"), ("io_tlb_used", "2"), ("io_tlb_used_hiwater", "9")] {
            sample.write(&format!("sys/kernel/debug/swiotlb/camera@0/{counter}"), value.as_bytes());
        }
        let pool = read(&sample.root(), AROUND, &mut Vec::new());
        assert_eq!(pool.slots, 1024);
        assert_eq!(pool.restricted, [RestrictedPool { name: "camera@0".into(), slots: 512, used_at_start: 2 }]);
        let counters = PoolCounters::new(&sample.root(), true);
        let now = counters.sample(1).unwrap().unwrap();
        assert_eq!((now.slots, now.used_slots, now.hiwater_slots), (1536, 5, Some(9)));
        assert_eq!(now.restricted, [RestrictedSample { used_slots: 2, hiwater_slots: Some(9) }]);
        sample.write("sys/kernel/debug/swiotlb/io_tlb_used_hiwater", b"4");
        assert_eq!(counters.sample(2).unwrap().unwrap().hiwater_slots, None, "each pool has its own highest moment");
    }

    #[test]
    fn an_unreadable_counter_is_named() {
        let error = PoolCounters::new(&with_counters("many", "0").root(), false).sample(0).unwrap_err();
        assert!(error.to_string().contains("io_tlb_used") && error.to_string().contains("many"), "{error}");
    }
}
