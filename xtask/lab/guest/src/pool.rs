//! The swiotlb pool's own counters, debugfs `swiotlb/` (`kernel/dma/swiotlb.c`, 6.1 on), in slots.

use crate::sysfs;

const DIR: &str = "/sys/kernel/debug/swiotlb";

/// `io_tlb_nslabs`: slots in the pool.
pub(crate) fn slots() -> Option<u64> {
    sysfs::read_number(format!("{DIR}/io_tlb_nslabs"))
}

/// `io_tlb_used`: slots in use now.
pub(crate) fn used() -> Option<u64> {
    sysfs::read_number(format!("{DIR}/io_tlb_used"))
}

/// `io_tlb_used_hiwater`: the most ever in use since it was last reset.
pub(crate) fn hiwater() -> Option<u64> {
    sysfs::read_number(format!("{DIR}/io_tlb_used_hiwater"))
}

/// Starts the high-water mark anew; where the kernel keeps none, nothing happens.
pub(crate) fn reset_hiwater() {
    let _ = sysfs::write(format!("{DIR}/io_tlb_used_hiwater"), "0");
}
