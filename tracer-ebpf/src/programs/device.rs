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
    probe::{field, read},
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
    min_align_mask: u32,
    flags: u32,
}

#[inline(always)]
fn traits(dev: u64) -> Traits {
    let dma_mask = field(dev, config!(device.dma_mask)).filter(|mask| *mask != 0).and_then(read).unwrap_or(0);
    let parms: u64 = field(dev, config!(device.dma_parms)).unwrap_or(0);
    let pool: u64 = field(dev, config!(device.pool)).unwrap_or(0);
    let mut flags = 0;
    if bit(dev, config!(device.coherent)) {
        flags |= device_flag::COHERENT;
    }
    if uses_iommu(dev) {
        flags |= device_flag::IOMMU;
    }
    if field(pool, config!(device.force_bounce)).unwrap_or(0u8) & 1 != 0 {
        flags |= device_flag::FORCE_BOUNCE;
    }
    if field(pool, config!(device.for_alloc)).unwrap_or(0u8) & 1 != 0 {
        flags |= device_flag::RESTRICTED_POOL;
    }
    let iommu_pgsize_bitmap = if flags & device_flag::IOMMU == 0 {
        0
    } else {
        let group: u64 = field(dev, config!(device.iommu_group)).unwrap_or(0);
        let domain: u64 = field(group, config!(device.group_domain)).unwrap_or(0);
        field(domain, config!(device.pgsize_bitmap)).unwrap_or(0)
    };
    Traits {
        dma_mask,
        bus_dma_limit: field(dev, config!(device.bus_dma_limit)).unwrap_or(0),
        iommu_pgsize_bitmap,
        pool,
        driver: field(dev, config!(device.driver)).unwrap_or(0),
        min_align_mask: field(parms, config!(device.min_align_mask)).unwrap_or(0),
        flags,
    }
}

#[inline(always)]
fn bit(dev: u64, bit: Bit) -> bool {
    field(dev, bit.offset).is_some_and(|byte: u8| byte >> (bit.shift & 7) & 1 != 0)
}

/// `use_dma_iommu()`: a flag of the device, or before 6.12 its `dma_ops`.
#[inline(always)]
fn uses_iommu(dev: u64) -> bool {
    let ops = config!(iommu_dma_ops);
    bit(dev, config!(device.iommu)) || (ops != 0 && field(dev, config!(device.dma_ops)) == Some(ops))
}

#[inline(always)]
fn fingerprint(traits: &Traits, dev: u64) -> u64 {
    let name: u64 = field(dev, config!(device.kobj_name)).unwrap_or(0);
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for value in [
        traits.dma_mask,
        traits.bus_dma_limit,
        traits.iommu_pgsize_bitmap,
        traits.pool,
        traits.driver,
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
    let bus: u64 = field(dev, config!(device.bus)).unwrap_or(0);
    let init_name: u64 = field(dev, config!(device.init_name)).unwrap_or(0);
    let name = if init_name == 0 { field(dev, config!(device.kobj_name)).unwrap_or(0) } else { init_name };
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
        record.fingerprint = fingerprint;
        text(name, &mut record.name);
        text(field(traits.driver, config!(device.driver_name)).unwrap_or(0), &mut record.driver);
        text(field(bus, config!(device.bus_name)).unwrap_or(0), &mut record.bus);
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
fn text(addr: u64, into: &mut [u8; NAME_LEN]) {
    into[0] = 0;
    // SAFETY: the helper checks the address itself and terminates what it copies.
    if addr != 0 && unsafe { bpf_probe_read_kernel_str_bytes(addr as *const u8, into) }.is_err() {
        count_other(Other::ReadFault);
    }
}
