//! Traces of Perfetto, made here of what tracefs of a real kernel wrote.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use flate2::{Compression, write::ZlibEncoder};
use proptest::prelude::*;

use super::super::as_text::Noted as _;
use super::super::protobuf::Message;
use super::*;
use crate::assume::assume;
use crate::ftrace::{Survey, Trace};
use bouncescope_capture::event::{Event, Kind};
use bouncescope_capture::facts::{Counters, Device, KernelFacts};
use bouncescope_capture::stream::{Item, Source};

const REAL: &str = include_str!("../../../../tests/traces/6.18-direct-hold-100.txt");

/// A line of tracefs as a `FtraceEvent`, and its CPU. Events of devices are `GenericFtraceEvent`, those with an id in `described` messages
/// of their own.
fn event(line: &str, described: &[(&str, u32)]) -> (u64, Message) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let cpu = words[1].trim_matches(['[', ']']).parse().unwrap();
    let time: u64 = words[3].trim_end_matches(':').replace('.', "").parse().unwrap();
    let name = words[4].trim_end_matches(':');
    let task = words[0].rsplit('-').next().unwrap().parse().unwrap();
    let event = Message::default().number(1, time * 1000).number(2, task);
    let device = if name == "swiotlb_bounced" { ("dev_name", words[6]) } else { ("device", words[5]) };
    let mut fields = vec![(device.0, Err(device.1))];
    for word in &words[6..] {
        let number = match word.split_once('=') {
            Some(("dir", value)) => {
                ("dir", ["BIDIRECTIONAL", "TO_DEVICE", "FROM_DEVICE"].iter().position(|d| *d == value).unwrap() as u64)
            }
            Some(("size", value)) => ("size", value.parse().unwrap()),
            Some(("attrs", "")) => ("attrs", 0),
            Some(("dma_addr", value)) if name.starts_with("dma_unmap") => {
                ("addr", u64::from_str_radix(value, 16).unwrap())
            }
            Some((field, value)) => (field, u64::from_str_radix(value, 16).unwrap()),
            None if *word == "NORMAL" => ("force", 0),
            None => continue,
        };
        fields.push((number.0, Ok(number.1)));
    }
    let own = described.iter().find(|(described, _)| *described == name);
    let mut message = if own.is_some() { Message::default() } else { Message::default().text(1, name) };
    for (n, (field, value)) in fields.into_iter().enumerate() {
        message = match (own, value) {
            (Some(_), Ok(number)) => message.number(n as u32 + 1, number),
            (Some(_), Err(text)) => message.text(n as u32 + 1, text),
            (None, Ok(number)) => message.message(2, &Message::default().text(1, field).number(5, number)),
            (None, Err(text)) => message.message(2, &Message::default().text(1, field).text(3, text)),
        };
    }
    (cpu, event.message(own.map_or(327, |(_, id)| *id), &message))
}

/// `GenericEventDescriptor`.
fn descriptor(id: u32, name: &str, fields: &[&str]) -> Message {
    let mut described = Message::default().text(1, name);
    for (n, field) in fields.iter().enumerate() {
        described = described.message(2, &Message::default().text(1, field).number(3, n as u64 + 1));
    }
    Message::default().number(1, id.into()).message(2, &described)
}

fn packet(content: u32, message: &Message) -> Message {
    Message::default().message(1, &Message::default().message(content, message))
}

fn joined(packets: &[Message]) -> Vec<u8> {
    packets.iter().flat_map(|packet| packet.0.clone()).collect()
}

/// A bundle for each CPU, one CPU after the other as Perfetto reads them, in packets.
fn packets(text: &str, described: &[(&str, u32)], descriptors: &[Message]) -> Vec<Message> {
    let mut bundles = BTreeMap::<u64, Message>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (cpu, event) = event(line, described);
        let bundle = bundles.remove(&cpu).unwrap_or_else(|| {
            descriptors.iter().fold(Message::default().number(1, cpu), |bundle, one| bundle.message(11, one))
        });
        bundles.insert(cpu, bundle.message(2, &event));
    }
    bundles.values().rev().map(|bundle| packet(1, bundle)).collect()
}

