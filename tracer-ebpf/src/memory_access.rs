//! Words of memory that another side looks at meanwhile: whole, once, and in no order among each other.

/// Reads a word.
///
/// # Safety
///
/// The word must be alive and aligned.
#[inline(always)]
pub(crate) unsafe fn load(word: *const u64) -> u64 {
    // The compiler for BPF may know no atomic loads; a volatile one is a single instruction there.
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's.
    return unsafe { word.read_volatile() };
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's.
    return unsafe { core::sync::atomic::AtomicU64::from_ptr(word.cast_mut()) }
        .load(core::sync::atomic::Ordering::Relaxed);
}

/// Writes a word.
///
/// # Safety
///
/// The word must be alive and aligned.
#[inline(always)]
pub(crate) unsafe fn store(word: *mut u64, value: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's.
    return unsafe { word.write_volatile(value) };
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's.
    return unsafe { core::sync::atomic::AtomicU64::from_ptr(word) }
        .store(value, core::sync::atomic::Ordering::Relaxed);
}
