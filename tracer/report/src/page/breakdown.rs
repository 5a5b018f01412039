//! Who bounces, and who is left unsafe: by device, driver and call site, under each policy and on the kernel.

use std::collections::{HashMap, HashSet};

use crate::breakdown::Pairs;
use crate::document::{Block, Cell, Table};
use crate::label::{self, OBSERVED, driver, list_caller, module};
use bouncescope_replay::Replayed;
use bouncescope_replay::outcome::{Outcome, Rows, Tally};

/// Rows of one table; programs get all.
const MOST: usize = 200;

/// Names of a row, in the first columns.
type Names = Vec<String>;

/// Rows of one kind.
type Of = fn(&Rows) -> Vec<(Names, Tally)>;

fn by_device(rows: &Rows) -> Vec<(Names, Tally)> {
    let coherent = |coherent| if coherent { "yes" } else { "no" }.to_owned();
    let names = |row: &bouncescope_replay::outcome::DeviceRow| {
        vec![row.device.clone(), driver(&row.driver).to_owned(), coherent(row.coherent)]
    };
    rows.by_device.iter().map(|row| (names(row), row.tally)).collect()
}

fn by_driver(rows: &Rows) -> Vec<(Names, Tally)> {
    rows.by_driver.iter().map(|row| (vec![driver(&row.driver).to_owned()], row.tally)).collect()
}

fn by_call_site(rows: &Rows) -> Vec<(Names, Tally)> {
    let named = rows.by_call_site.iter().filter(|row| !row.call_site.is_empty());
    named.map(|row| (vec![format!("{}{}", row.call_site, module(&row.module))], row.tally)).collect()
}

fn by_direction(rows: &Rows) -> Vec<(Names, Tally)> {
    rows.by_direction.iter().map(|row| (vec![row.direction.name().to_owned()], row.tally)).collect()
}

/// Rows that stand with the verdict.
const FIRST: usize = 6;

/// The devices that bounce most under the policy that the report is about.
pub(super) fn most(outcome: &Outcome, seconds: f64) -> Block {
    let mut table =
        Table::new("Who bounces", ["device", "driver", "bounces", "per second", "bytes copied per second", "refused"]);
    let rows = outcome.rows.by_device.iter().filter(|row| row.tally.bounces + row.tally.failed > 0);
    for row in rows {
        let per_second = |count: u64| count as f64 / seconds;
        let copied = per_second(row.tally.bytes_copied);
        table.rows.push(vec![
            Cell::words(row.device.clone()),
            Cell::words(driver(&row.driver)),
            Cell::count(row.tally.bounces),
            Cell::shown(format!("{:.1}", per_second(row.tally.bounces)), per_second(row.tally.bounces)),
            Cell::bytes(copied as u64),
            Cell::count(row.tally.failed),
        ]);
    }
    table.first(FIRST).or("Nothing bounces.")
}

/// Devices, then directions.
pub(super) fn devices(replayed: &Replayed) -> Vec<Block> {
    let devices = bounces("Bounces by device", &["device", "driver", "coherent"], by_device, replayed);
    let directions = bounces("Bounces by direction", &["direction"], by_direction, replayed);
    vec![devices.first(MOST).or("Nothing was mapped."), directions.or("")]
        .into_iter()
        .filter(|block| *block != Block::Words(String::new()))
        .collect()
}

/// Drivers.
pub(super) fn drivers(replayed: &Replayed) -> Vec<Block> {
    vec![bounces("Bounces by driver", &["driver"], by_driver, replayed).first(MOST).or("Nothing was mapped.")]
}

/// Call sites whose objects are mapped.
pub(super) fn call_sites(replayed: &Replayed) -> Vec<Block> {
    let table = bounces(
        "Bounces by the call site of kmalloc that the buffer comes from",
        &["call site"],
        by_call_site,
        replayed,
    );
    vec![table.first(MOST).or("It is not known where any mapped buffer was allocated.")]
}

/// Every row, with what was mapped, what each policy bounces of it, and what the kernel did.
fn bounces(caption: &str, names: &[&str], of: Of, replayed: &Replayed) -> Table {
    let outcomes = replayed.outcomes.iter().map(|outcome| outcome.name.as_str());
    let headings = names.iter().copied().chain(["mappings", "buffers", "bytes"]).chain(outcomes).chain([OBSERVED]);
    let mut table = Table::new(caption, headings.map(str::to_owned));
    for (names, observed, tallies) in rows(of, replayed) {
        let mut cells: Vec<Cell> = names.into_iter().map(Cell::words).collect();
        cells.extend([Cell::count(observed.mappings), Cell::count(observed.buffers), Cell::bytes(observed.bytes)]);
        cells.extend(tallies.iter().map(|tally| Cell::count(tally.bounces)));
        cells.push(Cell::count(observed.bounces));
        table.rows.push(cells);
    }
    table
}

