//! The parts that a replay's time goes to: `cargo bench -p bouncescope-tracer`. Of the whole, `cargo xtask bench replay` tells.

use divan::{Bencher, black_box, counter::ItemsCount};
use tracer::{
    capture::Reader,
    model::pool::{Pool, PoolConfig, Request, SlotRule},
    stream::{Item, Source as _},
};
use tracer_ebpf::decide::{Decider, FROM_DEVICE};

/// Of a real kernel.
const CAPTURE: &[u8] = include_bytes!("../../captures/default.bounce");

fn main() {
    divan::main();
}

/// Lengths 1 to 512, each once.
#[divan::bench(args = [64, 128, 256])]
fn decider(bencher: Bencher, cache_line_size: u32) {
    let decider = Decider { bounce_unaligned: 1, cache_line_size, minalign: 8, dma_minalign: 128 };
    bencher.counter(ItemsCount::new(512_u64)).bench(|| {
        (1..=512).filter(|len| black_box(&decider).needs_bounce(false, FROM_DEVICE, black_box(*len))).count()
    });
}

/// A buffer of 64 bytes is given slots and gives them back, in a pool of 512 slots of which so many are held by others.
#[divan::bench(args = [0, 128, 384])]
fn pool(bencher: Bencher, held: u64) {
    let config = PoolConfig { slots: 512, areas: 2, slot_rule: SlotRule::PoolAligned, page_size: 4096 };
    let mut pool = Pool::new(config);
    pool.occupy_foreign(held);
    let request = Request { cpu: 0, phys: 0x4100_0040, size: 64, align_mask: 0, min_align_mask: 0, is_memory: false };
    bencher.counter(ItemsCount::new(1_u64)).bench_local(|| {
        let bounce = pool.map(black_box(&request)).expect("there is room");
        pool.unmap(bounce);
    });
}

/// The whole capture, decompressed and decoded on one thread.
#[divan::bench]
fn decode(bencher: Bencher) {
    bencher.counter(ItemsCount::new(events())).bench(events);
}

fn events() -> usize {
    let mut reader = Reader::new(CAPTURE).expect("a capture");
    let mut events = 0;
    while let Some(item) = reader.next_item().expect("memory can be read") {
        if let Item::Events(batch) = item {
            events += black_box(batch).events.len();
        }
    }
    events
}
