//! Makes the benchmark's capture, and beside it what a bare `zstd -dc` is timed with: the same payloads, one after another.
//! Neither is ever in memory as a whole.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufReader, BufWriter, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use tracer::{
    capture::{self, FileWriter, Reader, Writer},
    event::{Batch, DeviceId, Kind, What},
    facts::{Counters, Device, End, Hook, KernelFacts, PoolFacts, PoolSample},
    stream::{Item, Source as _, Start},
};

use super::{
    kernel::{CPUS, Kernel},
    memory::SLOTS,
    traffic::DEVICES,
};

/// When the recording begins.
const BEGIN_NS: u64 = 36_000_000_000;
/// Events in a batch: what the recorder takes from a busy kernel's ring at once.
const BATCH: usize = 1 << 16;
const SEED: u64 = 0x0062_6f75_6e63_6521;

/// A capture, the same in version 1 of the format, and the payloads of that alone.
pub(super) struct Generated {
    pub(super) capture: PathBuf,
    pub(super) version_1: PathBuf,
    pub(super) payloads: PathBuf,
}

/// The capture of so many mapping events, kept in `dir`; made unless it is there.
pub(super) fn capture(dir: &Path, mapping_events: u64) -> Result<Generated> {
    let capture = dir.join(format!("{mapping_events}.bounce"));
    let version_1 = dir.join(format!("{mapping_events}-1.bounce"));
    let payloads = dir.join(format!("{mapping_events}.zst"));
    if !(capture.is_file() && version_1.is_file() && payloads.is_file()) {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // Only what is whole gets its name.
        let (new_capture, new_payloads) = (capture.with_extension("bounce.new"), payloads.with_extension("zst.new"));
        let new_version_1 = version_1.with_extension("bounce.new");
        let mut writer = capture::create(&new_capture)?;
        write(&mut writer, mapping_events)?;
        writer.finish()?;
        write_version_1(&new_capture, &new_version_1)?;
        copy_payloads(&new_version_1, &new_payloads)?;
        fs::rename(new_payloads, &payloads)?;
        fs::rename(new_version_1, &version_1)?;
        fs::rename(new_capture, &capture)?;
    }
    Ok(Generated { capture, version_1, payloads })
}

fn write_version_1(capture: &Path, to: &Path) -> Result<()> {
    let mut reader = Reader::open(capture)?;
    let mut writer = Writer::version_1(BufWriter::new(File::create(to)?))?;
    while let Some(item) = reader.next_item()? {
        writer.write(&item)?;
    }
    Ok(writer.into_inner()?.flush()?)
}

/// Writes the stream: mappings begin until their events and those of their unmappings are so many, and all end.
fn write(writer: &mut FileWriter, mapping_events: u64) -> Result<()> {
    let mut kernel = Kernel::new(SEED, BEGIN_NS);
    let mut now_ns = BEGIN_NS;
    let mut seen = Seen::default();
    writer.write(&Item::Start(start()))?;
    for device in devices() {
        writer.write(&Item::Device(device))?;
    }
    let mut batch = Batch::default();
    let (mut mapped, mut unmapped) = (0, 0);
    // What is mapped already is still to be unmapped.
    while let Some(emitted) = kernel.next_event(2 * mapped >= mapping_events) {
        let mut event = emitted.event;
        now_ns = event.time_ns;
        seen.one(event.what.kind(), event.cpu);
        match &mut event.what {
            What::MapSg { first_segment, .. } => {
                *first_segment = batch.segments.len() as u32;
                mapped += 1;
            }
            What::Map { .. } => mapped += 1,
            What::Unmap { .. } | What::UnmapSg { .. } => unmapped += 1,
            _ => {}
        }
        batch.events.push(event);
        batch.segments.extend(emitted.segments);
        if batch.events.len() == BATCH {
            writer.write(&Item::Events(batch))?;
            batch = Batch::default();
            writer.write(&Item::Counters(seen.counters(now_ns)))?;
            writer.write(&Item::Pool(pool_sample(&kernel, now_ns)))?;
        }
    }
    ensure!(mapped == unmapped && mapped + unmapped >= mapping_events, "{mapped} mapped, {unmapped} unmapped");
    writer.write(&Item::Events(batch))?;
    writer.write(&Item::Pool(pool_sample(&kernel, now_ns)))?;
    writer.write(&Item::Counters(seen.counters(now_ns)))?;
    let events = writer.events_written().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect();
    writer.write(&Item::End(End { time_ns: now_ns, events, ..End::default() }))?;
    Ok(())
}

