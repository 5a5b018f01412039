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
/// Pieces of a read, at most.
const MOST_PIECES: usize = 24;

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

/// Reads into pieces of different lengths: into a file's pages with one call, and with commands of SCSI that name a list of pieces
/// (`SG_IO`). A SCSI disk on USB maps each as one list, of a bulk transfer with as many segments.
pub(super) fn vectors() -> Result<(), String> {
    const READS: u64 = 150;
    const LENGTHS: [u64; 6] = [512, 1024, 1536, 2048, 3584, 4096];
    wait_for_disks()?;
    let buffer = Pages::new(MOST_PIECES * LARGEST_PAGE).ok_or("no memory for the buffer")?;
    let mut random = Random::new(3);
    for prefix in ["sd", "vd"] {
        let name = disk(prefix).ok_or_else(|| format!("no disk {prefix}"))?;
        let file = direct(&name)?;
        for n in 0..READS {
            let count = 2 + random.below(MOST_PIECES as u64 - 2) as usize;
            let lengths: Vec<_> = (0..count).map(|_| LENGTHS[random.below(LENGTHS.len() as u64) as usize]).collect();
            let by_command = prefix == "sd" && n % 2 == 1;
            let read = if by_command { buffer.command(&file, &lengths) } else { buffer.read_pieces(&file, &lengths) };
            read.map_err(|error| format!("/dev/{name}: {count} pieces: {error}"))?;
        }
        fact(&format!("vectors.{prefix}"), READS);
    }
    Ok(())
}

/// Reads of a disk of NVMe into memory that begins and ends anywhere in a page, often with few bytes before the first page's end: of files,
/// and with commands that name one piece of memory, or several. Behind an IOMMU the kernel links the parts of each into one range of DMA addresses
/// (`blk_rq_dma_map_iova()`, `block/blk-mq-dma.c`, 6.17 on).
pub(super) fn links(count: u64) -> Result<(), String> {
    const HEADS: [usize; 14] = [4, 8, 16, 32, 36, 64, 68, 96, 100, 128, 252, 256, 1024, 3000];
    wait_for_disks()?;
    let name = disk("nvme").ok_or("no disk of nvme")?;
    let file = direct(&name)?;
    // SAFETY: it asks for a number, and touches no memory.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let buffer = Pages::apart(LARGEST as usize + 2 * LARGEST_PAGE, page).ok_or("no memory for the buffer")?;
    let mut random = Random::new(4);
    for n in 0..count {
        let head = HEADS[random.below(HEADS.len() as u64) as usize];
        let length = SECTOR * (1 + random.below(LARGEST / SECTOR));
        let start = page - head;
        let done = match n % 3 {
            0 => buffer.fill_from(start, &file, length, 0),
            1 => buffer.log_page(&file, start, 4 * (1 + random.below(LOG_PAGE / 4))),
            _ => buffer.read_vector(&file, start, page, length),
        };
        done.map_err(|error| format!("/dev/{name}: {length} bytes from {head} before a page's end: {error}"))?;
    }
    fact("links", count);
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

/// `struct sg_io_hdr` of `include/scsi/sg.h`, on 64-bit.
#[repr(C)]
struct SgIoHeader {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut libc::c_void,
    cmdp: *mut u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut libc::c_void,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}

const SG_IO: u64 = 0x2285;
const SG_DXFER_FROM_DEV: i32 = -3;
const _: () = assert!(size_of::<SgIoHeader>() == 88, "as in include/scsi/sg.h");

/// `struct nvme_passthru_cmd64` of `include/uapi/linux/nvme_ioctl.h`; with less behind `timeout_ms`, `struct nvme_passthru_cmd`.
#[derive(Default)]
#[repr(C)]
struct NvmeCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    reserved2: u32,
    result: u64,
}

/// `NVME_IOCTL_ADMIN_CMD`, of 72 bytes, and `NVME_IOCTL_IO64_CMD_VEC`, whose `addr` is of so many `struct iovec`.
const NVME_ADMIN: u64 = 0xc048_4e41;
const NVME_IO_VECTOR: u64 = 0xc050_4e49;
const NVME_READ: u8 = 2;
const NVME_GET_LOG_PAGE: u8 = 2;
/// The log page of SMART, and its bytes.
const LOG_OF_HEALTH: u32 = 2;
const LOG_PAGE: u64 = 512;
const _: () = assert!(size_of::<NvmeCommand>() == 80, "as in include/uapi/linux/nvme_ioctl.h");

impl NvmeCommand {
    fn run(&mut self, file: &File, request: u64) -> std::io::Result<()> {
        // SAFETY: what the command names outlives the call, and so does the command, which is no shorter than the request says.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), request as _, std::ptr::from_mut(self)) };
        match result {
            result if result < 0 => Err(std::io::Error::last_os_error()),
            0 => Ok(()),
            status => Err(std::io::Error::other(format!("the disk answers {status:#x}"))),
        }
    }
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

    /// As much memory of small pages, of which every other is touched first, so that few of them follow one another in memory.
    fn apart(length: usize, page: usize) -> Option<Self> {
        let pages = Self::new(length)?;
        // SAFETY: the mapping of this length, to which nothing else refers.
        unsafe { libc::madvise(pages.start, length, libc::MADV_NOHUGEPAGE) };
        for first in [0, page] {
            for offset in (first..length).step_by(2 * page) {
                // SAFETY: inside the mapping, which nothing else refers to.
                unsafe { pages.start.cast::<u8>().add(offset).write_volatile(1) };
            }
        }
        Some(pages)
    }

