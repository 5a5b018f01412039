//! What a stream says besides events: the kernel, its devices, hooks, pool, call sites, counters. Pure data, kept in
//! captures as JSON objects with these field names.
//!
//! Sizes are bytes unless the name says otherwise, times nanoseconds of `CLOCK_MONOTONIC`.

use std::collections::BTreeMap;

pub use bouncescope_model::pool::SlotRule;
pub use bouncescope_model::release::Release;
use serde::{Deserialize, Serialize};
use tracer_ebpf::decide::Decider;

use crate::event::{DeviceId, Direction};
use crate::names::{Loss, Subject};

/// What a kernel is, as far as bouncing depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct KernelFacts {
    /// `uname -r`.
    pub release: String,
    /// `uname -v`.
    pub version: String,
    /// `uname -m`.
    pub machine: String,
    /// `/proc/cmdline`.
    pub cmdline: String,
    /// Page size.
    pub page_size: u32,
    /// Possible CPUs.
    pub possible_cpus: u32,
    /// `MemTotal`.
    pub memory: u64,
    /// The memory that the machine has, of which `memory` is what the kernel left; `None` when not found out.
    pub physical_memory: Option<PhysicalMemory>,
    /// `cache_line_size()`.
    pub cache_line_size: u32,
    /// Where `cache_line_size` was learnt from.
    pub cache_line_source: String,
    /// The line size by the CPU's own `CTR_EL0` (`cache_line_size_of_cpu()`), which the kernel goes by until firmware describes the caches:
    /// the kmalloc caches are built before. `None` when not found out.
    pub cpu_line_size: Option<u32>,
    /// `ARCH_DMA_MINALIGN`.
    pub dma_minalign: u32,
    /// Minimum alignment that the kmalloc caches were created with.
    pub kmalloc_minalign: u32,
    /// Where `kmalloc_minalign` was learnt from.
    pub kmalloc_minalign_source: String,
    /// `CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC`.
    pub bounce_unaligned_kmalloc: bool,
    /// The default swiotlb pool.
    pub pool: PoolFacts,
    /// Where memory lies in the kernel's address space, to tell whose object a buffer is; `None` when not found out.
    pub linear_map: Option<LinearMap>,
    /// `sizeof(struct page)`; 0 when not known.
    pub struct_page_size: u32,
    /// Where the `struct page` of physical address 0 is, or would be; `None` when not found out.
    pub vmemmap: Option<u64>,
    /// What encrypts the memory of this guest, such as `SEV-SNP`, `TDX` or `a realm of arm CCA`: no device reaches it, so that every
    /// mapping bounces through memory that is shared with the host. `None` where nothing does, or it was not found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_guest: Option<String>,
    /// Options of the kernel's configuration that matter here (`CONFIG_SWIOTLB` and so on), as far as readable.
    pub config: BTreeMap<String, String>,
}

impl KernelFacts {
    /// The kernel's own bounce decider.
    pub fn decider(&self) -> Decider {
        Decider {
            bounce_unaligned: u32::from(self.bounce_unaligned_kmalloc),
            cache_line_size: self.cache_line_size,
            minalign: self.kmalloc_minalign,
            dma_minalign: self.dma_minalign,
        }
    }

    /// The numbers of its release; `None` where they are not known.
    pub fn release_numbers(&self) -> Option<Release> {
        Release::of(&self.release)
    }
}

/// The linear map: `virt = phys - phys_base + virt_base`, for physical addresses from `phys_base` on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LinearMap {
    /// A virtual address, such as `PAGE_OFFSET`.
    pub virt_base: u64,
    /// The physical address that it maps, such as `memstart_addr`.
    pub phys_base: u64,
}

/// Physical memory, as the kernel found it at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct PhysicalMemory {
    /// The first address behind it (`memblock_end_of_DRAM()`).
    pub end: u64,
    /// All of it (`memblock_phys_mem_size()`), without holes.
    pub bytes: u64,
    /// Some of it lies beyond the zone that every device reaches (`max_pfn > PFN_DOWN(arm64_dma_phys_limit)`); `None` when not
    /// found out.
    pub beyond_dma_zone: Option<bool>,
}

