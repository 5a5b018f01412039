//! Where the kernel sees physical memory and keeps its `struct page`s: the bases of the linear map and of `vmemmap`, from the
//! program headers of `/proc/kcore`. Whose object a buffer is, and where a page is, can be told by them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::btf::{Btf, Kind};
use super::root::Root;
use bouncescope_capture::facts::{LinearMap, PhysicalMemory};

/// `/proc/kcore`.
const KCORE: &str = "proc/kcore";
/// `sizeof(Elf64_Ehdr)`.
const FILE_HEADER: usize = 64;
/// `sizeof(Elf64_Phdr)`.
const PROGRAM_HEADER: usize = 56;
/// `PT_LOAD`.
const LOAD: u64 = 1;
/// The kernel's image on x86-64, `__START_KERNEL_map`: mapped a second time there.
const X86_IMAGE: u64 = 0xffff_ffff_8000_0000;
/// Memory may lie in pieces with holes between them, but no piece is larger than all of it by more than what firmware kept.
const LARGEST: u64 = 4;

/// Why the linear map is not known.
#[derive(Debug, thiserror::Error)]
pub enum LinearMapError {
    /// No such file, or no right to read it.
    #[error(
        "/proc/kcore is not readable (it needs root or CAP_SYS_RAWIO and CAP_DAC_READ_SEARCH, CONFIG_PROC_KCORE, and a kernel that is not locked down): {0}"
    )]
    Unreadable(#[from] io::Error),
    /// Not what Linux shows there.
    #[error("/proc/kcore is no 64-bit little-endian ELF file")]
    NotElf,
    /// No segment says where its memory lies.
    #[error("/proc/kcore has no segment of memory with its physical address")]
    NoMemory,
}

/// The running kernel's, on an architecture with one linear map (arm64, x86-64, riscv64). `memory` is its size, bytes; 0
/// when not known.
///
/// With it comes where the `struct page` of physical address 0 is or would be, `None` without `CONFIG_SPARSEMEM_VMEMMAP` or
/// when `struct_page_size` is not known (0).
///
/// `fs/proc/kcore.c` gives each piece of memory (`KCORE_RAM`) its physical address, the kernel's image (`KCORE_TEXT`)
/// its own, and everything else all ones. Reads the headers only.
pub fn read(
    root: &Root,
    memory: u64,
    page_size: u64,
    struct_page_size: u32,
) -> Result<(LinearMap, Option<u64>, PhysicalMemory), LinearMapError> {
    let segments = segments(&mut File::open(root.path(KCORE))?)?;
    let map = of_memory(&segments, memory).ok_or(LinearMapError::NoMemory)?;
    let vmemmap = vmemmap(&segments, map, page_size, u64::from(struct_page_size));
    Ok((map, vmemmap, physical_memory(&segments, map)))
}

/// The memory that the segments map, which is what `/proc/iomem` calls System RAM (`walk_system_ram_range()`).
fn physical_memory(segments: &[Segment], map: LinearMap) -> PhysicalMemory {
    let distance = map.virt_base.wrapping_sub(map.phys_base);
    let mapped = segments.iter().filter(|s| s.phys != u64::MAX && s.virt.wrapping_sub(s.phys) == distance);
    mapped.fold(PhysicalMemory::default(), |memory, segment| PhysicalMemory {
        end: memory.end.max(segment.phys.saturating_add(segment.len)),
        bytes: memory.bytes.saturating_add(segment.len),
        ..memory
    })
}

/// `sizeof(struct page)`, bytes; `None` without BTF.
pub fn struct_page_size(btf: &Btf) -> Option<u32> {
    let page = btf.find(Kind::Struct, "page").find(|&id| btf.member(id, "_refcount").is_some())?;
    u32::try_from(btf.size_of(page)?).ok()
}

/// A `PT_LOAD` segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    virt: u64,
    phys: u64,
    len: u64,
}

fn segments(file: &mut (impl Read + Seek)) -> Result<Vec<Segment>, LinearMapError> {
    let mut header = [0; FILE_HEADER];
    file.read_exact(&mut header)?;
    // 64 bits, little-endian, with program headers of the size known.
    if header[..6] != *b"\x7fELF\x02\x01" || number(&header, 54, 2) != PROGRAM_HEADER as u64 {
        return Err(LinearMapError::NotElf);
    }
    let mut headers = vec![0; number(&header, 56, 2) as usize * PROGRAM_HEADER];
    file.seek(SeekFrom::Start(number(&header, 32, 8)))?;
    file.read_exact(&mut headers)?;
    let loads = headers.chunks_exact(PROGRAM_HEADER).filter(|header| number(header, 0, 4) == LOAD);
    Ok(loads
        .map(|header| Segment { virt: number(header, 16, 8), phys: number(header, 24, 8), len: number(header, 40, 8) })
        .collect())
}

