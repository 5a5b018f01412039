//! Layouts resolved from BTF made here: old and new kernels, and such without the types.

use super::*;
use crate::kernel::btf::sample::Builder;

/// Types that every kernel has, around the `struct device` that `device` adds.
fn kernel(device: impl FnOnce(&mut Builder, u32, u32)) -> Btf {
    let mut b = Builder::default();
    let long = b.int("unsigned long", 8);
    let pointer = b.pointer(long);
    let kobject = b.structure("kobject", 16, &[("name", pointer, 0)]);
    device(&mut b, kobject, pointer);
    b.structure("device_driver", 16, &[("name", pointer, 0)]);
    b.structure("bus_type", 16, &[("name", pointer, 64)]);
    let int = b.int("unsigned int", 4);
    b.structure(
        "scatterlist",
        32,
        &[
            ("page_link", long, 0),
            ("offset", int, 64),
            ("length", int, 96),
            ("dma_address", long, 128),
            ("dma_length", int, 192),
        ],
    );
    Btf::from_bytes(b.build()).unwrap()
}

/// `struct device` of 96 bytes with the common members and these, as (name, type, bit, bits of a bitfield).
fn with_members(b: &mut Builder, kobject: u32, pointer: u32, more: &[(&str, u32, u32, u32)]) -> u32 {
    let mut members = vec![("kobj", kobject, 0, 0), ("driver", pointer, 128, 0), ("bus", pointer, 192, 0)];
    members.extend([("dma_mask", pointer, 256, 0), ("bus_dma_limit", pointer, 320, 0), ("dma_parms", pointer, 384, 0)]);
    members.extend(more);
    b.bitfields("device", 96, &members)
}

#[test]
fn a_bitfield_becomes_a_byte_and_a_shift() {
    let btf = kernel(|b, kobject, pointer| {
        with_members(b, kobject, pointer, &[("dma_coherent", 1, 706, 1), ("dma_iommu", 1, 709, 1)]);
    });
    let (config, _) = resolve(&btf, "aarch64", |_| panic!("not needed where the flag is there"));
    assert_eq!(config.device.coherent, Bit { offset: 88, shift: 2 });
    assert_eq!(config.device.iommu, Bit { offset: 88, shift: 5 });
    assert_eq!(config.device.dma_ops, NONE);
    assert_eq!((config.device.kobj_name, config.device.driver, config.device.bus_name), (0, 16, 8));
}

#[test]
fn a_driver_may_have_a_structure_named_device_too() {
    let btf = kernel(|b, kobject, pointer| {
        b.structure("device", 64, &[("driver", pointer, 0), ("dma_coherent", 1, 64), ("dma_mask", 1, 128)]);
        with_members(b, kobject, pointer, &[]);
    });
    let (config, _) = resolve(&btf, "aarch64", |_| None);
    assert_eq!((config.device.driver, config.device.dma_mask), (16, 32));
    assert_eq!(config.device.coherent, Bit::NONE);
}

#[test]
fn a_flag_of_the_bitmap_becomes_a_byte_and_a_shift() {
    let btf = kernel(|b, kobject, pointer| {
        let bitmap = b.array(1, 1);
        with_members(b, kobject, pointer, &[("flags", bitmap, 704, 0)]);
        b.enumeration("struct_device_flags", &[("DEV_FLAG_DMA_IOMMU", 2), ("DEV_FLAG_DMA_COHERENT", 14)]);
    });
    let (config, _) = resolve(&btf, "aarch64", |_| None);
    assert_eq!(config.device.coherent, Bit { offset: 89, shift: 6 });
    assert_eq!(config.device.iommu, Bit { offset: 88, shift: 2 });
}

