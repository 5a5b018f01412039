//! `cargo xtask bench objects`: what allocations and frees take in a capture, in bytes and CPU time, as columns of version 1 and as
//! references to each other, on the same events in one run.

use std::{
    env,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    slice::Chunks,
};

use anyhow::{Context as _, Result, ensure};
use tracer::{
    capture::{
        FRAME_EVENTS, Reader, Writer,
        objects::{MAX_OBJECTS, ObjectDecoder, ObjectEncoder, TICK_NS},
    },
    event::{Batch, Event, What},
    stream::{Item, Source as _},
};
use zstd::bulk::{Compressor, Decompressor};

use crate::{measure::thread_cpu_ns, released};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Captures that were recorded with `--full`
    #[arg(required = true)]
    captures: Vec<PathBuf>,
    /// How often everything is run, in turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Events in a block of references
    #[arg(long, default_value_t = MAX_OBJECTS as u32, value_parser = clap::value_parser!(u32).range(1..=MAX_OBJECTS as i64))]
    block: u32,
}

/// As captures are compressed.
const LEVEL: i32 = 3;
/// Events decoded at a time.
const PART: usize = 1024;

/// What one way to write took.
#[derive(Default)]
struct Cost {
    bytes: usize,
    /// CPU time of each round.
    encode_ns: Vec<u64>,
    decode_ns: Vec<u64>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        let mut optimised = Command::new(released::this_program()?);
        return Err(optimised.args(env::args_os().skip(1)).exec()).context("cannot run the optimised program");
    }
    println!("{:28} {:>9}  {:22} {:>6} {:>7} {:>7}", "", "events", "", "bytes", "encode", "decode");
    for capture in &args.captures {
        let events = objects(capture)?;
        ensure!(!events.is_empty(), "{} has no allocations", capture.display());
        let ways = [
            ("columns, exact", None),
            ("references, 16 ns", Some(TICK_NS.ilog2() as u8)),
            ("references, exact", Some(0)),
        ];
        let mut costs = ways.map(|_| Cost::default());
        for _ in 0..args.rounds {
            for ((_, tick_shift), cost) in ways.iter().zip(&mut costs) {
                match tick_shift {
                    None => columns(&events, cost)?,
                    Some(tick_shift) => references(events.chunks(args.block as usize), *tick_shift, cost)?,
                }
            }
        }
        let name = capture.file_name().unwrap_or_default().to_string_lossy();
        for ((way, _), cost) in ways.iter().zip(&mut costs) {
            let each = |total: f64| total / events.len() as f64;
            println!(
                "{name:28} {:9}  {way:22} {:6.3} {:4.1} ns {:4.1} ns",
                events.len(),
                each(cost.bytes as f64),
                each(median(&mut cost.encode_ns)),
                each(median(&mut cost.decode_ns)),
            );
        }
    }
    Ok(())
}

/// The allocations and frees of a capture.
fn objects(capture: &Path) -> Result<Vec<Event>> {
    let mut reader = Reader::open(capture)?;
    let mut events = Vec::new();
    while let Some(item) = reader.next_item()? {
        if let Item::Events(batch) = item {
            let is_object = |event: &Event| matches!(event.what, What::Kmalloc { .. } | What::Kfree { .. });
            events.extend(batch.events.into_iter().filter(is_object));
        }
    }
    Ok(events)
}

/// As frames of version 1, header and checksum included.
fn columns(events: &[Event], cost: &mut Cost) -> Result<()> {
    let batch = |part: &[Event]| Item::Events(Batch { events: part.to_vec(), segments: Vec::new() });
    let items: Vec<Item> = events.chunks(FRAME_EVENTS).map(batch).collect();
    let mut writer = Writer::version_1(Vec::new())?;
    let before = writer.bytes_written();
    let began = thread_cpu_ns();
    items.iter().try_for_each(|item| writer.write(item))?;
    cost.encode_ns.push(thread_cpu_ns() - began);
    cost.bytes = (writer.bytes_written() - before) as usize;
    let file = writer.into_inner()?;
    let mut reader = Reader::new(&file[..])?;
    let mut read = 0;
    let began = thread_cpu_ns();
    while let Some(item) = reader.next_item()? {
        if let Item::Events(batch) = item {
            read += batch.events.len();
            reader.take_back(batch);
        }
    }
    cost.decode_ns.push(thread_cpu_ns() - began);
    ensure!(read == events.len(), "columns: {read} of {} events came back", events.len());
    Ok(())
}

/// As blocks of references, each compressed by itself, without what a frame adds.
fn references(blocks: Chunks<'_, Event>, tick_shift: u8, cost: &mut Cost) -> Result<()> {
    let (mut encoder, mut decoder) = (ObjectEncoder::default(), ObjectDecoder::default());
    let (mut compressor, mut decompressor) = (Compressor::new(LEVEL)?, Decompressor::new()?);
    let (mut block, mut stored) = (Vec::new(), Vec::new());
    let began = thread_cpu_ns();
    for part in blocks.clone() {
        block.clear();
        encoder.encode(part.iter(), tick_shift, &mut block);
        stored.push((block.len(), compressor.compress(&block)?));
    }
    cost.encode_ns.push(thread_cpu_ns() - began);
    cost.bytes = stored.iter().map(|(_, stored)| stored.len()).sum();
    let mut read = 0;
    let mut decode = |each: &mut dyn FnMut(&[Event])| {
        let mut events = Vec::new();
        for (length, stored) in &stored {
            block.clear();
            block.reserve(*length);
            decompressor.decompress_to_buffer(stored, &mut block)?;
            let mut objects = decoder.begin(&block).context("a block was not read")?;
            while objects.left() > 0 {
                events.clear();
                objects.decode(PART, &mut events).context("a block was not decoded")?;
                each(&events);
            }
        }
        anyhow::Ok(())
    };
    let began = thread_cpu_ns();
    decode(&mut |events| read += events.len())?;
    cost.decode_ns.push(thread_cpu_ns() - began);
    let rounded = |event: &Event| Event { time_ns: event.time_ns >> tick_shift << tick_shift, ..*event };
    let events = blocks.flatten();
    let (mut expected, mut are_same) = (events.clone().map(rounded), read == events.count());
    decode(&mut |events| are_same &= events.iter().copied().eq(expected.by_ref().take(events.len())))?;
    ensure!(are_same, "references: other events came back");
    Ok(())
}

/// A round that others interrupt finds colder caches.
fn median(ns: &mut [u64]) -> f64 {
    ns.sort_unstable();
    ns[ns.len() / 2] as f64
}
