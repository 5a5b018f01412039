//! "swiotlb buffer is full": which of the things that this can mean it was.
//!
//! Mirrors `swiotlb_tbl_map_single()` and `swiotlb_search_pool_area()` in `kernel/dma/swiotlb.c`, 5.10 to 7.3; the regressions of the
//! slot search are those of its history, with the commit that fixed each.

use super::machine::{Architecture, Machine};
use super::message::Message;
use super::words::{LARGEST, in_slots, slots_amount};
use super::{Context, Kind, Said, boot};
use bouncescope_capture::reach::Span;
use bouncescope_model::pool::{Boot, ByDefault, DEFAULT_SLOTS, SEGMENT_SLOTS, SLOT};

/// Pools are not made larger than this by what is proposed here, slots: 1 GiB, of the 4 GiB that devices with 32 bits reach.
const MOST_PROPOSED: u64 = 1 << 19;

const WHO_HOLDS: &str = "First see who holds the slots: `bouncescope record`, then `bouncescope stats`. Fixing \
                         mappings that are held for long, or a device that would not bounce with the right DMA mask, \
                         is cheaper than enlarging the pool.";

fn who_holds(machine: &Machine) -> &'static str {
    if machine.is_encrypted_guest {
        return "First see which device holds the slots: `bouncescope record`, then `bouncescope stats`. Shorter queues \
                or smaller transfers of that device need fewer.";
    }
    WHO_HOLDS
}

/// A message with its three figures.
pub(super) fn full(context: Context<'_>, size: u64, total: u64) -> Said {
    let slots = size.div_ceil(SLOT).max(1);
    let used = context.group.most_used;
    let said = if total == 0 {
        return boot::no_pool_at_all(context).of_size(size);
    } else if size > LARGEST {
        never_fits(size, Some((total, used)), context.machine, is_restricted(context, total))
    } else if used.saturating_add(slots) > total {
        really_full(context, slots, total, used)
    } else {
        not_in_one_piece(context, size, slots, total, used)
    };
    let said = about_the_pool(said, context, total);
    let said = if is_restricted(context, total) { said } else { about_what_was_asked(said, context.machine, total) };
    let said = about_force_and_alignment(said, context.machine, size);
    about_size(said, size, context.machine).of_size(size)
}

/// What `sz` is: `alloc_size` up to 6.8, and from 6.10 on the length with all that was added to it.
fn about_size(said: Said, size: u64, machine: &Machine) -> Said {
    match machine.is_at_least(6, 10) {
        Some(true) => said.means(format!(
            "On this kernel (6.10 or later) \"sz\" includes padding: the driver mapped {size} bytes or fewer."
        )),
        Some(false) => said.means(
            "On this kernel (before 6.10) \"sz\" is the length as the caller rounded it, without padding; a device with min_align_mask \
             (NVMe) may have needed one slot more.",
        ),
        None => said,
    }
}

/// Two pools are two: the one of the message, and the one of the boot lines.
fn about_the_pool(said: Said, context: Context<'_>, total: u64) -> Said {
    let Some(pool) = context.machine.present_pool() else { return said };
    if pool.slots() == total || is_restricted(context, total) {
        return said;
    }
    said.means(format!(
        "This is not the pool of the boot lines, which had {} slots: either that pool has grown since, or this is \
         another one.",
        pool.slots()
    ))
}

/// Why it may have bounced at all: everything does, or so short a buffer does on arm64 and riscv.
fn about_force_and_alignment(said: Said, machine: &Machine, size: u64) -> Said {
    /// Longest buffer that bounces for kmalloc's alignment with lines of up to 128 bytes.
    const LONGEST_SMALL: u64 = 192;
    let first_release = match machine.architecture {
        Some(Architecture::Arm64) => "on arm64 since 6.5",
        Some(Architecture::Riscv) => "on riscv since 6.6",
        _ => "on arm64 since 6.5 and on riscv since 6.6",
    };
    if machine.is_encrypted_guest {
        return said
            .means("The memory of this guest is encrypted (see the log), so everything that is mapped bounces.");
    }
    if machine.asks_for("swiotlb", "force") {
        let mut said = said.means("swiotlb=force on the command line makes everything bounce.");
        said.helps.insert(0, "Boot without swiotlb=force, which is for tests.".to_owned());
        return said;
    }
    if size > LONGEST_SMALL
        || machine.is_at_least(6, 5) == Some(false)
        || machine.architecture == Some(Architecture::X86)
    {
        return said;
    }
    said.means(format!(
        "A buffer this short may bounce because of its length alone: {first_release}, if a non-coherent device \
         writes to it and it may be a small kmalloc object. `bouncescope record` shows whether that is the reason.",
    ))
}

