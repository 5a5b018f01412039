//! Scatterlists that lose their concatenation, by driver and by the function that mapped them, and those that `verify` compares: from the
//! record to what is printed.

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

/// What `verify` prints of lists; each of three pages, with so many DMA segments, and the mark or not.
fn verified(lists: &[(u32, bool)]) -> String {
    let Items(mut items) = stream(&vec![(DISPLAY, 4096); lists.len()]);
    for item in &mut items {
        match item {
            Item::Start(start) => drop(start.kernel.config.insert("CONFIG_NEED_SG_DMA_FLAGS".into(), "y".into())),
            Item::Events(batch) => {
                for (segment, n) in batch.segments.iter_mut().zip(0..) {
                    segment.page = 0xffff_fdff_0000_0040;
                    segment.dma_flags = if n % 2 == 0 && lists[n / 2].1 { 2 } else { 0 };
                }
                for (event, (made, _)) in batch.events.iter_mut().zip(lists) {
                    let What::MapSg { ents, .. } = &mut event.what else { unreachable!("only lists") };
                    *ents = *made;
                }
            }
            _ => {}
        }
    }
    let wanted = |_: &Start| Wanted { verdict: true, ..Wanted::default() };
    let text = report::verify::text(&replay(&mut Items(items), wanted).unwrap());
    let shown = |line: &&str| {
        !line.is_empty()
            && !["records", "not compared: records"].iter().any(|one| line.starts_with(one))
            && !line.contains("predicted    kernel")
    };
    let lines: Vec<_> = text.lines().filter(shown).collect();
    let from = lines.iter().position(|line| line.starts_with("AGREES") || line.starts_with("DISAGREES")).unwrap();
    let to = lines.iter().position(|line| line.starts_with("CUT")).unwrap_or(lines.len());
    let figures = |line: &&&str| !["  bounces", "  peak slots", "  refused"].iter().any(|row| line.starts_with(row));
    lines[from..to].iter().filter(figures).flat_map(|line| [*line, "\n"]).collect()
}

#[test]
fn verify_says_that_lists_came_out_as_predicted() {
    let expected = "\
AGREES     All 2 mappings came out as predicted.
lists    2 compared: 2 DMA segments as predicted; 0 marked SG_DMA_SWIOTLB as
         predicted
";
    assert_eq!(verified(&[(1, false), (1, false)]), expected);
}

#[test]
fn verify_names_who_mapped_a_list_otherwise_than_predicted() {
    let expected = "\
DISAGREES  1 of 2 lists came out in other DMA segments than predicted, or marked
           otherwise.
lists    2 compared: 3 DMA segments, 2 predicted; 0 marked SG_DMA_SWIOTLB as
         predicted; 1 list differs
DISAGREES at 0.000000 s, CPU 0: 1.gpu (gpu), list of 2 mapped by
  drm_gem_map_dma_buf+0x40: predicted 1 DMA segment, not marked, kernel 2, not
  marked
";
    assert_eq!(verified(&[(2, false), (1, false)]), expected);
}

#[test]
fn verify_names_who_maps_a_table_that_still_has_its_mark() {
    let expected = "\
AGREES     All 2 mappings came out as predicted.
lists    2 compared: 2 DMA segments as predicted; 0 marked SG_DMA_SWIOTLB as
         predicted
STALE MARK 1.gpu (gpu), drm_gem_map_dma_buf+0x40 [drm]: 1 list carries
  SG_DMA_SWIOTLB from before the recording, though nothing in it bounces; 1 of
  several segments, the first at 0.000000 s
  -> The kernel clears the mark in sg_init_table() alone. Unmapping and syncs
     take a marked list for one that was mapped entry by entry: they maintain
     caches for the wrong memory, and unmap entries that have no address. The
     driver must initialise the table before it maps it again.
";
    assert_eq!(verified(&[(1, true), (1, false)]), expected);
}
