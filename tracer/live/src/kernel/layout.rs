//! Where the running kernel keeps what the programs read: BTF in, load-time configuration out. The programs themselves
//! know no kernel version, and there is no CO-RE for eBPF written in Rust, so that everything is resolved here.
//!
//! What a field means is said in [`tracer_ebpf::config`].

use std::fmt;

use tracer_ebpf::config::{Bit, Config, DeviceLayout, NONE, PageLayout, PoolArguments, ScatterlistLayout};

use super::btf::{Btf, Kind, Member, TypeId};
use bouncescope_capture::facts::KernelFacts;
use bouncescope_model::architecture::Architecture;

/// A field that the programs would use and that this kernel's BTF does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// What was looked for, such as `device.dma_mask`.
    pub field: String,
    /// What cannot be told without it.
    pub lost_without: &'static str,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not in this kernel's BTF: {} (lost without it: {})", self.field, self.lost_without)
    }
}

/// How the programs find a page's physical address, from the kernel's facts.
pub fn pages(facts: &KernelFacts) -> PageLayout {
    PageLayout {
        vmemmap: facts.vmemmap.unwrap_or(0),
        struct_size: facts.struct_page_size,
        shift: facts.page_size.max(1).trailing_zeros(),
    }
}

/// Fills everything that BTF can tell; `decider`, `pages`, `sample_mask` and `log` stay as in [`Config::EMPTY`].
///
/// `machine` is `uname -m`. `address_of` finds a kernel symbol; it is asked only on kernels before 6.12, where a
/// device maps through dma-iommu when its `dma_ops` is `iommu_dma_ops`.
pub fn resolve(btf: &Btf, machine: &str, address_of: impl Fn(&str) -> Option<u64>) -> (Config, Vec<Unresolved>) {
    let mut missing = Missing { kernel: Kernel::new(btf), list: Vec::new() };
    let mut config = Config {
        device: device(&mut missing, machine),
        scatterlist: scatterlist(&mut missing),
        pool: pool(&mut missing),
        ..Config::EMPTY
    };
    if config.device.iommu == Bit::NONE {
        config.device.dma_ops = missing.kernel.offset("device", "dma_ops");
        match (config.device.dma_ops, address_of("iommu_dma_ops")) {
            (NONE, _) => missing.note("device.dma_iommu, DEV_FLAG_DMA_IOMMU or device.dma_ops", WITHOUT_IOMMU),
            (_, None) => missing.note("the address of iommu_dma_ops", WITHOUT_IOMMU),
            (_, Some(address)) => config.iommu_dma_ops = address,
        }
    }
    (config, missing.list)
}

/// What is the same in every 64-bit kernel from 5.10 to 7.3, so that it needs no BTF: a device begins with its `kobject`, which begins
/// with its name (`include/linux/device.h`, `include/linux/kobject.h`); and scatterlists (`include/linux/scatterlist.h`;
/// arm64 selects `NEED_SG_DMA_LENGTH`). What else the programs would read of a device has to come from
/// [`firmware`](super::firmware).
pub fn without_btf() -> Config {
    Config {
        device: DeviceLayout { kobj_name: 0, ..Config::EMPTY.device },
        scatterlist: ScatterlistLayout {
            size: 32,
            page_link: 0,
            offset: 8,
            length: 12,
            dma_address: 16,
            dma_length: 24,
            dma_flags: NONE,
            table_sgl: 0,
            table_orig_nents: 12,
            table_nents: 8,
        },
        ..Config::EMPTY
    }
}

const WITHOUT_IOMMU: &str = "which devices map through an IOMMU: harmless on a machine without one";

/// A kernel's types, in which `device` is the driver core's and not some driver's own structure of that name.
struct Kernel<'a> {
    btf: &'a Btf,
    device: Option<TypeId>,
}

impl<'a> Kernel<'a> {
    fn new(btf: &'a Btf) -> Self {
        Self { btf, device: btf.find(Kind::Struct, "device").find(|&id| btf.member(id, "kobj").is_some()) }
    }

    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        match structure {
            "device" => self.btf.member(self.device?, path),
            other => self.btf.member_of(other, path),
        }
    }

    /// The byte offset of a member, or [`NONE`].
    fn offset(&self, structure: &str, path: &str) -> u32 {
        self.member(structure, path).and_then(|m| m.byte_offset()).unwrap_or(NONE)
    }
}

/// Looks fields up and notes those that are not there.
struct Missing<'a> {
    kernel: Kernel<'a>,
    list: Vec<Unresolved>,
}

impl Missing<'_> {
    fn note(&mut self, field: &str, lost_without: &'static str) {
        self.list.push(Unresolved { field: field.to_owned(), lost_without });
    }

    /// The byte offset of a member, noted when missing.
    fn offset(&mut self, structure: &str, path: &str, lost_without: &'static str) -> u32 {
        let offset = self.optional(structure, path);
        if offset == NONE {
            self.note(&format!("{structure}.{path}"), lost_without);
        }
        offset
    }

    /// The byte offset of a member that not every kernel has.
    fn optional(&self, structure: &str, path: &str) -> u32 {
        self.kernel.offset(structure, path)
    }
}

