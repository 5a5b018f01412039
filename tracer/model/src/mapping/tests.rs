//! What becomes of single buffers and of lists.

use tracer_ebpf::decide::{ARM64_DMA_MINALIGN, FROM_DEVICE, TO_DEVICE};

use super::*;

const MACHINE: Machine = Machine {
    decider: Decider { bounce_unaligned: 1, cache_line_size: 64, minalign: 8, dma_minalign: ARM64_DMA_MINALIGN },
    rule: ResolvedRule::KMALLOC,
    falls_back: false,
    lists: Lists::WholeList,
    pool_active: true,
    force: false,
    refuses_registers: true,
};

fn device() -> DeviceTraits {
    DeviceTraits { dma_mask: u64::from(u32::MAX), ..DeviceTraits::default() }
}

fn buffer(size: u64, direction: u8) -> Buffer {
    Buffer { phys: 0x4000_0008, dma_addr: Some(0x4000_0008), size, direction, attrs: 0, shared: false }
}

fn list(sizes: &[u64], direction: u8) -> impl Iterator<Item = Buffer> {
    sizes.iter().map(move |size| buffer(*size, direction))
}

const KMALLOC: Fate = Fate::Bounce { reason: Reason::Kmalloc, align_mask: 0 };

#[test]
fn without_iommu_the_length_decides() {
    assert_eq!(single(&MACHINE, &device(), &buffer(8, FROM_DEVICE)), KMALLOC);
    assert_eq!(single(&MACHINE, &device(), &buffer(64, FROM_DEVICE)), Fate::Direct);
    assert_eq!(single(&MACHINE, &device(), &buffer(8, TO_DEVICE)), Fate::Direct);
}

#[test]
fn coherent_devices_never_bounce_for_alignment() {
    let device = DeviceTraits { coherent: true, ..device() };
    assert_eq!(single(&MACHINE, &device, &buffer(8, FROM_DEVICE)), Fate::Direct);
}

#[test]
fn what_the_device_cannot_reach_bounces_whatever_its_direction() {
    let far = Buffer { dma_addr: Some(0xffff_fff0), ..buffer(4096, TO_DEVICE) };
    assert_eq!(single(&MACHINE, &device(), &far), Fate::Bounce { reason: Reason::DeviceMask, align_mask: 0 });
    let limited = DeviceTraits { bus_dma_limit: 0x3fff_ffff, ..device() };
    let near = buffer(4096, TO_DEVICE);
    assert_eq!(single(&MACHINE, &limited, &near), Fate::Bounce { reason: Reason::BusLimit, align_mask: 0 });
    assert_eq!(single(&MACHINE, &device(), &near), Fate::Direct);
}

#[test]
fn force_bounces_everything_without_iommu_and_nothing_behind_one() {
    let machine = Machine { force: true, ..MACHINE };
    let coherent = DeviceTraits { coherent: true, ..device() };
    let forced = Fate::Bounce { reason: Reason::Force, align_mask: 0 };
    assert_eq!(single(&machine, &coherent, &buffer(65536, TO_DEVICE)), forced);
    let behind = DeviceTraits { iommu_granule: Some(4096), ..coherent };
    assert_eq!(single(&machine, &behind, &buffer(65536, TO_DEVICE)), Fate::Direct);
}

#[test]
fn behind_an_iommu_whole_granules_stay() {
    let device = DeviceTraits { iommu_granule: Some(4096), ..device() };
    let bounced = Fate::Bounce { reason: Reason::Kmalloc, align_mask: 4095 };
    assert_eq!(single(&MACHINE, &device, &buffer(8, FROM_DEVICE)), bounced);
    let untrusted = DeviceTraits { untrusted: true, coherent: true, ..device };
    let page = Buffer { phys: 0x4000_0000, ..buffer(4096, TO_DEVICE) };
    assert_eq!(single(&MACHINE, &untrusted, &page), Fate::Direct);
    let part = Fate::Bounce { reason: Reason::Untrusted, align_mask: 4095 };
    assert_eq!(single(&MACHINE, &untrusted, &buffer(4096, TO_DEVICE)), part);
}