/// The default swiotlb pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct PoolFacts {
    /// Slots of 2 KiB; 0 when there is no pool.
    pub slots: u64,
    /// Physical address of its beginning; `None` when not found out.
    pub start: Option<u64>,
    /// Areas.
    pub areas: u32,
    /// Every mapping bounces (`swiotlb=force`, or the memory of this guest is encrypted).
    pub force: bool,
    /// The kernel can add pools (`CONFIG_SWIOTLB_DYNAMIC`).
    pub dynamic: bool,
    /// Slots in use when recording began.
    pub used_at_start: u64,
    /// The kernel maintains its own high-water mark, and it covers this recording: reset at its start, or kept since boot.
    pub hiwater_reset: bool,
    /// How this kernel counts the slots of a mapping.
    pub slot_rule: SlotRule,
    /// Pools that only some devices use.
    pub restricted: Vec<RestrictedPool>,
}

impl PoolFacts {
    /// Whether the kernel has added pools if so many slots are in use at once, of the default pool and the restricted ones together.
    pub fn has_grown(&self, used: u64) -> bool {
        let restricted = self.restricted.iter().fold(0, |sum: u64, pool| sum.saturating_add(pool.slots));
        self.dynamic && used > self.slots.saturating_add(restricted)
    }
}

/// A `restricted-dma-pool` of the device tree (`rmem_swiotlb_device_init()`, `kernel/dma/swiotlb.c`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct RestrictedPool {
    /// Name of its reserved memory.
    pub name: String,
    /// Slots of 2 KiB.
    pub slots: u64,
    /// Slots in use when recording began: coherent allocations of its devices come from it, too.
    pub used_at_start: u64,
}

/// `struct device`, described when first seen and whenever it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a bit of the kernel's own")]
pub struct Device {
    /// The number that events name it by.
    pub id: DeviceId,
    /// `dev_name()`.
    pub name: String,
    /// `dev->driver->name`; empty without driver.
    pub driver: String,
    /// `dev->bus->name`; empty without bus.
    pub bus: String,
    /// `dev_is_dma_coherent()`.
    pub coherent: bool,
    /// `*dev->dma_mask`; 0 when there is none.
    pub dma_mask: u64,
    /// `dev->bus_dma_limit`; 0 means no limit.
    pub bus_dma_limit: u64,
    /// `dev->dma_parms->min_align_mask`.
    pub min_align_mask: u32,
    /// `dma_get_max_seg_size()`, bytes; `None` in captures of recorders that did not ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_segment_size: Option<u32>,
    /// `dma_get_seg_boundary()`; `None` as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_boundary_mask: Option<u64>,
    /// The IOMMU's granule when the device maps through dma-iommu, else `None`.
    pub iommu_granule: Option<u64>,
    /// Untrusted PCI device: everything unaligned to the granule bounces.
    pub untrusted: bool,
    /// The device's pool bounces everything (`io_tlb_mem.force_bounce`).
    pub force_bounce: bool,
    /// Bounces through a pool of its own (`restricted-dma-pool`), not the default one.
    pub own_pool: bool,
    /// Which restricted pool that is: its reserved memory's name, as in [`RestrictedPool::name`]. `None` without one, and where nothing tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restricted_pool: Option<String>,
    /// When it was described.
    pub time_ns: u64,
    /// Its description was lost: everything here but its number is unknown, and the name is only a label.
    #[serde(skip_serializing_if = "is_false")]
    pub undescribed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// The label of a device whose description was lost; recorders before the flag wrote nothing else.
const DESCRIPTION_LOST: &str = "(description lost)";

impl Device {
    /// A device whose description was lost, first met at `time_ns`.
    pub fn without_description(time_ns: u64) -> Self {
        Self { name: DESCRIPTION_LOST.to_owned(), time_ns, undescribed: true, ..Self::default() }
    }

    /// Whether its traits are known.
    pub fn is_described(&self) -> bool {
        !self.undescribed && self.name != DESCRIPTION_LOST
    }
}

/// A place where the programs attach, and whether they could.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Hook {
    /// What is recorded through it.
    pub subject: Subject,
    /// Where it attaches, such as `raw_tp dma_map_phys`.
    pub place: String,
    /// Attached.
    pub attached: bool,
    /// Why not; empty when attached.
    pub why_not: String,
    /// What cannot be told without it.
    pub lost_without: String,
    /// The programs that were attached, by the names in [`End::programs`]; a program may serve several hooks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<String>,
}

