//! Describing a device before the first record that names it, and again whenever its description changed.

use aya_ebpf::{EbpfContext, helpers::bpf_probe_read_kernel_str_bytes, macros::map, maps::HashMap};
use aya_log_ebpf::debug;
use tracer_ebpf::{
    config::Bit,
    counter::Other,
    decide::Decider,
    record::{Device, Kind, NAME_LEN, device_flag},
};

use crate::{
    config,
    emit::{count_other, header, send_with},
    probe::{field, field_or_zero, read},
};

/// Fingerprints of the devices already described, by `struct device *`.
#[map]
static DEVICES: HashMap<u64, u64> = HashMap::with_max_entries(1024, 0);

/// Makes sure that `dev` has been described as it is now, and returns its fingerprint, of which [`flags`] makes the
/// [`device_flag`]s.
///
/// Not inlined: behind a call, the verifier forgets the many ways through it and goes on with one state.
#[inline(never)]
pub(crate) fn describe<C: EbpfContext>(ctx: &C, dev: u64) -> u64 {
    let traits = traits(dev);
    let fingerprint = fingerprint(&traits, dev);
    // SAFETY: a value of one word; replaced meanwhile, it at worst describes the device once more.
    if unsafe { DEVICES.get(&dev) } != Some(&fingerprint) {
        announce(ctx, dev, traits, fingerprint);
    }
    fingerprint
}

/// Makes sure that `dev` has been described at all, and returns the fingerprint of that description; cheaper than [`describe`],
/// for records that decide nothing.
#[inline(always)]
pub(crate) fn known<C: EbpfContext>(ctx: &C, dev: u64) -> u64 {
    // SAFETY: a value of one word; replaced meanwhile, it is that of a description as good.
    match unsafe { DEVICES.get(&dev) } {
        Some(fingerprint) => *fingerprint,
        None => describe(ctx, dev),
    }
}

/// The [`device_flag`]s in a fingerprint.
#[inline(always)]
pub(crate) const fn flags(fingerprint: u64) -> u32 {
    fingerprint as u32 & ((1 << device_flag::BITS) - 1)
}

/// Counts the mapping when the decider, with this kernel's own settings, says that it must bounce.
#[inline(always)]
pub(crate) fn predict(flags: u32, direction: u64, len: u64) {
    let decider = Decider {
        bounce_unaligned: config!(decider.bounce_unaligned),
        cache_line_size: config!(decider.cache_line_size),
        minalign: config!(decider.minalign),
        dma_minalign: config!(decider.dma_minalign),
    };
    if decider.needs_bounce(flags & device_flag::COHERENT != 0, direction as u8, len) {
        count_other(Other::Predicted);
    }
}

/// What of a device decides a mapping's fate.
#[derive(Clone, Copy)]
struct Traits {
    dma_mask: u64,
    bus_dma_limit: u64,
    iommu_pgsize_bitmap: u64,
    pool: u64,
    driver: u64,
    segment_boundary_mask: u64,
    max_segment_size: u32,
    min_align_mask: u32,
    flags: u32,
}

#[inline(always)]
fn traits(dev: u64) -> Traits {
    let dma_mask: u64 = field_or_zero(dev, config!(device.dma_mask));
    let parms: u64 = field_or_zero(dev, config!(device.dma_parms));
    let pool: u64 = field_or_zero(dev, config!(device.pool));
    // Without branches, each of which would be two ways for the verifier.
    let iommu = uses_iommu(dev);
    let flags = bit(dev, config!(device.coherent)) * device_flag::COHERENT
        | iommu * device_flag::IOMMU
        | u32::from(field_or_zero::<u8>(pool, config!(device.force_bounce)) & 1) * device_flag::FORCE_BOUNCE
        | u32::from(field_or_zero::<u8>(pool, config!(device.for_alloc)) & 1) * device_flag::RESTRICTED_POOL;
    let iommu_pgsize_bitmap = if iommu == 0 {
        0
    } else {
        let group: u64 = field_or_zero(dev, config!(device.iommu_group));
        let domain: u64 = field_or_zero(group, config!(device.group_domain));
        field_or_zero(domain, config!(device.pgsize_bitmap))
    };
    Traits {
        dma_mask: field_or_zero(dma_mask, 0),
        bus_dma_limit: field_or_zero(dev, config!(device.bus_dma_limit)),
        iommu_pgsize_bitmap,
        pool,
        driver: field_or_zero(dev, config!(device.driver)),
        segment_boundary_mask: field_or_zero(parms, config!(device.segment_boundary_mask)),
        max_segment_size: field_or_zero(parms, config!(device.max_segment_size)),
        min_align_mask: field_or_zero(parms, config!(device.min_align_mask)),
        flags,
    }
}

