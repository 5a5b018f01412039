//! Memory of the kernel's in this process: the only place that maps and unmaps it.

use std::{
    io,
    ops::Deref,
    os::fd::{AsFd as _, BorrowedFd},
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU64, AtomicUsize},
};

use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A part of a map, until it is dropped.
pub(super) struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: memory that this value alone refers to.
unsafe impl Send for Mapping {}
// SAFETY: without `&mut`, it is only read and written as atomics.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps so many bytes from an offset on. An error where the kernel, or its security module, does not let it.
    pub(super) fn new(fd: BorrowedFd<'_>, length: usize, protection: ProtFlags, offset: usize) -> io::Result<Self> {
        // SAFETY: a new mapping, wherever the kernel puts it.
        let address = unsafe { mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, fd, offset as u64) }?;
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { address, length })
    }

    /// Where it begins.
    pub(super) fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// The position at the beginning of a page of positions.
    pub(super) fn word(&self) -> &AtomicUsize {
        // SAFETY: a mapping is aligned to a page and at least a page long, and the word is read and written by atomics only.
        unsafe { self.address.cast().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing refers to it any more.
        unsafe { munmap(self.address.as_ptr().cast(), self.length) }.ok();
    }
}

/// An array map of the programs, as words that may change at any time. The map lives as long as this.
pub(super) struct MappedArray {
    mapping: Mapping,
    /// Keeps the descriptor open, by which `doctor` finds what the map takes.
    _map: MapData,
}

impl MappedArray {
    /// Maps the first `bytes` of an array whose elements are whole words.
    pub(super) fn new(map: MapData, bytes: usize) -> io::Result<Self> {
        let mapping = Mapping::new(map.fd().as_fd(), bytes, ProtFlags::READ | ProtFlags::WRITE, 0)?;
        Ok(Self { mapping, _map: map })
    }
}

impl Deref for MappedArray {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        let words = self.mapping.length / size_of::<AtomicU64>();
        // SAFETY: so many words are mapped, page-aligned, until this is dropped; what the kernel's programs do with them is what another thread
        // does with atomics.
        unsafe { slice::from_raw_parts(self.mapping.address.as_ptr().cast(), words) }
    }
}
