//! The order of records of several rings.

use std::collections::VecDeque;

use bytemuck::{bytes_of, pod_read_unaligned};
use tracer_ebpf::record::{Header, Kind};

use super::*;

impl Records for VecDeque<Vec<u8>> {
    fn take<T>(&mut self, with: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.pop_front().map(|record| with(&record))
    }
}

fn record(time_ns: u64, kind: Kind, task: u32) -> Vec<u8> {
    bytes_of(&Header { time_ns, task, cpu: 0, kind: kind as u8, direction: 0 }).to_vec()
}

fn rings(of: &[&[Vec<u8>]]) -> Vec<Ring<VecDeque<Vec<u8>>>> {
    of.iter().map(|records| Ring { records: records.to_vec().into(), head: Vec::new() }).collect()
}

fn bytes<'a>(record: &Record<'a>) -> &'a [u8] {
    match record {
        Record::Bytes(bytes) => bytes,
        Record::Object(object) => panic!("{object:?}"),
    }
}

/// The tasks of what is handed out, `most` at the most.
fn read(rings: &mut [Ring<VecDeque<Vec<u8>>>], before_ns: u64, most: usize) -> Vec<u32> {
    let mut tasks = Vec::new();
    let _ = Merge::default().read(rings, before_ns, |record| {
        tasks.push(pod_read_unaligned::<Header>(bytes(&record)).task);
        if tasks.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    tasks
}

#[test]
fn rings_are_read_as_one_in_the_order_of_time() {
    let of = |task: u32, times: &[u64]| times.iter().map(|time| record(*time, Kind::Map, task)).collect::<Vec<_>>();
    let (a, b, c) = (of(1, &[10, 40, 41, 90]), of(2, &[20, 30, 50]), of(3, &[]));
    let mut all = rings(&[&a, &b, &c]);
    assert_eq!(read(&mut all, u64::MAX, usize::MAX), [1, 2, 2, 1, 1, 2, 1]);
    assert_eq!(read(&mut all, u64::MAX, usize::MAX), [0; 0]);
}

#[test]
fn what_is_newer_than_the_look_at_all_rings_waits_for_the_next() {
    let mut both = rings(&[&[record(10, Kind::Map, 1), record(50, Kind::Map, 2)], &[]]);
    assert_eq!(read(&mut both, 50, usize::MAX), [1]);
    // The other CPU was about to send this one.
    both[1].records.push_back(record(40, Kind::Map, 3));
    assert_eq!(read(&mut both, 60, usize::MAX), [3, 2]);
    // And what comes too late for that comes at once.
    both[0].records.push_back(record(70, Kind::Map, 4));
    both[1].records.push_back(record(30, Kind::Map, 5));
    assert_eq!(read(&mut both, 100, usize::MAX), [5, 4]);
}

#[test]
fn nothing_is_lost_between_one_batch_and_the_next() {
    let records: Vec<_> = (0..7).map(|n| record(n, Kind::Map, n as u32)).collect();
    let (even, odd): (Vec<_>, Vec<_>) = records.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    let of = |half: Vec<(usize, Vec<u8>)>| half.into_iter().map(|(_, record)| record).collect::<Vec<_>>();
    let mut both = rings(&[&of(even), &of(odd)]);
    let batches: Vec<Vec<u32>> = (0..4).map(|_| read(&mut both, u64::MAX, 2)).collect();
    assert_eq!(batches, [vec![0, 1], vec![2, 3], vec![4, 5], vec![6]]);
}

#[test]
fn in_one_tick_of_the_clock_objects_are_allocated_first_and_freed_last() {
    let mut both = rings(&[
        &[record(5, Kind::Map, 2), record(9, Kind::Unmap, 3)],
        &[record(5, Kind::Kmalloc, 1), record(9, Kind::Kfree, 4)],
    ]);
    assert_eq!(read(&mut both, u64::MAX, usize::MAX), [1, 2, 3, 4]);
}

#[test]
fn a_record_too_short_is_handed_out_for_its_reader_to_count() {
    let mut one = rings(&[&[vec![1, 2, 3], record(5, Kind::Map, 2)]]);
    let mut lengths = Vec::new();
    let read = Merge::default().read(&mut one, u64::MAX, |record| {
        lengths.push(bytes(&record).len());
        ControlFlow::Continue(())
    });
    assert_eq!((read, lengths), (ControlFlow::Continue(()), vec![3, 16]));
}

#[test]
fn rings_are_as_large_as_asked_and_those_of_no_cpu_a_page() {
    let bytes = |ring_bytes, page, cpus, sample| -> Vec<u32> {
        Sizes::new(ring_bytes, page, cpus, sample).by_name().map(|(_, bytes)| bytes).take(9).collect()
    };
    assert_eq!(bytes(8 << 20, 4096, 2, 1), [[8 << 20, 4 << 20, 4 << 20].as_slice(), &[4096; 6]].concat());
    assert_eq!(bytes(3 << 20, 4096, 64, 1), [[4 << 20].as_slice(), &[512 << 10; 8]].concat());
    assert_eq!(bytes(4096, 65536, 2, 0), [65536; 9]);
    // No more in all than asked for, with whatever number of CPUs.
    assert_eq!(bytes(8 << 20, 4096, 6, 1)[1..], [[1 << 20; 6].as_slice(), &[4096; 2]].concat());
    // And an eighth of it for a sample.
    assert_eq!(bytes(8 << 20, 4096, 8, 64)[1..], [128 << 10; 8]);
    assert_eq!(bytes(64 << 10, 4096, 8, 64)[1..], [4096; 8]);
}

#[test]
fn the_reader_is_woken_at_a_quarter_of_a_ring() {
    let wake_at = |ring_bytes, cpus, sample| Sizes::new(ring_bytes, 4096, cpus, sample).wake_at();
    assert_eq!(wake_at(8 << 20, 2, 1), (256 << 10, 256 << 10));
    assert_eq!(wake_at(2 << 20, 8, 1), (256 << 10, 64 << 10));
    assert_eq!(wake_at(4096, 8, 64), (1024, 1024));
}

#[test]
fn rings_of_our_own_take_no_more_than_what_they_stand_in_for() {
    let own = |ring_bytes, cpus, sample| Sizes::own(ring_bytes, 4096, cpus, sample).and_then(|sizes| sizes.own);
    let bytes = |geometry: Geometry| geometry.slots() as usize * 16;
    // As the default has it, and with all objects: on a small board, on one of 8 CPUs, on a server.
    let of = |cpus, sample| own(8 << 20, cpus, sample).map(|own| (own.log2, bytes(own)));
    assert_eq!([of(2, 64), of(4, 64), of(8, 64)], [Some((12, 294_912)), Some((11, 294_912)), Some((10, 294_912))]);
    assert_eq!([of(2, 1), of(4, 1), of(8, 1)], [Some((16, 4_718_592)), Some((15, 4_718_592)), Some((14, 4_718_592))]);
    assert_eq!(of(64, 1), Some((11, 4_718_592)));
    // Every ring has some slots, and where no object is sent there is none.
    assert_eq!(own(64 << 10, 8, 64).map(|own| own.log2), Some(8));
    assert_eq!(own(8 << 20, 8, 0), None);
    let sizes = Sizes::own(8 << 20, 4096, 8, 64).unwrap();
    assert_eq!(
        sizes.by_name().map(|(_, size)| size).collect::<Vec<_>>()[..9],
        [[8 << 20].as_slice(), &[4096; 8]].concat()
    );
    assert_eq!(
        sizes.by_name().skip(9).collect::<Vec<_>>(),
        [("OBJECT_CONTROL", 24), ("OBJECT_SLOTS", 18_432), ("OBJECT_PLACES", 8192)]
    );
    assert_eq!(
        Sizes::new(8 << 20, 4096, 8, 64).by_name().skip(9).map(|(_, entries)| entries).collect::<Vec<_>>(),
        [1; 3]
    );
}
