//! What is said at boot: the pool, its areas and size, why there is none, restricted pools, and lines longer than kmalloc's alignment.
//!
//! Mirrors `swiotlb_init_remap()`, `swiotlb_init_late()`, `swiotlb_exit()`, `swiotlb_print_info()`, `swiotlb_adjust_size()`,
//! `swiotlb_adjust_nareas()`, `rmem_swiotlb_setup()`, `rmem_swiotlb_device_init()` (`kernel/dma/swiotlb.c`), `mem_init()` of arm64,
//! `pci_swiotlb_detect()` and `mem_encrypt_setup_arch()` of x86, and `arch_setup_dma_ops()` of arm64, 5.10 to 7.3.

use super::machine::{Architecture, Machine, Restricted};
use super::message::{Message, bytes_of};
use super::words::{LARGEST, amount, slots_amount};
use super::{Context, Kind, Said};
use bouncescope_capture::reach::Span;
use bouncescope_model::pool::{SEGMENT_SLOTS, SLOT};

/// Why a boot has no pool, and what makes one.
pub(super) struct NoPool {
    pub(super) why: String,
    pub(super) helps: Vec<String>,
}

/// Why there is no pool, as far as the log says: what the command line, the boot lines, the release and the architecture's rules give.
pub(super) fn no_pool(machine: &Machine) -> NoPool {
    let one = |why: &str, helps: &str| NoPool { why: why.to_owned(), helps: vec![helps.to_owned()] };
    let is_x86 = machine.architecture == Some(Architecture::X86);
    let is_riscv = machine.architecture == Some(Architecture::Riscv);
    if machine.asks_for("swiotlb", "noforce") {
        return one("this kernel was booted with swiotlb=noforce", "Boot without swiotlb=noforce.");
    }
    if is_x86 && machine.asks_for("iommu", "off") {
        return one(
            "on x86 iommu=off takes the pool away together with the IOMMU",
            "Boot without iommu=off; iommu=soft keeps the pool where the hardware's IOMMU is not wanted.",
        );
    }
    if machine.pool_given_up {
        return one(
            "it was made and then given up (\"tearing down default memory pool\")",
            "With AMD's IOMMU iommu=pt keeps it on older kernels; on 6.1 and later the drivers of IOMMUs do not switch it off any more.",
        );
    }
    if machine.pool_failed {
        let why = "contiguous low memory for it was not available at boot";
        if is_smallest(machine.smallest_failed) {
            return one(why, "Reserve less low memory (crashkernel=, cma=): not even the smallest pool fitted.");
        }
        if let Some(slots) = fitting(machine) {
            return one(
                why,
                &format!(
                    "Ask for a smaller pool, swiotlb={slots} ({}), or less until it fits. A pool of a few MiB would be made more easily, but everything \
                     bounces in this guest.",
                    slots_amount(slots)
                ),
            );
        }
        return one(
            why,
            "Ask for a smaller pool, swiotlb=512 (1 MiB; the kernel rounds up), or reserve less low memory \
             (crashkernel=, cma=).",
        );
    }
    if is_x86 {
        return one(
            "x86 makes one only where memory reaches beyond 4 GiB, with memory encryption, or when asked to",
            "iommu=soft makes one with less memory; for a mask below 32 bits also see that the pool lies low enough.",
        );
    }
    // riscv always makes one from 6.10 on (`arch/riscv/mm/init.c`), arm64 from 6.5 on.
    let (name, is_old) = if is_riscv {
        ("6.10 riscv", machine.is_at_least(6, 10) == Some(false))
    } else {
        ("6.5 arm64", machine.is_at_least(6, 5) == Some(false))
    };
    if is_old {
        let helps = vec![
            "First fix what makes the buffer unreachable: the driver's DMA mask (dma_set_mask_and_coherent()), or \
             dma-ranges in the device tree. The end of ZONE_DMA, and so the place of the pool, follows from \
             dma-ranges."
                .to_owned(),
            "A number of slots alone makes no pool there. swiotlb=force makes one, but then everything bounces: for a test only.".to_owned(),
        ];
        let x86 = if machine.architecture.is_none() { " (x86: beyond 4 GiB)" } else { "" };
        let why = format!(
            "before {name} makes one only where memory reaches beyond what its DMA zones cover, which was not the \
             case here, as far as the kernel knew{x86}"
        );
        return NoPool { why, helps };
    }
    let helps = "Boot without swiotlb=noforce; if that is not it, the lines \"software IO TLB: …\" at the beginning of the log say why it was not made.";
    match &machine.command_line {
        Some(_) => one(
            "the command line does not switch it off: the kernel made none, or could not",
            "See why it was not made: \"software IO TLB: …\" at the beginning of the log.",
        ),
        None => one("booted with swiotlb=noforce, or the kernel made none, or could not", helps),
    }
}