/// What the programs' counters would say.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, Vec<u64>>);

impl Seen {
    fn one(&mut self, kind: Kind, cpu: u16) {
        self.0.entry(kind.name()).or_insert_with(|| vec![0; CPUS as usize])[usize::from(cpu)] += 1;
    }

    fn counters(&self, time_ns: u64) -> Counters {
        let seen = self.0.iter().map(|(kind, counts)| ((*kind).to_owned(), counts.clone())).collect();
        Counters { time_ns, seen, ..Counters::default() }
    }
}

fn pool_sample(kernel: &Kernel, time_ns: u64) -> PoolSample {
    let (used_slots, most) = kernel.pool.counters();
    PoolSample { time_ns, slots: SLOTS, used_slots, hiwater_slots: Some(most), restricted: Vec::new() }
}

fn start() -> Start {
    let hook = |subject: &str| Hook {
        subject: subject.into(),
        place: "cargo xtask bench".into(),
        attached: true,
        ..Hook::default()
    };
    Start {
        time_ns: BEGIN_NS,
        kernel: KernelFacts {
            release: "6.12.0-bench".into(),
            machine: "aarch64".into(),
            page_size: 4096,
            possible_cpus: CPUS as u32,
            memory: 8 << 30,
            cache_line_size: 64,
            cache_line_source: "made up".into(),
            dma_minalign: 128,
            kmalloc_minalign: 8,
            kmalloc_minalign_source: "made up".into(),
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots: SLOTS, areas: CPUS as u32, hiwater_reset: true, ..PoolFacts::default() },
            ..KernelFacts::default()
        },
        hooks: ["slot_map", "slot_unmap", "bounced", "map", "map_sg", "map_sg_refused", "unmap", "unmap_sg"]
            .map(hook)
            .into(),
        notes: vec!["made by cargo xtask bench; no kernel ever did this".into()],
        recorder: "cargo xtask bench".into(),
        ..Start::default()
    }
}

fn devices() -> impl Iterator<Item = Device> {
    DEVICES.iter().zip(0..).map(|(device, id)| Device {
        id: DeviceId(id),
        name: device.name.into(),
        driver: device.driver.into(),
        bus: device.bus.into(),
        coherent: device.coherent,
        dma_mask: u64::MAX,
        time_ns: BEGIN_NS,
        ..Device::default()
    })
}

/// Copies the payloads of a capture as they are stored. Lengths as in `docs/capture-format.md`.
fn copy_payloads(capture: &Path, to: &Path) -> Result<()> {
    let mut from = BufReader::new(File::open(capture)?);
    let mut to = BufWriter::new(File::create(to)?);
    from.read_exact(&mut [0; 16])?;
    let mut header = [0; 24];
    loop {
        match from.read_exact(&mut header) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            read => read?,
        }
        let stored = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        std::io::copy(&mut from.by_ref().take(u64::from(stored)), &mut to)?;
    }
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    use tracer::replay::{Wanted, replay};

    use super::*;

    #[test]
    fn the_capture_comes_back_whole_and_the_model_agrees_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let made = capture(dir.path(), 200_000).unwrap();
        let replayed =
            replay(&mut Reader::open(&made.capture).unwrap(), |_| Wanted { verdict: true, ..Wanted::default() })
                .unwrap();
        assert!(replayed.gaps.is_empty() && replayed.verdict.agrees(), "{:?}", replayed.verdict.problems);
        assert_eq!(replayed.verdict.agreements, replayed.verdict.mappings);
        assert!(replayed.verdict.mappings >= 100_000 && replayed.verdict.bounces_kernel > 1000);
        assert_eq!(replayed.verdict.events_recorded, replayed.end.unwrap().events.values().sum::<u64>());
    }

    #[test]
    fn a_capture_of_so_many_events_is_always_the_same() {
        let bytes = || {
            let dir = tempfile::tempdir().unwrap();
            fs::read(capture(dir.path(), 5000).unwrap().capture).unwrap()
        };
        assert_eq!(bytes(), bytes());
    }

    #[test]
    fn the_payloads_beside_it_are_the_captures() {
        let dir = tempfile::tempdir().unwrap();
        let made = capture(dir.path(), 5000).unwrap();
        let mut reader = Reader::open(&made.version_1).unwrap();
        let mut frames = 0;
        while reader.next_item().unwrap().is_some() {
            frames += 1;
        }
        let (capture, payloads) = (fs::metadata(made.version_1).unwrap(), fs::metadata(made.payloads).unwrap());
        assert_eq!(capture.len(), 16 + 24 * frames + payloads.len());
    }
}
