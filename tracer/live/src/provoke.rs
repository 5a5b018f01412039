//! Making the kernel do what the hooks are there to see, with harmless means: reading, and writing to nowhere. What becomes
//! of it is seen by the hooks; nothing here fails.

use std::{
    fs::{File, OpenOptions},
    io::{IoSlice, Write},
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::fs::{FileExt, OpenOptionsExt},
    },
    thread,
};

use bouncescope_capture::names::Subject;

use crate::kernel::root::Root;

/// More buffers than the 8 for which `writev()` has room on its stack (`UIO_FASTIOV`): it allocates, and frees.
const BUFFERS: usize = 12;
/// How often, so that some are seen whatever else is lost.
const TIMES: usize = 64;
/// Disks that are read from.
const DISKS: usize = 4;

/// Hooks that [`allocations`] must make fire, by subject.
pub(super) const ALLOCATIONS: [Subject; 2] = [Subject::Kmalloc, Subject::Kfree];

/// Allocations of kmalloc that are freed again; whether they happened.
pub(super) fn allocations() -> bool {
    let Ok(mut nowhere) = OpenOptions::new().write(true).open("/dev/null") else { return false };
    let buffers = [IoSlice::new(b"x"); BUFFERS];
    let written = (0..TIMES).filter(|_| nowhere.write_vectored(&buffers).is_ok()).count();
    // The kernel copies the name behind "memfd:": on 6.12 an object of 7 bytes, which shows the smallest cache.
    for _ in 0..TIMES {
        // SAFETY: the name is a NUL-terminated string.
        let fd = unsafe { libc::memfd_create(c"".as_ptr(), libc::MFD_CLOEXEC) };
        if fd >= 0 {
            // SAFETY: a new descriptor that nobody else owns.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    written > 0
}

/// Starts to read the first block of some disks past the page cache, which most disks' drivers map for DMA. Not waited for: a
/// disk may sleep.
pub(super) fn mappings(root: &Root) {
    let is_real = |name: &String| {
        let virtual_ones = ["loop", "ram", "zram", "dm-", "md", "nbd", "fd", "sr"];
        let removable = root.number(&format!("sys/block/{name}/removable")).unwrap_or(1) != 0;
        let sectors = root.number(&format!("sys/block/{name}/size")).unwrap_or(0);
        !virtual_ones.iter().any(|prefix| name.starts_with(prefix)) && !removable && sectors >= 8
    };
    for name in root.names("sys/block").filter(is_real).take(DISKS) {
        let disk = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(root.path(format!("dev/{name}")));
        if let Ok(disk) = disk {
            let _ = thread::Builder::new().name("provoke".into()).spawn(move || read_first_block(&disk));
        }
    }
}

/// A page, aligned as reads past the page cache want it.
#[repr(align(4096))]
struct Page([u8; 4096]);

fn read_first_block(disk: &File) {
    let mut page = Box::new(Page([0; 4096]));
    for _ in 0..TIMES {
        if disk.read_at(&mut page.0, 0).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocating_needs_no_privilege() {
        assert!(allocations());
    }
}
