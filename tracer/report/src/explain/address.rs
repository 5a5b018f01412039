//! "overflow": what an address is that the kernel says a device cannot reach. Memory out of reach, memory in reach that had to bounce for
//! its length, a device register, the address of a stack, or no address at all; and whether the bus shifts addresses.
//!
//! Mirrors `dma_direct_map_page()` / `dma_direct_map_phys()`, `dma_direct_map_resource()` and `dma_capable()` (`kernel/dma/direct.[ch]`,
//! `include/linux/dma-direct.h`), `swiotlb_map()` (`kernel/dma/swiotlb.c`), 5.10 to 7.3, and `report_addr()` of 5.0 to 5.9.

use bouncescope_capture::reach::{PoolPlace, Reach, ReachingDevice, Span, Window};
use bouncescope_model::pool::SEGMENT_SLOTS;
use tracer_ebpf::decide::{ARM64_DMA_MINALIGN, Decider, FROM_DEVICE};

use super::boot::{no_pool, with_no_pool_remedies};
use super::machine::{Architecture, Machine};
use super::message::{Message, Overflow};
use super::reading::Reading;
use super::words::LARGEST;
use super::{Context, Kind, Said};

/// `DMA_MAPPING_ERROR`: what `phys_to_dma()` gives for memory that no range of the bus translates.
const NO_TRANSLATION: u64 = u64::MAX;

impl Overflow {
    /// The last address that the device reaches: `min_not_zero()` of the two.
    fn limit(&self) -> u64 {
        match (self.mask, self.bus_limit) {
            (0, limit) | (limit, 0) => limit,
            (mask, bus) => mask.min(bus),
        }
    }

    fn last(&self) -> u64 {
        self.addr.saturating_add(self.size.saturating_sub(1))
    }

    fn is_reached(&self) -> bool {
        self.addr != NO_TRANSLATION && self.last() <= self.limit()
    }

    fn is_limited_by_bus(&self) -> bool {
        self.bus_limit != 0 && (self.mask == 0 || self.bus_limit < self.mask)
    }

    /// The device or the bus, whichever is narrower.
    fn who_limits(&self) -> &'static str {
        if self.is_limited_by_bus() { "the bus that the device is on (dma-ranges)" } else { "the device's DMA mask" }
    }

    /// The bus limit is the end of a window (`dma_range_map_max()`), not a number of address bits.
    fn has_window(&self) -> bool {
        self.bus_limit != 0 && !self.bus_limit.wrapping_add(1).is_power_of_two() && self.bus_limit != u64::MAX
    }

    /// Address bits that reach its end.
    fn bits(&self) -> u32 {
        u64::BITS - self.last().leading_zeros()
    }
}

/// A constant between physical and bus addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shift {
    /// Bus address = physical + this, or minus it.
    by: u64,
    up: bool,
}

impl Shift {
    fn formula(self) -> String {
        format!("bus address = physical address {} {:#x}", if self.up { '+' } else { '-' }, self.by)
    }

    fn physical(self, bus: u64) -> u64 {
        if self.up { bus.wrapping_sub(self.by) } else { bus.wrapping_add(self.by) }
    }
}

/// The roundest offset that puts a bus address into one of the ranges; `None` when it lies there already, or none fits.
fn shift_into(address: u64, ranges: &[Span]) -> Option<Shift> {
    /// Windows of buses begin at multiples of a MiB at least.
    const LEAST: u32 = 20;
    if ranges.iter().any(|range| range.contains(address)) {
        return None;
    }
    let roundest =
        |low: u64, high: u64| (LEAST..u64::BITS).rev().map(|bits| high >> bits << bits).find(|by| *by > 0 && *by > low);
    ranges.iter().find_map(|range| {
        if address >= range.end {
            roundest(address - range.end, address - range.start).map(|by| Shift { by, up: true })
        } else {
            roundest((range.start - address).saturating_sub(1), range.end - 1 - address)
                .map(|by| Shift { by, up: false })
        }
    })
}

