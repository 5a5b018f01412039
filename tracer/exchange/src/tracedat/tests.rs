//! Small files, made here; `tests/import.rs` has real ones.

use std::io::Cursor;

use flate2::{Compression as Level, write::ZlibEncoder};

use super::super::tracefs::made::{self, Bytes, kfree};
use super::*;
use crate::as_text::Noted as _;
use Order::{Big, Little};

/// An event's head, a word of 32 bits.
fn head(order: Order, kind: u64, delta: u64) -> Bytes {
    let word = if order == Little { delta << 5 | kind } else { kind << 27 | delta };
    Bytes::new(order).u32(word)
}

/// A kfree in a page, so many nanoseconds after what is before it.
fn event(order: Order, delta: u64, task: u64, ptr: u64) -> Vec<u8> {
    head(order, 6, delta).raw(&kfree(order, task, ptr)).bytes
}

/// A page of 4 KiB with these events, of a kernel whose `long` has so many bytes.
fn page(order: Order, long: usize, time: u64, flags: u64, events: &[Vec<u8>], behind: &[u8]) -> Vec<u8> {
    let events = events.concat();
    let page = Bytes::new(order).u64(time).number(flags | events.len() as u64, long).raw(&events).raw(behind);
    page.padded(4096).bytes
}

/// A file of version 6 with the pages of each CPU and these options.
fn version_6(order: Order, long: usize, options: &[(u64, &[u8])], cpus: &[Vec<u8>]) -> Vec<u8> {
    let mut file = made::begin(order, "6").raw(&made::pages(order, long)).raw(&made::ftrace(order));
    file = file.raw(&made::events(order)).raw(&made::symbols(order)).u32(0).u64(0).u32(cpus.len() as u64);
    file = file.raw(b"options  \0");
    for (id, data) in options {
        file = file.u16(*id).u32(data.len() as u64).raw(data);
    }
    file = file.u16(0).raw(b"flyrecord\0");
    let mut at = 8192;
    for pages in cpus {
        file = file.u64(at).u64(pages.len() as u64);
        at += pages.len() as u64;
    }
    let clock = b"local global [counter]";
    if options.iter().any(|(id, _)| *id == 4) {
        file = file.u64(clock.len() as u64).raw(clock);
    }
    file.padded(8192).raw(&cpus.concat()).bytes
}