/// What the command line asks for, where the pool of the message has fewer slots.
fn about_what_was_asked(said: Said, machine: &Machine, total: u64) -> Said {
    let Some(asked) = machine.asked_slots().filter(|asked| *asked > total) else { return said };
    said.means(if is_default_size(asked) {
        format!(
            "The command line has swiotlb={asked}, which is exactly the default of 64 MiB: the kernel treats it as \
             if nothing had been given, and sized the pool by its own rule. With one slot more, it uses the size \
             given."
        )
    } else {
        format!("The command line asks for {asked} slots, and this pool has fewer: contiguous memory was short at boot (\"adjusted … -> … slabs\"), or it is another pool.")
    })
}

fn never_fits(size: u64, fill: Option<(u64, u64)>, machine: &Machine, is_restricted: bool) -> Said {
    let segments = size.div_ceil(LARGEST);
    let not_full = fill.map_or_else(String::new, |(total, used)| {
        format!(" The pool was not full: {used} of {total} slots were in use.")
    });
    let said = Said::new(Kind::NeverFits)
        .means(format!(
            "{size} bytes can never bounce: a mapping must lie in one segment of {SEGMENT_SLOTS} slots (IO_TLB_SEGSIZE), {LARGEST} bytes, \
             and this one needs {} slots, which would span {segments} segments.{not_full}",
            size.div_ceil(SLOT),
        ));
    if machine.is_encrypted_guest {
        return said.helps(
            "No swiotlb= helps. The driver must map less at once (dma_max_mapping_size(), dma_opt_mapping_size()): in \
             such a guest no mapping can do without the bounce.",
        );
    }
    if is_restricted {
        return said
            .means("This pool is a restricted one (restricted-dma-pool), through which everything that its devices map bounces.")
            .helps(
                "No size helps, of this pool or of swiotlb=. The driver must map less at once (dma_max_mapping_size(), \
                 dma_opt_mapping_size()), or the device must not be given a restricted pool.",
            );
    }
    said.means(
        "Small kmalloc buffers are not the cause: a buffer this large bounces only because the device cannot \
             reach it (DMA mask, bus limit), or because everything bounces (swiotlb=force, restricted-dma-pool, \
             memory encryption, an untrusted device).",
    )
    .helps(NO_POOL_SIZE_HELPS)
}

const NO_POOL_SIZE_HELPS: &str = "No swiotlb= helps. The driver must map less at once (dma_max_mapping_size(), dma_opt_mapping_size()), or \
     the buffer must not need to bounce: a wider DMA mask, an IOMMU, memory from a zone that the device reaches, or, for an \
     imported dma-buf, no mapping for a device that does not do the DMA.";

fn really_full(context: Context<'_>, slots: u64, total: u64, used: u64) -> Said {
    let free = total.saturating_sub(used);
    let said = Said::new(Kind::Full).means(format!(
        "The pool was full: {used} of {total} slots of 2 KiB in use, {free} free, and this mapping needs {}.",
        in_slots(slots)
    ));
    if is_restricted(context, total) {
        return restricted(said, context, total).helps(who_holds(context.machine));
    }
    if let Some(said) = rising(said.clone(), context, total) {
        return said;
    }
    let said = full_again(said, context, total);
    let needed = used.saturating_add(slots);
    let said = larger(said, context.machine, total, needed, &format!(" (this moment needed {needed} slots)"));
    let may_leak = said.helps.iter().any(|help| help == LEAK);
    if may_leak { said } else { said.helps(who_holds(context.machine)) }
}