/// The offset of a window that the log lists.
fn listed_shift(machine: &Machine, address: u64) -> Option<Shift> {
    let window = machine.windows.iter().find(|window| {
        let end = window.at.saturating_add(window.memory.size());
        (window.at..end).contains(&address) && window.at != window.memory.start
    })?;
    let up = window.at > window.memory.start;
    Some(Shift { by: window.at.abs_diff(window.memory.start), up })
}

/// Virtual addresses put through `virt_to_phys()`: on arm64 vmalloc memory and stacks lie half an address space above the linear map
/// (from 5.4 on), so that half of 2^52, 2^48, 2^47, 2^42 or 2^39 is added to where RAM begins.
fn virtual_bits(address: u64, machine: &Machine) -> Option<u32> {
    /// No arm64 or x86 board decodes RAM from here on in practice; below, what the log lists of memory decides.
    const NEVER_RAM: u32 = 46;
    if machine.memory.iter().any(|range| range.contains(address)) {
        return None;
    }
    let bits = u64::BITS - address.leading_zeros();
    let certain = bits > NEVER_RAM;
    let known = [39, 42, 47, 48, 52].contains(&bits)
        && !machine.memory.is_empty()
        && machine.architecture != Some(Architecture::X86);
    // Half of 2^39 is 256 GiB; the address is that and a little: where RAM lies, within 64 GiB.
    let near = address.saturating_sub(1u64 << bits.saturating_sub(1)) < 1 << 36;
    let plausible = bits == 39 && near && machine.architecture != Some(Architecture::X86);
    (certain || (known && near) || plausible).then_some(bits)
}

/// "DMA addr … overflow".
pub(super) fn overflow(context: Context<'_>, overflow: Overflow) -> Said {
    let machine = context.machine;
    let is_resource = context.group.functions.iter().any(|name| name.ends_with("map_resource"));
    let said = if overflow.addr == NO_TRANSLATION {
        if is_resource { register_without_translation() } else { no_translation(machine) }
    } else if is_resource {
        register(&overflow, machine)
    } else if let Some(bits) = virtual_bits(overflow.addr, machine) {
        no_address(&overflow, machine, bits)
    } else if let Some(pool) = machine.present_pool() {
        refused_with_a_pool(&overflow, pool)
    } else if overflow.is_reached() {
        reached(&overflow, machine)
    } else {
        out_of_reach(context, &overflow)
    };
    said.of_size(overflow.size)
}

const ONCE: &str = "The kernel says this once per boot; others like it fail silently.";

fn register_without_translation() -> Said {
    Said::new(Kind::Register)
        .means(
            "A device register (MMIO) was mapped for DMA with dma_map_resource(), such as the FIFO that a DMA engine serves, and none of the dma-ranges of \
             the engine's bus translates its address: what is printed is the error value.",
        )
        .means(format!("Registers are never bounced, so the pool does not matter. {ONCE}"))
        .helps("Add the registers to dma-ranges of that bus in the device tree, so that the engine's bus address of them is known.")
}

fn no_translation(machine: &Machine) -> Said {
    let said = Said::new(Kind::NoTranslation)
        .means(
            "None of the bus's dma-ranges translates the mapped address, so it has no DMA address at all. The mask \
             does not matter.",
        )
        .means(format!("It could only have bounced, and there is no active pool for this device. {ONCE}"))
        .helps(
            "Complete dma-ranges in the device tree: they must cover all RAM, or a pool must lie in what they cover.",
        );
    let said = if machine.asks_for("swiotlb", "noforce") { said.helps("Boot without swiotlb=noforce.") } else { said };
    said.unknown("Whether it is RAM or a register: paste the call trace (dma_map_resource in it means a register, and no pool helps).")
}

