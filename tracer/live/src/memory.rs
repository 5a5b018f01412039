//! What the allocator keeps: at its start, a recorder reads 20 MB of the kernel's descriptions, and needs a tenth of that from then on.
//!
//! Only glibc is told. Other allocators return what is freed by themselves, or cannot be told.

/// From here on, large buffers are the kernel's again as soon as they are freed.
pub(crate) fn return_soon() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only sets a parameter of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// What has been freed until now is the kernel's again. From here on, buffers as large as batches of events are used again instead.
pub(crate) fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: they return free memory, and set parameters of the allocator.
    unsafe {
        libc::malloc_trim(0);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 4 << 20);
    }
}
