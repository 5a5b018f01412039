//! Lists as a kernel maps them, and as none does.

use super::*;
use crate::{
    Replayed, Wanted,
    pass::Pass,
    sample::{self, DEVICE},
};
use bouncescope_capture::event::{Batch, Direction};
use bouncescope_capture::facts::Device;
use bouncescope_capture::stream::{Gaps, Item};

const PAGE: (u32, u32) = (0, 4096);
const SMALL: (u32, u32) = (8, 8);
const CALLER: u64 = 0xffff_8000_8001_2340;

/// A kernel with marks, and a device behind an IOMMU.
struct Stream {
    start: Start,
    device: Device,
    batch: Batch,
}

impl Stream {
    fn new() -> Self {
        let mut start = Start { time_ns: 0, ..sample::start() };
        start.kernel.config = [("CONFIG_NEED_SG_DMA_FLAGS".to_owned(), "y".to_owned())].into();
        let device = Device {
            name: "0000:00:05.0".into(),
            driver: "mmc".into(),
            dma_mask: u64::MAX,
            iommu_granule: Some(4096),
            max_segment_size: Some(65536),
            ..Device::default()
        };
        Self { start, device, batch: Batch::default() }
    }

    fn push(&mut self, what: What) {
        let time_ns = 1000 * (1 + self.batch.events.len() as u64);
        self.batch.events.push(Event { time_ns, task: 1, cpu: 0, what });
    }

    /// A list of segments of offset and length, with so many DMA segments, marked or not. Small segments bounce where it is `apart`.
    fn list(mut self, segments: &[(u32, u32)], ents: u32, marked: bool, apart: bool) -> Self {
        let device = DEVICE;
        for &(offset, length) in segments.iter().filter(|(_, length)| apart && *length < 256) {
            let (phys, size, direction) = (0x4000_0000 | u64::from(offset), u64::from(length), Direction::FromDevice);
            let slot = 0x8000_0000 + self.batch.events.len() as u64 * 4096;
            self.push(What::Bounced { device, dev_addr: phys, size });
            self.push(What::SlotMap { device, phys, slot, size, align_mask: 4095, direction, duration_ns: 0 });
        }
        let first_segment = self.batch.segments.len() as u32;
        self.batch.segments.extend(segments.iter().enumerate().map(|(n, &(offset, length))| Segment {
            page: 0xffff_fdff_0000_0040,
            dma_addr: 0xffff_0000 + 4096 * n as u64,
            offset,
            length,
            dma_len: length,
            dma_flags: if n == 0 && marked { SWIOTLB } else { 0 },
            ..Segment::default()
        }));
        let nents = segments.len() as u32;
        self.push(What::MapSg {
            device,
            list: 0x1000,
            nents,
            ents,
            direction: Direction::FromDevice,
            attrs: 0,
            caller: CALLER,
            first_segment,
            segments: nents,
        });
        self
    }

    fn replayed(self) -> Replayed {
        let mut pass = Pass::new(self.start, Wanted { verdict: true, ..Wanted::default() });
        for item in [Item::Device(self.device), Item::Events(self.batch)] {
            pass.item(item, &mut |_, _| ());
        }
        pass.end(&mut |_, _| ());
        pass.finish(Vec::new(), Gaps::default())
    }

    fn lists(self) -> Lists {
        self.replayed().verdict.lists
    }
}

#[test]
fn lists_that_stay_whole_and_lists_that_are_taken_apart_agree_and_are_counted() {
    let stream = Stream::new().list(&[PAGE; 3], 1, false, false).list(&[PAGE, SMALL, PAGE], 3, true, true);
    let replayed = stream.list(&[PAGE], 1, false, false).replayed();
    let lists = &replayed.verdict.lists;
    assert_eq!((lists.compared, lists.behind_iommu, lists.disagreements, lists.unknown), (3, 3, 0, 0));
    assert_eq!((lists.of_several, lists.of_mixed_lengths), (2, 1));
    assert_eq!((lists.dma_segments_predicted, lists.dma_segments_kernel), (5, 5));
    assert_eq!((lists.marked_predicted, lists.marked_kernel), (1, Some(1)));
    assert!(lists.stale_marks.is_empty() && lists.differences.is_empty());
    assert_eq!(replayed.verdict.disagreements, 0);
}

#[test]
fn the_ways_to_map_lists_are_predicted_side_by_side() {
    let lists = Stream::new().list(&[PAGE, PAGE, SMALL, PAGE, PAGE], 5, true, true).lists();
    let modes: Vec<_> = lists.dma_segments_by_mode.into_iter().collect();
    assert_eq!(modes, [("flagged", 3), ("whole-list", 5), ("whole-list-bounce", 5)]);
}

#[test]
fn other_dma_segments_than_predicted_disagree() {
    let replayed = Stream::new().list(&[PAGE; 3], 3, false, false).replayed();
    let lists = &replayed.verdict.lists;
    assert_eq!((lists.compared, lists.disagreements), (1, 1));
    assert!(!replayed.verdict.agrees());
    let [one] = &lists.differences[..] else { panic!("{lists:?}") };
    assert_eq!((one.dma_segments_predicted, one.dma_segments_kernel), (Some(1), 3));
    assert_eq!((one.segments, one.caller.as_str(), one.driver.as_str()), (3, "0xffff800080012340", "mmc"));
}

