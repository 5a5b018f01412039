//! A trace in pages made here, and recordings that begin in the middle of it.

use super::*;
use bouncescope_capture::event::Memory;
use bouncescope_capture::facts::{End, Hook, KernelFacts, PoolFacts, PoolSample};
use bouncescope_capture::names::Subject;
use bouncescope_capture::stream::Source;
use bouncescope_replay::{Replayed, Wanted, replay, settings::Settings};

const MAP: &str = "\
name: dma_map_phys
ID: 11
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:u64 phys_addr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:u64 dma_addr;\toffset:16;\tsize:8;\tsigned:0;
\tfield:size_t size;\toffset:24;\tsize:8;\tsigned:0;
\tfield:int dir;\toffset:32;\tsize:4;\tsigned:0;
\tfield:char device[8];\toffset:40;\tsize:8;\tsigned:0;
";
const UNMAP: &str = "\
name: dma_unmap_phys
ID: 12
format:
\tfield:u64 addr;\toffset:16;\tsize:8;\tsigned:0;
\tfield:size_t size;\toffset:24;\tsize:8;\tsigned:0;
\tfield:int dir;\toffset:32;\tsize:4;\tsigned:0;
\tfield:char device[8];\toffset:40;\tsize:8;\tsigned:0;
";
const BOUNCED: &str = "\
name: swiotlb_bounced
ID: 13
format:
\tfield:u64 dev_addr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:u64 dma_mask;\toffset:16;\tsize:8;\tsigned:0;
\tfield:size_t size;\toffset:24;\tsize:8;\tsigned:0;
\tfield:bool force;\toffset:32;\tsize:4;\tsigned:0;
\tfield:char dev_name[8];\toffset:40;\tsize:8;\tsigned:0;
";
const PAGE: &str = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
                    \tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n";

/// An event of the format `id`, at a time, of the device `usb`.
fn event(id: u16, [a, b, size]: [u64; 3]) -> Vec<u8> {
    let mut bytes = id.to_ne_bytes().to_vec();
    bytes.extend([0; 2]);
    bytes.extend(77_u32.to_ne_bytes());
    for number in [a, b, size] {
        bytes.extend(number.to_ne_bytes());
    }
    // DMA_FROM_DEVICE; of a bounce, not forced.
    bytes.extend(u64::from(if id == 13 { 0 } else { 2_u32 }).to_ne_bytes());
    bytes.extend(b"usb\0\0\0\0\0");
    bytes
}

/// A page of CPU 0 with events at these times, ns.
fn ring(events: &[(u64, Vec<u8>)]) -> Ring {
    let (mut data, mut time) = (Vec::new(), 0);
    for (at, event) in events {
        let delta = at - time;
        data.extend(((delta as u32 & 0x07ff_ffff) << 5 | 0x1e).to_ne_bytes());
        data.extend(((delta >> 27) as u32).to_ne_bytes());
        data.extend((event.len() as u32 / 4).to_ne_bytes());
        data.extend(event);
        time = *at;
    }
    let mut pages = [0_u64.to_ne_bytes(), (data.len() as u64).to_ne_bytes()].concat();
    pages.extend(data);
    pages.resize(4096, 0);
    let formats = [MAP, UNMAP, BOUNCED].map(str::to_owned).to_vec();
    Ring { header_page: PAGE.into(), formats, page_size: 4096, cpus: vec![(0, 0..4096)], pages, lost: 0 }
}

const MS: u64 = 1_000_000;

/// Maps 18 bytes at `phys`, which bounce to the slot.
fn bounce(time_ns: u64, phys: u64, slot: u64) -> [(u64, Vec<u8>); 2] {
    [(time_ns - 10, event(13, [phys, u64::from(u32::MAX), 18])), (time_ns, event(11, [phys, slot, 18]))]
}