fn register(overflow: &Overflow, machine: &Machine) -> Said {
    let what = "dma_map_resource() in the call trace means a device register (MMIO), not memory. Registers are never bounced: neither the pool nor its \
                size matters.";
    let said = Said::new(Kind::Register).means(what);
    if !overflow.is_reached() {
        return said
            .means(format!(
                "The register ends at {:#x}, and {} ends at {:#x}: the DMA controller cannot reach it. {ONCE}",
                overflow.last(),
                overflow.who_limits(),
                overflow.limit()
            ))
            .helps(format!(
                "Correct the DMA controller's mask in its driver (dma_set_mask_and_coherent() with {} bits, if the hardware has them), or dma-ranges of its bus.",
                overflow.bits()
            ));
    }
    said.means(format!(
        "The register ends at {:#x}, in reach of {:#x}. So the check that failed is one for memory: this kernel \
         handled MMIO as if it were RAM, for which a short length on a non-coherent device has to bounce.",
        overflow.last(),
        overflow.limit()
    ))
    .helps(format!(
        "Update the kernel{}: released kernels with dma_map_phys() (6.18 on) test DMA_ATTR_MMIO first; trees on the way there did not.",
        machine.release_name().map_or_else(String::new, |name| format!(" ({name})"))
    ))
    .unknown("The release and tree, where the log lacks them: paste the first lines of dmesg.")
}

fn no_address(overflow: &Overflow, machine: &Machine, bits: u32) -> Said {
    let is_half = matches!(bits, 39 | 42 | 47 | 48 | 52)
        && !matches!(machine.architecture, Some(Architecture::X86 | Architecture::Riscv));
    Said::new(Kind::NoPhysicalAddress)
        .means(format!(
            "{:#x} is not a physical address of memory: it is what virt_to_phys() makes of a virtual address outside \
             the linear map{}. The driver mapped a buffer on the stack (stacks are vmalloc memory), a module's \
             variable, or vmalloc memory.",
            overflow.addr,
            if is_half {
                format!(" (half of the {bits}-bit address space added to where RAM begins)")
            } else {
                String::new()
            }
        ))
        .means(format!("It is a bug of the driver; the pool has nothing to do with it. {ONCE}"))
        .helps("Give the driver a buffer of its own from kmalloc(), or copy into one before mapping.")
        .helps("CONFIG_DMA_API_DEBUG=y names the caller (\"maps memory from stack\").")
}

fn refused_with_a_pool(overflow: &Overflow, pool: Span) -> Said {
    let reach = if overflow.is_reached() {
        format!("It ends at {:#x}, in reach of {:#x}.", overflow.last(), overflow.limit())
    } else {
        format!("It ends at {:#x}, and {} ends at {:#x}.", overflow.last(), overflow.who_limits(), overflow.limit())
    };
    Said::new(Kind::Register)
        .means(format!(
            "This boot made a pool ({:#x} to {:#x}), and memory out of reach would have bounced there. So it is most likely a device register (MMIO, \
             dma_map_resource()), which never bounces; from 7.2 on also a mapping with DMA_ATTR_REQUIRE_COHERENT. {reach}",
            pool.start, pool.end
        ))
        .helps(
            "If it is a register, correct the DMA controller's mask in its driver, or dma-ranges of its bus. The \
             pool does not matter.",
        )
        .unknown("What was mapped: paste the call trace after this line; dma_map_resource in it settles it.")
}

