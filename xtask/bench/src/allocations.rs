//! Allocations of a size that is known, as fast as a CPU can make them. A `writev()` of more than 8 pieces makes the kernel allocate
//! and free a copy of their list (`iovec_from_user()`, `lib/iov_iter.c`), and writing to `/dev/null` does no more.

use std::{fs::File, io, os::fd::AsRawFd as _};

/// More than the 8 for which the kernel has room on its stack (`UIO_FASTIOV`).
const PIECES: usize = 12;
/// What the kernel allocates for them, bytes.
pub(crate) const BYTES: u64 = (PIECES * size_of::<libc::iovec>()) as u64;
/// What is written.
static BYTE: u8 = 0;

/// Makes them.
pub(crate) struct Allocations(File);

impl Allocations {
    /// None yet.
    pub(crate) fn new() -> io::Result<Self> {
        File::options().write(true).open("/dev/null").map(Self)
    }

    /// Makes so many, each of which is freed before the next.
    pub(crate) fn make(&self, count: u64) -> io::Result<()> {
        let piece = libc::iovec { iov_base: (&raw const BYTE).cast_mut().cast(), iov_len: 1 };
        let pieces = [piece; PIECES];
        for _ in 0..count {
            // SAFETY: a valid descriptor, and pieces of memory that lives as long as the program, of which the kernel only reads.
            let written = unsafe { libc::writev(self.0.as_raw_fd(), pieces.as_ptr(), PIECES as i32) };
            if written != PIECES as isize {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}
