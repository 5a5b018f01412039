//! Small traces as streams.

use proptest::prelude::*;

use super::*;
use crate::{assume::assume, given::from_toml};
use bouncescope_capture::event::{Direction, MAPPING_ERROR, What};
use bouncescope_replay::mapping::Unknown;
use bouncescope_replay::{Replayed, Wanted, replay, settings::Settings};

const KERNEL: &str = "\
# tracer: nop
# entries-in-buffer/entries-written: 9/9   #P:2
  usb-1  [000] d..1.  1.000001: swiotlb_bounced: dev_name: usb dma_mask=ffffffff dev_addr=1008 size=18 NORMAL
  usb-1  [000] d..1.  1.000002: dma_map_page: usb dir=FROM_DEVICE dma_addr=9000 size=18 phys_addr=1008 attrs=
  usb-1  [000] d..1.  1.000003: dma_map_page: usb dir=FROM_DEVICE dma_addr=2000 size=512 phys_addr=2000 attrs=
  usb-1  [000] d..1.  1.000004: dma_unmap_page: usb dir=FROM_DEVICE dma_addr=9000 size=18 attrs=
 nvme-2  [001] d..1.  1.000005: dma_map_page: nvme dir=FROM_DEVICE dma_addr=3000 size=8 phys_addr=3000 attrs=
 nvme-2  [001] d..1.  1.000006: dma_map_sg: nvme dir=TO_DEVICE dma_addrs={0x4000,0x6000} sizes={0x200,0x10} phys_addrs={0x4000,0x6000} attrs=
 nvme-2  [001] d..1.  1.000007: dma_unmap_sg: nvme dir=TO_DEVICE phys_addrs={0x4000,0x6000} attrs=
 nvme-2  [001] d..1.  1.000008: kmalloc: call_site=a+0x1/0x9 ptr=00000000a1 bytes_req=18 bytes_alloc=32 gfp_flags=GFP_KERNEL node=-1 accounted=false
 nvme-2  [001] d..1.  1.000009: sched_switch: prev_comm=a
";

fn kernel() -> KernelFacts {
    let pool = bouncescope_capture::facts::PoolFacts { slots: 512, areas: 2, ..Default::default() };
    KernelFacts {
        page_size: 4096,
        possible_cpus: 2,
        cache_line_size: 64,
        dma_minalign: 128,
        kmalloc_minalign: 8,
        bounce_unaligned_kmalloc: true,
        pool,
        ..KernelFacts::default()
    }
}

fn imported(text: &str, devices: &str) -> (Vec<String>, Replayed) {
    let survey = Survey::of(text.as_bytes()).unwrap();
    let assumed = assume(&survey, kernel(), &[], &from_toml(devices).unwrap());
    let mut trace = Trace::new(text.as_bytes(), &survey, assumed.kernel, assumed.devices, assumed.notes.clone());
    let wanted = |start: &Start| Wanted {
        settings: vec![Settings::captured(&start.kernel)],
        verdict: true,
        ..Wanted::default()
    };
    (assumed.notes, replay(&mut trace, wanted).unwrap())
}

#[test]
fn a_trace_replays_like_a_capture() {
    let (notes, replayed) = imported(KERNEL, "");
    assert_eq!((replayed.verdict.mappings, replayed.verdict.disagreements), (4, 0), "{:?}", replayed.verdict);
    assert_eq!((replayed.verdict.bounces_predicted, replayed.verdict.bounces_kernel), (1, 1));
    assert!(notes.iter().any(|note| note.starts_with("usb: taken as not coherent")), "{notes:?}");
    assert!(notes.iter().any(|note| note.starts_with("nvme: taken as coherent")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("1 line of other events")), "{notes:?}");
    assert_eq!(replayed.statistics.call_sites()[0].call_site, "a+0x1");
}

#[test]
fn what_the_user_tells_of_a_device_counts_more_than_what_the_trace_shows() {
    let (notes, replayed) = imported(KERNEL, "[[device]]\nname = \"nvme\"\ncoherent = false\n");
    assert_eq!(
        (replayed.verdict.disagreements, replayed.verdict.bounces_predicted),
        (1, 2),
        "a short one is left alone"
    );
    assert!(!notes.iter().any(|note| note.contains("nvme: taken")), "{notes:?}");
}

