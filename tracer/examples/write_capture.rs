//! Writes a capture of a kernel that never ran: one non-coherent device maps a buffer of 8 bytes and gives it back. A source of
//! mappings that bouncescope does not read becomes one that it replays in this way.
//!
//! `cargo run --package bouncescope-tracer --example write_capture -- made.bounce && cargo run -- replay made.bounce`

use std::{env, error::Error};

use tracer::{
    capture::create,
    event::{Batch, DeviceId, Direction, Event, Memory, What},
    facts::{Device, End, Hook, KernelFacts, PoolFacts},
    stream::{Item, Start},
};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("name the file to write")?;

    let kernel = KernelFacts {
        machine: "aarch64".into(),
        release: "6.12.0-made-up".into(),
        page_size: 4096,
        possible_cpus: 1,
        cache_line_size: 64,
        dma_minalign: 128,
        kmalloc_minalign: 8,
        bounce_unaligned_kmalloc: true,
        pool: PoolFacts { slots: 512, areas: 1, ..PoolFacts::default() },
        ..KernelFacts::default()
    };
    // What no hook recorded is unknown, not absent: these two say that every mapping and unmapping is in the stream.
    let hooks = ["map", "unmap"].map(|subject| Hook { subject: subject.into(), attached: true, ..Hook::default() });
    let usb = Device { name: "usb1".into(), driver: "made_up".into(), ..Device::default() };

    let (device, direction, attrs) = (DeviceId(0), Direction::FromDevice, 0);
    let (address, size) = (0x10_0008, 8);
    let map = What::Map { device, phys: address, dma_addr: address, size, direction, memory: Memory::Unknown, attrs };
    let unmap = What::Unmap { device, dma_addr: address, size, direction, attrs };
    let events = [(1_000, map), (5_000, unmap)].map(|(time_ns, what)| Event { time_ns, task: 1, cpu: 0, what });

    let mut writer = create(path.as_ref())?;
    writer.write(&Item::Start(Start { kernel, hooks: hooks.into(), ..Start::default() }))?;
    writer.write(&Item::Device(usb))?;
    writer.write(&Item::Events(Batch { events: events.into(), ..Batch::default() }))?;
    writer.write(&Item::End(End::default()))?;
    // A writer that is only dropped leaves nothing where the capture was to lie.
    println!("{} bytes", writer.finish()?);
    Ok(())
}