/// What a trace has: two bounces at boot, of which one stays, a long buffer, and 5 ms after the recorder began a third.
fn traced() -> Vec<(u64, Vec<u8>)> {
    let mut events = Vec::new();
    events.extend(bounce(MS, 0x1008, 0x8000));
    events.extend(bounce(2 * MS, 0x2008, 0x8800));
    events.push((3 * MS, event(12, [0, 0x8000, 18])));
    events.push((4 * MS, event(11, [0x3000, 0x3000, 512])));
    // While the recorder attaches itself, and after that.
    events.push((9 * MS, event(11, [0x4000, 0x4000, 18 << 10])));
    events.extend(bounce(15 * MS, 0x5008, 0x8000));
    events
}

fn device(id: u32) -> Device {
    Device { id: DeviceId(id), name: "usb".into(), dma_mask: u64::from(u32::MAX), ..Device::default() }
}

fn at(time_ns: u64, what: What) -> Event {
    Event { time_ns, task: 77, cpu: 0, what }
}

fn map(time_ns: u64, phys: u64, dma_addr: u64, size: u64) -> Event {
    let direction = Direction::FromDevice;
    at(time_ns, What::Map { device: DeviceId(0), phys, dma_addr, size, direction, memory: Memory::Unknown, attrs: 0 })
}

/// The third bounce, as a recorder has it, somewhat later.
fn third() -> Vec<Event> {
    let (device, direction) = (DeviceId(0), Direction::FromDevice);
    let slot = What::SlotMap { device, phys: 0x5008, slot: 0x8000, size: 18, align_mask: 0, direction, duration_ns: 3 };
    vec![
        at(15 * MS - 9, What::Bounced { device, dev_addr: 0x5008, size: 18 }),
        at(15 * MS - 5, slot),
        map(15 * MS + 1, 0x5008, 0x8000, 18),
    ]
}

fn length(length: u32, count: u64, bytes: u64) -> LengthCount {
    let (device, direction, mapped) = (DeviceId(0), Direction::FromDevice, Mapped::Single);
    LengthCount { device, direction, mapped, length, count, bytes }
}

fn start() -> Start {
    let pool = PoolFacts { slots: 512, areas: 1, used_at_start: 1, ..PoolFacts::default() };
    let kernel = KernelFacts {
        page_size: 4096,
        possible_cpus: 1,
        cache_line_size: 64,
        dma_minalign: 128,
        kmalloc_minalign: 8,
        bounce_unaligned_kmalloc: true,
        pool,
        ..KernelFacts::default()
    };
    let hook = |subject| Hook { subject, attached: true, ..Hook::default() };
    let subjects =
        [Subject::Bounced, Subject::SlotMap, Subject::SlotUnmap, Subject::Map, Subject::Unmap, Subject::MapSg];
    Start { time_ns: 10 * MS, kernel, hooks: subjects.map(hook).into(), ..Start::default() }
}

fn begun(events: Vec<Event>) -> Begun {
    let pool = PoolSample { time_ns: 10 * MS, slots: 512, used_slots: 1, hiwater_slots: None, restricted: Vec::new() };
    let batch = Batch { events, segments: Vec::new() };
    Begun {
        start: start(),
        items: vec![Item::Device(device(0)), Item::Events(batch), Item::Pool(pool)],
        counted: Vec::new(),
        traced_to_ns: 30 * MS,
        recorded_to_ns: 20 * MS,
        ..Begun::default()
    }
}

/// The recorder's own word on what it saw.
fn end(seen: &[(Kind, u64)]) -> Vec<Item> {
    let by_kind =
        |count: fn(u64) -> Vec<u64>| seen.iter().map(|(kind, n)| (kind.name().to_owned(), count(*n))).collect();
    let counters = Counters { time_ns: 40 * MS, seen: by_kind(|n| vec![n]), ..Counters::default() };
    let events = seen.iter().map(|(kind, n)| (kind.name().to_owned(), *n)).collect();
    vec![Item::Counters(counters), Item::End(End { time_ns: 40 * MS, events, ..End::default() })]
}

struct Items(std::vec::IntoIter<Item>);

impl Source for Items {
    type Error = io::Error;

    fn next_item(&mut self) -> io::Result<Option<Item>> {
        Ok(self.0.next())
    }
}

