//! How much room events take, on workloads with as much disorder as real ones.

use std::collections::VecDeque;

use super::write;
use crate::event::{Batch, DeviceId, Direction, Event, Memory, What};
use crate::stream::Item;

/// xorshift64: the same disorder in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

fn bytes_per_event(events: Vec<Event>) -> f64 {
    let count = events.len();
    write(&[Item::Events(Batch { events, segments: Vec::new() })]).len() as f64 / count as f64
}

/// Three devices map pages from 4 GiB in no order, and unmap them in another.
#[test]
fn a_mapping_event_takes_8_bytes_at_the_most() {
    let mut random = Random(1);
    let mut mapped = VecDeque::new();
    let mut events = Vec::new();
    let mut time_ns = 0;
    for _ in 0..50_000 {
        time_ns += 500 + random.below(4000);
        let device = DeviceId(random.below(3) as u32);
        let phys = 0x8000_0000 + 4096 * random.below(1 << 20);
        let size = [64, 512, 1514, 4096][random.below(4) as usize];
        let direction = [Direction::FromDevice, Direction::ToDevice][random.below(2) as usize];
        let (task, cpu) = (100 + random.below(8) as u32, random.below(8) as u16);
        let mut push = |what| events.push(Event { time_ns, task, cpu, what });
        push(What::Map { device, phys, dma_addr: phys, size, direction, memory: Memory::Unknown, attrs: 0 });
        mapped.push_back((device, phys, size, direction));
        if mapped.len() > 64
            && let Some((device, dma_addr, size, direction)) = mapped.swap_remove_back(random.below(64) as usize)
        {
            push(What::Unmap { device, dma_addr, size, direction, attrs: 0 });
        }
    }
    let each = bytes_per_event(events);
    assert!(each <= 8.0, "{each:.2} bytes an event");
}

/// Forty paths through the kernel, each of which allocates at its own places and frees in reverse, taken in random order
/// at irregular times. A cache gives the object that was freed last, as SLUB's free lists do.
#[test]
fn an_allocation_takes_4_bytes_at_the_most() {
    let mut random = Random(1);
    let paths: Vec<Vec<u64>> = (0..40).map(|_| (0..2 + random.below(6)).map(|_| random.below(300)).collect()).collect();
    let mut free: Vec<Vec<u64>> = (0..8)
        .map(|cache| (0..64).map(|_| 0xffff_0000_0400_0000 + 4096 * random.below(1 << 16) + (8 << cache)).collect())
        .collect();
    let mut events = Vec::new();
    let mut time_ns = 0;
    while events.len() < 100_000 {
        let path = &paths[random.below(40) as usize];
        let task = 800 + random.below(4) as u32;
        let mut push = |time_ns, what| events.push(Event { time_ns, task, cpu: 2, what });
        let mut held = Vec::new();
        for &site in path {
            time_ns += 200 + random.below(800);
            let cache = site % 8;
            let bytes_alloc = 8 << cache;
            let call_site = 0xffff_8000_8010_0000 + site * 1844;
            let ptr = free[cache as usize].pop().unwrap();
            push(time_ns, What::Kmalloc { call_site, ptr, bytes_req: bytes_alloc - cache, bytes_alloc, gfp: 0xcc0 });
            held.push((call_site, ptr, cache));
        }
        while let Some((call_site, ptr, cache)) = held.pop() {
            time_ns += 200 + random.below(800);
            push(time_ns, What::Kfree { call_site: call_site + 96, ptr });
            free[cache as usize].push(ptr);
        }
    }
    let each = bytes_per_event(events);
    assert!(each <= 4.0, "{each:.2} bytes an event");
}
