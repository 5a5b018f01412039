//! Objects into blocks and back.

use proptest::prelude::*;

use super::{MAX_OBJECTS, ObjectDecoder, ObjectEncoder};
use crate::event::{Batch, DeviceId, Event, What};
use crate::stream::Item;

/// 16 ns.
const TICK_SHIFT: u8 = 4;

fn kmalloc(time_ns: u64, task: u32, cpu: u16, ptr: u64) -> Event {
    let what = What::Kmalloc { call_site: 0x100, ptr, bytes_req: 30, bytes_alloc: 32, gfp: 5 };
    Event { time_ns, task, cpu, what }
}

fn kfree(time_ns: u64, task: u32, cpu: u16, ptr: u64) -> Event {
    Event { time_ns, task, cpu, what: What::Kfree { call_site: 0x110, ptr } }
}

fn encode(events: &[Event], tick_shift: u8) -> Vec<u8> {
    let mut block = Vec::new();
    ObjectEncoder::default().encode(events.iter(), tick_shift, &mut block);
    block
}

/// All events of a block, so many at a time.
fn decode(block: &[u8], part: usize) -> Option<Vec<Event>> {
    let mut decoder = ObjectDecoder::default();
    let mut objects = decoder.begin(block)?;
    let mut events = Vec::new();
    while objects.left() > 0 {
        objects.decode(part, &mut events)?;
    }
    objects.decode(part, &mut events)?;
    Some(events)
}

/// Events with times rounded down.
fn rounded(events: &[Event], tick_shift: u8) -> Vec<Event> {
    events.iter().map(|event| Event { time_ns: event.time_ns >> tick_shift << tick_shift, ..*event }).collect()
}

#[test]
fn a_block_is_a_count_a_tick_and_columns_in_this_order() {
    let other = What::Kmalloc { call_site: 0x300, ptr: 0x2000, bytes_req: 8, bytes_alloc: 8, gfp: 5 };
    let events = [
        kmalloc(1600, 7, 1, 0x1000),
        kfree(1632, 7, 1, 0x1000),
        // The object that was freed last.
        kmalloc(1633, 7, 1, 0x1000),
        // New, of another size.
        Event { time_ns: 2000, task: 8, cpu: 0, what: other },
        kmalloc(2000, 7, 1, 0x1040),
        kfree(1900, 7, 1, 0x1000),
        // Allocated before the block began.
        kfree(1_000_000_000, 8, 0, 0x8000),
        kfree(1_000_000_100, 8, 0, 0x2000),
        // Freed twice: its allocation was lost.
        kfree(1_000_000_200, 8, 0, 0x1000),
    ];
    let expected: [&[u8]; 19] = [
        &[9],                                  // events
        &[4],                                  // ticks of 2⁴ ns
        &[21],                                 // dictionary:
        &[0, 128, 4, 30, 32, 5, 1],            // kmalloc at 0x100, 30 of 32 bytes, gfp 5, class 1
        &[2, 32],                              // kfree at 0x110 of an object of the first entry
        &[0, 224, 7, 8, 8, 5, 2],              // kmalloc at 0x300, 8 of 8 bytes, gfp 5, class 2
        &[1, 223, 7],                          // kfree at 0x110 of an object that nothing is known of
        &[4, 0],                               // kfree at 0x110 of an object of the third entry
        &[9, 0, 1, 0, 2, 0, 1, 3, 4, 3],       // entry
        &[4, 3, 1, 2, 3],                      // run
        &[4, 3, 1, 2, 0],                      // cpu: 1 with a new task, 0 with one, then as they were
        &[2, 7, 8],                            // task
        &[4, 0, 2, 0, 0],                      // allocated: new, the newest of its list, new, new
        &[5, 2, 3, 0, 2, 1],                   // freed: the newest, the second, new, the newest, by number
        &[1, 3],                               // known: three back from the last
        &[8, 128, 8, 128, 8, 239, 7, 240, 55], // address: 0x1000, 0x1000, -0xfc0 and 0x6fc0 further
        &[9, 36, 2, 0, 19, 0, 144, 144, 6, 6], // time: 100, 2, 0, 23, 0, far, far, 6, 6 ticks
        &[5, 13, 212, 176, 205, 59],           // far_time: 7 back, 62,499,882
        &[1, 0b1_100],                         // time_bits: 100 - 96 in three bits, 23 - 22 in one
    ];
    assert_eq!(encode(&events, 4), expected.concat());
    assert_eq!(decode(&encode(&events, 4), 4), Some(rounded(&events, 4)));
}

