//! `cargo xtask bench overlaps`: what it costs a recorder to look for overlaps while it records, which it does for its last lines. A capture
//! of every mapping is read with and without that, in turn on one thread, and CPU time is compared.

use std::path::Path;

use anyhow::Result;
use tracer::{
    capture::Reader,
    event::Kind,
    replay::overlapping::Overlapping,
    stream::{Item, Source as _},
};

use crate::{holders::cpu_ns, read::Args};

pub(super) fn run(args: &Args) -> Result<()> {
    let capture = args.capture()?;
    let mut spent_ns = [Vec::new(), Vec::new()];
    let mut mappings = 0;
    for round in 0..=args.rounds {
        for (looks, spent_ns) in [false, true].into_iter().zip(&mut spent_ns) {
            let began = cpu_ns()?;
            mappings = read(&capture, looks)?;
            // The first round brings the file into memory.
            if round > 0 {
                spent_ns.push(cpu_ns()? - began);
            }
        }
    }
    let [without, with] = spent_ns.map(|mut ns| {
        ns.sort_unstable();
        ns[ns.len() / 2] as f64
    });
    println!("{}: {mappings} mappings", capture.display());
    println!("read {:.3} s, and looked at for overlaps {:.3} s", without / 1e9, with / 1e9);
    println!("{:.0} ns for each mapping", (with - without) / mappings.max(1) as f64);
    Ok(())
}

/// Reads a capture; how many mappings there are.
fn read(capture: &Path, looks: bool) -> Result<u64> {
    let mut reader = Reader::open(capture)?;
    let (mut overlapping, mut mappings) = (None, 0);
    while let Some(item) = reader.next_item()? {
        if let (true, Item::Start(start)) = (looks, &item) {
            overlapping = Some(Overlapping::new(start));
        }
        if let Some(overlapping) = &mut overlapping {
            overlapping.item(&item);
        }
        if let Item::Events(batch) = item {
            let is_mapping = |kind| matches!(kind, Kind::Map | Kind::MapSg | Kind::Link);
            mappings += batch.events.iter().filter(|event| is_mapping(event.what.kind())).count() as u64;
            reader.take_back(batch);
        }
    }
    if let Some(overlapping) = overlapping {
        std::hint::black_box(overlapping.count());
    }
    Ok(mappings)
}
