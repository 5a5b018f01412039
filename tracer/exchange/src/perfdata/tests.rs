//! Small files, made here; `tests/import.rs` has real ones.

use std::io::Cursor;
use std::time::{Duration, Instant};

use super::super::tracefs::made::{self, Bytes, kfree};
use super::*;
use crate::as_text::Noted as _;
use Order::{Big, Little};

/// `PERF_SAMPLE_*`: identifier, IP, thread, time, CPU, period, raw data.
const SAMPLES: u64 = 1 << 16 | 1 << 0 | 1 << 1 | 1 << 2 | 1 << 7 | 1 << 8 | 1 << 10;

fn record(order: Order, kind: u64, body: &[u8]) -> Vec<u8> {
    Bytes::new(order).u32(kind).u16(0).u16(8 + body.len() as u64).raw(body).bytes
}

/// A sample of a kfree.
fn sample(order: Order, time: u64, ptr: u64) -> Vec<u8> {
    let event = kfree(order, 3, ptr);
    let body = Bytes::new(order).u64(40).u64(0xff).u32(2).u32(3).u64(time).u32(1).u32(0).u64(1);
    record(order, 9, &body.u32(event.len() as u64).raw(&event).u32(0).bytes)
}

fn round_end(order: Order) -> Vec<u8> {
    record(order, 68, &[])
}

/// `struct perf_event_attr` of 64 bytes, whose samples hold this.
fn attribute(order: Order, samples: u64, reads: u64) -> Vec<u8> {
    Bytes::new(order).u32(2).u32(64).u64(7).u64(1).u64(samples).u64(reads).padded(64).bytes
}

fn tracing_data(order: Order) -> Vec<u8> {
    let bytes = made::begin(order, "0.6").raw(&made::pages(order, 8)).raw(&made::ftrace(order));
    bytes.raw(&made::events(order)).u32(0).u32(0).u64(0).bytes
}

fn magic(order: Order) -> &'static [u8] {
    if order == Little { b"PERFILE2" } else { b"2ELIFREP" }
}

/// What perf writes into a file, with these attributes, each with an id of 40 and more.
fn file_of(order: Order, attributes: &[Vec<u8>], records: &[u8]) -> Vec<u8> {
    let count = attributes.len() as u64;
    let (ids, data) = (104, 104 + 8 * count + 80 * count);
    let features = 1 << 1 | 1 << 4 | 1 << 6;
    let file = Bytes::new(order).raw(magic(order)).u64(104).u64(80).u64(ids + 8 * count).u64(80 * count).u64(data);
    let mut file = file.u64(records.len() as u64).u64(0).u64(0).u64(features).padded(104);
    for n in 0..count {
        file = file.u64(40 + n);
    }
    for (n, attribute) in attributes.iter().enumerate() {
        file = file.raw(attribute).u64(ids + 8 * n as u64).u64(8);
    }
    file = file.raw(records);
    let texts = ["6.18.1", "aarch64"].map(|text| Bytes::new(order).u32(text.len() as u64 + 1).text(text).bytes);
    let sections = [tracing_data(order), texts[0].clone(), texts[1].clone()];
    let mut at = file.bytes.len() as u64 + 16 * 3;
    for section in &sections {
        file = file.u64(at).u64(section.len() as u64);
        at += section.len() as u64;
    }
    file.raw(&sections.concat()).bytes
}

fn file(order: Order, records: &[Vec<u8>]) -> Vec<u8> {
    file_of(order, &[attribute(order, SAMPLES, 4)], &records.concat())
}

/// The same as it goes into a pipe.
fn pipe(order: Order, records: &[Vec<u8>]) -> Vec<u8> {
    let data = tracing_data(order);
    let size = Bytes::new(order).u32(data.len() as u64).bytes;
    let arch = Bytes::new(order).u64(6).u32(8).text("aarch64").bytes;
    let attribute = Bytes::new(order).raw(&attribute(order, SAMPLES, 4)).u64(40).bytes;
    let head = Bytes::new(order).raw(magic(order)).u64(16).raw(&record(order, 64, &attribute));
    let head = head.raw(&record(order, 80, &arch)).raw(&record(order, 66, &size)).raw(&data);
    let padded = head.bytes.len() - data.len() + data.len().next_multiple_of(8);
    head.padded(padded).raw(&records.concat()).bytes
}