#[test]
fn a_bus_that_keeps_no_distance_is_an_iommu_and_bounces_are_not_asked() {
    let map = |n: u64, size: u64| {
        format!(
            " a-1 [0] 1.{n:06}: dma_map_phys: d dir=FROM_DEVICE dma_addr={:x} size={size} phys_addr={:x} attrs=\n",
            n * n * 4096,
            n * 4096
        )
    };
    let granule = |size: u64| {
        let text: String = (1..9).map(|n| map(n, size)).collect();
        let survey = Survey::of(text.as_bytes()).unwrap();
        assume(&survey, kernel(), &[], &[]).devices[0].iommu_granule
    };
    assert_eq!((granule(4096), granule(18)), (Some(4096), None));
}

#[test]
fn lost_events_leave_doubts_and_are_told() {
    let lost = KERNEL.replace("9/9", "9/13") + "CPU:0 [LOST 3 EVENTS]\n";
    let (_, replayed) = imported(&lost, "");
    assert_eq!(replayed.counters.lost[&Loss::TraceEvents], [7]);
    assert!(replayed.verdict.unknown_by_reason[&Unknown::EventsLost] > 0, "{:?}", replayed.verdict);
}

#[test]
fn a_refused_mapping_and_a_merged_list_are_what_they_are() {
    let text = "\
 a-1 [000] d..1. 1.000001: dma_map_phys: d dir=FROM_DEVICE dma_addr=ffffffffffffffff size=18 phys_addr=1008 attrs=MMIO
 a-1 [000] d..1. 1.000002: dma_map_sg: d dir=FROM_DEVICE nents=2/2 ents=1/1 dma_addrs={0x4000} sizes={0x210} phys_addrs={0x4000,0x6000} attrs=
 a-1 [000] d..1. 1.000003: dma_map_phys: d dir=FROM
";
    let survey = Survey::of(text.as_bytes()).unwrap();
    assert_eq!((survey.merged_lists, survey.nonsense), (1, 1));
    assert!(survey.first_nonsense.contains("dir=FROM"), "{}", survey.first_nonsense);
    let mut trace =
        Trace::new(text.as_bytes(), &survey, kernel(), vec![Device { name: "d".into(), ..Device::default() }], vec![]);
    let mut events = Vec::new();
    while let Some(item) = trace.next_item().unwrap() {
        if let Item::Events(batch) = item {
            events.extend(batch.events);
        }
    }
    assert!(matches!(events[0].what, What::Map { dma_addr: MAPPING_ERROR, direction: Direction::FromDevice, .. }));
    assert!(matches!(events[1].what, What::MapSg { nents: 2, ents: 1, segments: 0, .. }));
    assert_eq!(events.len(), 2);
}

/// As `print` makes it of a trace in binary: tracefs itself prints a refused list's buffers as `dma_addrs`.
#[test]
fn a_refused_list_takes_no_bounces_from_the_lists_before_it() {
    let text = "\
 a-1 [000] d..1. 1.000001: dma_map_sg: d dir=FROM_DEVICE dma_addrs={0x4800} sizes={0x10} phys_addrs={0x4800} attrs=
 a-1 [000] d..1. 1.000002: dma_map_sg_err: d dir=FROM_DEVICE phys_addrs={0x6000} attrs=
";
    let survey = Survey::of(text.as_bytes()).unwrap();
    let device = Device { name: "d".into(), ..Device::default() };
    let mut trace = Trace::new(text.as_bytes(), &survey, kernel(), vec![device], vec![]);
    let mut events = Vec::new();
    while let Some(item) = trace.next_item().unwrap() {
        if let Item::Events(batch) = item {
            events.extend(batch.events);
        }
    }
    assert_eq!(events.iter().map(|event| event.what.kind()).collect::<Vec<_>>(), [Kind::MapSg, Kind::MapSg]);
}