#[test]
fn without_a_pool_what_must_bounce_is_refused() {
    let machine = Machine { pool_active: false, ..MACHINE };
    let refused = Fate::Refused { reason: Reason::Kmalloc, why: Refused::NoPool };
    assert_eq!(single(&machine, &device(), &buffer(8, FROM_DEVICE)), refused);
    let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
    assert_eq!(single(&machine, &behind, &buffer(8, FROM_DEVICE)), refused);
    assert_eq!(single(&machine, &behind, &buffer(8, TO_DEVICE)), Fate::Direct);
}

#[test]
fn without_a_pool_a_fallback_serves_what_bounces_for_alignment_alone() {
    let machine = Machine { pool_active: false, falls_back: true, ..MACHINE };
    let bounce = Fate::Bounce { reason: Reason::Kmalloc, align_mask: 0 };
    assert_eq!(single(&machine, &device(), &buffer(8, FROM_DEVICE)), bounce);
    let forced = Fate::Refused { reason: Reason::Force, why: Refused::NoPool };
    assert_eq!(single(&Machine { force: true, ..machine }, &device(), &buffer(8, FROM_DEVICE)), forced);
}

#[test]
fn mmio_never_bounces() {
    let mmio = Buffer { attrs: MMIO, ..buffer(4, FROM_DEVICE) };
    let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
    assert_eq!(single(&MACHINE, &device(), &mmio), Fate::Direct);
    assert_eq!(single(&MACHINE, &behind, &mmio), Fate::Direct);
    let forced = Machine { force: true, ..MACHINE };
    let refused = |reason| Fate::Refused { reason, why: Refused::Forbidden };
    assert_eq!(single(&forced, &device(), &mmio), refused(Reason::Force));
    let before_6_18 = Machine { refuses_registers: false, ..forced };
    assert_eq!(single(&before_6_18, &device(), &mmio), Fate::Direct);
    let far = Buffer { phys: 1 << 32, ..mmio };
    assert_eq!(single(&before_6_18, &device(), &far), refused(Reason::DeviceMask));
    assert_eq!(single(&MACHINE, &device(), &far), refused(Reason::DeviceMask));
}

#[test]
fn what_is_to_be_coherent_never_bounces_and_needs_a_coherent_device() {
    let refused = |reason| Fate::Refused { reason, why: Refused::Forbidden };
    let page = Buffer { attrs: REQUIRE_COHERENT, ..buffer(4096, TO_DEVICE) };
    let coherent = DeviceTraits { coherent: true, ..device() };
    assert_eq!(single(&MACHINE, &device(), &page), refused(Reason::NotCoherent));
    assert_eq!(single(&MACHINE, &coherent, &page), Fate::Direct);
    assert_eq!(single(&Machine { force: true, ..MACHINE }, &coherent, &page), refused(Reason::Force));
    let far = Buffer { dma_addr: Some(1 << 32), ..page };
    assert_eq!(single(&MACHINE, &coherent, &far), refused(Reason::DeviceMask));
}

#[test]
fn a_list_that_is_to_be_coherent_is_refused_whatever_its_mode() {
    let refused = Fate::Refused { reason: Reason::NotCoherent, why: Refused::Forbidden };
    let page = Buffer { attrs: REQUIRE_COHERENT, ..buffer(4096, TO_DEVICE) };
    let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
    let coherent = DeviceTraits { coherent: true, ..behind };
    for lists in [Lists::WholeList, Lists::WholeListBounce, Lists::Flagged] {
        let machine = Machine { lists, ..MACHINE };
        for lost in [false, true] {
            assert_eq!(segment(&machine, &behind, &page, lost), refused, "{lists:?}");
            assert_eq!(segment(&machine, &device(), &page, lost), refused, "{lists:?}");
        }
        assert_eq!(segment(&machine, &coherent, &page, false), Fate::Direct, "{lists:?}");
    }
}

#[test]
fn a_buffer_of_unknown_dma_address_is_taken_to_be_reachable() {
    let unknown = Buffer { dma_addr: None, ..buffer(4096, TO_DEVICE) };
    let narrow = DeviceTraits { dma_mask: 0xffff, ..device() };
    assert_eq!(single(&MACHINE, &narrow, &unknown), Fate::Direct);
    assert_eq!(single(&MACHINE, &narrow, &Buffer { size: 8, direction: FROM_DEVICE, ..unknown }), KMALLOC);
}

