//! Scatterlists that lose their concatenation, by driver and by the function that mapped them: from the record to what is printed.

mod items;

use items::Items;
use tracer::{
    event::{Batch, DeviceId, Direction, Event, Segment, What},
    facts::{Device, Hook, KernelFacts, PoolFacts, Symbol},
    replay::{Wanted, replay, settings::Settings},
    report,
    stream::{Item, Start},
};

const DISPLAY: u64 = 0x1040;
const DISK: u64 = 0x2040;

/// A device that is not coherent, behind an IOMMU, and lists of two segments that are neighbours for the IOMMU. The last of each has this
/// many bytes.
fn stream(lists: &[(u64, u32)]) -> Items {
    let hook = |subject: &str| Hook { subject: subject.into(), attached: true, ..Hook::default() };
    let start = Start {
        kernel: KernelFacts {
            release: "6.12.0".into(),
            page_size: 4096,
            possible_cpus: 1,
            cache_line_size: 64,
            dma_minalign: 128,
            kmalloc_minalign: 8,
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots: 32768, areas: 1, ..PoolFacts::default() },
            ..KernelFacts::default()
        },
        hooks: ["bounced", "slot_map", "slot_unmap", "map_sg", "unmap_sg"].map(hook).into(),
        ..Start::default()
    };
    let mut batch = Batch::default();
    for (n, &(caller, last)) in lists.iter().enumerate() {
        let (device, direction, first_segment) = (DeviceId(0), Direction::FromDevice, batch.segments.len() as u32);
        batch.segments.extend([4096, last].map(|length| Segment { length, dma_len: length, ..Segment::default() }));
        let list = 0x100 * (n as u64 + 1);
        let what =
            What::MapSg { device, list, nents: 2, ents: 2, direction, attrs: 0, caller, first_segment, segments: 2 };
        batch.events.push(Event { time_ns: 1 + n as u64, task: 1, cpu: 0, what });
    }
    let device = Device { name: "1.gpu".into(), driver: "gpu".into(), iommu_granule: Some(4096), ..Device::default() };
    let symbol = |addr, name: &str, module: &str| Symbol { addr, name: name.into(), module: module.into() };
    let symbols = vec![symbol(DISPLAY, "drm_gem_map_dma_buf+0x40", "drm"), symbol(DISK, "nvme_map_data+0x40", "")];
    Items([Item::Start(start), Item::Device(device), Item::Symbols(symbols), Item::Events(batch)].into())
}

/// What is printed of lists.
fn printed(lists: &[(u64, u32)]) -> String {
    let wanted = |start: &Start| Wanted { settings: vec![Settings::captured(&start.kernel)], ..Wanted::default() };
    let text = report::replay::text(&replay(&mut stream(lists), wanted).unwrap(), None);
    let from = text.find("\nscatterlists").map_or(text.len(), |at| at + 1);
    let printed = text[from..].trim_end();
    // The items have no end, which comes behind.
    printed.split_once("\n\nCUT:").map_or(printed, |(lists, _)| lists).to_owned()
}

#[test]
fn lists_that_split_are_shown_by_driver_and_by_who_mapped_them() {
    let expected = "\
scatterlists behind an IOMMU that bounces split into more DMA segments, by driver
         policy  lists  split  DMA segments before  after
  gpu  captured      4      3                    3      6

the same by the function that mapped the list
                                    policy  lists  split  DMA segments before  after
  drm_gem_map_dma_buf+0x40 [drm]  captured      2      2                    2      4
  nvme_map_data+0x40              captured      2      1                    1      2";
    assert_eq!(printed(&[(DISPLAY, 8), (DISK, 8), (DISPLAY, 16), (DISK, 4096)]), expected);
}

#[test]
fn where_no_caller_was_recorded_only_drivers_are_shown() {
    let text = printed(&[(0, 8)]);
    assert!(text.contains("by driver\n") && !text.contains("the function that mapped"), "{text}");
    assert_eq!(printed(&[(DISK, 4096)]), "", "nothing splits");
}