fn out_of_reach(context: Context<'_>, overflow: &Overflow) -> Said {
    let machine = context.machine;
    let mut said = Said::new(Kind::OutOfReach).means(format!(
        "The buffer ends at {:#x}, and {} ends at {:#x}: the device cannot reach it.",
        overflow.last(),
        overflow.who_limits(),
        overflow.limit()
    ));
    if let Some(shift) = listed_shift(machine, overflow.addr).or_else(|| shift_into(overflow.addr, &machine.memory)) {
        said = said.means(format!(
            "It is an address of the bus, with an offset: {}; the buffer's physical address is {:#x}.",
            shift.formula(),
            shift.physical(overflow.addr)
        ));
        // With the offset even address 0 is out of reach.
        if shift.up && shift.by > overflow.limit() {
            return said
                .means(format!(
                    "All memory has such an address there, so no pool is in reach either: a pool would not help. \
                     {ONCE}"
                ))
                .helps(mask_or_window(overflow));
        }
    } else if overflow.has_window() && machine.windows.iter().any(|window| is_unshifted(window, overflow)) {
        said = said.means(format!(
            "The bus limit {:#x} is the end of a window that the log lists (IB MEM, from dma-ranges). It has no \
             offset: the address is a physical one.",
            overflow.bus_limit
        ));
    } else if overflow.has_window() {
        said = said.means(format!(
            "The bus limit {:#x} is the end of a window (dma-ranges), so addresses here may have an offset to \
             physical ones.",
            overflow.bus_limit
        ));
    }
    if overflow.size > LARGEST {
        return too_long(said, overflow).means(ONCE);
    }
    said = said.means(format!(
        "It would have bounced, but there is no active pool for this device: {}. {ONCE}",
        no_pool(machine).why
    ));
    if machine.is_at_least(6, 5) == Some(false) || machine.architecture == Some(Architecture::X86) {
        return with_no_pool_remedies(said, machine);
    }
    with_no_pool_remedies(said, machine).helps(
        "If the device can reach more than that, its driver or the device tree declares too little: \
         dma_set_mask_and_coherent(), dma-ranges.",
    )
}

/// A buffer that no pool takes.
fn too_long(said: Said, overflow: &Overflow) -> Said {
    said.means(format!(
        "It could only bounce, and {} bytes never do: a mapping must lie in one segment of {SEGMENT_SLOTS} slots, {LARGEST} bytes. So no pool helps, \
         whatever its size.",
        overflow.size
    ))
    .helps(
        "Give the device memory that it reaches: a wider mask, if it has more address bits than its driver says \
         (dma_set_mask_and_coherent()), dma-ranges, an IOMMU, or memory from a lower zone (GFP_DMA32, CMA below the mask).",
    )
    .helps("Or the driver must map less at once (dma_max_mapping_size()).")
}

/// Whether a window that ends at the bus limit begins at the same address on both sides.
fn is_unshifted(window: &super::BusWindow, overflow: &Overflow) -> bool {
    window.at == window.memory.start && window.memory.end.checked_sub(1) == Some(overflow.bus_limit)
}

/// In reach: what else makes a buffer bounce on this path.
fn reached(overflow: &Overflow, machine: &Machine) -> Said {
    let lines = lines_that_bounce(overflow.size, machine);
    let in_reach = format!(
        "\"overflow\" misleads: the buffer ends at {:#x}, and the device reaches up to {:#x}.",
        overflow.last(),
        overflow.limit()
    );
    let ask = "Whether this was a buffer. If the log has a call trace with dma_map_resource in it, it was a register.";
    if machine.architecture == Some(Architecture::X86) {
        return Said::new(Kind::OutOfReach)
            .means(in_reach)
            .means(
                "x86 bounces nothing for its length. What is left: a register (dma_map_resource()) where everything must \
                 bounce (swiotlb=force), or memory that the device may not see (an encrypted guest without a pool).",
            )
            .helps("Without swiotlb=force and outside an encrypted guest this cannot happen.")
            .unknown(ask);
    }
    if lines.is_empty() {
        return Said::new(Kind::OutOfReach)
            .means(in_reach)
            .means(format!(
                "{} bytes do not bounce for kmalloc's alignment either, whatever the line size. What is left: a register (DMA_ATTR_MMIO) where \
                 everything must bounce (swiotlb=force), or memory that the device may not see (confidential computing).",
                overflow.size
            ))
            .helps("Without swiotlb=force and outside a confidential guest this cannot happen.")
            .unknown(ask);
    }
    let lines = lines.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let said = Said::new(Kind::UnalignedWithoutPool)
        .means(in_reach)
        .means(format!(
            "Since 6.5 (riscv: 6.6) the same words are printed when a buffer has to bounce because it may be a small kmalloc object that shares a \
             cache line, and there is no pool. {} bytes, not only read by the device, bounce with cache lines of {lines} bytes when \
             kmalloc's caches begin below that.",
            overflow.size
        ))
        .means(format!(
            "There should be no such caches without a pool: kmalloc's caches were built for shorter lines than the firmware described \
             later (a device tree or PPTT with lines longer than CTR_EL0.CWG says), or the pool vanished after boot. The pool: {}.",
            no_pool(machine).why
        ));
    let said = match machine.is_at_least(6, 5) {
        Some(false) => {
            said.means("The release in this log is older than 6.5: only a tree with that change backported does it.")
        }
        _ => said,
    };
    let said = if machine.pool_failed || machine.pool_given_up {
        no_pool(machine).helps.into_iter().fold(said, Said::helps)
    } else {
        said.helps("Boot with a pool: without swiotlb=noforce. A small buffer takes one slot of 2 KiB.")
    };
    said.helps("Or make the firmware describe the lines as CTR_EL0.CWG does; `bouncescope doctor` shows both.")
        .unknown(ask)
}