/// The text of a file, and its notes without the one that all have.
fn text(file: &[u8]) -> (String, Vec<String>) {
    let mut trace = PerfData::open(Cursor::new(file)).unwrap();
    let mut text = String::new();
    trace.read_to_string(&mut text).unwrap();
    let mut notes = trace.notes();
    assert_eq!(notes.remove(0), "call sites are addresses: a perf.data has no /proc/kallsyms");
    (text, notes)
}

fn line(time: u64, ptr: u64) -> String {
    format!("task-3 [001] 0.{time:09}: kfree: call_site=0x1014 ptr={ptr:x}\n")
}

/// Two rounds, each with the buffers of two CPUs.
fn rounds(order: Order) -> Vec<Vec<u8>> {
    let of = |time| sample(order, time, time);
    vec![of(10), of(30), of(20), round_end(order), of(40), of(60), of(25), of(50), round_end(order), of(70)]
}

#[test]
fn rounds_are_put_in_order_from_files_and_pipes_in_both_byte_orders() {
    let expected: String = [10, 20, 25, 30, 40, 50, 60, 70].map(|time| line(time, time)).concat();
    for order in [Little, Big] {
        let header = "# os release : 6.18.1\n# arch : aarch64\n";
        assert_eq!(text(&file(order, &rounds(order))), (format!("{header}{expected}"), vec![]));
        assert_eq!(text(&pipe(order, &rounds(order))), (format!("# arch : aarch64\n{expected}"), vec![]));
    }
}

#[test]
fn compressed_records_hold_the_same_also_where_a_record_is_in_two_of_them() {
    let records = rounds(Little);
    let (plain, _) = text(&file(Little, &records));
    let packed = zstd::encode_all(&*records.concat(), 1).unwrap();
    let (first, second) = packed.split_at(packed.len() / 2);
    let old = [first, second].map(|part| record(Little, 81, part)).to_vec();
    assert_eq!(text(&file(Little, &old)), (plain.clone(), vec![]));
    let padded = |part: &[u8]| Bytes::new(Little).u64(part.len() as u64).raw(part).raw(&[0; 5]).bytes;
    let new = [first, second].map(|part| record(Little, 83, &padded(part))).to_vec();
    assert_eq!(text(&file(Little, &new)), (plain, vec![]));
    let (kept, notes) = text(&file(Little, &[record(Little, 81, &packed[9..]), sample(Little, 1, 2)]));
    assert_eq!(notes, ["1 compressed records are damaged, and were left out"]);
    assert!(kept.contains("LOST") && kept.ends_with(&line(1, 2)), "{kept}");
}

#[test]
fn events_with_samples_of_different_kinds_are_told_apart_by_their_ids() {
    // No CPU; counters of a group, and a call chain before the raw data.
    let others = 1 << 16 | 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 10;
    let event = kfree(Little, 3, 0xb);
    let body = Bytes::new(Little).u64(41).u32(2).u32(3).u64(20);
    let reads = body.u64(2).u64(0).u64(1).u64(40).u64(1).u64(41);
    let second = record(Little, 9, &reads.u64(1).u64(0xff).u32(event.len() as u64).raw(&event).bytes);
    let attributes = [attribute(Little, SAMPLES, 4), attribute(Little, others, 1 << 0 | 1 << 2 | 1 << 3)];
    let file = file_of(Little, &attributes, &[sample(Little, 10, 0xa), second].concat());
    let lines = line(10, 0xa) + "task 3 0.000000020: kfree: call_site=0x1014 ptr=b\n";
    assert!(text(&file).0.ends_with(&lines), "{}", text(&file).0);
}