fn packed(compression: &str, bytes: &[u8]) -> Vec<u8> {
    match compression {
        "zlib" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Level::default());
            io::Write::write_all(&mut encoder, bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}

/// A file of version 7 with two buffers, each with the pages of a CPU, in chunks of a page.
fn version_7(order: Order, compression: &str, cpus: [&[u8]; 2]) -> Vec<u8> {
    version_7_with(order, compression, cpus, 4096, &[])
}

/// The same in chunks of so many bytes, and with more options.
fn version_7_with(order: Order, compression: &str, cpus: [&[u8]; 2], chunk: usize, more: &[u8]) -> Vec<u8> {
    let is_packed = compression != "none";
    let section = |id: u64, data: &[u8]| {
        let packed = packed(compression, data);
        let head = Bytes::new(order).u16(id).u16(u64::from(is_packed)).u32(0);
        if !is_packed {
            return head.u64(packed.len() as u64).raw(&packed).bytes;
        }
        head.u64(packed.len() as u64 + 8).u32(packed.len() as u64).u32(data.len() as u64).raw(&packed).bytes
    };
    let mut file = made::begin(order, "7").text(compression).text("1");
    let options_at = file.bytes.len();
    file = file.u64(0);
    let mut options = Bytes::new(order).u16(5).u32(36).raw(b"Linux vm 6.18.1 #1 SMP 2026 aarch64\0");
    for (id, data) in
        [(16, made::pages(order, 8)), (17, made::ftrace(order)), (18, made::events(order)), (19, made::symbols(order))]
    {
        options = options.u16(id).u32(8).u64(file.bytes.len() as u64);
        file = file.raw(&section(id, &data));
    }
    for (cpu, (name, pages)) in ["", "my own"].into_iter().zip(cpus).enumerate() {
        let at = file.bytes.len() as u64;
        let mut parts = Bytes::new(order);
        if is_packed {
            parts = parts.u32(pages.len().div_ceil(chunk) as u64);
            for chunk in pages.chunks(chunk) {
                let packed = packed(compression, chunk);
                parts = parts.u32(packed.len() as u64).u32(chunk.len() as u64).raw(&packed);
            }
        } else {
            parts = parts.raw(pages);
        }
        // As trace-cmd: without the number of chunks.
        let size = parts.bytes.len() as u64 - if is_packed { 4 } else { 0 };
        let buffer = Bytes::new(order).u64(0).text(name).text("local").u32(4096).u32(1);
        let buffer = buffer.u32(cpu as u64).u64(at).u64(size).bytes;
        options = options.u16(3).u32(buffer.len() as u64).raw(&buffer);
        file = file.raw(&parts.bytes);
    }
    options = options.raw(more).u16(0).u32(8).u64(0);
    let at = Bytes::new(order).u64(file.bytes.len() as u64).bytes;
    file = file.raw(&section(0, &options.bytes));
    file.bytes[options_at..options_at + 8].copy_from_slice(&at);
    file.bytes
}

/// The text of a file, and its notes.
fn text(file: &[u8]) -> (String, Vec<String>) {
    let mut trace = TraceDat::open(Cursor::new(file)).unwrap();
    let mut text = String::new();
    trace.read_to_string(&mut text).unwrap();
    (text, trace.notes())
}

fn error(file: &[u8]) -> String {
    TraceDat::open(Cursor::new(file)).unwrap_err().to_string()
}

/// A line of a kfree.
fn line(task: u32, cpu: u32, time: &str, ptr: u64) -> String {
    format!("task-{task} [{cpu:03}] {time}: kfree: call_site=put+0x14 ptr={ptr:x}\n")
}

#[test]
fn every_kind_of_entry_of_a_page_is_read_in_both_byte_orders_and_word_lengths() {
    for (order, long) in [(Little, 8), (Big, 8), (Little, 4), (Big, 4)] {
        let long_event = head(order, 0, 1).u32(4 + 24 + 3).raw(&kfree(order, 5, 0xe)).raw(&[0; 4]).bytes;
        let events = [
            event(order, 0, 1, 0xa),
            // More than 27 bits of nanoseconds.
            head(order, 30, 3).u32(2).bytes,
            event(order, 0, 2, 0xb),
            // A discarded event.
            head(order, 29, 7).u32(12).padded(16).bytes,
            event(order, 0, 3, 0xc),
            // A time of its own.
            head(order, 31, 9).u32(1 << 10).bytes,
            event(order, 1, 4, 0xd),
            long_event,
            head(order, 29, 0).u32(0).bytes,
            b"anything".to_vec(),
        ];
        let file = version_6(order, long, &[], &[page(order, long, 5, 0, &events, &[])]);
        let expected = [
            line(1, 0, "0.000000005", 0xa),
            line(2, 0, "0.268435464", 0xb),
            line(3, 0, "0.268435471", 0xc),
            line(4, 0, "137.438953482", 0xd),
            line(5, 0, "137.438953483", 0xe),
        ];
        assert_eq!(text(&file), (expected.concat(), vec![]), "{order:?} {long}");
    }
}

/// Pages of CPUs whose events alternate.
fn alternating(order: Order) -> [Vec<u8>; 2] {
    let pages = |cpu: u64| {
        let of = |n: u64| {
            let events = [event(order, 0, 1, cpu), event(order, 10, 1, cpu)];
            page(order, 8, n * 20 + 5 * cpu, 0, &events, &[])
        };
        [of(0), of(1), of(2)].concat()
    };
    [pages(0), pages(1)]
}

#[test]
fn cpus_are_merged_by_time() {
    let (text, _) = text(&version_6(Little, 8, &[], &alternating(Little)));
    let times: Vec<&str> = text.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(times.len(), 12);
    assert!(times.is_sorted(), "{text}");
}

#[test]
fn both_versions_and_all_compressions_hold_the_same() {
    for order in [Little, Big] {
        let [first, second] = alternating(order);
        let (plain, _) = text(&version_6(order, 8, &[], &[first.clone(), second.clone()]));
        for compression in ["none", "zlib", "zstd"] {
            let (seven, notes) = text(&version_7(order, compression, [&first, &second]));
            let (head, lines) = seven.split_at(seven.find("task").unwrap());
            assert_eq!(head, "# arch : aarch64\n# os release : 6.18.1\n");
            assert_eq!(lines.replace("my_own: ", ""), plain, "{compression} {order:?}");
            assert!(lines.contains("my_own: task-1 [001]"), "{lines}");
            assert!(notes.is_empty(), "{notes:?}");
        }
    }
}

#[test]
fn lost_events_are_counted_as_the_page_or_the_kernel_counts_them() {
    let (missed, stored) = (1 << 31, 1 << 30);
    let first = [event(Little, 0, 1, 1)];
    let pages = [
        page(Little, 8, 1, missed | stored, &first, &77_u64.to_le_bytes()),
        page(Little, 8, 2, missed, &first, &[]),
        page(Little, 8, 3, stored, &first, &9_u64.to_le_bytes()),
    ];
    let lost = |options: &[(u64, &[u8])]| {
        let (text, _) = text(&version_6(Little, 8, options, &[pages.concat()]));
        text.lines().filter(|line| line.contains("LOST")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lost(&[]), ["CPU:0 [LOST 77 EVENTS]", "CPU:0 [LOST 1 EVENTS]"]);
    let stats = b"CPU: 0\nentries: 3\noverrun: 70\ncommit overrun: 1\nbytes: 9\ndropped events: 29\nread events: 3\n\0";
    assert_eq!(lost(&[(2, stats)])[2..], ["CPU:0 [LOST 22 EVENTS]"]);
}

#[test]
fn times_are_what_their_clock_says() {
    let pages = [page(Little, 8, 3_000, 0, &[event(Little, 0, 1, 1)], &[])];
    let counter = b"anything\0";
    let (text_of_counter, _) = text(&version_6(Little, 8, &[(4, counter)], &pages));
    assert!(text_of_counter.starts_with("task-1 [000] 3000: kfree"), "{text_of_counter}");
    // Times 2^20 * 3 / 2^21, and 5000 later.
    let tsc = Bytes::new(Little).u32(3 << 20).u32(21).u64(77).bytes;
    let (nanoseconds, _) = text(&version_6(Little, 8, &[(14, &tsc), (7, b"5000\0"), (4, counter)], &pages));
    assert!(nanoseconds.starts_with("task-1 [000] 0.000009500: kfree"), "{nanoseconds}");
    let (date, _) = text(&version_6(Little, 8, &[(1, b"0x10\0")], &pages));
    assert!(date.starts_with("task-1 [000] 0.000019000: kfree"), "{date}");
}

#[test]
fn what_is_whole_in_a_damaged_file_is_kept() {
    let cpus = alternating(Little);
    let file = version_6(Little, 8, &[], &cpus);
    let cut = &file[..file.len() - 4096 - 4040];
    let (kept, notes) = text(cut);
    assert_eq!(
        notes,
        [
            "the file is cut off: 8136 bytes of events are missing",
            "1 pages of events are damaged: the rest of each was left out"
        ]
    );
    assert_eq!((kept.matches("kfree").count(), kept.matches("LOST 2 EVENTS").count()), (9, 1), "{kept}");

    let mut broken = cpus[0].clone();
    // The second event of the first page is longer than the page.
    broken[16 + 28..][..4].copy_from_slice(&(28_u32).to_le_bytes());
    let mut file = version_6(Little, 8, &[], &[broken]);
    let (kept, notes) = text(&file);
    assert_eq!(notes, ["1 pages of events are damaged: the rest of each was left out"]);
    assert_eq!((kept.matches("kfree").count(), kept.matches("LOST").count()), (5, 1), "{kept}");
    file[8192 + 8] = 0xff;
    file[8192 + 9] = 0xff;
    assert_eq!(text(&file).0.matches("kfree").count(), 4, "more bytes than a page has");

    let mut file = version_7(Little, "zstd", [&cpus[0], &cpus[1]]);
    let chunk =
        file.windows(8).rposition(|bytes| bytes[..4] == [0, 0x10, 0, 0] && bytes[4..] == [0x28, 0xb5, 0x2f, 0xfd]);
    file[chunk.unwrap() + 4] = 0;
    let (kept, notes) = text(&file);
    assert_eq!(notes, ["1 chunks of compressed events are damaged, and were left out"]);
    assert_eq!((kept.matches("kfree").count(), kept.matches("LOST").count()), (10, 1), "{kept}");
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let cpus = alternating(Little);
    let six = version_6(Little, 8, &[], &cpus);
    assert_eq!(error(&six[..600]), "it is cut off in its header");
    let seven = version_7(Little, "zstd", [&cpus[0], &cpus[1]]);
    assert_eq!(error(&seven[..seven.len() - 1]), "it is cut off in its header");
    assert_eq!(error(&seven[..600]), "it is cut off: version 7 has at its end where its events are");
    let changed = |from: &[u8], to: &[u8], file: &[u8]| {
        let at = file.windows(from.len()).position(|bytes| bytes == from).unwrap();
        [&file[..at], to, &file[at + from.len()..]].concat()
    };
    assert!(error(&changed(b"zstd\0", b"lzo!\0", &seven)).starts_with("it is compressed with lzo!"));
    assert!(error(&changed(b"tracing6", b"tracing5", &six)).starts_with("it is a trace.dat of version 5, and 6 and 7"));
    assert!(error(&changed(b"flyrecord", b"latency  ", &six)).starts_with("it is a trace.dat with a latency trace"));
    let overlapping = version_6(Little, 8, &[], &[cpus[0].clone(), cpus[1].clone()]);
    let table = |at: u64| Bytes::new(Little).u64(at).u64(3 * 4096).bytes;
    let overlapping = changed(&table(8192 + 3 * 4096), &table(8192), &overlapping);
    assert_eq!(text(&overlapping).0.matches("kfree").count(), 12, "within the length of the file");
    let large = changed(&table(8192), &Bytes::new(Little).u64(0).u64(32768).bytes, &overlapping);
    assert_eq!(error(&large), "the parts of its CPUs overlap");
}

#[test]
fn options_are_read_once_and_up_to_a_bound() {
    let cpus = alternating(Little);
    let with = |more: &[u8]| version_7_with(Little, "none", [&cpus[0], &cpus[1]], 4096, more);
    let mut back = with(&[]);
    let options = back.windows(4).position(|bytes| bytes == b"none").unwrap() + 7;
    let (end, section) = (back.len() - 8, back[options..options + 8].to_vec());
    back[end..].copy_from_slice(&section);
    assert_eq!(error(&back), "its sections of options lead back to one of them");

    let option = |id, data: &[u8]| Bytes::new(Little).u16(id).u32(data.len() as u64).raw(data).bytes;
    let buffer = |parts: u64| {
        let head = Bytes::new(Little).u64(0).text("x").text("local").u32(4096).u32(parts);
        option(3, &head.raw(&Bytes::new(Little).u32(0).u64(0).u64(1).bytes.repeat(parts as usize)).bytes)
    };
    let section = option(16, &[0; 8]);
    assert_eq!(text(&with(&buffer(0).repeat(1022))).0.matches("kfree").count(), 12);
    assert_eq!(error(&with(&buffer(0).repeat(1023))), "it has more than 1024 buffers");
    assert_eq!(error(&with(&buffer(65_535))), "its buffers have more than 65536 CPUs in all");
    assert_eq!(text(&with(&section.repeat(60))).0.matches("kfree").count(), 12);
    assert_eq!(error(&with(&section.repeat(61))), "its options name more than 64 sections");
    assert_eq!(error(&with(&option(99, &[]).repeat((16 << 20) / 6))), "it has more than 16 MiB of options");
}

#[test]
fn damaged_pages_in_a_row_are_one_line() {
    let whole = page(Little, 8, 1, 0, &[event(Little, 0, 1, 1)], &[]);
    let damaged = page(Little, 8, 1, 0xffff, &[], &[]);
    let (text, _) = text(&version_6(Little, 8, &[], &[[&*whole, &damaged.repeat(1000), &whole].concat()]));
    assert_eq!(text.lines().nth(1), Some("CPU:0 [LOST 1000 EVENTS]"));
    assert_eq!((text.lines().count(), text.matches("kfree").count()), (3, 2));
}

#[test]
fn pages_without_events_count_as_unpacked() {
    let pages = page(Little, 8, 1, 0, &[event(Little, 0, 1, 1)], &[]);
    for (what, page) in [("empty", page(Little, 8, 1, 0, &[], &[])), ("damaged", page(Little, 8, 1, 0xffff, &[], &[]))]
    {
        let of = |count| version_7_with(Little, "zstd", [&page.repeat(count), &pages], 1 << 20, &[]);
        assert_eq!(text(&of(512)).0.matches("kfree").count(), 1, "{what}");
        assert_eq!(error(&of(8192)), "its events unpack to many times what a trace does", "{what}");
    }
}

#[test]
fn pages_smaller_than_the_kernels_are_refused() {
    let mut file = version_6(Little, 8, &[], &alternating(Little));
    file[MAGIC.len() + 4..][..4].copy_from_slice(&256_u32.to_le_bytes());
    assert_eq!(error(&file), "its pages can't have 256 bytes");
}

#[test]
fn no_cut_and_no_flipped_byte_makes_it_panic() {
    let cpus = alternating(Little);
    for file in [version_6(Little, 8, &[], &cpus), version_7(Little, "zlib", [&cpus[0], &cpus[1]])] {
        let read = |file: &[u8]| {
            if let Ok(mut trace) = TraceDat::open(Cursor::new(file)) {
                let mut text = Vec::new();
                let _ = trace.read_to_end(&mut text);
                assert!(text.len() < 1 << 20);
            }
        };
        for at in (0..file.len()).filter(|at| *at < 2000 || at % 4096 < 80) {
            read(&file[..at]);
            let mut flipped = file.clone();
            flipped[at] ^= 0xff;
            read(&flipped);
        }
    }
}
