//! `storage N`: N direct reads of random place and size on every disk. What is read is page-aligned and never bounces;
//! what goes with it does: a virtio request's status byte, a SCSI command's small buffers.

use std::{
    fs::{File, OpenOptions},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
    time::Duration,
};

use super::{fact, random::Random};
use crate::sysfs;

const SECTOR: u64 = 512;
/// The largest page of any kernel here, bytes.
const LARGEST_PAGE: usize = 64 << 10;
/// The largest read, bytes.
const LARGEST: u64 = 64 * 1024;

/// The disks of the lab's machine: driver name, and how its disks are called.
const DISKS: [(&str, &str); 3] = [("nvme", "nvme"), ("virtio_blk", "vd"), ("usb_storage", "sd")];

pub(super) fn run(count: u64) -> Result<(), String> {
    wait_for_disks()?;
    let mut random = Random::new(1);
    for (driver, prefix) in DISKS {
        let name = disk(prefix).ok_or_else(|| format!("no disk of {driver}"))?;
        let sectors = sysfs::read_number(format!("/sys/block/{name}/size")).ok_or("a disk without size")?;
        read(&name, sectors, count, &mut random)?;
        fact(&format!("reads.{driver}"), count);
    }
    Ok(())
}

/// Reads from every disk, again and again with short pauses, until it is `over`.
pub(super) fn keep_busy(over: impl Fn() -> bool) -> Result<(), String> {
    let mut random = Random::new(2);
    let mut reads = 0;
    while !over() {
        for (driver, prefix) in DISKS {
            let name = disk(prefix).ok_or_else(|| format!("no disk of {driver}"))?;
            let sectors = sysfs::read_number(format!("/sys/block/{name}/size")).ok_or("a disk without size")?;
            read(&name, sectors, 1, &mut random)?;
            reads += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    fact("reads.beside", reads);
    Ok(())
}

/// As [`run`], from a USB disk or a memory card of a board.
pub(super) fn read_what_is_there(count: u64) -> Result<(), String> {
    let mut random = Random::new(1);
    let (name, sectors) = sysfs::wait_for("a disk", Duration::from_mins(1), || {
        let name = ["sd", "mmcblk"].into_iter().find_map(disk)?;
        let sectors = sysfs::read_number(format!("/sys/block/{name}/size")).filter(|sectors| *sectors > 0)?;
        Some((name, sectors))
    })?;
    read(&name, sectors, count, &mut random)?;
    fact(&format!("reads.{name}"), count);
    Ok(())
}

/// Reads a sector into each of many pages in one call, which makes one request of as many segments: a SCSI host takes them, and
/// xHCI asks for no alignment.
pub(super) fn long_lists() -> Result<(), String> {
    const PAGES: usize = 400;
    wait_for_disks()?;
    let name = disk("sd").ok_or("no disk of usb_storage")?;
    let buffer = Pages::new(PAGES * LARGEST_PAGE).ok_or("no memory for the buffer")?;
    let file = direct(&name)?;
    buffer
        .scatter(&file, PAGES)
        .map_err(|error| format!("/dev/{name}: {PAGES} sectors into as many pages: {error}"))?;
    fact("long_lists", 1);
    Ok(())
}

/// Waits until every kind of disk is there with its size, and its node.
pub(super) fn wait_for_disks() -> Result<(), String> {
    for (driver, prefix) in DISKS {
        sysfs::wait_for(&format!("a disk of {driver}"), Duration::from_mins(2), || {
            let name = disk(prefix)?;
            let sectors = sysfs::read_number(format!("/sys/block/{name}/size"))?;
            (sectors > 0).then_some(())
        })?;
    }
    Ok(())
}

/// The first disk with this prefix and a node: a path of a multipath NVMe (`nvme0c0n1`) is listed but has none.
fn disk(prefix: &str) -> Option<String> {
    sysfs::entries("/sys/block")
        .iter()
        .map(|path| sysfs::name(path))
        .find(|name| name.starts_with(prefix) && PathBuf::from(format!("/dev/{name}")).exists())
}

fn read(name: &str, sectors: u64, count: u64, random: &mut Random) -> Result<(), String> {
    let file = direct(name)?;
    let buffer = Pages::new(LARGEST as usize).ok_or("no memory for the buffer")?;
    for _ in 0..count {
        let length = SECTOR * (1 + random.below(LARGEST / SECTOR));
        let offset = SECTOR * random.below(sectors.saturating_sub(length / SECTOR).max(1));
        buffer
            .fill(&file, length, offset)
            .map_err(|error| format!("/dev/{name}: {length} bytes at {offset}: {error}"))?;
    }
    Ok(())
}

fn direct(disk: &str) -> Result<File, String> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(format!("/dev/{disk}"));
    opened.map_err(|error| format!("cannot open /dev/{disk}: {error}"))
}

/// Page-aligned memory, which direct reads want.
struct Pages {
    start: *mut libc::c_void,
    length: usize,
}

impl Pages {
    fn new(length: usize) -> Option<Self> {
        // SAFETY: an anonymous mapping at a place of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        (start != libc::MAP_FAILED).then_some(Self { start, length })
    }

    /// One sector to the beginning of each of the first `pages` pages.
    fn scatter(&self, file: &File, pages: usize) -> std::io::Result<()> {
        let pieces: Vec<_> = (0..pages.min(self.length / LARGEST_PAGE))
            .map(|n| libc::iovec { iov_base: self.start.wrapping_byte_add(n * LARGEST_PAGE), iov_len: SECTOR as usize })
            .collect();
        // SAFETY: every piece lies in the mapping, and nothing else refers to it.
        let got = unsafe { libc::preadv(file.as_raw_fd(), pieces.as_ptr(), pieces.len() as libc::c_int, 0) };
        match got {
            got if got < 0 => Err(std::io::Error::last_os_error()),
            got if got as usize == pieces.len() * SECTOR as usize => Ok(()),
            _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn fill(&self, file: &File, length: u64, offset: u64) -> std::io::Result<()> {
        let length = (length as usize).min(self.length);
        // SAFETY: the mapping is at least `length` long and nothing else refers to it.
        let got = unsafe { libc::pread(file.as_raw_fd(), self.start, length, offset as libc::off_t) };
        match got {
            got if got < 0 => Err(std::io::Error::last_os_error()),
            got if got as usize == length => Ok(()),
            _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that new() made, unmapped once.
        unsafe { libc::munmap(self.start, self.length) };
    }
}