#[test]
fn a_missing_mark_disagrees_where_the_kernel_has_marks() {
    let lists = Stream::new().list(&[SMALL], 1, false, true).lists();
    assert_eq!((lists.disagreements, lists.marked_predicted, lists.marked_kernel), (1, 1, Some(0)));
    assert_eq!((lists.differences[0].marked_predicted, lists.differences[0].marked_kernel), (true, Some(false)));

    let mut without = Stream::new();
    without.start.kernel.config.clear();
    let lists = without.list(&[SMALL], 1, false, true).lists();
    assert_eq!((lists.disagreements, lists.marked_kernel), (0, None));
    assert!(lists.differences.is_empty());
}

#[test]
fn a_list_that_is_taken_apart_against_the_prediction_disagrees() {
    // 8 bytes that a coherent device writes do not bounce.
    let mut stream = Stream::new();
    stream.device.coherent = true;
    let lists = stream.list(&[PAGE, SMALL], 2, true, true).lists();
    assert_eq!((lists.disagreements, lists.marked_predicted, lists.marked_kernel), (1, 0, Some(1)));
    assert!(lists.stale_marks.is_empty());
}

#[test]
fn the_mark_of_an_earlier_mapping_is_a_finding_and_no_disagreement() {
    let stream = Stream::new().list(&[SMALL], 1, true, true).list(&[PAGE; 3], 1, true, false);
    let replayed = stream.list(&[PAGE], 1, true, false).replayed();
    let lists = &replayed.verdict.lists;
    assert_eq!((lists.disagreements, lists.marked_predicted, lists.marked_kernel), (0, 1, Some(1)));
    let stale = StaleMarks {
        device: "0000:00:05.0".into(),
        driver: "mmc".into(),
        caller: "0xffff800080012340".into(),
        module: String::new(),
        lists: 2,
        earlier_recorded: 2,
        of_several: 1,
        first_ns: 4000,
    };
    assert_eq!(lists.stale_marks, [stale]);
}

#[test]
fn a_stale_mark_from_before_the_recording_is_found_too() {
    let lists = Stream::new().list(&[PAGE], 1, true, false).lists();
    assert_eq!((lists.stale_marks[0].lists, lists.stale_marks[0].earlier_recorded), (1, 0));
    assert_eq!(lists.disagreements, 0);
}

#[test]
fn without_an_iommu_nothing_is_concatenated_and_a_mark_means_nothing() {
    let direct = |ents| {
        let mut stream = Stream::new();
        stream.device.iommu_granule = None;
        stream.list(&[PAGE; 3], ents, true, false).lists()
    };
    let lists = direct(3);
    assert_eq!((lists.compared, lists.behind_iommu, lists.disagreements), (1, 0, 0));
    assert!(lists.stale_marks.is_empty());
    assert_eq!(direct(1).disagreements, 1);
}

#[test]
fn what_is_not_wholly_known_is_not_compared() {
    let mut truncated = Stream::new().list(&[PAGE; 3], 1, false, false);
    let What::MapSg { nents, .. } = &mut truncated.batch.events[0].what else { unreachable!() };
    *nents = 300;
    let lists = truncated.lists();
    assert_eq!((lists.compared, lists.unknown), (0, 1));

    let mut of_pci = Stream::new().list(&[PAGE; 3], 3, false, false);
    of_pci.batch.segments[1].dma_flags = BUS_ADDRESS;
    assert_eq!(of_pci.lists().unknown, 1);

    // The kernel's own trace tells no pages, and no marks.
    let mut of_trace = Stream::new().list(&[SMALL], 1, false, true);
    of_trace.batch.segments[0].page = 0;
    let lists = of_trace.lists();
    assert_eq!((lists.compared, lists.unknown, lists.disagreements), (0, 0, 0));

    let mut joined = Stream::new().list(&[SMALL], 1, false, true);
    joined.start.joined_ns = Some(1 << 40);
    assert_eq!(joined.lists().compared, 0);
}

#[test]
fn where_the_longest_segment_is_not_recorded_only_what_does_not_depend_on_it_is_compared() {
    let lists = |count, ents| {
        let mut stream = Stream::new();
        stream.device.max_segment_size = None;
        stream.list(&vec![PAGE; count], ents, false, false).lists()
    };
    assert_eq!(lists(16, 2).disagreements, 1);
    let open = lists(17, 1);
    assert_eq!((open.disagreements, open.compared, open.dma_segments_kernel), (0, 1, 0));
}

#[test]
fn a_refused_list_is_left_to_the_comparison_of_mappings() {
    let lists = Stream::new().list(&[PAGE; 3], 0, false, false).lists();
    assert_eq!((lists.compared, lists.unknown, lists.disagreements), (0, 0, 0));
}