impl Hook {
    /// Why it is not attached, and what cannot be told without it.
    pub fn reason(&self) -> String {
        if self.lost_without.is_empty() {
            return self.why_not.clone();
        }
        format!("{} (lost without it: {})", self.why_not, self.lost_without)
    }
}

/// Which hooks are not attached, and what cannot be told without them, in a sentence each; `None` where all are. Why each is not is
/// [`Hook::reason`].
pub fn not_attached(hooks: &[Hook]) -> Option<(String, Option<String>)> {
    let missing: Vec<&Hook> = hooks.iter().filter(|hook| !hook.attached).collect();
    let first = missing.first()?;
    let names: Vec<&str> = missing.iter().map(|hook| hook.subject.name()).collect();
    let is_common = !first.why_not.is_empty() && missing.iter().all(|hook| hook.why_not == first.why_not);
    let why = if is_common { &first.why_not } else { "doctor shows why" };
    let mut lost: Vec<&str> = Vec::new();
    for hook in missing.iter().filter(|hook| !hook.lost_without.is_empty()) {
        if !lost.contains(&hook.lost_without.as_str()) {
            lost.push(&hook.lost_without);
        }
    }
    let which = format!("not attached: {} of {} hooks: {} ({why})", missing.len(), hooks.len(), names.join(", "));
    Some((which, (!lost.is_empty()).then(|| format!("lost without them: {}", lost.join("; ")))))
}

/// Whether one of the hooks recorded a subject.
pub fn is_attached(hooks: &[Hook], subject: &Subject) -> bool {
    hooks.iter().any(|hook| hook.attached && hook.subject == *subject)
}

/// The counters of the pools at one moment, from debugfs `swiotlb/`: of the default pool, and of restricted ones together with
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct PoolSample {
    /// When.
    pub time_ns: u64,
    /// `io_tlb_nslabs`, slots.
    pub slots: u64,
    /// `io_tlb_used`, slots.
    pub used_slots: u64,
    /// `io_tlb_used_hiwater`, slots since `hiwater_reset`; `None` where the kernel keeps none, and where several pools have
    /// been in use: each had its own moment.
    pub hiwater_slots: Option<u64>,
    /// The same of each restricted pool by itself, in the order of [`PoolFacts::restricted`]; empty where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restricted: Vec<RestrictedSample>,
}

/// The counters of a restricted pool at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct RestrictedSample {
    /// `io_tlb_used`, slots.
    pub used_slots: u64,
    /// `io_tlb_used_hiwater`, slots; `None` where the kernel keeps none.
    pub hiwater_slots: Option<u64>,
}

/// The kmalloc caches at one moment, from `/proc/slabinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlabSample {
    /// When.
    pub time_ns: u64,
    /// Every cache of kmalloc, of all types (`kmalloc-64`, `kmalloc-cg-64`, `kmalloc-rcl-64`, `dma-kmalloc-64`, …).
    pub caches: Vec<SlabCache>,
    /// The caches were shrunk right before, so that CPUs had hardly anything at hand.
    pub shrunk: bool,
    /// What `/proc/allocinfo` says at the same moment; `None` where the kernel has none, and in samples between the first and the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_sites: Option<LiveSites>,
}

/// The kernel's own count of live allocations by call site, of every one since boot (`CONFIG_MEM_ALLOC_PROFILING`, from 6.10 on).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct LiveSites {
    /// Those with most live allocations, most first.
    pub sites: Vec<LiveSite>,
    /// Live allocations of sites that are left out because there are more.
    pub left_out: u64,
}

/// One call site in `/proc/allocinfo` (`alloc_tag_to_text()`, `lib/alloc_tag.c`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct LiveSite {
    /// Source file and line, such as `drivers/usb/core/urb.c:75`.
    pub place: String,
    /// Module; empty for the kernel itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub module: String,
    /// The function that the line is in.
    pub function: String,
    /// Live allocations.
    pub calls: u64,
    /// Their bytes: of an object those of its cache, not those that were asked for (`alloc_tagging_slab_alloc_hook()`, `mm/slub.c`).
    pub bytes: u64,
    /// The kernel missed some (`accurate:no`, from 6.18 on).
    #[serde(skip_serializing_if = "is_false")]
    pub inexact: bool,
}