#[test]
fn an_empty_block_has_no_events() {
    assert_eq!(encode(&[], 4), [&[0, 4][..], &[0; 12]].concat());
    assert_eq!(decode(&encode(&[], 4), 1), Some(Vec::new()));
}

#[test]
fn a_block_does_not_depend_on_those_before_it() {
    let first: Vec<_> = (0..5000).map(|n| kmalloc(n, n as u32, n as u16, n << 5)).collect();
    let second = [kmalloc(10, 1, 2, 0x40), kfree(20, 1, 2, 0x40)];
    let mut encoder = ObjectEncoder::default();
    encoder.encode(first.iter(), 0, &mut Vec::new());
    let mut block = vec![1, 2, 3];
    encoder.encode(second.iter(), 0, &mut block);
    assert_eq!(block[..3], [1, 2, 3], "a block is appended");
    assert_eq!(block[3..], encode(&second, 0));
}

#[test]
fn a_block_is_full_at_65536_events_and_leaves_out_what_is_no_object() {
    // As many addresses as there can be: the number of the last one is that of no address.
    let mut events: Vec<_> = (0..=MAX_OBJECTS as u64).map(|n| kmalloc(n * 1000, 1, 1, n << 6)).collect();
    events.insert(5, Event { what: What::Bounced { device: DeviceId(0), dev_addr: 1, size: 2 }, ..events[0] });
    let read = decode(&encode(&events, 0), 1000).unwrap();
    events.remove(5);
    events.pop();
    assert_eq!(read, events);
    // One more call site than there are numbers for lists.
    let site = |n: u64| What::Kmalloc { call_site: n << 4, ptr: 64 * (n % 7), bytes_req: n, bytes_alloc: n, gfp: n };
    let events: Vec<_> =
        (0..MAX_OBJECTS as u64).map(|n| Event { time_ns: n, task: 1, cpu: n as u16, what: site(n) }).collect();
    assert_eq!(decode(&encode(&events, 0), 1000), Some(events));
}

#[test]
fn an_address_deep_in_its_list_comes_back() {
    let mut events: Vec<_> = (0..200).map(|n| kmalloc(n, 1, 0, n << 5)).collect();
    events.extend([0, 135, 136, 64, 199, 1].map(|n| kfree(200 + n, 1, 0, n << 5)));
    events.extend((0..10).map(|n| kmalloc(500 + n, 1, 0, n << 5)));
    assert_eq!(decode(&encode(&events, 0), 7), Some(events));
}

#[test]
fn addresses_that_all_fall_together_in_a_table_come_back() {
    // Multiples of one large power of two differ in few bits of any product.
    let events: Vec<_> =
        (0..6000_u64).flat_map(|n| [kmalloc(n, 1, 0, n << 48), kfree(n, 1, 0, (n / 2) << 48)]).collect();
    assert_eq!(decode(&encode(&events, 0), 1024), Some(events));
}

#[test]
fn times_of_every_length_come_back_rounded_down() {
    let mut events = Vec::new();
    let mut time_ns = 0_u64;
    for bit in 0..64 {
        for step in [1_u64 << bit, (1 << bit) - 1, (1 << bit) + (1 << bit >> 1) + 1] {
            time_ns = time_ns.wrapping_add(step);
            events.push(kmalloc(time_ns, 1, 1, 8));
        }
    }
    for tick_shift in [0, 1, TICK_SHIFT, 30] {
        assert_eq!(decode(&encode(&events, tick_shift), 16), Some(rounded(&events, tick_shift)), "{tick_shift}");
    }
}

#[test]
fn no_number_that_a_block_names_is_taken_on_trust() {
    let events = [kmalloc(16, 7, 1, 0x1000), kfree(32, 7, 1, 0x1000), kmalloc(48, 7, 1, 0x1000)];
    let block = encode(&events, 4);
    assert!(decode(&block, 2).is_some());
    for at in 0..block.len() {
        for byte in 0..=u8::MAX {
            let mut block = block.clone();
            block[at] = byte;
            if let Some(read) = decode(&block, 2) {
                assert!(read.len() <= block.len(), "byte {at} is {byte}");
            }
        }
        assert_eq!(decode(&block[..at], 2), None, "cut at {at}");
    }
    let longer = [&block[..], &[0]].concat();
    assert_eq!(decode(&longer, 2), None, "something is left");
}