fn replayed(joined: &mut Joined, rest: Vec<Item>) -> Replayed {
    let mut items = std::mem::take(&mut joined.items);
    items.extend(rest.into_iter().map(|item| joined.rest.item(item)));
    let wanted = |start: &Start| Wanted {
        settings: vec![Settings::captured(&start.kernel)],
        verdict: true,
        ..Wanted::default()
    };
    replay(&mut Items(items.into_iter()), wanted).unwrap()
}

fn joined(trace: &[(u64, Vec<u8>)], begun: Begun) -> Joined {
    join(&ring(trace), begun, &|_| None).unwrap()
}

fn notes(joined: &Joined) -> Vec<String> {
    let Some(Item::Start(start)) = joined.items.first() else { panic!("it begins with no start") };
    start.notes.clone()
}

#[test]
fn each_mapping_is_there_once_and_all_totals_hold() {
    let mut recorded = vec![map(9 * MS + 500, 0x4000, 0x4000, 18 << 10)];
    recorded.extend(third());
    let mut joined = joined(&traced(), begun(recorded));
    assert_eq!((joined.at_ns, joined.events, joined.mappings), (10 * MS + QUIET_NS, 7, 4));
    assert_eq!((joined.in_both, joined.in_one, joined.lost), (1, 0, 0));
    let said = notes(&joined);
    assert!(said.iter().all(|note| !note.contains("missing") && !note.contains("twice")), "{said:?}");
    let release = What::SlotUnmap { device: DeviceId(0), slot: 0x8800, size: 18, direction: Direction::FromDevice };
    let unmap =
        What::Unmap { device: DeviceId(0), dma_addr: 0x8800, size: 18, direction: Direction::FromDevice, attrs: 0 };
    // The programs counted both that the recorder saw.
    let counted = vec![length(18, 1, 18), length(256, 1, 18 << 10)];
    let late = Batch { events: vec![at(35 * MS, release), at(35 * MS + 9, unmap)], segments: Vec::new() };
    let seen = [(Kind::Map, 2), (Kind::Unmap, 1), (Kind::Bounced, 1), (Kind::SlotMap, 1), (Kind::SlotUnmap, 1)];
    let rest = [Item::Events(late), Item::Lengths(counted)].into_iter().chain(end(&seen)).collect();
    let replayed = replayed(&mut joined, rest);
    let verdict = &replayed.verdict;
    assert_eq!((verdict.mappings, verdict.disagreements, verdict.unknown), (5, 0, 0), "{verdict:?}");
    assert_eq!((verdict.bounces_predicted, verdict.bounces_kernel), (3, 3));
    assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
    assert_eq!(verdict.peak_slots_predicted, 2);
}

#[test]
fn what_a_recorder_saw_that_was_never_traced_is_found_out() {
    let mut recorded = third();
    recorded.push(map(16 * MS, 0x6000, 0x6000, 18 << 10));
    let joined = joined(&traced(), begun(recorded));
    assert_eq!((joined.in_both, joined.in_one), (1, 1));
    assert!(notes(&joined).iter().any(|note| note.contains("1 are not in both")), "{:?}", notes(&joined));
    let none = self::joined(&traced(), begun(Vec::new()));
    assert_eq!((none.in_both, none.in_one), (0, 1), "all are streamed, so the third is missing");
}

#[test]
fn joining_waits_for_a_quiet_moment() {
    let busy: BTreeSet<u64> = (0..50).map(|n| 10 * MS + n * QUIET_NS).collect();
    assert_eq!(quiet(&busy, 10 * MS, 20 * MS, |_| 0), (10 * MS + 50 * QUIET_NS, true));
    assert_eq!(quiet(&busy, 10 * MS, 12 * MS, |_| 0), (10 * MS + QUIET_NS / 2, false), "there is none");
    assert_eq!(quiet(&BTreeSet::new(), 10 * MS, 20 * MS, |_| 0), (10 * MS + QUIET_NS, true));
    assert_eq!(quiet(&BTreeSet::new(), 10 * MS, 10 * MS, |_| 0), (10 * MS, false), "and no time");
    // A list is mapped until then.
    let (two, list_until) = (BTreeSet::from([11 * MS, 12 * MS]), |time_ns| u64::from(time_ns < 12 * MS));
    assert_eq!(quiet(&two, 10 * MS, 20 * MS, list_until), (12 * MS + QUIET_NS, true));
}