/// What is made of a trace.
#[derive(Debug, PartialEq, Eq)]
struct Text {
    lines: Vec<u8>,
    notes: Vec<String>,
}

fn read(trace: &[u8]) -> Text {
    let mut unpacked = Vec::new();
    let notes = unpack(Cursor::new(trace), &mut unpacked, u64::MAX).unwrap();
    let trace = if notes.is_some() { &unpacked } else { trace };
    let mut text = Perfetto::open(Cursor::new(trace)).unwrap();
    let mut lines = Vec::new();
    text.read_to_end(&mut lines).unwrap();
    Text { lines, notes: notes.into_iter().flatten().chain(text.notes()).collect() }
}

/// Devices, events and counters of a text trace.
fn imported(text: &[u8]) -> (Vec<Device>, Vec<Event>, Counters) {
    let kernel = KernelFacts {
        page_size: 4096,
        cache_line_size: 64,
        dma_minalign: 128,
        kmalloc_minalign: 8,
        ..KernelFacts::default()
    };
    let survey = Survey::of(text).unwrap();
    assert_eq!((survey.nonsense, &*survey.first_nonsense), (0, ""));
    let assumed = assume(&survey, kernel, &[], &[]);
    let mut trace = Trace::new(text, &survey, assumed.kernel, assumed.devices, assumed.notes);
    let (mut devices, mut events, mut counters) = (Vec::new(), Vec::new(), Counters::default());
    while let Some(item) = trace.next_item().unwrap() {
        match item {
            Item::Device(device) => devices.push(device),
            Item::Events(batch) => events.extend(batch.events),
            Item::Counters(found) => counters = found,
            _ => {}
        }
    }
    (devices, events, counters)
}

#[test]
fn events_by_name_are_those_that_tracefs_prints() {
    let trace = joined(&packets(REAL, &[], &[]));
    assert!(is_trace(Cursor::new(&trace)).unwrap());
    let text = read(&trace);
    assert_eq!(text.notes, [""; 0]);
    let expected = imported(REAL.as_bytes());
    assert_eq!(expected.1.len(), 300);
    assert_eq!(imported(&text.lines), expected);
}

#[test]
fn events_that_the_trace_describes_itself_are_too() {
    let described = [("swiotlb_bounced", 65_536), ("dma_map_phys", 65_537)];
    let descriptors = [
        descriptor(65_536, "swiotlb_bounced", &["dev_name", "dma_mask", "dev_addr", "size", "force"]),
        descriptor(65_537, "dma_map_phys", &["device", "dir", "dma_addr", "size", "phys_addr", "attrs"]),
    ];
    let text = read(&joined(&packets(REAL, &described, &descriptors)));
    assert_eq!(imported(&text.lines), imported(REAL.as_bytes()));
    let without = read(&joined(&packets(REAL, &described, &[])));
    assert_eq!(without.notes, ["200 other events were passed over"]);
}

#[test]
fn compressed_packets_hold_the_same() {
    let packets = packets(REAL, &[], &[]);
    let plain = read(&joined(&packets));
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&joined(&packets)).unwrap();
    let deflated = zlib.finish().unwrap();
    let compressed = |field: u32, bytes: &[u8]| joined(&[packet(field, &Message(bytes.to_vec()))]);
    assert_eq!(read(&compressed(50, &deflated)), plain);
    assert_eq!(read(&compressed(133, &zstd::encode_all(&*joined(&packets), 1).unwrap())), plain);
    let broken = read(&compressed(50, &deflated[..deflated.len() / 2]));
    assert!(
        broken.lines.is_empty() && broken.notes[0].contains("1 compressed packets can't be inflated"),
        "{broken:?}"
    );
}