/// Adds the remedies of [`no_pool`], and asks for what would tell.
pub(super) fn with_no_pool_remedies(mut said: Said, machine: &Machine) -> Said {
    said.helps.extend(no_pool(machine).helps);
    if machine.command_line.is_none() || machine.release.is_none() {
        said = said.unknown("Release and command line: paste the kernel's first lines (Linux version, Kernel command line, software IO TLB).");
    }
    said
}

/// "total 0 (slots)".
pub(super) fn no_pool_at_all(context: Context<'_>) -> Said {
    let said = Said::new(Kind::NoPool)
        .means(format!("There is no pool at all ({}), and this buffer had to bounce.", no_pool(context.machine).why));
    with_no_pool_remedies(said, context.machine)
}

/// "Can not allocate SWIOTLB buffer earlier and can't now provide you with the DMA bounce buffer".
pub(super) fn missing(context: Context<'_>) -> Said {
    let fatal = match context.machine.is_at_least(6, 0) {
        Some(true) => "The mapping failed.",
        Some(false) => "This kernel panics with it.",
        None => "The mapping failed; kernels before 6.0 panic instead.",
    };
    let why = no_pool(context.machine).why;
    let said = Said::new(Kind::NoPool).means(format!("A buffer had to bounce, and there is no pool: {why}. {fatal}"));
    with_no_pool_remedies(said, context.machine)
}

/// "Cannot allocate SWIOTLB buffer" (5.10), "No low mem".
pub(super) fn not_made(context: Context<'_>) -> Said {
    let machine = context.machine;
    let consequence = "Mappings that have to bounce fail. On arm64 from 6.5 on, the kmalloc caches then begin at the line size, so \
         small buffers need not bounce.";
    if machine.asks_for("swiotlb", "noforce") {
        return Said::new(Kind::PoolNotMade)
            .means(format!("There is no pool, as swiotlb=noforce on the command line asks; memory was not looked for. {consequence}"))
            .helps(
                "Nothing is needed, unless you want the memory that smaller caches save; in that case, drop \
                 swiotlb=noforce.",
            );
    }
    if machine.command_line.is_none() && !context.has(|message| matches!(message, Message::Failed { .. })) {
        return Said::new(Kind::PoolNotMade)
            .means(format!(
                "There is no pool. The same line is printed in two cases: swiotlb=noforce asked for none, or there was no contiguous low memory for it. {consequence}"
            ))
            .helps("If swiotlb=noforce is on the command line (/proc/cmdline) and a pool is wanted, drop it.")
            .helps(
                "Otherwise, ask for a smaller pool, swiotlb=512 (1 MiB; the kernel rounds up to 128 slots for each \
                 CPU), or reserve less low memory.",
            )
            .unknown("The command line: paste the kernel's first lines, with \"Failed to allocate\" among them if memory was short.");
    }
    memory_was_short(Said::new(Kind::PoolNotMade), machine, machine.smallest_failed)
}

/// Slots to ask for in a guest whose memory is encrypted, where the pool that was wanted did not fit: a quarter of it.
fn fitting(machine: &Machine) -> Option<u64> {
    let failed = machine.smallest_failed.filter(|_| machine.is_encrypted_guest)?;
    (failed >= 64 << 20).then_some(failed / 4 / SLOT)
}

/// Whether no smaller pool can be asked for: `IO_TLB_MIN_SLABS` are 1 MiB.
fn is_smallest(failed: Option<u64>) -> bool {
    failed.is_some_and(|bytes| bytes <= 1 << 20)
}

