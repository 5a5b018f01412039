//! What the drivers of the benchmark's machine map: which devices there are, and in which patterns they work. Data only;
//! the order of events is in `kernel`.

use tracer::event::Direction::{self, Bidirectional, FromDevice, ToDevice};

/// A device: name, driver, bus, coherent.
pub(super) struct Device {
    pub(super) name: &'static str,
    pub(super) driver: &'static str,
    pub(super) bus: &'static str,
    pub(super) coherent: bool,
}

const fn device(name: &'static str, driver: &'static str, bus: &'static str, coherent: bool) -> Device {
    Device { name, driver, bus, coherent }
}

/// The devices, by the number that events have.
pub(super) const DEVICES: [Device; 12] = [
    device("32c00000.ethernet", "dwmac", "platform", false),
    device("0000:01:00.0", "nvme", "pci", true),
    device("1d84000.ufshc", "ufshcd-qcom", "platform", false),
    device("a600000.usb", "xhci-hcd", "platform", false),
    device("0000:00:05.0", "ehci-pci", "pci", false),
    device("0000:00:03.0", "virtio-pci", "pci", false),
    device("0000:02:00.0", "ath11k_pci", "pci", true),
    device("8804000.mmc", "sdhci_msm", "platform", false),
    device("888000.spi", "geni_spi", "platform", false),
    device("1dfa000.crypto", "qcom_qce", "platform", false),
    device("0000:03:00.0", "mlx5_core", "pci", true),
    device("98c000.i2c", "geni_i2c", "platform", false),
];

/// Where buffers lie.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// A set of pages that goes round: the one that came back first is used first. The buffer begins so far into its half.
    Rolling { headroom: u64 },
    /// Objects of a slab cache: the one that was freed last is used first.
    Slab { object: u64, offset: u64 },
    /// A scatterlist of pages from all over the page cache, so many of them at the least and most, mostly few.
    PageCache { pages: (u64, u64) },
    /// A scatterlist of one object of a slab cache.
    ListOfObject,
}

/// One mapping of an operation.
pub(super) struct Part {
    pub(super) place: Place,
    /// Lengths, each as likely as the others; of page cache the length is that of its pages.
    pub(super) sizes: &'static [u64],
    pub(super) direction: Direction,
    /// In so many of 100 operations.
    pub(super) percent: u64,
}

/// Something that a driver does again and again.
pub(super) struct Pattern {
    pub(super) device: u32,
    /// How often, against the others.
    pub(super) weight: u64,
    /// Operations in one go, which also complete in one go.
    pub(super) burst: (u64, u64),
    /// From the mapping to the unmapping.
    pub(super) lifetime_ns: (u64, u64),
    pub(super) parts: &'static [Part],
}

const fn part(percent: u64, place: Place, direction: Direction, sizes: &'static [u64]) -> Part {
    Part { place, sizes, direction, percent }
}

const fn pattern(
    device: u32,
    weight: u64,
    burst: (u64, u64),
    lifetime_us: (u64, u64),
    parts: &'static [Part],
) -> Pattern {
    Pattern { device, weight, burst, lifetime_ns: (1000 * lifetime_us.0, 1000 * lifetime_us.1), parts }
}

const HEAD: Place = Place::Slab { object: 1024, offset: 66 };
const FRAGMENT: Place = Place::Rolling { headroom: 0 };
const PACKETS: &[u64] = &[54, 66, 66, 66, 90, 118, 342, 590, 1090, 1514, 1514, 1514];
const PAGE: &[u64] = &[4096];

/// What happens.
pub(super) const PATTERNS: [Pattern; 17] = [
    // A network interface refills its ring, and polls it.
    pattern(0, 30, (4, 64), (50, 9000), &[part(100, Place::Rolling { headroom: 64 }, FromDevice, &[1536])]),
    pattern(10, 18, (8, 64), (50, 9000), &[part(100, Place::Rolling { headroom: 256 }, FromDevice, &[2048])]),
    pattern(6, 10, (1, 32), (100, 9000), &[part(100, Place::Rolling { headroom: 128 }, FromDevice, &[1920])]),
    // Packets go out: a head, and what of the data is elsewhere.
    pattern(0, 60, (1, 8), (10, 1200), &[part(100, HEAD, ToDevice, PACKETS), part(20, FRAGMENT, ToDevice, &[1448])]),
    pattern(10, 40, (1, 16), (10, 900), &[part(100, HEAD, ToDevice, PACKETS), part(30, FRAGMENT, ToDevice, &[2048])]),
    pattern(6, 30, (1, 4), (30, 2500), &[part(100, HEAD, ToDevice, PACKETS)]),
    // Blocks: reads, and writes.
    pattern(1, 34, (1, 4), (60, 2000), &[part(100, Place::PageCache { pages: (1, 32) }, FromDevice, PAGE)]),
    pattern(1, 18, (1, 8), (20, 9000), &[part(100, Place::PageCache { pages: (1, 32) }, ToDevice, PAGE)]),
    pattern(2, 30, (1, 3), (80, 5000), &[part(100, Place::PageCache { pages: (1, 32) }, FromDevice, PAGE)]),
    pattern(2, 3, (1, 2), (80, 900), &[part(100, Place::ListOfObject, FromDevice, &[8, 36, 96, 96])]),
    pattern(7, 6, (1, 1), (200, 9900), &[part(100, Place::PageCache { pages: (1, 16) }, FromDevice, PAGE)]),
    // A virtio disk: request, data, and the status that comes back.
    pattern(
        5,
        26,
        (1, 4),
        (60, 4000),
        &[
            part(100, Place::Slab { object: 256, offset: 80 }, ToDevice, &[16]),
            part(90, FRAGMENT, FromDevice, PAGE),
            part(100, Place::Slab { object: 256, offset: 97 }, FromDevice, &[1]),
        ],
    ),
    // USB: control transfers, and an interrupt endpoint.
    pattern(
        3,
        24,
        (1, 2),
        (50, 9900),
        &[
            part(100, Place::Slab { object: 8, offset: 0 }, ToDevice, &[8]),
            part(70, Place::Slab { object: 64, offset: 0 }, FromDevice, &[8, 18, 9, 32, 64, 64, 40]),
            part(15, Place::Slab { object: 64, offset: 0 }, ToDevice, &[8, 16, 31, 64]),
        ],
    ),
    pattern(4, 6, (1, 1), (1000, 9900), &[part(100, Place::Slab { object: 16, offset: 0 }, FromDevice, &[8])]),
    // Small buses, and a crypto engine that works in place.
    pattern(
        8,
        8,
        (1, 1),
        (30, 900),
        &[
            part(100, Place::Slab { object: 96, offset: 0 }, ToDevice, &[4, 12, 66, 96]),
            part(60, Place::Slab { object: 96, offset: 0 }, FromDevice, &[4, 12, 48, 66, 96]),
        ],
    ),
    pattern(11, 2, (1, 1), (100, 900), &[part(100, Place::Slab { object: 64, offset: 0 }, FromDevice, &[1, 2, 6, 33])]),
    pattern(9, 6, (1, 4), (10, 200), &[part(100, Place::PageCache { pages: (1, 4) }, Bidirectional, PAGE)]),
];