#[test]
fn allocations_are_read_from_their_own_messages() {
    let kmalloc = |ptr: u32| {
        Message::default()
            .number(1, 32)
            .number(2, 18)
            .number(3, 0xffff_8000_0810_0040)
            .number(4, 0xcc0)
            .number(ptr, 0xffff_0000_0001_0020)
    };
    let kfree = Message::default().number(1, 0xffff_8000_0810_0080).number(2, 0xffff_0000_0001_0020);
    let event = |time: u64, field: u32, message: &Message| {
        Message::default().number(1, time).number(2, 7).message(field, message)
    };
    let bundle = Message::default()
        .number(1, 3)
        .message(2, &event(5, 299, &kmalloc(5)))
        .message(2, &event(6, 300, &kmalloc(6).number(5, 1)))
        .message(2, &event(7, 298, &kfree));
    let (_, events, counters) = imported(&read(&joined(&[packet(1, &bundle)])).lines);
    let kinds: Vec<_> = events.iter().map(|event| (event.what.kind(), event.time_ns, event.cpu, event.task)).collect();
    assert_eq!(kinds, [(Kind::Kmalloc, 5, 3, 7), (Kind::Kmalloc, 6, 3, 7), (Kind::Kfree, 7, 3, 7)]);
    assert!(counters.lost.is_empty());
}

#[test]
fn a_trace_that_is_cut_off_keeps_what_is_whole() {
    let packets = packets(REAL, &[], &[]);
    let last = packets.last().unwrap().0.len();
    let trace = joined(&packets);
    let cut = read(&trace[..trace.len() - 1]);
    assert_eq!(cut.lines, read(&trace[..trace.len() - last]).lines);
    assert_eq!(cut.notes, [format!("the trace is cut off: its last {} bytes are no whole packet", last - 1)]);
}

#[test]
fn what_the_kernel_and_perfetto_lost_is_counted() {
    let cpu = |overrun: u64, dropped: u64| Message::default().number(1, 1).number(3, overrun).number(8, dropped);
    let stats = |phase: u64, cpu: &Message| packet(34, &Message::default().number(1, phase).message(2, cpu));
    let bundle = Message::default().number(1, 0).number(3, 1);
    let buffers = Message::default().message(1, &Message::default().number(3, 4).number(19, 1));
    let trace = [
        stats(1, &cpu(10, 0)),
        packet(1, &bundle),
        packet(1, &bundle),
        stats(2, &cpu(15, 2)),
        stats(2, &cpu(17, 2)),
        packet(35, &buffers),
    ];
    let text = read(&joined(&trace));
    assert_eq!(String::from_utf8(text.lines).unwrap(), "CPU:0 [LOST 7 EVENTS]\nCPU:1 [LOST 9 EVENTS]\n");
    assert!(text.notes[0].starts_with("5 packets or parts of them were lost"), "{:?}", text.notes);
}

#[test]
fn a_packet_that_is_marked_misses_the_one_before_unless_it_is_the_first() {
    let marked = Message::default().message(1, &Message::default().number(10, 9).number(42, 1));
    assert_eq!(read(&joined(std::slice::from_ref(&marked))).lines, b"");
    assert_eq!(read(&joined(&[marked.clone(), marked])).lines, b"CPU:0 [LOST 1 EVENTS]\n");
}

#[test]
fn lists_other_events_and_another_clock_are_told() {
    let list = Message::default().text(1, "dma_map_sg");
    let event = |message: &Message| Message::default().number(1, 5).number(2, 7).message(327, message);
    let kfree = Message::default().number(1, 6).message(298, &Message::default().number(2, 0x10));
    let bundle = Message::default()
        .number(5, 4)
        .message(2, &event(&list))
        .message(2, &event(&Message::default().text(1, "clk_rate")))
        .message(2, &kfree);
    let notes = read(&joined(&[packet(1, &bundle)])).notes;
    assert!(notes[0].starts_with("1 events of scatterlists were passed over"), "{notes:?}");
    assert_eq!(notes[1], "1 other events were passed over");
    assert!(notes[2].contains("clock mono_raw"), "{notes:?}");
}

#[test]
fn text_is_no_trace_of_perfetto() {
    for text in [REAL, "", "\n", "\n   usb-1  [000] d..1.  1.000001: kfree: ptr=1\n", "{}"] {
        assert!(!is_trace(Cursor::new(text.as_bytes())).unwrap(), "{text:.40}");
    }
}