/// One cache of kmalloc at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlabCache {
    /// Its name.
    pub name: String,
    /// Bytes of one object with all that debugging adds (`s->size`).
    pub size: u32,
    /// Objects in a slab.
    pub objects_per_slab: u32,
    /// Pages of a slab.
    pub pages_per_slab: u32,
    /// Objects in use; those that a CPU keeps at hand count as in use.
    pub active_objects: u64,
    /// Objects, in use or not.
    pub objects: u64,
    /// Slabs.
    pub slabs: u64,
    /// Slabs that CPUs keep at hand (`cpu_slabs` in sysfs), all of whose objects count as in use; `None` where not told.
    pub cpu_slabs: Option<u64>,
    /// Objects in a sheaf (`sheaf_capacity` in sysfs), of which CPUs keep some at hand; 0 where there are none.
    pub sheaf_capacity: u64,
}

impl SlabCache {
    /// What its name says: its type, which is what stands before the size, and the size, bytes.
    pub fn kind_and_size(&self) -> Option<(&str, u64)> {
        let (kind, size) = self.name.rsplit_once('-')?;
        Some((kind, u64::from(kmalloc_size(size)?)))
    }
}

/// The size in the name of a cache, such as `96` or `4k`, bytes: `kmalloc_info` in `mm/slab_common.c`.
pub fn kmalloc_size(size: &str) -> Option<u32> {
    match size.strip_suffix(['k', 'M']) {
        Some(number) => {
            let unit = if size.ends_with('k') { 1 << 10 } else { 1 << 20 };
            number.parse::<u32>().ok()?.checked_mul(unit)
        }
        None => size.parse().ok(),
    }
}

/// How long the pool's functions took, and cache maintenance where that was asked for, in sum over all calls since recording
/// began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct PoolTimes {
    /// When they were read.
    pub time_ns: u64,
    /// By function and length.
    pub times: Vec<PoolTime>,
    /// Cache maintenance, by function and length; empty where it was not timed, or never called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<MaintenanceTime>,
}

/// Calls of one of the pool's functions for buffers of about one length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolTime {
    /// Which.
    pub function: PoolFunction,
    /// The lengths: from 2^(`log2`) on, below twice that; 0 holds 0 and 1.
    pub log2: u8,
    /// Calls that returned.
    pub calls: u64,
    /// Bytes of the buffers, in sum.
    pub bytes: u64,
    /// Time from entry to return, ns, in sum. Interrupts in between, and the tracing itself, count.
    pub total_ns: u64,
}

/// The pool's functions whose time is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PoolFunction {
    /// `swiotlb_tbl_map_single()`.
    #[default]
    Map,
    /// `swiotlb_tbl_unmap_single()` or `__swiotlb_tbl_unmap_single()`.
    Unmap,
    /// `swiotlb_sync_single_for_cpu()` or `__swiotlb_sync_single_for_cpu()`.
    SyncForCpu,
    /// `swiotlb_sync_single_for_device()` or `__swiotlb_sync_single_for_device()`.
    SyncForDevice,
}

/// Calls of one of the functions of cache maintenance for buffers of about one length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MaintenanceTime {
    /// Which.
    pub function: MaintenanceFunction,
    /// As in [`PoolTime`].
    pub log2: u8,
    /// Calls that returned.
    pub calls: u64,
    /// Bytes of the buffers, in sum.
    pub bytes: u64,
    /// Time from entry to return, ns, in sum. Interrupts in between, and the tracing itself, count.
    pub total_ns: u64,
}

/// The functions that clean and invalidate caches for devices that are not coherent (`arch/arm64/mm/dma-mapping.c`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MaintenanceFunction {
    /// `arch_sync_dma_for_device()`.
    #[default]
    ForDevice,
    /// `arch_sync_dma_for_cpu()`, but for buffers that the device only reads: it does nothing for them.
    ForCpu,
}

/// How often one call site asked for one size, since recording began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteCount {
    /// Return address of the caller of kmalloc.
    pub call_site: u64,
    /// Bytes asked for.
    pub bytes_req: u32,
    /// Bytes given.
    pub bytes_alloc: u32,
    /// Allocations.
    pub count: u64,
}

/// How often a device mapped buffers of one length in one direction, since recording began: counted in the kernel, whether the
/// mappings are among the events or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LengthCount {
    /// The device, as it was described then.
    pub device: DeviceId,
    /// Direction.
    pub direction: Direction,
    /// What is mapped.
    pub mapped: Mapped,
    /// Bytes of the buffer; 256 stands for itself and all that are longer. 0 for lists.
    pub length: u32,
    /// Buffers, or lists.
    pub count: u64,
    /// Bytes of the buffers; 0 for lists.
    pub bytes: u64,
}