#[test]
fn without_a_flag_the_iommu_is_known_by_its_operations() {
    let btf = kernel(|b, kobject, pointer| {
        with_members(b, kobject, pointer, &[("dma_coherent", 1, 706, 1), ("dma_ops", pointer, 448, 0)]);
    });
    let (config, missing) = resolve(&btf, "aarch64", |name| (name == "iommu_dma_ops").then_some(0xffff_8000_0000));
    assert_eq!((config.device.dma_ops, config.iommu_dma_ops), (56, 0xffff_8000_0000));
    assert!(!missing.iter().any(|m| m.lost_without == WITHOUT_IOMMU));
    let (config, missing) = resolve(&btf, "aarch64", |_| None);
    assert_eq!(config.iommu_dma_ops, 0);
    assert!(missing.iter().any(|m| m.field == "the address of iommu_dma_ops"));
}

#[test]
fn a_missing_coherent_flag_is_told_on_arm64_and_normal_on_x86() {
    let btf = kernel(|b, kobject, pointer| {
        with_members(b, kobject, pointer, &[]);
    });
    let told = |machine| resolve(&btf, machine, |_| None).1.iter().any(|m| m.field.contains("dma_coherent"));
    assert!(told("aarch64"));
    assert!(!told("x86_64"));
}

#[test]
fn an_offset_in_front_of_the_device_wraps() {
    let untrusted_at = |bit| {
        let btf = kernel(|b, kobject, pointer| {
            let device = with_members(b, kobject, pointer, &[]);
            b.bitfields("pci_dev", 1024, &[("dev", device, 1600, 0), ("untrusted", 1, bit, 1)]);
        });
        resolve(&btf, "aarch64", |_| None).0.device.untrusted
    };
    assert_eq!(untrusted_at(1600 + 801), Bit { offset: 100, shift: 1 });
    assert_eq!(untrusted_at(803), Bit { offset: (-100i32) as u32, shift: 3 });
}

#[test]
fn restricted_pools_are_told_where_the_kernel_can_have_them() {
    let for_alloc_at = |members: &[(&str, u32, u32)]| {
        let btf = kernel(|b, _, _| {
            b.structure("io_tlb_mem", 64, members);
        });
        resolve(&btf, "aarch64", |_| None).0.device.for_alloc
    };
    assert_eq!(for_alloc_at(&[("force_bounce", 1, 128), ("for_alloc", 1, 136)]), 17);
    assert_eq!(for_alloc_at(&[("force_bounce", 1, 128)]), NONE);
}

#[test]
fn arguments_of_the_pool_are_found_by_name() {
    let arguments = |map: &[(&str, u32)], unmap: (&str, &[(&str, u32)])| {
        let btf = kernel(|b, _, _| {
            b.function("swiotlb_tbl_map_single", map);
            b.function(unmap.0, unmap.1);
        });
        resolve(&btf, "aarch64", |_| None).0.pool
    };
    let old = arguments(
        &[("dev", 2), ("orig_addr", 1), ("mapping_size", 1), ("alloc_size", 1), ("dir", 1), ("attrs", 1)],
        (
            "swiotlb_tbl_unmap_single",
            &[("hwdev", 2), ("tlb_addr", 1), ("mapping_size", 1), ("alloc_size", 1), ("dir", 1)],
        ),
    );
    assert_eq!((old.map_align_mask, old.map_direction, old.unmap_direction), (NONE, 4, 4));
    let new = arguments(
        &[("dev", 2), ("orig_addr", 1), ("mapping_size", 1), ("alloc_align_mask", 1), ("dir", 1), ("attrs", 1)],
        ("__swiotlb_tbl_unmap_single", &[("dev", 2), ("tlb_addr", 1), ("mapping_size", 1), ("dir", 1)]),
    );
    assert_eq!((new.map_align_mask, new.map_direction, new.unmap_direction), (3, 4, 3));
}

#[test]
fn nothing_is_made_up_for_a_kernel_without_these_types() {
    let mut b = Builder::default();
    b.int("int", 4);
    let (config, missing) = resolve(&Btf::from_bytes(b.build()).unwrap(), "aarch64", |_| None);
    assert_eq!(config, Config::EMPTY);
    for field in ["device.kobj.name", "device.dma_mask", "sizeof(struct scatterlist)", "swiotlb_tbl_map_single()"] {
        assert!(missing.iter().any(|m| m.field == field), "{field}");
    }
}