fn memory_was_short(said: Said, machine: &Machine, failed: Option<u64>) -> Said {
    let arm64 = if machine.architecture == Some(Architecture::X86) || machine.is_at_least(6, 5) == Some(false) {
        ""
    } else {
        " On arm64 from 6.5 on, the kmalloc caches begin at the line size, which loses the memory that small caches save."
    };
    let said = said.means(format!(
        "There was no contiguous memory for the pool within reach of devices with narrow DMA masks. Mappings that \
         have to bounce later fail.{arm64}"
    ));
    if let Some(slots) = fitting(machine) {
        return said
            .means("Everything that this guest maps bounces, so without a pool no device works.")
            .helps(format!("Ask for a smaller pool: swiotlb={slots} ({}), or less until it fits.", slots_amount(slots)))
            .helps("Reserve less low memory: crashkernel=, cma=.");
    }
    let said = if is_smallest(failed) {
        said.means("Not even the smallest pool fitted, so asking for another size does not help.")
    } else {
        said.helps("Ask for a smaller pool: swiotlb=512 (1 MiB; the kernel rounds up to 128 slots for each CPU).")
    };
    said.helps("Reserve less low memory: crashkernel=, cma=, reserved-memory nodes below 4 GiB.")
}

/// `swiotlb_memblock_alloc: Failed to allocate %zu bytes tlb structure`: one attempt; half of it is tried next, down to 1 MiB.
pub(super) fn failed(context: Context<'_>, bytes: Option<u64>) -> Said {
    let wanted = bytes.map_or_else(
        || "contiguous memory of the size wanted".to_owned(),
        |bytes| format!("{} of contiguous memory", amount(bytes)),
    );
    let said = Said::new(Kind::PoolNotMade);
    match context.machine.present_pool() {
        Some(pool) => said.means(format!(
            "One attempt failed: {wanted} was not available. The kernel then tried half of that, and in this way \
             made a pool of {} ({} slots): the pool exists, but is smaller.",
            amount(bytes_of(pool)),
            pool.slots()
        )),
        None => match context.find(|message| matches!(message, Message::Halved { .. })).map(|group| &group.message) {
            Some(Message::Halved { to, .. }) => said.means(format!(
                "One attempt failed: {wanted} was not available. A smaller pool was made, of {to} slots ({}).",
                slots_amount(*to)
            )),
            _ if bytes > context.machine.smallest_failed => said.means(format!(
                "One attempt failed: {wanted} was not available. The next is for half of that, see below."
            )),
            _ if is_smallest(bytes) => {
                memory_was_short(said.means(format!("{wanted} was not available.")), context.machine, bytes)
            }
            _ => memory_was_short(
                said.means(format!("{wanted} was not available; the kernel tries halves of that, down to 1 MiB.")),
                context.machine,
                bytes,
            ),
        },
    }
}

/// "mapped [mem %pa-%pa] (%luMB)".
pub(super) fn mapped(context: Context<'_>, pool: Span) -> Said {
    let slots = pool.slots();
    let is_x86 = context.machine.architecture == Some(Architecture::X86);
    let place = if pool.end <= 1 << 32 {
        "below 4 GiB, where devices with 32 address bits reach it"
    } else if context.machine.is_above_4_gib() {
        "above 4 GiB, as all memory of this machine is (its zone DMA32 is empty): devices reach it where their bus shifts addresses (dma-ranges), \
         with whatever mask covers the shifted ones"
    } else if is_x86 {
        "not wholly below 4 GiB: devices with 32 address bits cannot reach it; released kernels of x86 make it below"
    } else {
        "not wholly below 4 GiB: devices with 32 address bits reach it only through a bus that shifts addresses (dma-ranges)"
    };
    let said = Said::new(Kind::Pool).means(format!(
        "The pool: {slots} slots of 2 KiB ({}), {place}. It holds {slots} small buffers at once, or {} behind an \
         IOMMU with 4 KiB granules. No single mapping can exceed {LARGEST} bytes.",
        amount(slots * SLOT),
        slots / 2
    ));
    let said = if context.machine.pool_given_up {
        said.means("It was given up later in this boot, so nothing can bounce any more.")
    } else {
        said
    };
    if pool.end <= 1 << 32 || is_x86 || context.machine.is_above_4_gib() {
        return said;
    }
    said.helps(
        "If a device with a 32-bit mask on a bus without an offset has to bounce, use a kernel with ZONE_DMA32, \
         booted without disable_dma32=on.",
    )
    .unknown("Whether such a device is there: its mask and dma-ranges; `bouncescope doctor --reach` lists them.")
}

