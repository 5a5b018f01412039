//! Buffers linked into an address range made beforehand (`dma_iova_link()`, 6.16 on: block and NVMe behind an IOMMU), and ranges
//! unlinked. There are no events of either, so that the functions themselves are probed (`drivers/iommu/dma-iommu.c`, 7.3).

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, fexit, kprobe, kretprobe, map},
    maps::HashMap,
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use tracer_ebpf::{
    attrs::MMIO,
    counter::Mapped,
    memory::UNKNOWN,
    record::{Kind, MAPPING_ERROR, Map, Unmap},
};

use crate::{
    device,
    emit::{header, send},
    lengths::{self, what},
    probe::{Call, Probed, arguments, entered, read, returned, seventh_argument},
    streamed,
};

/// The ranges (`struct dma_iova_state *`) that are being destroyed. Not one for each CPU: between the functions' entries, the task may be
/// preempted by another that destroys a range, and may go on on another CPU.
#[map]
static DESTROYED: HashMap<u64, u64> = HashMap::with_max_entries(1024, 0);

/// `dma_iova_link(dev, state, phys, offset, size, dir, attrs)`.
struct Linking {
    dev: u64,
    state: u64,
    phys: u64,
    offset: u64,
    size: u64,
    direction: u64,
    attrs: u64,
}

/// `dma_iova_unlink(dev, state, offset, size, dir, attrs)`.
struct Unlinking {
    dev: u64,
    state: u64,
    offset: u64,
    size: u64,
    direction: u64,
    attrs: u64,
}

/// The entry of `dma_iova_link()`.
#[kprobe]
pub fn iova_link_entry(ctx: ProbeContext) -> u32 {
    // The time of the event is that of the return: its place has the argument for which there is no other.
    entered(&ctx, Probed::Link, Call { entry_ns: seventh_argument(&ctx), args: arguments(&ctx) });
    0
}

/// Its return: 0, or an error.
#[kretprobe]
pub fn iova_link_return(ctx: RetProbeContext) -> u32 {
    if let Some(Call { entry_ns: attrs, args: [dev, state, phys, offset, size, direction] }) =
        returned(&ctx, Probed::Link)
    {
        linked(&ctx, &Linking { dev, state, phys, offset, size, direction, attrs }, ctx.ret());
    }
    0
}

/// The same through BTF.
#[fexit]
pub fn iova_link_exit(ctx: FExitContext) -> i32 {
    let Ok(error) = ctx.ret() else { return 0 };
    let linking = Linking {
        dev: ctx.arg(0),
        state: ctx.arg(1),
        phys: ctx.arg(2),
        offset: ctx.arg(3),
        size: ctx.arg(4),
        direction: u64::from(ctx.arg::<u32>(5)),
        attrs: ctx.arg(6),
    };
    linked(&ctx, &linking, error);
    0
}

/// The entry of `dma_iova_unlink()`.
#[kprobe]
pub fn iova_unlink_entry(ctx: ProbeContext) -> u32 {
    let [dev, state, offset, size, direction, attrs] = arguments(&ctx);
    unlinked(&ctx, &Unlinking { dev, state, offset, size, direction, attrs });
    0
}

/// The same through BTF.
#[fentry]
pub fn iova_unlink_enter(ctx: FEntryContext) -> i32 {
    let direction = u64::from(ctx.arg::<u32>(4));
    unlinked(
        &ctx,
        &Unlinking {
            dev: ctx.arg(0),
            state: ctx.arg(1),
            offset: ctx.arg(2),
            size: ctx.arg(3),
            direction,
            attrs: ctx.arg(5),
        },
    );
    0
}

/// The entry of `dma_iova_destroy(dev, state, mapped_len, dir, attrs)`.
#[kprobe]
pub fn iova_destroy_entry(ctx: ProbeContext) -> u32 {
    let [dev, state, size, direction, attrs, _] = arguments(&ctx);
    destroyed(&ctx, &Unlinking { dev, state, offset: 0, size, direction, attrs });
    0
}

/// The same through BTF.
#[fentry]
pub fn iova_destroy_enter(ctx: FEntryContext) -> i32 {
    let direction = u64::from(ctx.arg::<u32>(3));
    destroyed(
        &ctx,
        &Unlinking { dev: ctx.arg(0), state: ctx.arg(1), offset: 0, size: ctx.arg(2), direction, attrs: ctx.arg(4) },
    );
    0
}

#[inline(always)]
fn linked<C: EbpfContext>(ctx: &C, linking: &Linking, error: i32) {
    let &Linking { dev, state, phys, offset, size, direction, attrs } = linking;
    if offset == 0 {
        // It is destroyed no more, whether or not dma_iova_destroy() called the function that is probed.
        let _ = DESTROYED.remove(&state);
    }
    let fingerprint = device::describe(ctx, dev);
    let mapped = if attrs & MMIO != 0 { Mapped::Resource } else { Mapped::Single };
    lengths::count(dev, fingerprint, what(direction, mapped, size), 1, size);
    // As a list is, until the range is destroyed: the length of a range tells nothing of what was linked into it. Where an end bounced, that
    // end may be shorter than any that is looked at for its length.
    let shortest = if bounced(state) { 0 } else { size };
    if error == 0 && !streamed::list_begins(dev, fingerprint, direction, state, shortest) {
        return;
    }
    let dma_addr = if error == 0 { address(state, offset) } else { MAPPING_ERROR };
    let header = header(ctx, Kind::Link, direction);
    send(Kind::Link, Map { header, dev, phys, dma_addr, size, attrs, memory: UNKNOWN });
}

#[inline(always)]
fn unlinked<C: EbpfContext>(ctx: &C, unlinking: &Unlinking) {
    let &Unlinking { dev, state, direction, .. } = unlinking;
    if unlinking.offset == 0 && DESTROYED.remove(&state).is_ok() {
        // dma_iova_destroy() calls it, and has been recorded.
        return;
    }
    if streamed::list(dev, device::known(ctx, dev), direction, state) {
        record(ctx, unlinking);
    }
}

#[inline(always)]
fn destroyed<C: EbpfContext>(ctx: &C, unlinking: &Unlinking) {
    let &Unlinking { dev, state, size, direction, .. } = unlinking;
    // Nothing was linked, and nothing is unlinked.
    if size == 0 {
        return;
    }
    // Without room for it the end of the range is recorded twice, and the second finds nothing mapped.
    let _ = DESTROYED.insert(&state, &0, 0);
    if streamed::list_ends(dev, device::known(ctx, dev), direction, state) {
        record(ctx, unlinking);
    }
}

#[inline(always)]
fn record<C: EbpfContext>(ctx: &C, unlinking: &Unlinking) {
    let &Unlinking { dev, state, offset, size, direction, attrs } = unlinking;
    let header = header(ctx, Kind::Unlink, direction);
    send(Kind::Unlink, Unmap { header, dev, dma_addr: address(state, offset), size, attrs });
}

/// Whether something bounced of what was linked into a range: `DMA_IOVA_USE_SWIOTLB`, the highest bit of its size.
#[inline(always)]
fn bounced(state: u64) -> bool {
    read::<u64>(state.wrapping_add(8)).unwrap_or(0) >> 63 != 0
}

/// The DMA address at an offset into a range: `struct dma_iova_state` begins with the range's own (`include/linux/dma-mapping.h`).
#[inline(always)]
fn address(state: u64, offset: u64) -> u64 {
    read::<u64>(state).unwrap_or(0).wrapping_add(offset)
}