/// Who has hazards under which policy; rows without any are left out.
pub(super) fn hazards(replayed: &Replayed) -> Vec<Block> {
    let kinds: [(&str, &str, Of); 3] =
        [("device", "driver, coherent", by_device), ("driver", "", by_driver), ("call site", "", by_call_site)];
    let mut blocks = vec![Block::Words(
        "Unbounced buffers that a non-coherent device writes, by what shares their cache line: another live object + \
         unknown + only the rest of the buffer's own object (safe by the kernel's rule)."
            .into(),
    )];
    for (name, _, of) in kinds {
        let headings = std::iter::once(name).chain(replayed.outcomes.iter().map(|outcome| outcome.name.as_str()));
        let mut table = Table::new(&format!("Hazards by {name}"), headings.map(str::to_owned));
        for (names, _, tallies) in rows(of, replayed) {
            if tallies.iter().all(|tally| tally.hazards() == 0) {
                continue;
            }
            let mut cells = vec![Cell::words(names.into_iter().next().unwrap_or_default())];
            // Sorted by those that may do harm.
            let worst = |tally: &Tally| (tally.hazards_foreign + tally.hazards_unknown) as f64;
            cells.extend(tallies.iter().map(|tally| Cell::shown(label::hazards(tally), worst(tally))));
            table.rows.push(cells);
        }
        if !table.rows.is_empty() {
            blocks.push(Block::Table(table.first(MOST)));
        }
    }
    if blocks.len() == 1 {
        blocks.push(Block::Words("None, under any of these policies.".into()));
    }
    blocks.extend(overlaps(replayed).map(Block::Table));
    blocks
}

/// Which mappings were in one cache line at the same time; `None` where none were.
fn overlaps(replayed: &Replayed) -> Option<Table> {
    let pairs = Pairs::of(replayed);
    let headings =
        ["mapped"].into_iter().chain(replayed.outcomes.iter().map(|outcome| outcome.name.as_str())).chain([OBSERVED]);
    let title = "Overlaps: buffers mapped beside another mapping in their cache lines, or over its bytes";
    let mut table = Table::new(title, headings.map(str::to_owned));
    for (pair, counts) in &pairs.0 {
        let pair = [Cell::words(pair.text())];
        table.rows.push(pair.into_iter().chain(counts.iter().map(|count| Cell::count(*count))).collect());
    }
    (!table.rows.is_empty()).then(|| table.first(MOST))
}

/// Lists by driver and by who mapped them, and what becomes of those behind an IOMMU.
pub(super) fn lists(replayed: &Replayed) -> Vec<Block> {
    let headings = ["driver", "policy", "lists", "split by bounces", "DMA segments before", "after"];
    let mut table = Table::new("Scatterlists by driver", headings);
    for outcome in &replayed.outcomes {
        for row in outcome.rows.by_driver.iter().filter(|row| row.lists > 0) {
            table.rows.push(vec![
                Cell::words(driver(&row.driver)),
                Cell::words(&outcome.name),
                Cell::count(row.lists),
                Cell::count(row.lists_losing_concatenation),
                Cell::count(row.segments_before),
                Cell::count(row.segments_after),
            ]);
        }
    }
    let mut blocks = vec![table.first(MOST).or("No scatterlists were mapped.")];
    let headings = ["mapped by", "policy", "lists", "split by bounces", "DMA segments before", "after"];
    let mut table = Table::new("Scatterlists by the function that mapped them", headings);
    for outcome in &replayed.outcomes {
        for row in outcome.rows.by_list_caller.iter().filter(|row| row.lists > 0) {
            table.rows.push(vec![
                Cell::words(list_caller(row)),
                Cell::words(&outcome.name),
                Cell::count(row.lists),
                Cell::count(row.lists_losing_concatenation),
                Cell::count(row.segments_before),
                Cell::count(row.segments_after),
            ]);
        }
    }
    if !table.rows.is_empty() {
        blocks.push(table.first(MOST).or(""));
    }
    blocks
}

/// All rows, in the order of what the kernel did; what only a policy has, at the end.
fn rows(of: Of, replayed: &Replayed) -> Vec<(Names, Tally, Vec<Tally>)> {
    let mut order = of(&replayed.observed_rows);
    let runs: Vec<HashMap<Names, Tally>> =
        replayed.outcomes.iter().map(|outcome| of(&outcome.rows).into_iter().collect()).collect();
    let known: HashSet<&Names> = order.iter().map(|(names, _)| names).collect();
    let mut more: Vec<Names> =
        runs.iter().flat_map(|run| run.keys()).filter(|names| !known.contains(names)).cloned().collect();
    more.sort();
    more.dedup();
    order.extend(more.into_iter().map(|names| (names, Tally::default())));
    let of_runs = |names: &Names| runs.iter().map(|run| run.get(names).copied().unwrap_or_default()).collect();
    order
        .into_iter()
        .map(|(names, tally)| (of_runs(&names), names, tally))
        .map(|(runs, names, tally)| (names, tally, runs))
        .collect()
}