/// What other messages of the log say of a pool that is full: it stays so, or a smaller one was full before.
fn full_again(said: Said, context: Context<'_>, total: u64) -> Said {
    let boot = context.group.boot;
    let stays = context.reading.fills.get(&(boot, total)).and_then(|fill| fill.stays_full(total));
    let mut said = said;
    if let Some(seconds) = stays {
        said = said
            .means(format!(
                "It was as full in each of these messages, over {seconds:.0} s. Either mappings are not released (a leak), or the same load comes \
                 again: the kernel says nothing while slots are free."
            ))
            .helps(LEAK);
    }
    let smaller = context.reading.groups.iter().find_map(|group| match group.message {
        Message::Full { total: other, size, .. } => {
            let is_before = group.boot < boot && group.device == context.group.device;
            let was_full = size <= LARGEST && group.most_used >= other / 100 * 98;
            (is_before && other < total && was_full).then_some((group.boot + 1, other))
        }
        _ => None,
    });
    if let Some((boot, other)) = smaller {
        said = said.means(format!(
            "In boot {boot} of this log a pool of {other} slots was full for the same device: {total} were not enough either. That may be a leak."
        ));
        if stays.is_none() {
            said = said.helps(LEAK);
        }
    }
    said
}

const LEAK: &str = "Look for a driver that does not unmap: `bouncescope record` lists what is mapped and never unmapped, by device. With a \
                    leak, a larger pool only postpones the failure.";

/// The message's pool is a restricted one: its size says so, and the default pool has another. A pool that has fewer slots than
/// the default one had at boot is none that grew.
fn is_restricted(context: Context<'_>, total: u64) -> bool {
    match context.machine.present_pool().map(Span::slots) {
        Some(slots) if slots == total => false,
        Some(slots) => total < slots || context.machine.restricted_of(total).is_some(),
        None => context.machine.restricted_of(total).is_some(),
    }
}

fn restricted(said: Said, context: Context<'_>, total: u64) -> Said {
    let which = match context.machine.restricted_of(total) {
        Some(pool) => format!("the restricted pool at {:#x}", pool.start),
        None => "a restricted pool of this device, since the default one is larger".to_owned(),
    };
    said.means(format!(
        "{total} slots is {which} ({}): everything that its devices map bounces through it, and it never grows.",
        slots_amount(total)
    ))
    .helps(
        "Only its node in reserved-memory (restricted-dma-pool) changes its size; in a virtual machine the hypervisor makes that \
         node, and has an option for it. The command line does not matter.",
    )
}

/// A pool that fills from message to message.
fn rising(said: Said, context: Context<'_>, total: u64) -> Option<Said> {
    let fill = context.reading.fills.get(&(context.group.boot, total)).filter(|fill| fill.is_rising(total))?;
    let over = match (fill.first_time, fill.last_time) {
        (Some(first), Some(last)) if last > first => format!(" in {:.0} s", last - first),
        _ => String::new(),
    };
    Some(
        said.means(format!(
            "The number of slots in use rises from message to message: from {} to {} slots over {} messages{over}. \
             Either mappings are not released (a leak: a driver that does not unmap), or all are held at once.",
            fill.first, fill.last, fill.samples
        ))
        .helps(
            "Look for the driver that does not unmap: `bouncescope record` lists what is mapped and never unmapped, \
             by device; CONFIG_DMA_API_DEBUG names what a driver still holds when it is unbound. A larger pool only \
             postpones the failure.",
        )
        .helps("Use a newer kernel or driver, if its history has a fix for a leak of mappings.")
        .unknown(
            "If the figure settles below the pool's size after a reboot under the same load, it is not a leak, and \
             more slots help.",
        ),
    )
}

/// A remedy by size, where there is one: more than what is there, within what low memory can give, and no size that the kernel
/// reads as not given.
fn larger(said: Said, machine: &Machine, total: u64, needed: u64, why: &str) -> Said {
    let said = match proposal(machine, total, needed) {
        Some(slots) => said.helps(format!(
            "Make the pool larger: swiotlb={slots} ({}) on the command line{why}.",
            slots_amount(slots)
        )),
        None if machine.is_encrypted_guest => said.helps(format!(
            "The pool already has {}: a larger one must be contiguous memory below 4 GiB. Since everything bounces, shorter queues and smaller \
             transfers are what is left (nr_requests, ring sizes).",
            slots_amount(total)
        )),
        None => said.helps(format!(
            "The pool already has {}: a larger one must be contiguous memory below 4 GiB. Make devices bounce less \
             instead (DMA mask, dma-ranges, an IOMMU).",
            slots_amount(total)
        )),
    };
    growing(said, machine)
}

fn growing(said: Said, machine: &Machine) -> Said {
    if machine.pool_grows {
        return said.means(
            "This kernel's pool grows while it runs, and could not here (\"Failed to allocate new pool\"): contiguous \
             memory that its devices reach was missing. A pool that is large enough from the boot on does not need it.",
        );
    }
    match machine.is_at_least(6, 6) {
        Some(false) => said.helps(
            "From 6.6 on a kernel with CONFIG_SWIOTLB_DYNAMIC=y lets the pool grow while it runs; this one is older.",
        ),
        _ => said.helps(
            "Or use a pool that grows while the kernel runs: from 6.6 on with CONFIG_SWIOTLB_DYNAMIC=y (not for Xen, \
             and not for restricted pools).",
        ),
    }
}