/// Line sizes with which so many bytes bounce when caches begin at 8.
fn lines_that_bounce(size: u64, machine: &Machine) -> Vec<u32> {
    /// `ARCH_DMA_MINALIGN` of riscv (`arch/riscv/include/asm/cache.h`).
    const RISCV_DMA_MINALIGN: u32 = 64;
    let is_riscv = machine.architecture == Some(Architecture::Riscv);
    let dma_minalign = if is_riscv { RISCV_DMA_MINALIGN } else { ARM64_DMA_MINALIGN };
    let bounces = |line: &u32| {
        let decider = Decider { bounce_unaligned: 1, cache_line_size: *line, minalign: 8, dma_minalign };
        decider.needs_bounce(false, FROM_DEVICE, size)
    };
    [32, 64, 128, 256].into_iter().filter(bounces).collect()
}

/// "swiotlb addr … overflow": a slot was found, and the device cannot reach it.
pub(super) fn pool_overflow(context: Context<'_>, overflow: Overflow) -> Said {
    let machine = context.machine;
    let said = Said::new(Kind::PoolOutOfReach).of_size(overflow.size).means(format!(
        "The buffer was bounced, and the slot it got ends at {:#x}, beyond {:#x}, where {} ends: the pool itself is out of the \
         device's reach. Its size does not matter.",
        overflow.last(),
        overflow.limit(),
        overflow.who_limits()
    ));
    let pool = machine.present_pool();
    let shift = listed_shift(machine, overflow.addr).or_else(|| shift_into(overflow.addr, pool.as_slice()));
    if let Some(shift) = shift {
        return shifted_pool(said, &overflow, shift);
    }
    let is_unshifted = pool.is_some_and(|pool| pool.contains(overflow.addr));
    if !is_unshifted && (overflow.has_window() || overflow.addr > u64::from(u32::MAX)) {
        return said
            .means(
                "Pools are made in low memory, so this is most likely a bus address with an offset (dma-ranges): \
                 then the pool is as low as it can be, and the device's mask is what does not fit.",
            )
            .helps(mask_or_window(&overflow))
            .unknown("Where the pool lies (\"software IO TLB: mapped [mem …]\") and the bus's windows (IB MEM, dma-ranges): paste those lines.");
    }
    if machine.architecture == Some(Architecture::X86) {
        return said
            .means(
                "x86 makes the pool anywhere below 4 GiB, and has no way to place it lower. A device with fewer than 32 \
                 address bits is served only if its driver allocates from low memory (GFP_DMA).",
            )
            .helps(
                "Use an IOMMU (intel_iommu=on, or AMD's), which gives the device addresses that it reaches; or a driver \
                 that allocates with GFP_DMA. As a test, mem=1G keeps all memory in reach of 30 bits.",
            )
            .helps("Or the device's mask is set too small: dma_set_mask_and_coherent() in its driver.");
    }
    said.helps(
        "The pool must lie lower: CONFIG_ZONE_DMA with a limit that suits the device (dma-ranges of the narrowest bus), no \
         disable_dma32, or a pool of its own for this device (restricted-dma-pool in the device tree).",
    )
    .helps("Or the device's mask is set too small: dma_set_mask_and_coherent() in its driver.")
}

