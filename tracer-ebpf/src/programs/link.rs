//! `dma_iova_link()` (6.16 on: block and NVMe behind an IOMMU), which links a buffer into an address range made beforehand and
//! has no event. It is counted, so that what a recording does not show is known.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tracer_ebpf::counter::Other;

use crate::{
    emit::{add_other, count_other},
    probe::arguments,
};

/// `dma_iova_link(dev, state, phys, offset, size, dir, attrs)`.
#[kprobe]
pub fn iova_link_entry(ctx: ProbeContext) -> u32 {
    let [.., size, _] = arguments(&ctx);
    linked(size);
    0
}

/// The same through BTF.
#[fentry]
pub fn iova_link_enter(ctx: FEntryContext) -> i32 {
    linked(ctx.arg(4));
    0
}

#[inline(always)]
fn linked(size: u64) {
    count_other(Other::Linked);
    add_other(Other::LinkedBytes, size);
}