    /// One sector to the beginning of each of the first `pages` pages.
    fn scatter(&self, file: &File, pages: usize) -> std::io::Result<()> {
        self.read_pieces(file, &vec![SECTOR; pages])
    }

    /// A piece of each of these lengths at the beginning of a page of its own.
    fn pieces(&self, lengths: &[u64]) -> Vec<libc::iovec> {
        let lengths = lengths.iter().take(self.length / LARGEST_PAGE);
        let piece = |(n, length): (usize, &u64)| libc::iovec {
            iov_base: self.start.wrapping_byte_add(n * LARGEST_PAGE),
            iov_len: (*length as usize).min(LARGEST_PAGE),
        };
        lengths.enumerate().map(piece).collect()
    }

    /// The beginning of the disk into pieces of these lengths, by `SG_IO` (`drivers/scsi/scsi_ioctl.c`): READ(10).
    fn command(&self, file: &File, lengths: &[u64]) -> std::io::Result<()> {
        let mut pieces = self.pieces(lengths);
        let bytes: usize = pieces.iter().map(|piece| piece.iov_len).sum();
        let sectors = (bytes / SECTOR as usize) as u16;
        let mut cdb = [0x28_u8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        cdb[7..9].copy_from_slice(&sectors.to_be_bytes());
        let mut header = SgIoHeader {
            interface_id: i32::from(b'S'),
            dxfer_direction: SG_DXFER_FROM_DEV,
            cmd_len: cdb.len() as u8,
            mx_sb_len: 0,
            iovec_count: pieces.len() as u16,
            dxfer_len: bytes as u32,
            dxferp: pieces.as_mut_ptr().cast(),
            cmdp: cdb.as_mut_ptr(),
            sbp: std::ptr::null_mut(),
            timeout: 30_000,
            flags: 0,
            pack_id: 0,
            usr_ptr: std::ptr::null_mut(),
            status: 0,
            masked_status: 0,
            msg_status: 0,
            sb_len_wr: 0,
            host_status: 0,
            driver_status: 0,
            resid: 0,
            duration: 0,
            info: 0,
        };
        // SAFETY: header, command and pieces outlive the call, and every piece lies in the mapping, to which nothing else refers.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), SG_IO as _, &raw mut header) };
        match result {
            result if result < 0 => Err(std::io::Error::last_os_error()),
            _ if header.status == 0 && header.host_status == 0 && header.resid == 0 => Ok(()),
            _ => Err(std::io::Error::other(format!("status {}, host {}", header.status, header.host_status))),
        }
    }

    /// The beginning of a log page to the memory from `start` on, with a command of the controller.
    fn log_page(&self, file: &File, start: usize, length: u64) -> std::io::Result<()> {
        let mut command = NvmeCommand {
            opcode: NVME_GET_LOG_PAGE,
            nsid: u32::MAX,
            addr: self.start.wrapping_byte_add(start) as u64,
            data_len: length as u32,
            cdw10: LOG_OF_HEALTH | (length as u32 / 4 - 1) << 16,
            ..NvmeCommand::default()
        };
        command.run(file, NVME_ADMIN)
    }

    /// The beginning of the disk to the memory from `start` on, with a command that names each page of it as a piece of its own.
    fn read_vector(&self, file: &File, start: usize, page: usize, length: u64) -> std::io::Result<()> {
        let end = start + length as usize;
        let mut pieces = Vec::new();
        let mut at = start;
        while at < end {
            let next = (at / page * page + page).min(end);
            pieces.push(libc::iovec { iov_base: self.start.wrapping_byte_add(at), iov_len: next - at });
            at = next;
        }
        let mut command = NvmeCommand {
            opcode: NVME_READ,
            nsid: 1,
            addr: pieces.as_ptr() as u64,
            data_len: pieces.len() as u32,
            cdw12: (length / SECTOR) as u32 - 1,
            ..NvmeCommand::default()
        };
        command.run(file, NVME_IO_VECTOR)
    }

    /// As much from the beginning of the file as pieces of these lengths hold.
    fn read_pieces(&self, file: &File, lengths: &[u64]) -> std::io::Result<()> {
        let pieces = self.pieces(lengths);
        let bytes: usize = pieces.iter().map(|piece| piece.iov_len).sum();
        // SAFETY: every piece lies in the mapping, and nothing else refers to it.
        let got = unsafe { libc::preadv(file.as_raw_fd(), pieces.as_ptr(), pieces.len() as libc::c_int, 0) };
        match got {
            got if got < 0 => Err(std::io::Error::last_os_error()),
            got if got as usize == bytes => Ok(()),
            _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn fill(&self, file: &File, length: u64, offset: u64) -> std::io::Result<()> {
        self.fill_from(0, file, length, offset)
    }

    /// Reads to the memory from `start` on.
    fn fill_from(&self, start: usize, file: &File, length: u64, offset: u64) -> std::io::Result<()> {
        let start = start.min(self.length);
        let length = (length as usize).min(self.length - start);
        let memory = self.start.wrapping_byte_add(start);
        // SAFETY: the mapping is at least `length` long from there on, and nothing else refers to it.
        let got = unsafe { libc::pread(file.as_raw_fd(), memory, length, offset as libc::off_t) };
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