/// Whether a kernel without a default size of its own configuration takes this number for its default. Neither its CPUs nor its memory
/// matter to that.
fn is_default_size(slots: u64) -> bool {
    let default = ByDefault::Reduced(1 << 30);
    Boot { possible_cpus: 1, has_areas: true, default_slots: DEFAULT_SLOTS, default }.sized(slots).is_default
}

/// Slots to ask for; `None` when no reasonable pool is larger.
pub(super) fn proposal(machine: &Machine, total: u64, needed: u64) -> Option<u64> {
    let wanted = needed.max(total.saturating_mul(2)).max(total.saturating_add(1));
    if wanted > MOST_PROPOSED {
        // Less than twice, where that is still more.
        return (total < MOST_PROPOSED && needed <= MOST_PROPOSED).then_some(MOST_PROPOSED);
    }
    let slots = wanted.next_power_of_two();
    // swiotlb_adjust_size() of arm64 and riscv from 6.7 on, and of memory encryption, cuts or raises the default alone.
    let may_be_adjusted = machine.is_at_least(6, 7) != Some(false) && machine.architecture != Some(Architecture::X86);
    Some(if is_default_size(slots) && may_be_adjusted { slots * 2 } else { slots })
}

fn not_in_one_piece(context: Context<'_>, size: u64, slots: u64, total: u64, used: u64) -> Said {
    let free = total - used;
    let fewest = fewest_that_block(size, slots, total);
    let kind = if slots > 1 && used < fewest { Kind::NoFit } else { Kind::NotInOnePiece };
    let said = Said::new(kind).means(format!(
        "{free} of {total} slots were free when the message was printed; the mapping needed {}, adjacent and in one \
         segment of {SEGMENT_SLOTS}.",
        in_slots(slots)
    ));
    if kind == Kind::NoFit {
        return no_fit(said, context, used, fewest);
    }
    let said = if slots == 1 {
        said.means(
            "One slot fits wherever one is free. So the pool was full at the moment of the search and slots came back before the \
             message, or the slot had to be aligned: min_align_mask of the device, or the IOMMU's granule.",
        )
    } else {
        said.means("The free slots are not adjacent: the pool is fragmented.")
    };
    if is_restricted(context, total) {
        return restricted(said, context, total);
    }
    if let Some(said) = rising(said.clone(), context, total) {
        return said;
    }
    larger(said, context.machine, total, used.saturating_add(slots), "; it makes this rare, not impossible")
        .helps("Shorter mappings (dma_opt_mapping_size()) fit sooner.")
}

/// Fragmentation cannot explain it: what is left are alignment, boundaries and defects of the search.
fn no_fit(said: Said, context: Context<'_>, used: u64, fewest: u64) -> Said {
    let said = said.means(format!(
        "Size is not the problem: it takes at least {fewest} used slots to block every place, and only {used} were \
         in use. The slots had to be aligned or to keep within a boundary that the pool cannot give (min_align_mask, \
         the IOMMU's granule, the device's segment boundary), the search itself was at fault, or the pool was fuller \
         a moment before."
    ));
    regression(said, context.machine)
        .helps("If the newest release of this series does the same: look at the driver's dma_set_min_align_mask() and dma_set_seg_boundary().")
        .unknown("The device's min_align_mask and segment boundary are not in the log; `bouncescope doctor` shows the former.")
}

