//! What goes into a frame one by one comes out as if it had come at once.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::event::{DeviceId, Direction, Memory};
use crate::stream::{Item, Source as _};
use crate::{Reader, Writer};

/// Few call sites, sizes and addresses, so that they come again; frees of what was allocated and of what was not; and lists.
fn batch() -> impl Strategy<Value = Batch> {
    let event = (0..6_u8, 0..4_u64, 0..12_u64, 0..3_u16, 0..5_u32, 0..200_u64);
    prop::collection::vec(event, 1..600).prop_map(|events| {
        let (mut batch, mut now) = (Batch::default(), 1_000_000);
        for (kind, site, object, cpu, task, pause) in events {
            now += pause;
            let (call_site, ptr) = (0xffff_8000_1000_0000 + site * 16, 0xffff_0000_0000_1000 + object * 64);
            let what = match kind {
                0..3 => What::Kmalloc { call_site, ptr, bytes_req: 40 + site % 2, bytes_alloc: 64, gfp: 0xcc0 },
                3..5 => What::Kfree { call_site, ptr },
                _ if site == 0 => {
                    let segment = Segment {
                        page: object,
                        dma_addr: ptr,
                        offset: 8,
                        length: 64,
                        dma_len: 64,
                        ..Segment::default()
                    };
                    let first_segment = batch.segments.len() as u32;
                    batch.segments.extend([segment, segment]);
                    let (device, direction) = (DeviceId(0), Direction::FromDevice);
                    What::MapSg {
                        device,
                        list: ptr,
                        nents: 2,
                        ents: 2,
                        direction,
                        attrs: 0,
                        caller: 0,
                        first_segment,
                        segments: 2,
                    }
                }
                _ => What::Map {
                    device: DeviceId(1),
                    phys: object * 8,
                    dma_addr: object * 8,
                    size: 40,
                    direction: Direction::ToDevice,
                    memory: Memory::Unknown,
                    attrs: 0,
                },
            };
            batch.events.push(Event { time_ns: now, task, cpu, what });
        }
        batch
    })
}

/// As whoever reads rings adds them: what a place has in common is known from one event to the next.
fn fill(filling: &mut Filling, batch: &Batch, known: &mut HashMap<(u64, u64), Known>) {
    for event in &batch.events {
        let Event { time_ns, task, cpu, what } = *event;
        let moment = Moment { time_ns, task, cpu };
        match what {
            What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, gfp } => {
                let allocation = Allocation { call_site, bytes_req, bytes_alloc, gfp };
                filling.allocated(moment, ptr, &allocation, known.entry((call_site, bytes_req)).or_default());
            }
            What::Kfree { call_site, ptr } => {
                filling.freed(moment, ptr, call_site, known.entry((call_site, 0)).or_default());
            }
            _ => filling.event(event, batch),
        }
    }
}

fn written(write: impl FnOnce(&mut Writer<Vec<u8>>)) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap().blocks_from(1);
    write(&mut writer);
    writer.into_inner().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_frame_that_is_filled_is_that_of_the_same_events_byte_for_byte(batches in prop::collection::vec(batch(), 1..4)) {
        let mut known = HashMap::new();
        let (mut filling, mut used) = (Filling::new(None), Frame::default());
        let filled = written(|writer| {
            for batch in &batches {
                fill(&mut filling, batch, &mut known);
                assert_eq!(filling.len(), batch.events.len());
                used = filling.finish(std::mem::take(&mut used));
                writer.write_frame(&used).unwrap();
            }
        });
        let at_once = written(|writer| batches.iter().for_each(|batch| writer.write(&Item::Events(batch.clone())).unwrap()));
        prop_assert!(filled == at_once);
        let mut reader = Reader::new(&filled[..]).unwrap();
        for batch in &batches {
            prop_assert_eq!(reader.next_item().unwrap(), Some(Item::Events(batch.clone())));
        }
    }

    #[test]
    fn a_frame_in_a_file_of_version_1_is_the_same_events(batch in batch()) {
        let mut filling = Filling::new(None);
        fill(&mut filling, &batch, &mut HashMap::new());
        let frame = filling.finish(Frame::default());
        let mut writer = Writer::version_1(Vec::new()).unwrap();
        writer.write_frame(&frame).unwrap();
        let counts = writer.events_written();
        prop_assert_eq!(counts.values().sum::<u64>(), batch.events.len() as u64);
        let file = writer.into_inner().unwrap();
        prop_assert_eq!(Reader::new(&file[..]).unwrap().next_item().unwrap(), Some(Item::Events(batch)));
    }
}

#[test]
fn a_frame_takes_65536_objects_and_16384_others_and_then_nothing() {
    let mut filling = Filling::new(Some(16));
    let moment = |n: usize| Moment { time_ns: n as u64 * 100, task: 1, cpu: 0 };
    let mut known = Known::default();
    for n in 0..MAX_EVENTS {
        assert!(!filling.is_full());
        assert_eq!(filling.allocated(moment(n), 64 * n as u64, &Allocation::default(), &mut known), n == 0);
    }
    assert!(filling.is_full());
    filling.freed(moment(0), 0, 0, &mut known);
    let sync =
        What::SyncSg { device: DeviceId(0), list: 1, nents: 1, direction: Direction::ToDevice, for_device: true };
    let sync = Event { time_ns: 1, task: 1, cpu: 0, what: sync };
    filling.event(&sync, &Batch::default());
    let frame = filling.finish(Frame::default());
    assert_eq!((frame.len(), frame.objects(), frame.others().events.len()), (MAX_EVENTS, MAX_EVENTS, 0));
    let file = written(|writer| writer.write_frame(&frame).unwrap());
    let Some(Item::Events(batch)) = Reader::new(&file[..]).unwrap().next_item().unwrap() else { panic!("no events") };
    assert_eq!(batch.events.len(), MAX_EVENTS);
    assert_eq!((batch.events[65_535].time_ns, frame.last_ns), (6_553_500 / 16 * 16, 6_553_500));
    // The next one begins with nothing.
    assert!(filling.is_empty());
    for _ in 0..FRAME_EVENTS {
        assert!(!filling.is_full());
        filling.event(&sync, &Batch::default());
    }
    assert!(filling.is_full());
    assert_eq!(filling.finish(frame).objects(), 0);
}
