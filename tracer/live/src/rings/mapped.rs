//! An array map of the programs in the memory of this process: the only place that touches it, as words that may change at any time.

use std::{
    io,
    ops::Deref,
    os::fd::{AsFd, AsRawFd},
    ptr::{self, NonNull},
    slice,
    sync::atomic::AtomicU64,
};

use aya::maps::MapData;

/// A mapped array. The map lives as long as this.
pub(super) struct Mapped {
    words: NonNull<AtomicU64>,
    len: usize,
    /// Keeps the descriptor open, by which `doctor` finds what the map takes.
    _map: MapData,
}

impl Mapped {
    /// Maps the first `bytes` of an array whose elements are whole words. An error where the kernel, or its security module, does not let it.
    pub(super) fn new(map: MapData, bytes: usize) -> io::Result<Self> {
        let fd = map.fd().as_fd().as_raw_fd();
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(address.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { words, len: bytes / size_of::<AtomicU64>(), _map: map })
    }
}

impl Deref for Mapped {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: so many words are mapped, page-aligned, until this is dropped; what the kernel's programs do with them is what another thread
        // does with atomics.
        unsafe { slice::from_raw_parts(self.words.as_ptr(), self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nothing borrows it any more.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.len * size_of::<AtomicU64>()) };
    }
}

// SAFETY: it is memory of the process, and no thread owns it.
unsafe impl Send for Mapped {}
// SAFETY: it is only handed out as atomics.
unsafe impl Sync for Mapped {}