/// 0 or 1.
#[inline(always)]
fn bit(dev: u64, bit: Bit) -> u32 {
    let byte: u8 = field_or_zero(dev, bit.offset);
    u32::from(byte >> (bit.shift & 7) & 1)
}

/// `use_dma_iommu()`, 0 or 1: a flag of the device, or before 6.12 its `dma_ops`.
#[inline(always)]
fn uses_iommu(dev: u64) -> u32 {
    let ops = config!(iommu_dma_ops);
    let by_ops = if ops == 0 { 0 } else { u32::from(field_or_zero::<u64>(dev, config!(device.dma_ops)) == ops) };
    bit(dev, config!(device.iommu)) | by_ops
}

#[inline(always)]
fn fingerprint(traits: &Traits, dev: u64) -> u64 {
    let name: u64 = field_or_zero(dev, config!(device.kobj_name));
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for value in [
        traits.dma_mask,
        traits.bus_dma_limit,
        traits.iommu_pgsize_bitmap,
        traits.pool,
        traits.driver,
        traits.segment_boundary_mask,
        u64::from(traits.max_segment_size),
        u64::from(traits.min_align_mask) << 32 | u64::from(traits.flags),
        name,
    ] {
        hash = (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }
    let flags = (1 << device_flag::BITS) - 1;
    hash & !flags | u64::from(traits.flags) & flags
}

/// Sends the description; only when the ring took it is the device taken as known, so that no record can come before it.
#[inline(never)]
fn announce<C: EbpfContext>(ctx: &C, dev: u64, mut traits: Traits, fingerprint: u64) {
    let bus: u64 = field_or_zero(dev, config!(device.bus));
    let init_name: u64 = field_or_zero(dev, config!(device.init_name));
    let name = if init_name == 0 { field_or_zero(dev, config!(device.kobj_name)) } else { init_name };
    if field(bus, config!(device.bus_name)).is_some_and(is_pci) && untrusted(dev) {
        traits.flags |= device_flag::UNTRUSTED;
    }
    let header = header(ctx, Kind::Device, 0);
    let sent = send_with(Kind::Device, |record: *mut Device| {
        // SAFETY: the ring's memory for one record, written here and nowhere else.
        let record = unsafe { &mut *record };
        record.header = header;
        record.dev = dev;
        record.dma_mask = traits.dma_mask;
        record.bus_dma_limit = traits.bus_dma_limit;
        record.iommu_pgsize_bitmap = traits.iommu_pgsize_bitmap;
        record.pool = traits.pool;
        record.min_align_mask = traits.min_align_mask;
        record.flags = traits.flags;
        record.segment_boundary_mask = traits.segment_boundary_mask;
        record.max_segment_size = u64::from(traits.max_segment_size);
        record.fingerprint = fingerprint;
        text(name, &mut record.name);
        text(field_or_zero(traits.driver, config!(device.driver_name)), &mut record.driver);
        text(field_or_zero(bus, config!(device.bus_name)), &mut record.bus);
    });
    if sent && DEVICES.insert(&dev, &fingerprint, 0).is_err() {
        count_other(Other::DevicesFull);
    }
    if config!(log) != 0 {
        debug!(ctx, "described device {:x}, flags {:x}", dev, traits.flags);
    }
}

/// `to_pci_dev(dev)->untrusted`; the offset counts from the `struct device` and wraps.
#[inline(always)]
fn untrusted(dev: u64) -> bool {
    let at = config!(device.untrusted);
    at.offset != tracer_ebpf::config::NONE
        && read(dev.wrapping_add_signed(i64::from(at.offset as i32)))
            .is_some_and(|byte: u8| byte >> (at.shift & 7) & 1 != 0)
}

/// Whether the string at `name` is "pci".
#[inline(always)]
fn is_pci(name: u64) -> bool {
    name != 0 && read(name) == Some(*b"pci\0")
}

/// Copies the string at `addr`; what follows its NUL is whatever the ring held before.
#[inline(always)]
pub(crate) fn text(addr: u64, into: &mut [u8; NAME_LEN]) {
    into[0] = 0;
    // SAFETY: the helper checks the address itself and terminates what it copies.
    if addr != 0 && unsafe { bpf_probe_read_kernel_str_bytes(addr as *const u8, into) }.is_err() {
        count_other(Other::ReadFault);
    }
}