/// "area num %d".
pub(super) fn areas(areas: u64) -> Said {
    Said::new(Kind::Areas).means(format!(
        "The pool has {areas} areas, each with a lock of its own: one for each possible CPU, rounded up to a power \
         of two, unless swiotlb=SLOTS,AREAS asked for others. A CPU begins its search in its own area and then tries \
         the others, so areas do not reduce what the pool can hold. Each has at least {SEGMENT_SLOTS} slots: no pool \
         is smaller than {}.",
        amount(areas.saturating_mul(u64::from(SEGMENT_SLOTS) * SLOT))
    ))
}

/// What a size of 0 MiB is.
fn below_a_mib(context: Context<'_>) -> String {
    match context.machine.pool {
        Some(pool) if bytes_of(pool) < 1 << 20 => {
            format!(
                "The kernel prints less than 1 MiB as 0 MB; the pool that was made has {} ({} slots).",
                amount(bytes_of(pool)),
                pool.slots()
            )
        }
        _ => "The kernel prints less than 1 MiB as 0 MB.".to_owned(),
    }
}

/// "adjusted to %luMB": `swiotlb_adjust_size()`, for more or for less than the default of 64 MiB.
pub(super) fn adjusted(context: Context<'_>, mib: u64) -> Said {
    let said = Said::new(Kind::Resized);
    let unchanged = "The kernel keeps the size given by swiotlb=SLOTS, unless that is exactly the default size.";
    let small = "because no device of this machine needs it to reach memory. On arm64 since 6.7 (riscv since 6.10), such a machine gets \
                 1 MiB for each GiB of memory, for small kmalloc buffers alone.";
    if mib == 0 {
        let size = below_a_mib(context);
        return said.means(format!("The default pool was made smaller, {small} {size} {unchanged}"));
    }
    if mib > 64 {
        return said.means(format!(
            "The default pool was enlarged to {mib} MiB, more than the 64 MiB of other machines: with memory encryption all DMA bounces, and x86 takes 6 % of \
             memory for it, 64 MiB to 1 GiB. {unchanged}"
        ));
    }
    let said = said.means(format!("The default pool was reduced to {mib} MiB, {small} {unchanged}"));
    match context.find(|message| matches!(message, Message::Halved { .. })).map(|group| &group.message) {
        Some(Message::Halved { to, .. }) => said.means(format!(
            "Even that much memory was not available: only {} were made, see below.",
            slots_amount(*to)
        )),
        _ => said,
    }
}

/// "roundup to %luMB".
pub(super) fn rounded(context: Context<'_>, mib: u64) -> Said {
    let size = if mib == 0 { below_a_mib(context) } else { format!("It became {mib} MiB.") };
    Said::new(Kind::Resized).means(format!(
        "The pool was rounded up: to a power of two, and to 128 slots for each area. {size} A swiotlb= below that \
         size changes nothing. Fewer areas make a smaller pool possible: swiotlb=SLOTS,1."
    ))
}

/// "adjusted %lu -> %lu slabs".
pub(super) fn halved(context: Context<'_>, from: u64, to: u64) -> Said {
    let made = if context.machine.present_pool().is_some_and(|pool| pool.slots() == to) {
        ", and that pool was made"
    } else {
        ""
    };
    Said::new(Kind::Resized)
        .means(format!(
            "Contiguous memory for {from} slots ({}) was not available at boot; the kernel halved the pool until it \
             fitted: {to} slots ({}){made}.",
            slots_amount(from),
            slots_amount(to)
        ))
        .helps("If mappings find the pool full, reserve less low memory (crashkernel=, cma=, reserved-memory).")
}