#[test]
fn what_no_device_can_be_called_makes_a_line_that_cannot_be_read() {
    let long = "x".repeat(256);
    let text =
        KERNEL.replace(": nvme dir", &format!(": {long} dir")).replace("dev_name: usb", &format!("dev_name: {long}"));
    let survey = Survey::of(text.as_bytes()).unwrap();
    assert_eq!((survey.nonsense, survey.devices.len()), (4, 1), "{}", survey.first_nonsense);
    let (_, replayed) = imported(&text, "");
    assert_eq!(replayed.verdict.mappings, 2, "none is taken for another device's");
}

/// A stream, each item as text.
fn items<R: BufRead>(mut trace: Trace<R>) -> Vec<String> {
    let mut items = Vec::new();
    while let Some(item) = trace.next_item().unwrap() {
        items.push(format!("{item:?}"));
    }
    items.push(format!("{} twice", trace.twice()));
    items
}

/// A stream made of what is kept is that made of the text; how many items it has.
fn is_same_from_kept(text: &[u8]) -> usize {
    let mut kept = Vec::new();
    let survey = Survey::keeping(text, &mut kept).unwrap();
    assert_eq!(format!("{survey:?}"), format!("{:?}", Survey::of(text).unwrap()));
    let assumed = assume(&survey, kernel(), &[], &[]);
    // Of one device nobody says anything.
    for left_out in 0..assumed.devices.len().min(2) {
        let devices = assumed.devices[left_out..].to_vec();
        let from_text = items(Trace::new(text, &survey, kernel(), devices.clone(), Vec::new()));
        assert_eq!(items(Trace::of_kept(&*kept, &survey, kernel(), devices, Vec::new())), from_text);
    }
    items(Trace::of_kept(&*kept, &survey, kernel(), assumed.devices, Vec::new())).len()
}

const TEXTS: [&str; 5] = [
    include_str!("../../../../tests/traces/6.18-direct-hold-100.txt"),
    include_str!("../../../../tests/traces/6.18-x86-perf-script.txt"),
    include_str!("../../../../tests/traces/6.18-x86-trace-cmd-report.txt"),
    include_str!("../../../../tests/traces/6.18-x86-everything.txt"),
    include_str!("../../../../tests/import/cases.toml"),
];

#[test]
fn what_is_kept_of_a_text_makes_the_same_stream() {
    for text in TEXTS.into_iter().chain([KERNEL]) {
        assert!(is_same_from_kept(text.as_bytes()) > 4);
        // Out of order, twice, and in several blocks.
        assert!(is_same_from_kept(text.repeat(3).as_bytes()) > 4);
    }
    let main = KERNEL.replace("\n ", "\nother: ") + KERNEL + &KERNEL.replace("\n  usb", "\nthird: usb");
    assert!(is_same_from_kept(main.as_bytes()) > 4, "several instances");
}

#[test]
fn what_was_kept_and_is_damaged_is_an_error() {
    let mut kept = Vec::new();
    let survey = Survey::keeping(KERNEL.as_bytes(), &mut kept).unwrap();
    for length in 1..kept.len() {
        let mut trace = Trace::of_kept(&kept[..length], &survey, kernel(), Vec::new(), Vec::new());
        let read = std::iter::from_fn(|| trace.next_item().transpose()).find_map(Result::err);
        assert!(read.is_some(), "{length} of {} bytes", kept.len());
    }
}

#[test]
fn a_text_whose_events_cannot_be_kept_is_an_error_that_says_so() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = Survey::keeping(KERNEL.as_bytes(), Full).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("temporary file"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lines_in_any_order_make_the_same_stream_from_what_is_kept(
        lines in prop::collection::vec((0..TEXTS.len(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ -~]{0,2}"), 1..60),
    ) {
        let mut text = String::new();
        for (from, line, at, put) in lines {
            let all: Vec<&str> = TEXTS[from].lines().collect();
            let mut line = line.get(&all).to_string();
            let mut at = at.index(line.len() + 1);
            while !line.is_char_boundary(at) { at -= 1; }
            line.insert_str(at, &put);
            text += &line;
            text.push('\n');
        }
        is_same_from_kept(text.as_bytes());
    }
}