/// The little-endian number of `len` bytes at `at`.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// All memory is mapped at one distance between virtual and physical, the kernel's image a second time at another: the one
/// that most bytes share.
fn of_memory(segments: &[Segment], memory: u64) -> Option<LinearMap> {
    let largest = if memory == 0 { u64::MAX } else { memory.saturating_mul(LARGEST) };
    let is_memory = |s: &&Segment| s.phys != u64::MAX && s.len > 0 && s.len <= largest && s.virt < X86_IMAGE;
    let mut distances: BTreeMap<u64, (u64, LinearMap)> = BTreeMap::new();
    for segment in segments.iter().filter(is_memory) {
        let map = LinearMap { virt_base: segment.virt, phys_base: segment.phys };
        let (len, lowest) = distances.entry(segment.virt.wrapping_sub(segment.phys)).or_insert((0, map));
        *len = len.saturating_add(segment.len);
        if map.phys_base < lowest.phys_base {
            *lowest = map;
        }
    }
    distances.into_values().max_by_key(|(len, _)| *len).map(|(_, map)| map)
}

/// Beside each piece of memory the kernel lists the whole pages that hold its `struct page`s
/// (`get_sparsemem_vmemmap_info()`): from the beginning of such a segment follows where `vmemmap` is, if the piece begins where
/// a page of them does. The answer is the base that most pieces agree on.
fn vmemmap(segments: &[Segment], map: LinearMap, page_size: u64, struct_size: u64) -> Option<u64> {
    if !page_size.is_power_of_two() || struct_size == 0 || struct_size > page_size {
        return None;
    }
    let distance = map.virt_base.wrapping_sub(map.phys_base);
    let is_memory = |s: &&Segment| s.phys != u64::MAX && s.virt.wrapping_sub(s.phys) == distance;
    let mut votes: BTreeMap<u64, u64> = BTreeMap::new();
    for memory in segments.iter().filter(is_memory) {
        let first = (memory.phys / page_size).checked_mul(struct_size)?;
        let described = (memory.len / page_size).checked_mul(struct_size)?;
        // Rounded outwards to whole pages, and cut where the segment before ends.
        let fits = |s: &&Segment| {
            s.phys == u64::MAX
                && s.virt.wrapping_sub(first) % page_size == 0
                && s.len.abs_diff(described) < 2 * page_size
        };
        for pages in segments.iter().filter(fits) {
            *votes.entry(pages.virt.wrapping_sub(first)).or_default() += memory.len;
        }
    }
    votes.into_iter().max_by_key(|(_, len)| *len).map(|(base, _)| base)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::btf::sample::Builder;
    use super::super::root::sample::SampleRoot;
    use super::*;

    const GIB: u64 = 1 << 30;
    const NOT_MEMORY: u64 = u64::MAX;

    /// A kcore of `PT_LOAD` segments (virtual, physical, length) behind a `PT_NOTE`.
    fn kcore(loads: &[(u64, u64, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; FILE_HEADER + PROGRAM_HEADER];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32..40].copy_from_slice(&(FILE_HEADER as u64).to_le_bytes());
        bytes[54..56].copy_from_slice(&(PROGRAM_HEADER as u16).to_le_bytes());
        bytes[56..58].copy_from_slice(&(loads.len() as u16 + 1).to_le_bytes());
        bytes[FILE_HEADER] = 4;
        for &(virt, phys, len) in loads {
            for number in [LOAD, 0x1000, virt, phys, len, len, 0x1000] {
                bytes.extend(number.to_le_bytes());
            }
        }
        bytes
    }

    fn map(loads: &[(u64, u64, u64)], memory: u64) -> Option<(u64, u64)> {
        let sample = SampleRoot::new(&[]);
        sample.write(KCORE, &kcore(loads));
        read(&sample.root(), memory, 4096, 64).ok().map(|(map, ..)| (map.virt_base, map.phys_base))
    }

    fn vmemmap_of(loads: &[(u64, u64, u64)], page_size: u64, struct_size: u32) -> Option<u64> {
        let sample = SampleRoot::new(&[]);
        sample.write(KCORE, &kcore(loads));
        read(&sample.root(), 0, page_size, struct_size).unwrap().1
    }

    /// What Linux 6.12 shows for 1 GiB from `0x4000_0000` on, the first 2 MiB of it apart.
    const ARM64: [(u64, u64, u64); 6] = [
        (0xffff_8000_8000_0000, NOT_MEMORY, 0x7c00_0000_0000),
        (0xffff_a5d3_ea80_0000, 0x4080_0000, 0x2b0_0000),
        (0xffff_6b00_0020_0000, 0x4020_0000, GIB - 0x20_0000),
        (0xffff_fdff_c000_8000, NOT_MEMORY, 0xff_8000),
        (0xffff_6b00_0000_0000, 0x4000_0000, 0x1f_0000),
        (0xffff_fdff_c000_0000, NOT_MEMORY, 0x8000),
    ];

    #[test]
    fn pages_are_described_from_where_the_segments_beside_memory_say() {
        let base = 0xffff_fdff_c000_0000 - (0x4000_0000_u64 / 4096 * 64);
        assert_eq!(vmemmap_of(&ARM64, 4096, 64), Some(base));
    }

    #[test]
    fn memory_ends_where_the_last_segment_of_it_does() {
        let sample = SampleRoot::new(&[]);
        sample.write(KCORE, &kcore(&ARM64));
        let (_, _, memory) = read(&sample.root(), 0, 4096, 64).unwrap();
        assert_eq!((memory.end, memory.bytes), (0x4000_0000 + GIB, GIB - 0x1_0000), "with the hole of 64 KiB left out");
    }

    #[test]
    fn a_kernel_that_shows_no_descriptions_of_pages_has_no_base() {
        let without: Vec<_> = ARM64.into_iter().filter(|load| load.0 >> 32 != 0xffff_fdff).collect();
        assert_eq!(vmemmap_of(&without, 4096, 64), None);
        assert_eq!(vmemmap_of(&ARM64, 4096, 0), None);
        assert_eq!(vmemmap_of(&ARM64, 0, 64), None);
    }

    #[test]
    fn memory_on_arm64_is_the_segments_with_a_physical_address() {
        let loads = [
            (0xffff_8000_8000_0000, NOT_MEMORY, 0x7c00_0000_0000),
            (0xffff_8000_0000_0000, NOT_MEMORY, 0x8000_0000),
            (0xffff_a5d3_ea80_0000, 0x4080_0000, 0x2b0_0000),
            (0xffff_6b00_0020_0000, 0x4020_0000, GIB - 0x20_0000),
            (0xffff_6b00_0000_0000, 0x4000_0000, 0x1f_0000),
            (0xffff_fdff_c000_0000, NOT_MEMORY, 0x100_0000),
        ];
        assert_eq!(map(&loads, GIB), Some((0xffff_6b00_0000_0000, 0x4000_0000)));
    }

    #[test]
    fn the_image_on_x86_is_not_the_linear_map() {
        let loads = [
            (0xffff_ffff_8100_0000, 0x100_0000, 0x300_0000),
            (0xffff_8880_0000_1000, 0x1000, 0x9_e000),
            (0xffff_8881_0000_0000, 0x1_0000_0000, 20 * GIB),
        ];
        assert_eq!(map(&loads, 20 * GIB), Some((0xffff_8880_0000_1000, 0x1000)));
        assert_eq!(map(&loads[..1], 20 * GIB), None);
    }

    #[test]
    fn memory_may_begin_at_zero_and_nothing_is_larger_than_memory() {
        let loads = [(0xffff_8000_8000_0000, 0, 0x7c00_0000_0000), (0xffff_0000_0000_0000, 0, GIB)];
        assert_eq!(map(&loads, GIB), Some((0xffff_0000_0000_0000, 0)));
    }

    #[test]
    fn a_kcore_without_memory_or_of_another_kind_says_so() {
        assert_eq!(map(&[(0xffff_8000_8000_0000, NOT_MEMORY, GIB)], GIB), None);
        let sample = SampleRoot::new(&[]);
        let error = |sample: &SampleRoot| read(&sample.root(), 0, 4096, 64).unwrap_err().to_string();
        assert!(error(&sample).contains("CONFIG_PROC_KCORE"));
        sample.write(KCORE, &[0; 100]);
        assert!(error(&sample).contains("ELF"));
    }

    #[test]
    fn the_page_is_the_one_that_counts_references() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        b.structure("page", 16, &[("number", int, 0)]);
        b.structure("page", 64, &[("_refcount", int, 0)]);
        assert_eq!(struct_page_size(&Btf::from_bytes(b.build()).unwrap()), Some(64));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(mut bytes in prop::collection::vec(any::<u8>(), 0..300), elf in any::<bool>()) {
            if elf && bytes.len() > FILE_HEADER {
                bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
                bytes[54..56].copy_from_slice(&(PROGRAM_HEADER as u16).to_le_bytes());
            }
            if let Ok(segments) = segments(&mut io::Cursor::new(bytes))
                && let Some(map) = of_memory(&segments, 0)
            {
                vmemmap(&segments, map, 4096, 64);
            }
        }
    }
}