/// "only able to allocate %ld MB": `swiotlb_init_late()`.
pub(super) fn late(context: Context<'_>, mib: u64) -> Said {
    let size = if mib == 0 { "less than 1 MiB".to_owned() } else { format!("{mib} MiB") };
    let said = Said::new(Kind::Resized).means(format!(
        "A pool that is made late, from the page allocator, gets at most what one free block gives: here {size}, less than was wanted."
    ));
    if context.machine.pool_given_up {
        return said.means("It was given up again a moment later, so its size does not matter.");
    }
    said.helps(
        "If mappings find it full, have it made early, where the platform can, or use CONFIG_SWIOTLB_DYNAMIC=y from \
         6.6 on.",
    )
}

/// "tearing down default memory pool": `swiotlb_exit()`, which `amd_iommu_init_dma_ops()` had called (`drivers/iommu/amd/iommu.c`) before 6.1.
pub(super) fn given_up(context: Context<'_>) -> Said {
    let size = match (
        context.machine.pool,
        context.find(|message| matches!(message, Message::LateSmall { .. })).map(|group| &group.message),
    ) {
        (Some(pool), _) => format!(" of {}", amount(bytes_of(pool))),
        (None, Some(Message::LateSmall { mib })) => format!(" of {mib} MiB"),
        _ => String::new(),
    };
    Said::new(Kind::PoolGivenUp)
        .means(format!(
            "The pool{size} was given up and its memory released, because an IOMMU took over or the kernel assumed \
             that nothing needs bouncing. On older kernels, AMD's IOMMU driver causes this unless it is in \
             pass-through mode; in 6.1 and 6.12 no IOMMU driver of x86 does. This is normal, unless a later message \
             reports that there is no pool."
        ))
        .unknown(
            "Whether a device has to bounce anyway: later messages would say so. In that case, iommu=pt with AMD's \
             driver keeps the pool.",
        )
}

/// "created restricted DMA pool at %pa, size %ld MiB".
pub(super) fn restricted(context: Context<'_>, pool: Restricted) -> Said {
    let slots = pool.mib.saturating_mul((1 << 20) / SLOT);
    let devices = match context.machine.assigned_at(pool.start) {
        none if none.is_empty() => {
            "The line does not say which devices use it: those whose memory-region points to the node.".to_owned()
        }
        devices => format!("By the lines \"assigned reserved memory node\", its devices are {}.", devices.join(", ")),
    };
    Said::new(Kind::RestrictedPool).means(format!(
        "A restricted-dma-pool of {slots} slots ({} MiB): everything that its devices map bounces, and their \
         coherent allocations come from it too. The pool has one area and never grows. When it is full, the message \
         says \"total {slots}\". swiotlb= does not change its size; only the node in reserved-memory does. {devices}",
        pool.mib
    ))
}

/// "Restricted DMA pool must be accessible within the linear mapping".
pub(super) fn outside_linear_map() -> Said {
    Said::new(Kind::RestrictedPoolFailed)
        .means(
            "The device's restricted pool lies outside the kernel's linear map (in high memory, or beyond what mem= \
             leaves), so the kernel refused it. The device has no restricted pool, and maps through the default pool \
             or not at all.",
        )
        .helps("Move the restricted-dma-pool node of reserved-memory into RAM that the kernel maps, without no-map, below mem= if that is given.")
        .unknown("Where the node lies and what RAM there is: the reserved-memory node, and \"Early memory node ranges\" of the boot.")
}

/// `failed to initialise "restricted-dma-pool" memory node` (`of_dma_set_restricted_buffer()`, `drivers/of/device.c`).
pub(super) fn restricted_failed(context: Context<'_>) -> Said {
    let said = Said::new(Kind::RestrictedPoolFailed)
        .means("The device has no restricted pool, although its node names one, so nothing isolates the device.");
    if context.has(|message| *message == Message::RestrictedOutsideLinearMap) {
        return said.means("The line before says why: it lies outside the linear map.");
    }
    said.helps("Look at the node: compatible = \"restricted-dma-pool\" without reusable, no-map, linux,cma-default or linux,dma-default, and CONFIG_DMA_RESTRICTED_POOL=y.")
}