fn shifted_pool(said: Said, overflow: &Overflow, shift: Shift) -> Said {
    let said = said.means(format!(
        "This bus has an offset: {}. The slot lies at the physical address {:#x}; it only has a high address on the bus, and another place in memory would not \
         help.",
        shift.formula(),
        shift.physical(overflow.addr)
    ));
    said.helps(mask_or_window(overflow))
}

fn mask_or_window(overflow: &Overflow) -> String {
    if overflow.is_limited_by_bus() {
        return "The window of the bus (dma-ranges, inbound window of the host bridge) must cover the pool.".to_owned();
    }
    format!(
        "The device's mask needs {} bits for such addresses (dma_set_mask_and_coherent() in its driver, if the hardware has them); or its bus needs a window \
         at 0 (dma-ranges, or the firmware's inbound window of the host bridge).",
        overflow.bits()
    )
}

/// `report_addr()` of 5.0 to 5.9, behind a mapping that failed: why it had to bounce.
pub(super) fn old_overflow(context: Context<'_>, overflow: Overflow) -> Said {
    let above = if overflow.last() > u64::from(u32::MAX) { ", above 4 GiB" } else { "" };
    let said = Said::new(Kind::OutOfReach).of_size(overflow.size).means(format!(
        "This says why the buffer had to bounce: it ends at {:#x}{above}, and {} ends at {:#x} ({} bits).",
        overflow.last(),
        overflow.who_limits(),
        overflow.limit(),
        u64::BITS - overflow.limit().leading_zeros()
    ));
    let device = context.group.device.as_ref();
    let full = |group: &super::Group| {
        group.boot == context.group.boot
            && group.device.as_ref() == device
            && matches!(group.message, Message::Full { .. } | Message::FullWithoutFill { .. })
    };
    if context.reading.groups.iter().any(full) {
        return said
            .means("It is printed (up to 5.9) when the bounce failed; the line \"swiotlb buffer is full\" of the same device says how.")
            .helps("A wider mask, if the device has more address bits than its driver says, makes the bounce unnecessary.");
    }
    if overflow.size > LARGEST {
        return too_long(said, &overflow);
    }
    let said = said.means(format!(
        "It is printed (up to 5.9) when the bounce failed: no pool ({}), a full one, or one out of reach.",
        no_pool(context.machine).why
    ));
    with_no_pool_remedies(said, context.machine)
}

/// -ENOMEM of a driver's setup, where a bus window explains it; by itself it says nothing of bouncing.
pub(super) fn setup_failed(context: Context<'_>) -> Option<Said> {
    let window = context.machine.windows.iter().find(|window| window.at > u64::from(u32::MAX))?;
    let last = window.at.saturating_add(window.memory.size().saturating_sub(1));
    Some(
        Said::new(Kind::BusWindow)
            .means(format!(
                "-ENOMEM without a line of swiotlb: memory appears on the bus of {} only from {:#x} on (its inbound \
                 window has an offset), beyond a mask of 32 bits. Coherent memory for a device with such a mask \
                 cannot be allocated there, and bouncing would not help either.",
                window.bus, window.at
            ))
            .helps(format!(
                "The driver must set a mask of {} bits before it allocates, if the hardware has them; or the firmware or device tree must give the bus a window at 0 \
                 (dma-ranges).",
                u64::BITS - last.leading_zeros()
            ))
            .unknown("The device's mask: `bouncescope doctor --reach` on the machine shows it beside the windows."),
    )
}