#[test]
fn a_trace_that_was_stopped_leaves_a_gap_that_is_stated_and_counts_as_a_loss() {
    let stopped = Begun { gap: "it had been stopped".into(), ..begun(third()) };
    let joined = joined(&traced()[..6], stopped);
    assert_eq!((joined.at_ns, joined.lost), (10 * MS, 1));
    let said = notes(&joined);
    assert!(said.iter().any(|note| note.contains("from 0.004000 s to 0.010000 s is missing")), "{said:?}");
}

#[test]
fn slots_that_no_traced_mapping_holds_are_somebody_elses_where_the_trace_is_not_whole() {
    let used = |lost: u64| {
        let mut begun = begun(third());
        if let Some(Item::Pool(sample)) = begun.items.last_mut() {
            sample.used_slots = 4;
        }
        let joined = join(&Ring { lost, ..ring(&traced()) }, begun, &|_| None).unwrap();
        let Some(Item::Start(start)) = joined.items.first() else { panic!("it begins with no start") };
        start.kernel.pool.used_at_start
    };
    assert_eq!((used(0), used(7)), (0, 3));
}

#[test]
fn the_kernels_mark_is_that_of_the_whole_unless_somebody_reset_it() {
    let is_taken = |mark: Option<u64>, lost: u64| {
        let mut begun = begun(third());
        if let Some(Item::Pool(sample)) = begun.items.last_mut() {
            sample.hiwater_slots = mark;
        }
        let joined = join(&Ring { lost, ..ring(&traced()) }, begun, &|_| None).unwrap();
        let Some(Item::Start(start)) = joined.items.first() else { panic!("it begins with no start") };
        let kept = joined.items.iter().any(|item| matches!(item, Item::Pool(sample) if sample.hiwater_slots.is_some()));
        (start.kernel.pool.hiwater_reset, kept)
    };
    // Two slots were in use at once.
    assert_eq!([(Some(2), 0), (Some(3), 0)].map(|(mark, lost)| is_taken(mark, lost)), [(true, true); 2]);
    assert_eq!(
        [is_taken(Some(1), 0), is_taken(None, 0), is_taken(Some(2), 5)],
        [(false, false), (false, false), (false, true)]
    );
}

#[test]
fn a_length_that_is_not_streamed_is_counted_by_what_the_programs_say() {
    let mut recorded = begun(third());
    recorded.start.streamed = Streamed::Small;
    // Of the two long buffers the programs counted the second.
    recorded.counted = vec![(10 * MS..10 * MS + 1000, vec![length(256, 1, 18 << 10)])];
    let joined = joined(&traced(), recorded);
    let lengths: Vec<_> = joined
        .items
        .iter()
        .find_map(|item| if let Item::Lengths(all) = item { Some(all.clone()) } else { None })
        .unwrap();
    assert_eq!(lengths, [length(18, 2, 36), length(256, 1, 512)]);
    assert!(notes(&joined).iter().all(|note| !note.contains("off by")), "{:?}", notes(&joined));
}

#[test]
fn a_device_that_maps_no_more_is_as_firmware_and_the_trace_have_it() {
    let mut recorded = begun(Vec::new());
    recorded.items.clear();
    let known = |name: &str| {
        let given = GivenDevice { name: name.into(), driver: Some("xhci".into()), ..GivenDevice::default() };
        Some(GivenDevice { coherent: Some(true), ..given })
    };
    let joined = join(&ring(&traced()), recorded, &known).unwrap();
    let devices: Vec<&Device> = joined.items.iter().filter_map(device_of).collect();
    assert_eq!((devices.len(), devices[0].driver.as_str(), devices[0].coherent), (1, "xhci", false), "it bounced");
}