/// "Failed to allocate new pool": `swiotlb_dyn_alloc()`.
pub(super) fn not_grown() -> Said {
    Said::new(Kind::NotGrown)
        .means(
            "The pool should have grown (CONFIG_SWIOTLB_DYNAMIC), but there was no contiguous memory that its \
             devices can reach. Mappings continue with small pools made for each of them (\"transient\"), and fail \
             if even those cannot be made.",
        )
        .helps(
            "Make a larger pool at boot, before memory is fragmented: swiotlb= with the value of \
             /sys/kernel/debug/swiotlb/io_tlb_used_hiwater, rounded up.",
        )
}

/// "Memory encryption is active and system is using DMA bounce buffers".
pub(super) fn encryption() -> Said {
    Said::new(Kind::MemoryEncryption)
        .means(
            "Guest memory is encrypted (SEV, TDX, or SME on the host), so devices cannot read it: in a guest, \
             everything that is mapped bounces. The message is printed once, and is not an error.",
        )
        .means(
            "The pool must hold all DMA that is in flight at once: queue depths times transfer sizes of all devices. \
             x86 makes it 6 % of memory, 64 MiB to 1 GiB.",
        )
        .helps(
            "If mappings find the pool full, use more slots (swiotlb=), a pool that grows (CONFIG_SWIOTLB_DYNAMIC=y, \
             6.6 on), or shorter queues.",
        )
}

/// "%d < %d)": `ARCH_DMA_MINALIGN`, and the line size.
pub(super) fn long_lines(minalign: u64, line: u64) -> Said {
    Said::new(Kind::LongLines)
        .means(format!(
            "This CPU says that cache maintenance may touch {line} bytes at once (CTR_EL0.CWG), and this device is \
             not coherent. DMA buffers are only guaranteed to be {minalign} bytes apart, so other data in the same \
             {line} bytes may be corrupted. Lengths of {} bytes and more are never bounced for it.",
            minalign.saturating_mul(2)
        ))
        .helps(
            "Usually the device is coherent and the firmware does not say so: dma-coherent in the device tree, _CCA \
             in ACPI. Virtual machines on such CPUs (A64FX) print it for each device whose node lacks dma-coherent.",
        )
        .helps("If it really is not coherent, use a kernel with a larger ARCH_DMA_MINALIGN.")
}

/// "Failed to get contiguous memory for DMA from Xen!", "Cannot allocate Xen-SWIOTLB buffer": `xen_swiotlb_error()` and
/// `xen_swiotlb_fixup()` (`drivers/xen/swiotlb-xen.c`).
pub(super) fn xen() -> Said {
    Said::new(Kind::PoolNotMade)
        .means(
            "On Xen, the pool of a dom0 or of a PV guest with devices must be contiguous in the machine's own memory, \
             below 4 GiB. Xen could not give that: too little of it is free, it is fragmented, or the guest may not \
             have it.",
        )
        .helps(
            "Leave Xen more memory below 4 GiB (dom0_mem=, fewer or smaller guests before this one), or ask for a \
             smaller pool: swiotlb=512 (1 MiB).",
        )
        .helps("A PVH or HVM guest with an IOMMU needs no such pool.")
}

/// "Failed to decrypt … DMA pool", "leaking DMA memory that can't be decrypted": `set_memory_decrypted()` failed (7.3; the latter
/// older).
pub(super) fn not_decrypted(pool: bool) -> Said {
    let said = Said::new(Kind::MemoryEncryption);
    let said = if pool {
        said.means(
            "Guest memory is encrypted, and the pool could not be shared with the host, so the kernel does not use it. \
             In such a guest everything that is mapped has to bounce, so mappings fail.",
        )
    } else {
        said.means(
            "Guest memory is encrypted, and coherent memory could not be shared with the host, or not be taken back. \
             The kernel gives it up rather than use it. The pool has nothing to do with it.",
        )
    };
    said.helps("Look at the lines before: the hypervisor or the guest's firmware refused the change. No size helps.")
}