#[test]
fn what_a_name_holds_does_not_make_lines() {
    let field = |name: &str| Message::default().text(1, name);
    let bounced = Message::default()
        .text(1, "swiotlb_bounced")
        .message(2, &field("dev_name").text(3, "a\nCPU:0 [LOST 9 EVENTS]"))
        .message(2, &field("dma_mask").number(5, 1))
        .message(2, &field("dev_addr").number(5, 1))
        .message(2, &field("size").number(5, 1));
    let event = Message::default().number(1, 5).message(327, &bounced);
    let text = read(&joined(&[packet(1, &Message::default().message(2, &event))]));
    assert_eq!(String::from_utf8(text.lines).unwrap().lines().count(), 1);
}

/// A bundle of a CPU with a kfree at each of these times, whose object is the time.
fn frees(cpu: u64, times: &[u64]) -> Message {
    times.iter().fold(Message::default().number(1, cpu), |bundle, time| {
        let kfree = Message::default().number(2, *time);
        bundle.message(2, &Message::default().number(1, *time).message(298, &kfree))
    })
}

/// The times of lines.
fn times(text: &Text) -> Vec<u64> {
    let lines = String::from_utf8(text.lines.clone()).unwrap();
    lines.lines().map(|line| u64::from_str_radix(line.rsplit_once("ptr=").unwrap().1, 16).unwrap()).collect()
}

proptest! {
    #[test]
    fn events_of_all_cpus_come_in_order_of_time(
        bundles in prop::collection::vec((0..4_u64, 1..3_u64, prop::collection::vec(1..50_u64, 0..6), 0..2000_usize), 0..40),
    ) {
        let mut now = BTreeMap::<(u64, u64), u64>::new();
        let (mut packets, mut expected) = (Vec::new(), Vec::new());
        for (cpu, sequence, steps, other) in bundles {
            let now = now.entry((cpu, sequence)).or_default();
            let times: Vec<u64> = steps.iter().map(|step| { *now += step; *now }).collect();
            // A field that is not known, so that bundles are longer than what is held of them.
            let bundle = frees(cpu, &times).text(99, &"x".repeat(other));
            packets.push(Message::default().message(1, &Message::default().message(1, &bundle).number(10, sequence)));
            expected.extend(times);
        }
        expected.sort_unstable();
        prop_assert_eq!(times(&read(&joined(&packets))), expected);
    }
}

#[test]
fn an_event_longer_than_what_is_held_is_read_and_one_that_no_kernel_writes_is_not() {
    let event = |time: u64, length: usize| {
        let kfree = Message::default().number(2, time);
        Message::default().text(99, &"x".repeat(length)).number(1, time).message(298, &kfree)
    };
    let bundle =
        Message::default().message(2, &event(1, 100_000)).message(2, &event(2, 300_000)).message(2, &event(3, 1));
    assert_eq!(times(&read(&joined(&[packet(1, &bundle)]))), [1, 3]);
}

#[test]
fn what_is_no_event_ends_its_bundle_alone() {
    let broken = Message([frees(0, &[1, 3]).0, vec![0x12, 0x7f]].concat());
    let text = read(&joined(&[packet(1, &broken), packet(1, &frees(1, &[2, 4]))]));
    assert_eq!(times(&text), [1, 2, 3, 4]);
}

/// What all parts of a trace take while it is read, where its size is that of a trace of a million events: not the events.
#[test]
fn a_long_trace_is_not_held_in_memory() {
    let mut trace = Vec::new();
    let per_bundle = 250;
    for n in 0..4000_u64 {
        let times: Vec<u64> = (0..per_bundle).map(|m| n / 4 * per_bundle + m + 1).collect();
        trace.extend(packet(1, &frees(n % 4, &times)).0);
    }
    let mut text = Perfetto::open(Cursor::new(&trace)).unwrap();
    let (mut lines, mut most, mut buffer) = (0, 0, String::new());
    while io::BufRead::read_line(&mut text, &mut buffer).unwrap() > 0 {
        buffer.clear();
        lines += 1;
        if lines % 1000 == 0 {
            most = most.max(text.trace().bundles.held());
        }
    }
    assert_eq!(lines, 4000 * per_bundle);
    assert!(most > 0 && 50 * most < trace.len(), "{} bytes, of which {most} are held", trace.len());
}