/// What is mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapped {
    /// A single buffer.
    #[default]
    Single,
    /// A segment of a scatterlist, as far as the list was recorded.
    Segment,
    /// A scatterlist.
    List,
    /// Device registers, which never bounce (`DMA_ATTR_MMIO`, `dma_map_resource()`). Earlier recorders counted those of 6.18 on as
    /// [`Mapped::Single`].
    Resource,
}

impl Mapped {
    /// A buffer, which its length may make bounce.
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::Single | Self::Segment)
    }
}

/// The name of a code address, or of a slab cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbol {
    /// The address.
    pub addr: u64,
    /// `function+0xoffset`.
    pub name: String,
    /// Module; empty for the kernel itself.
    #[serde(default)]
    pub module: String,
}

impl Symbol {
    /// In place of a module: the symbol is no code but a slab cache, by its number ([`crate::event::Memory`]).
    pub const SLAB_CACHE: &str = "slab cache";
}

/// The programs' counters, since recording began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// When they were read.
    pub time_ns: u64,
    /// Records by kind (`map`, `kmalloc`, …) that the programs tried to send, per CPU.
    pub seen: BTreeMap<String, Vec<u64>>,
    /// Losses by name (`ring_full.map`, `sites_full`, `missed.slot_map_return`, …), per CPU where the kernel counts
    /// per CPU, else one figure. Only those that are not 0.
    pub lost: BTreeMap<Loss, Vec<u64>>,
    /// Single mappings for which the decider, run in the kernel, predicted a bounce.
    pub predicted: u64,
    /// Buffers linked by `dma_iova_link()` (`drivers/iommu/dma-iommu.c`, from 6.16 on), of recorders that only counted them: none of
    /// them is among the mappings.
    pub linked: u64,
    /// Bytes of these.
    pub linked_bytes: u64,
    /// `swiotlb_bounced` hits counted by the tracing file system itself, where that was asked for.
    pub tracefs_bounced: Option<u64>,
}

impl Counters {
    /// Everything lost, of every kind.
    pub fn total_lost(&self) -> u64 {
        self.lost.values().flatten().sum()
    }

    /// A loss on all CPUs together.
    pub fn lost(&self, loss: &Loss) -> u64 {
        self.lost.get(loss).into_iter().flatten().sum()
    }
}

/// How a recording ended and what it cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct End {
    /// When.
    pub time_ns: u64,
    /// Events written, by kind.
    pub events: BTreeMap<String, u64>,
    /// Cost of each program, where and as long as the kernel counted it.
    pub programs: Vec<ProgramCost>,
    /// For how long from the beginning on it counted, ns; 0 where that was not noted: throughout.
    pub counted_ns: u64,
    /// CPU time of the recorder itself.
    pub recorder_cpu_ns: u64,
    /// When the kernel's own counts, and then the hooks, began to be taken off; 0 where that was not noted. Slots taken later
    /// may miss their mapping's event.
    pub detach_began_ns: u64,
}

/// What one BPF program cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ProgramCost {
    /// The program.
    pub name: String,
    /// Runs.
    pub run_cnt: u64,
    /// Time in it, ns.
    pub run_time_ns: u64,
}

/// What the running machine adds to its stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Here {
    /// Why nothing could be traced; `None` when it was.
    pub why_not: Option<String>,
    /// How long the self-test had the hooks attached, milliseconds.
    pub watched_ms: u64,
    /// Subjects of hooks that were made to happen during that time, so that one which did not fire does not work.
    pub provoked: Vec<Subject>,
    /// Kernel memory that the maps take with the default ring, bytes; 0 when nothing was loaded.
    pub map_bytes: u64,
    /// What the device tree says of coherence; `None` on a machine without one.
    pub device_tree: Option<DeviceTree>,
    /// How far devices reach, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<crate::reach::Reach>,
}

/// Coherence in a device tree (`of_dma_is_coherent()`, `drivers/of/address.c`): a node's own property, else its nearest
/// ancestor's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceTree {
    /// Nodes with `dma-coherent`, as paths, sorted; the root is `/`.
    pub coherent: Vec<String>,
    /// Nodes with `dma-noncoherent`.
    pub non_coherent: Vec<String>,
}