/// Defects of the slot search: 0eee5ae10256 (2023-03-22, in candidates of 6.3 and of the stable 6.1 and 6.2) until
/// bbb73a103fbb; and 04867a7a3332 (6.9, and 6.6.24, 6.7.12, 6.8.3), which took away "alignment requirements exceeding
/// `swiotlb_max_mapping_size()`" that kernels from 6.3 on made of large mappings.
fn regression(said: Said, machine: &Machine) -> Said {
    let lacks_later_fix = match machine.release {
        Some((6, 3..=5, _)) => true,
        Some((6, 6, patch)) => patch < 24,
        Some((6, 7, patch)) => patch < 12,
        Some((6, 8, patch)) => patch < 3,
        _ => false,
    };
    let release = machine.release_name().unwrap_or_default();
    if lacks_later_fix {
        return said
            .means(format!(
                "{release} has a known defect there: it requires an alignment of large mappings that no pool can \
                 provide. Commit 04867a7a3332 fixed it in 6.9, 6.8.3, 6.7.12 and 6.6.24."
            ))
            .helps("Update the kernel to one of those releases.");
    }
    match machine.is_at_least(6, 3) {
        Some(true) => said
            .means(format!("bouncescope knows of no regression in the search that {release} still has."))
            .helps("Update the kernel to the newest of its series, since distributions carry changes of their own."),
        _ => said
            .means(
                "A known regression does exactly this: commit 0eee5ae10256 (\"swiotlb: fix slot alignment checks\") \
                 without its fix bbb73a103fbb (both in 6.3). Candidates of 6.1.23 had the first alone and failed so \
                 with hv_storvsc; trees of distributions took it too. From 6.3 to 6.8 a second one is fixed by \
                 04867a7a3332 (6.9, 6.8.3, 6.7.12, 6.6.24).",
            )
            .helps("Update the kernel, or see whether its tree has the first of these commits without the second."),
    }
}

/// The fewest slots in use that keep `slots` out of every segment: one in each place where they could lie without
/// overlapping. From a page on they begin at pages (4 KiB) where nothing else is asked for.
fn fewest_that_block(size: u64, slots: u64, total: u64) -> u64 {
    let apart = if size >= 4096 { slots.next_multiple_of(2) } else { slots };
    (total / u64::from(SEGMENT_SLOTS)).saturating_mul(u64::from(SEGMENT_SLOTS) / apart.max(1))
}

/// A kernel that does not say how full: before 4.20, and "Out of SW-IOMMU space".
pub(super) fn without_fill(context: Context<'_>, size: u64) -> Said {
    if size > LARGEST {
        return never_fits(size, None, context.machine, false).of_size(size);
    }
    let said = Said::new(Kind::FullUnknown).of_size(size).means(format!(
        "A buffer of {size} bytes had to bounce ({}), and no free slots were found for it: the pool was full or \
         fragmented. The message is the older wording of \"swiotlb buffer is full … total, used\", and does not say \
         how full the pool was.",
        in_slots(size.div_ceil(SLOT).max(1))
    ));
    let said = match context.machine.present_pool() {
        Some(pool) => larger(said, context.machine, pool.slots(), 0, ""),
        None => said.helps(
            "If it was full, make the pool larger: swiotlb= with twice the slots of the boot line \"software IO TLB \
             … mapped\" (the default is 32768).",
        ),
    };
    said.helps(who_holds(context.machine))
        .unknown("How full it was: newer kernels print total and used, and /sys/kernel/debug/swiotlb shows io_tlb_nslabs and io_tlb_used.")
}

/// The phrase without figures, as people quote it.
pub(super) fn without_figures(_: Context<'_>) -> Said {
    Said::new(Kind::FullUnknown)
        .means(
            "A buffer had to bounce and no slots were found for it. That means one of four things: the pool was full; it had free slots, but not side by \
             side or not aligned; the mapping is longer than 256 KiB, which no pool gives; or there is no pool (\"total 0\").",
        )
        .means(
            "The figures show which one it is. The remedies differ: only in the first case does the size of the pool \
             matter.",
        )
        .unknown(
            "Paste the whole line with \"(sz: … bytes), total … (slots), used … (slots)\", all its repetitions, and the kernel's first lines: \
             Linux version, Kernel command line, software IO TLB. Best is all of dmesg.",
        )
}

/// `panic("DMA: Random memory could be DMA accessed")`, written or read: `swiotlb_full()` (`lib/swiotlb.c`, `kernel/dma/swiotlb.c`) up to 4.19.
pub(super) fn panicked() -> Said {
    Said::new(Kind::FullUnknown)
        .means(
            "This kernel panics if a single buffer of more than 32 KiB has to bounce and finds no slots, because drivers \
             of its time did not check whether a mapping failed. Newer kernels (4.20 on) report the failure to the driver.",
        )
        .means("Why no slots were found, the lines before it say: \"swiotlb buffer is full\", \"Out of SW-IOMMU space\".")
        .helps("Fix that failure, as described for those lines; a newer kernel does not panic with it.")
        .unknown("The device and the length, if those lines are not in the log: paste what comes before the panic.")
}