/// How far the devices of a boot's messages reach; `None` where the log lists no memory, or says nothing of a device's limits.
pub(super) fn reach(reading: &Reading, boot: usize) -> Option<Reach> {
    let machine = &reading.boots[boot];
    let mut devices: Vec<ReachingDevice> = Vec::new();
    for group in reading.groups.iter().filter(|group| group.boot == boot) {
        let (Message::Overflow(overflow) | Message::PoolOverflow(overflow) | Message::OldOverflow(overflow)) =
            &group.message
        else {
            continue;
        };
        let Some(name) = group.device.clone().filter(|name| devices.iter().all(|known| known.name != *name)) else {
            continue;
        };
        let in_pool = matches!(group.message, Message::PoolOverflow(_));
        let Some(windows) = windows_of(machine, &name, overflow, in_pool) else { continue };
        devices.push(ReachingDevice {
            name,
            mask: Some(overflow.mask),
            bus_limit: Some(overflow.bus_limit).filter(|limit| *limit > 0),
            windows,
            ..ReachingDevice::default()
        });
    }
    if machine.memory.is_empty() || devices.is_empty() {
        return None;
    }
    let pools = machine.present_pool().map(|pool| PoolPlace { name: "default".to_owned(), place: pool });
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    // "DMA addr" says itself that there is no active pool.
    let is_refused = |group: &super::Group| group.boot == boot && matches!(group.message, Message::Overflow(_));
    let is_pool_known =
        pools.is_some() || machine.asks_for("swiotlb", "noforce") || reading.groups.iter().any(is_refused);
    let notes = vec!["devices without such a message, IOMMUs and restricted pools: `bouncescope doctor --reach` on the machine has them".to_owned()];
    Some(Reach { memory: machine.memory.clone(), pools: pools.into_iter().collect(), is_pool_known, devices, notes })
}

/// Windows of a device's bus: those that the log lists, for PCI; else one with the offset that the addresses show. `None` where there is one that nothing shows.
fn windows_of(machine: &Machine, device: &str, overflow: &Overflow, in_pool: bool) -> Option<Vec<Window>> {
    let is_pci = device.matches(':').count() == 2;
    if is_pci && !machine.windows.is_empty() {
        let window = |window: &super::BusWindow| Window { memory: window.memory, bus: window.at };
        return Some(machine.windows.iter().map(window).collect());
    }
    if overflow.addr == NO_TRANSLATION {
        return None;
    }
    let pool = machine.present_pool();
    match shift_into(overflow.addr, if in_pool { pool.as_slice() } else { machine.memory.as_slice() }) {
        Some(shift) if shift.up => {
            let size = overflow.bus_limit.checked_sub(shift.by)?.saturating_add(1);
            Some(vec![Window { memory: Span { start: 0, end: size }, bus: shift.by }])
        }
        Some(shift) => Some(vec![Window {
            memory: Span { start: shift.by, end: shift.by.saturating_add(overflow.bus_limit).saturating_add(1) },
            bus: 0,
        }]),
        None if overflow.has_window() => None,
        None => Some(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roundest_offset_into_the_pool_is_taken() {
        let pool = [Span { start: 0x1700_0000, end: 0x1b00_0000 }];
        assert_eq!(shift_into(0x4_19d4_4000, &pool), Some(Shift { by: 0x4_0000_0000, up: true }));
        assert_eq!(shift_into(0x1800_0000, &pool), None);
        let high = [Span { start: 0x8_3be3_8000, end: 0x8_3fe3_8000 }];
        assert_eq!(shift_into(0x3c00_0000, &high), Some(Shift { by: 0x8_0000_0000, up: false }));
    }

    #[test]
    fn shifts_of_extreme_addresses_are_none_or_some_without_panic() {
        for address in [0, 1, u64::MAX, 1 << 63] {
            for range in [
                Span { start: 0, end: u64::MAX },
                Span { start: u64::MAX - 1, end: u64::MAX },
                Span { start: 1, end: 2 },
            ] {
                shift_into(address, &[range]);
            }
        }
    }

    #[test]
    fn addresses_of_stacks_are_recognised_by_half_an_address_space() {
        let mut machine = Machine { architecture: Some(Architecture::Arm64), ..Machine::default() };
        assert_eq!(virtual_bits(0x8000_52a4_b954, &machine), Some(48));
        assert_eq!(virtual_bits(0x40_1234_5000, &machine), Some(39));
        assert_eq!(virtual_bits(0x1_1234_5000, &machine), None);
        machine.memory.push(Span { start: 0x40_0000_0000, end: 0x41_0000_0000 });
        assert_eq!(virtual_bits(0x40_1234_5000, &machine), None);
    }
}