fn device(missing: &mut Missing<'_>, machine: &str) -> DeviceLayout {
    let names = "names of devices and drivers";
    let reach = "whether the device can reach the buffer, so bounces for a too small DMA mask";
    DeviceLayout {
        init_name: missing.optional("device", "init_name"),
        kobj_name: missing.offset("device", "kobj.name", names),
        driver: missing.offset("device", "driver", names),
        driver_name: missing.offset("device_driver", "name", names),
        bus: missing.offset("device", "bus", names),
        bus_name: missing.offset("bus_type", "name", names),
        dma_mask: missing.offset("device", "dma_mask", reach),
        bus_dma_limit: missing.offset("device", "bus_dma_limit", reach),
        dma_parms: missing.offset("device", "dma_parms", "slots of devices with a min_align_mask, such as NVMe"),
        // In 5.10 only since one of its stable releases.
        min_align_mask: missing.optional("device_dma_parameters", "min_align_mask"),
        max_segment_size: missing.optional("device_dma_parameters", "max_segment_size"),
        segment_boundary_mask: missing.optional("device_dma_parameters", "segment_boundary_mask"),
        iommu_group: missing.optional("device", "iommu_group"),
        group_domain: missing.optional("iommu_group", "domain"),
        pgsize_bitmap: missing.optional("iommu_domain", "pgsize_bitmap"),
        // Before 5.15 the pool was a handful of global variables.
        pool: missing.optional("device", "dma_io_tlb_mem"),
        dma_ops: NONE,
        force_bounce: missing.optional("io_tlb_mem", "force_bounce"),
        // Only with CONFIG_DMA_RESTRICTED_POOL.
        for_alloc: missing.optional("io_tlb_mem", "for_alloc"),
        reserved: 0,
        coherent: coherent(missing, machine),
        iommu: device_bit(&missing.kernel, "dma_iommu", "DEV_FLAG_DMA_IOMMU"),
        untrusted: untrusted(&missing.kernel),
    }
}

/// `dev_is_dma_coherent()` of `include/linux/dma-map-ops.h`: on an architecture without non-coherent devices there is
/// no bit and the answer is always yes.
fn coherent(missing: &mut Missing<'_>, machine: &str) -> Bit {
    if Architecture::of(machine).always_coherent {
        return Bit::NONE;
    }
    let bit = device_bit(&missing.kernel, "dma_coherent", "DEV_FLAG_DMA_COHERENT");
    if bit == Bit::NONE {
        missing.note("device.dma_coherent or DEV_FLAG_DMA_COHERENT", "which devices are coherent, so every prediction");
    }
    bit
}

/// A flag of `struct device`: a bitfield of that name up to 6.19, a bit of the bitmap `flags` from 7.2 on.
fn device_bit(kernel: &Kernel<'_>, bitfield: &str, flag: &str) -> Bit {
    if let Some(member) = kernel.member("device", bitfield) {
        return bit_of(member.bit_offset);
    }
    let flag = kernel.btf.enum_value("struct_device_flags", flag).and_then(|bit| u64::try_from(bit).ok());
    match (kernel.member("device", "flags"), flag) {
        (Some(bitmap), Some(bit)) => bit_of(bitmap.bit_offset + bit),
        _ => Bit::NONE,
    }
}

/// Little endian: the n-th bit of a structure, or of an array of longs in it, is bit n % 8 of byte n / 8.
fn bit_of(bit_offset: u64) -> Bit {
    match u32::try_from(bit_offset / 8) {
        Ok(offset) => Bit { offset, shift: (bit_offset % 8) as u32 },
        Err(_) => Bit::NONE,
    }
}

/// `pci_dev.untrusted`, seen from the `struct device` inside it.
fn untrusted(kernel: &Kernel<'_>) -> Bit {
    let place = |path| kernel.member("pci_dev", path);
    let (Some(Member { bit_offset, .. }), Some(dev)) = (place("untrusted"), place("dev").and_then(|m| m.byte_offset()))
    else {
        return Bit::NONE;
    };
    let bit = bit_of(bit_offset);
    Bit { offset: bit.offset.wrapping_sub(dev), ..bit }
}

fn scatterlist(missing: &mut Missing<'_>) -> ScatterlistLayout {
    let segments = "the segments of scatterlists";
    let refused = "scatterlists that dma_map_sgtable() could not map";
    let size = missing.kernel.btf.structure_size("scatterlist").and_then(|size| u32::try_from(size).ok()).unwrap_or(0);
    if size == 0 {
        missing.note("sizeof(struct scatterlist)", segments);
    }
    ScatterlistLayout {
        size,
        page_link: missing.offset("scatterlist", "page_link", segments),
        offset: missing.offset("scatterlist", "offset", segments),
        length: missing.offset("scatterlist", "length", segments),
        dma_address: missing.offset("scatterlist", "dma_address", segments),
        dma_length: missing.optional("scatterlist", "dma_length"),
        dma_flags: missing.optional("scatterlist", "dma_flags"),
        table_sgl: missing.offset("sg_table", "sgl", refused),
        table_orig_nents: missing.offset("sg_table", "orig_nents", refused),
        table_nents: missing.offset("sg_table", "nents", "segments that dma_map_sgtable() makes of a list"),
    }
}

fn pool(missing: &mut Missing<'_>) -> PoolArguments {
    let map = missing.kernel.btf.function("swiotlb_tbl_map_single");
    // From 6.12 on the function without underscores is inline.
    let unmap =
        ["__swiotlb_tbl_unmap_single", "swiotlb_tbl_unmap_single"].iter().find_map(|f| missing.kernel.btf.function(f));
    let arguments = PoolArguments {
        map_align_mask: map.as_ref().and_then(|f| f.position(&["align", "mask"])).unwrap_or(NONE),
        map_direction: map.as_ref().and_then(|f| f.position(&["dir"])).unwrap_or(NONE),
        unmap_direction: unmap.as_ref().and_then(|f| f.position(&["dir"])).unwrap_or(NONE),
        reserved: 0,
    };
    if arguments.map_direction == NONE {
        missing.note("swiotlb_tbl_map_single()", "the slot that a mapping got, so how long it was held");
    }
    if arguments.unmap_direction == NONE {
        missing.note("swiotlb_tbl_unmap_single()", "the direction of what is unmapped");
    }
    arguments
}

#[cfg(test)]
mod tests;
