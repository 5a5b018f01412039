//! A capture of a real kernel replays the same with pseudonyms for its addresses, and none of these is left in it.

mod items;

use std::{collections::BTreeSet, fs, path::PathBuf};

use items::Items;
use serde_json::Value;
use tracer::{
    capture::Reader,
    model::policy::builtins,
    pseudonym::{MARK, OBJECTS, Pseudonyms},
    replay::{
        Wanted, replay,
        settings::{Settings, WhatIf},
    },
    report::machine::{Document as _, Replay, Stats, Verify},
    stream::{Item, Source},
};

/// Where the kernel's half of a 64-bit address space begins, wherever the kernel lies in it.
const KERNEL: u64 = 0xff00_0000_0000_0000;
/// What lies from here on is an error code, or the mask of a device.
const FIRST_ERROR: u64 = (-4095_i64) as u64;

fn captures() -> Vec<(PathBuf, Vec<Item>)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../captures");
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let captures = paths.filter(|path| path.extension().is_some_and(|extension| extension == "bounce"));
    let read = |path: PathBuf| {
        let mut reader = Reader::open(&path).unwrap();
        let items = std::iter::from_fn(|| reader.next_item().unwrap()).collect();
        (path, items)
    };
    captures.map(read).collect()
}

/// The same with only the first events of each batch.
fn beginnings() -> Vec<(PathBuf, Vec<Item>)> {
    let mut captures = captures();
    for item in captures.iter_mut().flat_map(|(_, items)| items) {
        if let Item::Events(batch) = item {
            batch.events.truncate(200);
            batch.segments.truncate(200);
        }
    }
    captures
}

fn hidden(items: &[Item]) -> Vec<Item> {
    let mut pseudonyms = Pseudonyms::default();
    let mut items = items.to_vec();
    for item in &mut items {
        pseudonyms.hide(item);
    }
    items
}

/// Everything that is told about a stream.
fn told(items: &[Item]) -> Value {
    let wanted = |start: &tracer::stream::Start| Wanted {
        settings: builtins().map(|policy| Settings::what_if(&start.kernel, &policy, &WhatIf::default())).collect(),
        verdict: true,
        statistics: true,
        overlaps: true,
        occupancy: true,
        holders: true,
    };
    let mut replayed = replay(&mut Items(items.to_vec().into()), wanted).unwrap();
    // An address itself, and what says that addresses are pseudonyms.
    replayed.start.kernel.linear_map = None;
    replayed.start.kernel.vmemmap = None;
    replayed.start.other.remove(MARK);
    serde_json::json!({
        "replay": Replay::new(&replayed, None).to_json(),
        "verify": Verify::new(&replayed).to_json(),
        "stats": Stats::new(&replayed).to_json(),
        "mapped_sites": replayed.mapped_sites.len(),
    })
}

/// All whole numbers in what an item shows of itself.
fn numbers(item: &Item) -> BTreeSet<u64> {
    let shown = format!("{item:?}");
    shown.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn every_bundled_capture_tells_the_same_with_pseudonyms() {
    let captures = captures();
    assert!(captures.len() >= 5, "{} captures", captures.len());
    for (path, items) in captures {
        let (original, hidden) = (told(&items), told(&hidden(&items)));
        for (part, value) in original.as_object().unwrap() {
            assert!(*value == hidden[part], "{part} of {} differs", path.display());
        }
    }
}

#[test]
fn no_kernel_address_is_left() {
    for (path, items) in beginnings() {
        let kernel = |item: &Item| -> BTreeSet<u64> {
            numbers(item).into_iter().filter(|&number| (KERNEL..FIRST_ERROR).contains(&number)).collect()
        };
        let before: usize = items.iter().map(|item| kernel(item).len()).sum();
        assert!(before > 100, "{}: only {before} addresses to hide", path.display());
        let after: BTreeSet<u64> = hidden(&items).iter().flat_map(kernel).collect();
        assert!(after.is_empty(), "{}: {after:x?} left", path.display());
    }
}

#[test]
fn what_is_left_of_an_object_is_its_physical_address() {
    for (path, items) in captures() {
        let hidden = hidden(&items);
        let Some(Item::Start(start)) = hidden.first() else { panic!("{} has no beginning", path.display()) };
        let map = start.kernel.linear_map.unwrap();
        assert_eq!(map.virt_base, OBJECTS + map.phys_base, "{}", path.display());
    }
}
