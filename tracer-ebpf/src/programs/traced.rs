//! The same as `swiotlb` and `sg` see by kprobe, by fentry and fexit: for kernels with BTF and without kprobes. At a function's
//! end its arguments are at hand still, so that nothing is kept in between; what the pool's functions take is not measured.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use tracer_ebpf::record::{Kind, SlotMap, SlotUnmap};

use crate::{
    config, device,
    emit::{header, send},
    probe::{at, field_or_zero},
    sg::{self, Return, Returned},
    streamed,
};

/// A list that could not be mapped, while the function that was to map it is still on the stack.
const REFUSED: Returned = Returned { ents: 0, has_returned: false };

/// `swiotlb_tbl_map_single(dev, orig_addr, mapping_size, …)`; what follows depends on the kernel.
#[fexit]
pub fn slot_map_exit(ctx: FExitContext) -> i32 {
    let Ok(slot) = ctx.ret() else { return 0 };
    let dev: u64 = ctx.arg(0);
    // Six arguments at the least on every kernel.
    let arguments = [dev, ctx.arg(1), ctx.arg(2), ctx.arg(3), ctx.arg(4), ctx.arg(5)];
    let [_, phys, size, ..] = arguments;
    let direction = at(arguments, config!(pool.map_direction));
    let header = header(&ctx, Kind::SlotMap, direction);
    streamed::bounced(&ctx, dev, direction, size);
    let align_mask = at(arguments, config!(pool.map_align_mask));
    send(Kind::SlotMap, SlotMap { header, dev, phys, slot, size, align_mask, entry_ns: header.time_ns });
    0
}

/// `swiotlb_tbl_unmap_single(dev, tlb_addr, mapping_size, …)`, or `__swiotlb_tbl_unmap_single()` of the same beginning.
#[fentry]
pub fn slot_unmap_enter(ctx: FEntryContext) -> i32 {
    let dev: u64 = ctx.arg(0);
    // Five arguments at the least on every kernel.
    let arguments = [dev, ctx.arg(1), ctx.arg(2), ctx.arg(3), ctx.arg(4), 0];
    let [_, slot, size, ..] = arguments;
    device::known(&ctx, dev);
    let header = header(&ctx, Kind::SlotUnmap, at(arguments, config!(pool.unmap_direction)));
    send(Kind::SlotUnmap, SlotUnmap { header, dev, slot, size });
    0
}

/// `dma_map_sg_attrs(dev, sgl, nents, dir, attrs)`: the lists that could not be mapped.
#[fexit]
pub fn map_sg_exit(ctx: FExitContext) -> i32 {
    let ents: i32 = ctx.ret().unwrap_or(0);
    if ents <= 0 {
        let nents: u32 = ctx.arg(2);
        let args = [ctx.arg(0), ctx.arg(1), u64::from(nents), ctx.arg(3), ctx.arg(4), 0];
        sg::made::<_, false>(&ctx, Return::List, args, REFUSED);
    }
    0
}

/// `dma_map_sgtable(dev, sgt, dir, attrs)`: the tables that could not be mapped.
#[fexit]
pub fn map_sgt_exit(ctx: FExitContext) -> i32 {
    let error: i32 = ctx.ret().unwrap_or(0);
    if error != 0 {
        let table: u64 = ctx.arg(1);
        let list = field_or_zero(table, config!(scatterlist.table_sgl));
        let nents: u32 = field_or_zero(table, config!(scatterlist.table_orig_nents));
        let args = [ctx.arg(0), list, u64::from(nents), ctx.arg(2), ctx.arg(3), table];
        sg::made::<_, false>(&ctx, Return::Table, args, REFUSED);
    }
    0
}
