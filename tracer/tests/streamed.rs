//! What a narrower choice of mappings leaves out changes nothing of what it is said to be enough for: captures of everything,
//! filtered as the programs would have, replayed beside themselves.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use tracer::{
    capture::Reader,
    event::{Batch, DeviceId, MAPPING_ERROR, What},
    facts::Device,
    model::policy::builtins,
    replay::{
        Replayed, Wanted,
        outcome::Outcome,
        replay,
        settings::{Settings, WhatIf},
    },
    stream::{Gaps, Item, Source, Start, Streamed},
};

/// A capture of everything, as if less had been streamed.
struct Filtered {
    reader: Reader<std::io::BufReader<std::fs::File>>,
    streamed: Streamed,
    devices: Vec<Device>,
    /// Devices that bounce for another reason than length.
    bouncing: BTreeSet<DeviceId>,
    lists: HashSet<u64>,
    dropped: u64,
}

impl Filtered {
    fn streams(&self, device: DeviceId, direction: u64, len: u64) -> bool {
        let described = &self.devices[device.0 as usize];
        described.force_bounce
            || self.bouncing.contains(&device)
            || self.streamed.covers(described.coherent, direction, len)
    }

    fn keeps(&mut self, batch: &Batch, event: &tracer::event::Event) -> bool {
        match event.what {
            What::SlotMap { device, size, direction, .. } => {
                if !self.streams(device, direction as u64, size) {
                    self.bouncing.insert(device);
                }
                true
            }
            What::Map { device, size, direction, dma_addr, .. } => {
                dma_addr == MAPPING_ERROR || self.streams(device, direction as u64, size)
            }
            What::Unmap { device, size, direction, .. } | What::Sync { device, size, direction, .. } => {
                self.streams(device, direction as u64, size)
            }
            What::MapSg { device, list, direction, ents, nents, .. } => {
                let segments = batch.segments(event);
                let whole = segments.len() == nents as usize;
                let shortest = segments.iter().map(|one| u64::from(one.length)).min().filter(|_| whole).unwrap_or(0);
                let kept = ents == 0 || self.streams(device, direction as u64, shortest);
                if kept {
                    self.lists.insert(list);
                }
                kept
            }
            What::UnmapSg { list, .. } => self.lists.remove(&list),
            What::SyncSg { list, .. } => self.lists.contains(&list),
            _ => true,
        }
    }
}

impl Source for Filtered {
    type Error = tracer::capture::ReadError;

    fn next_item(&mut self) -> Result<Option<Item>, Self::Error> {
        let mut item = self.reader.next_item()?;
        match &mut item {
            Some(Item::Start(start)) => start.streamed = self.streamed,
            Some(Item::Device(device)) => self.devices.push(device.clone()),
            Some(Item::Events(batch)) => {
                let kept: Vec<_> = batch.events.iter().filter(|event| self.keeps(batch, event)).copied().collect();
                self.dropped += (batch.events.len() - kept.len()) as u64;
                batch.events = kept;
            }
            _ => {}
        }
        Ok(item)
    }

    fn gaps(&self) -> Gaps {
        self.reader.gaps()
    }

    fn bytes_read(&self) -> u64 {
        self.reader.bytes_read()
    }
}

fn all_policies(start: &Start) -> Wanted {
    let settings = builtins().map(|policy| Settings::what_if(&start.kernel, &policy, &WhatIf::default())).collect();
    Wanted { settings, ..Wanted::default() }
}

/// What must not change. Slots that are counted for what has no event, and the totals of mappings, may.
fn of_bounces(outcome: &Outcome) -> impl PartialEq + std::fmt::Debug {
    let rows = outcome.rows.by_device.iter().map(|row| (row.device.clone(), row.tally.bounces, row.tally.failed));
    let mut rows: Vec<_> = rows.into_iter().filter(|(_, bounces, failed)| bounces + failed > 0).collect();
    rows.sort();
    (
        outcome.total.bounces,
        outcome.total.bytes_copied,
        outcome.peak_slots,
        outcome.peak_time_ns,
        outcome.total.failed,
        rows,
    )
}

fn captures() -> impl Iterator<Item = PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../captures");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "bounce"))
}

fn filtered(path: &std::path::Path, streamed: Streamed) -> (Replayed, u64) {
    let reader = Reader::open(path).unwrap();
    let mut source = Filtered {
        reader,
        streamed,
        devices: Vec::new(),
        bouncing: BTreeSet::new(),
        lists: HashSet::new(),
        dropped: 0,
    };
    let replayed = replay(&mut source, all_policies).unwrap();
    (replayed, source.dropped)
}

#[test]
fn policies_that_a_choice_is_enough_for_tell_the_same_of_bounces_peaks_and_refusals() {
    let (mut files, mut dropped_in_all) = (0, 0);
    for path in captures() {
        files += 1;
        let (whole, none) = filtered(&path, Streamed::All);
        assert_eq!(none, 0);
        for streamed in [Streamed::Written, Streamed::Small] {
            let (part, dropped) = filtered(&path, streamed);
            dropped_in_all += dropped;
            for (whole, part) in whole.outcomes.iter().zip(&part.outcomes) {
                if part.looks_at_unstreamed {
                    assert!(part.total.bounces <= whole.total.bounces, "{}: {}", path.display(), part.name);
                } else {
                    let (part, name) = (of_bounces(part), &part.name);
                    assert_eq!(of_bounces(whole), part, "{}: {name} of {}", path.display(), streamed.name());
                }
            }
        }
    }
    assert!(files >= 2 && dropped_in_all > 0, "{files} captures, {dropped_in_all} events left out");
}

#[test]
fn written_is_enough_for_every_policy_and_small_for_those_of_the_kernel() {
    let path = captures().next().unwrap();
    let missing = |streamed| {
        let outcomes = filtered(&path, streamed).0.outcomes;
        outcomes.into_iter().filter(|one| one.looks_at_unstreamed).map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(missing(Streamed::Written), Vec::<String>::new());
    let all_lengths = [
        "length-multiple",
        "length-multiple-minalign",
        "start-aligned",
        "start-and-length",
        "short-or-start",
        "short-or-start-minalign",
        "exact",
    ];
    assert_eq!(missing(Streamed::Small), all_lengths);
}