#[test]
fn a_block_with_values_left_over_is_damaged() {
    let block = encode(&[kmalloc(16, 7, 1, 0x1000)], 4);
    let mut columns = &block[2..];
    let mut at = 2;
    while !columns.is_empty() {
        let length = usize::from(columns[0]);
        let mut longer = block.clone();
        longer[at] += 1;
        longer.insert(at + 1 + length, 0);
        assert_eq!(decode(&longer, 1), None, "the column at {at} has one value more");
        at += 1 + length;
        columns = &columns[1 + length..];
    }
}

/// Events with as much in common as real ones, among them such that no kernel makes.
fn objects() -> impl Strategy<Value = Vec<Event>> {
    let any_or_few = |few: u64| prop_oneof![8 => 0..few, 1 => any::<u64>()];
    let what = (any::<bool>(), any_or_few(4), any_or_few(40), any_or_few(3), any_or_few(2));
    let what = what.prop_map(|(is_kmalloc, call_site, ptr, size, gfp)| {
        let ptr = ptr.wrapping_mul(32);
        if is_kmalloc {
            What::Kmalloc { call_site, ptr, bytes_req: size, bytes_alloc: size.wrapping_mul(2), gfp }
        } else {
            What::Kfree { call_site, ptr }
        }
    });
    let place = prop_oneof![8 => (0..3_u16, 0..3_u32), 1 => (any::<u16>(), any::<u32>())];
    let step = prop_oneof![8 => 0..3000_u64, 1 => any::<u64>()];
    prop::collection::vec((step, place, what), 0..400).prop_map(|events| {
        let mut time_ns = 0_u64;
        let timed = events.into_iter().map(|(step, (cpu, task), what)| {
            time_ns = time_ns.wrapping_add(step);
            Event { time_ns, task, cpu, what }
        });
        timed.collect()
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(events in objects(), tick_shift in 0..31_u8, part in 1..70_usize) {
        prop_assert_eq!(decode(&encode(&events, tick_shift), part), Some(rounded(&events, tick_shift)));
    }

    #[test]
    fn damaged_blocks_are_decoded_without_panic(
        events in objects(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut block = encode(&events, TICK_SHIFT);
        for (at, byte) in changes {
            let at = at.index(block.len());
            block[at] = byte;
        }
        if let Some(read) = decode(&block, 64) {
            prop_assert!(read.len() <= block.len());
            // Whatever it was, it is written again.
            prop_assert_eq!(decode(&encode(&read, 0), 64), Some(read));
        }
    }

    #[test]
    fn any_bytes_are_decoded_without_panic(block in prop::collection::vec(prop_oneof![0..6_u8, any::<u8>()], 0..300)) {
        decode(&block, 64);
    }
}

/// The goal for a kernel's objects, and that there is less than before.
#[test]
fn objects_of_a_real_kernel_take_less_than_2_bytes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../captures/6.12-noforce-mixed.bounce");
    let mut reader = crate::Reader::open(path.as_ref()).unwrap();
    let mut events = Vec::new();
    while let Some(item) = crate::stream::Source::next_item(&mut reader).unwrap() {
        if let Item::Events(Batch { events: batch, .. }) = item {
            events.extend(batch.into_iter().filter(|event| event.what.device().is_none()));
        }
    }
    let mut encoder = ObjectEncoder::default();
    let mut stored = 0;
    for part in events.chunks(MAX_OBJECTS) {
        let mut block = Vec::new();
        encoder.encode(part.iter(), TICK_SHIFT, &mut block);
        assert_eq!(decode(&block, 1024), Some(rounded(part, TICK_SHIFT)));
        stored += zstd::bulk::compress(&block, crate::writer::LEVEL).unwrap().len();
    }
    let each = stored as f64 / events.len() as f64;
    assert!(events.len() > 300_000 && each <= 1.75, "{each:.2} bytes for each of {} events", events.len());
}