#[test]
fn in_a_list_that_stays_whole_nothing_would_bounce() {
    let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
    for length in 1..=1024 {
        let loses = list_loses_concatenation(&MACHINE, &behind, list(&[4096, length], FROM_DEVICE));
        let unaligned = Buffer { phys: 0x3008, ..buffer(length, FROM_DEVICE) };
        assert_eq!(loses, single(&MACHINE, &behind, &unaligned) != Fate::Direct, "length {length}");
    }
}

#[test]
fn an_untrusted_devices_list_always_loses_its_concatenation() {
    let untrusted = DeviceTraits { iommu_granule: Some(4096), untrusted: true, coherent: true, ..device() };
    assert!(list_loses_concatenation(&MACHINE, &untrusted, list(&[4096], TO_DEVICE)));
}

#[test]
fn an_absurd_granule_is_answered() {
    let device = DeviceTraits { iommu_granule: Some(0), ..device() };
    assert_eq!(single(&MACHINE, &device, &buffer(8, FROM_DEVICE)), Fate::Direct);
}

#[test]
fn one_small_segment_costs_a_list_its_concatenation_behind_an_iommu_only() {
    let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
    let loses = |device: &DeviceTraits, lengths: [u64; 3]| {
        list_loses_concatenation(&MACHINE, device, list(&lengths, FROM_DEVICE))
    };
    assert!(loses(&behind, [4096, 8, 4096]));
    assert!(!loses(&behind, [4096, 4096, 4096]));
    assert!(!loses(&device(), [4096, 8, 4096]));
}

#[test]
fn what_becomes_of_a_list_depends_on_its_mode() {
    let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
    let (small, large) = (buffer(8, FROM_DEVICE), buffer(4000, FROM_DEVICE));
    let fates = |lists: Lists| {
        let machine = Machine { lists, ..MACHINE };
        let lost = list_loses_concatenation(&machine, &behind, [small, large].into_iter());
        (lost, [small, large].map(|buffer| matches!(segment(&machine, &behind, &buffer, lost), Fate::Bounce { .. })))
    };
    assert_eq!(fates(Lists::WholeList), (true, [true, false]));
    assert_eq!(fates(Lists::WholeListBounce), (true, [true, true]));
    assert_eq!(fates(Lists::Flagged), (false, [true, false]));
}

#[test]
fn into_how_many_dma_segments_a_list_is_mapped_depends_on_its_mode() {
    let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
    let page = Buffer { phys: 0x4000_0000, ..buffer(4096, FROM_DEVICE) };
    let small = Buffer { phys: 0x4000_1008, ..buffer(8, FROM_DEVICE) };
    let segments = |lists: Lists, device: &DeviceTraits, list: &[Buffer]| {
        let machine = Machine { lists, ..MACHINE };
        let lost = list_loses_concatenation(&machine, device, list.iter().copied());
        list_dma_segments(&machine, device, list.iter().copied(), lost)
    };
    let mixed = [page, page, small, page, page];
    let of_modes = |device: &DeviceTraits, list: &[Buffer]| {
        [Lists::WholeList, Lists::WholeListBounce, Lists::Flagged].map(|lists| segments(lists, device, list))
    };
    assert_eq!(of_modes(&behind, &mixed), [5, 5, 3]);
    assert_eq!(of_modes(&behind, &[page; 5]), [1, 1, 1]);
    assert_eq!(of_modes(&device(), &mixed), [5, 5, 5], "without an IOMMU nothing is concatenated");
    let coherent = DeviceTraits { coherent: true, ..behind };
    assert_eq!(of_modes(&coherent, &mixed), [3, 3, 3], "a part of a granule ends a segment, bounced or not");
}

#[test]
fn what_no_device_reaches_without_a_pool_is_unreachable() {
    let machine = Machine { pool_active: false, ..MACHINE };
    let far = Buffer { dma_addr: Some(1 << 32), ..buffer(4096, TO_DEVICE) };
    let refused = Fate::Refused { reason: Reason::DeviceMask, why: Refused::Unreachable };
    assert_eq!(single(&machine, &device(), &far), refused);
}