#[test]
fn lost_events_are_counted_once() {
    let lost = |count| record(Little, 2, &Bytes::new(Little).u64(40).u64(count).bytes);
    let samples = |count| record(Little, 13, &Bytes::new(Little).u64(count).bytes);
    let of = |records: &[Vec<u8>]| {
        let (text, _) = text(&file(Little, records));
        text.lines().filter(|line| line.contains("LOST")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of(&[lost(3), lost(4), samples(5), samples(2)]), ["CPU:0 [LOST 3 EVENTS]", "CPU:0 [LOST 4 EVENTS]"]);
    assert_eq!(of(&[lost(3), samples(5)]), ["CPU:0 [LOST 3 EVENTS]", "CPU:0 [LOST 2 EVENTS]"]);
}

#[test]
fn what_is_whole_in_a_damaged_file_is_kept() {
    let records = rounds(Little);
    let whole = pipe(Little, &records);
    let (kept, notes) = text(&whole[..whole.len() - 30]);
    assert_eq!((kept.matches("kfree").count(), kept.matches("LOST").count()), (7, 1), "{kept}");
    assert_eq!(notes, ["the file is cut off: 30 bytes are missing at its end"]);

    let mut short = sample(Little, 10, 1);
    // More raw data than there are bytes.
    short[56] = 0xff;
    let (kept, notes) = text(&file(Little, &[short, sample(Little, 20, 2)]));
    assert_eq!(notes, ["1 records are damaged, and were left out"]);
    assert!(kept.contains("LOST") && kept.ends_with(&line(20, 2)), "{kept}");

    let endless = Bytes::new(Little).u32(9).u16(0).u16(4).bytes;
    let (kept, notes) = text(&file(Little, &[sample(Little, 10, 1), endless, sample(Little, 20, 2)]));
    assert_eq!(notes, ["1 records are damaged, and were left out"]);
    assert_eq!((kept.matches("kfree").count(), kept.matches("LOST").count()), (1, 1), "{kept}");
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let error = |file: &[u8]| match PerfData::open(Cursor::new(file)) {
        Err(error) => error.to_string(),
        Ok(mut trace) => trace.read_to_string(&mut String::new()).unwrap_err().to_string(),
    };
    let records = rounds(Little).concat();
    let whole = file_of(Little, &[attribute(Little, SAMPLES, 4)], &records);
    assert_eq!(error(&whole[..90]), "it is cut off in its header");
    assert!(error(&whole[..400]).starts_with("it is cut off: the formats of its events were at its end."));
    assert!(error(&file_of(Little, &[attribute(Little, SAMPLES, 4)], &[])).starts_with("perf did not end it"));
    let cycles = file_of(Little, &[attribute(Little, SAMPLES & !(1 << 10), 4)], &records);
    assert!(error(&cycles).starts_with("it has no tracepoints"), "{}", error(&cycles));
    let timeless = file_of(Little, &[attribute(Little, SAMPLES & !(1 << 2), 4)], &records);
    assert!(error(&timeless).starts_with("its events have no times"), "{}", error(&timeless));
    assert_eq!(error(&pipe(Little, &[])[..40]), "it is cut off before its events");
    assert!(error(&pipe(Little, &[])[..16]).starts_with("it has no tracepoints"));
}

#[test]
fn ids_are_not_read_again_and_again() {
    let mut file =
        file_of(Little, &[attribute(Little, SAMPLES, 4), attribute(Little, SAMPLES, 4)], &rounds(Little).concat());
    let ids = file.len() as u64 / 8;
    // Behind the two ids, and the 64 bytes of each attribute: where its ids are.
    for at in [104 + 16 + 64, 104 + 16 + 80 + 64] {
        let all = Bytes::new(Little).u64(0).u64(8 * ids).bytes;
        file[at..at + 16].copy_from_slice(&all);
    }
    let error = PerfData::open(Cursor::new(file)).unwrap_err().to_string();
    assert_eq!(error, format!("it can't have {} ids of events", 2 * ids));
}

#[test]
fn time_does_not_grow_with_attributes_times_samples() {
    let attributes = vec![attribute(Little, SAMPLES, 4); 1 << 16];
    let file = file_of(Little, &attributes, &sample(Little, 10, 10).repeat(20_000));
    let began = Instant::now();
    assert_eq!(text(&file).0.matches("kfree").count(), 20_000);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn no_cut_and_no_flipped_byte_makes_it_panic() {
    let packed = zstd::encode_all(&*rounds(Little).concat(), 1).unwrap();
    for file in [file(Little, &rounds(Little)), pipe(Little, &[record(Little, 81, &packed)])] {
        let read = |file: &[u8]| {
            if let Ok(mut trace) = PerfData::open(Cursor::new(file)) {
                let mut text = Vec::new();
                let _ = trace.read_to_end(&mut text);
                assert!(text.len() < 1 << 20);
            }
        };
        for at in 0..file.len() {
            read(&file[..at]);
            let mut flipped = file.clone();
            flipped[at] ^= 0xff;
            read(&flipped);
        }
    }
}
