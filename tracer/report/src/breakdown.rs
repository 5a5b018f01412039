//! Of a replay: who bounces and who has hazards, by device, driver, call site, direction and length, under each policy.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::label::{self, OBSERVED, SHOWN, driver, list_caller};
use super::table::{Table, WIDTH};
use bouncescope_replay::Replayed;
use bouncescope_replay::outcome::{OverlapRow, OverlapSide, Rows, Tally};
use tracer_ebpf::streamed::Streamed;

/// More policies than these are left to programs.
const SIDE_BY_SIDE: usize = 12;
/// Call sites shown to people; programs get all.
const SITES: usize = 20;
/// Beyond twice `ARCH_DMA_MINALIGN` no length bounces for alignment, whatever the line size.
const SHORT: u64 = 256;

/// Bounces, then hazards, of which `in_doubt` says that their totals have marks.
pub(super) fn text(replayed: &Replayed, in_doubt: bool) -> String {
    let policies = replayed.outcomes.len();
    if policies > SIDE_BY_SIDE {
        return format!(
            "\nno breakdown by device and driver of {policies} policies here, more than {SIDE_BY_SIDE}: --json has it\n"
        );
    }
    let hazards = counted(replayed, |tally| tally.hazards() > 0, label::hazards);
    let doubt = if in_doubt { ", in doubt as marked above" } else { "" };
    let unaligned = counted(
        replayed,
        |tally| tally.unaligned_read + tally.unaligned_written > 0,
        |tally| format!("{} + {}", tally.unaligned_read, tally.unaligned_written),
    );
    let recorded = match replayed.start.streamed {
        Streamed::All => "",
        _ => ", as far as recorded: --mappings all records what a device only reads",
    };
    bounces(replayed)
        + &overlaps(replayed)
        + &headed(&format!("hazards with a foreign object + unknown + own object{doubt}"), &hazards)
        + &headed(
            &format!("lengths that a policy wants drivers not to map, only read + written by the device{recorded}"),
            &unaligned,
        )
}

/// Which mappings were in one cache line at the same time, where any were.
fn overlaps(replayed: &Replayed) -> String {
    let pairs = Pairs::of(replayed);
    let mut headings = vec![""];
    headings.extend(replayed.outcomes.iter().map(|outcome| outcome.name.as_str()));
    headings.push(OBSERVED);
    let mut table = Table::new(&headings);
    for (pair, counts) in pairs.0.iter().take(SHOWN) {
        table.row([pair.text()].into_iter().chain(counts.iter().map(u64::to_string)));
    }
    if table.is_empty() {
        return String::new();
    }
    let recorded = match replayed.start.streamed {
        Streamed::All => "",
        _ => "; at least, since not all mappings were recorded (use record --mappings all)",
    };
    let heading = format!(
        "\noverlaps: buffers mapped beside another mapping in their cache lines, or over its bytes{recorded}\n"
    );
    heading + &table.blocks(2, 1, WIDTH) + &label::more(pairs.0.len(), "pairs")
}

/// Overlaps by pair of buffers: under each policy, and at last what the kernel did. The most frequent first.
pub(super) struct Pairs(pub(super) Vec<(Pair, Vec<u64>)>);

/// Two buffers in one cache line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    later: String,
    earlier: String,
    same_bytes: bool,
}

impl Pairs {
    pub(super) fn of(replayed: &Replayed) -> Self {
        let runs = replayed.outcomes.iter().map(|outcome| &outcome.rows).chain([&replayed.observed_rows]);
        let all = replayed.outcomes.len() + 1;
        let mut pairs: BTreeMap<Pair, Vec<u64>> = BTreeMap::new();
        for (run, rows) in runs.enumerate() {
            for row in &rows.overlaps {
                pairs.entry(Pair::of(row)).or_insert_with(|| vec![0; all])[run] += row.overlaps;
            }
        }
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.iter().max().copied()));
        Self(pairs)
    }
}

impl Pair {
    fn of(row: &OverlapRow) -> Self {
        let side = |side: &OverlapSide| {
            let site = if side.call_site.is_empty() {
                String::new()
            } else {
                format!(", {}", label::call_site(&side.call_site, &side.module))
            };
            format!("{} ({}){site}", label::name(&side.device), label::name(driver(&side.driver)))
        };
        Self { later: side(&row.later), earlier: side(&row.earlier), same_bytes: row.same_bytes }
    }

    /// The later buffer beside the earlier one, or over it where they have bytes in common.
    pub(super) fn text(&self) -> String {
        format!("{} {} {}", self.later, if self.same_bytes { "over" } else { "beside" }, self.earlier)
    }
}

/// A table under its heading, where there is one.
fn headed(heading: &str, table: &str) -> String {
    if table.is_empty() { String::new() } else { format!("\n{heading}\n{table}") }
}

/// One row for each device, direction and size class: how much there was, and who bounced how much of it. Rows without bounces
/// and hazards are only counted.
fn bounces(replayed: &Replayed) -> String {
    let mut headings = vec!["", "mappings", "buffers"];
    headings.extend(replayed.outcomes.iter().map(|outcome| outcome.name.as_str()));
    headings.push(OBSERVED);
    let mut table = Table::new(&headings);
    let mut left_out = 0;
    let mut shown = Shown::default();
    for Row { label, kind, observed, tallies } in rows(replayed) {
        if !matters(&observed) && !tallies.iter().any(matters) {
            left_out += 1;
            continue;
        }
        if !shown.takes(kind) {
            continue;
        }
        let mut cells = vec![label, observed.mappings.to_string(), observed.buffers.to_string()];
        cells.extend(tallies.iter().map(|tally| tally.bounces.to_string()));
        cells.push(observed.bounces.to_string());
        table.row(cells);
    }
    let mut text = "\nbounces by device, driver, call site, direction and length, predicted and real\n".to_owned();
    if !table.is_empty() {
        text += &table.blocks(2, 1, WIDTH);
    }
    text += &shown.more();
    if left_out > 0 {
        text += &format!("  … and {left_out} without bounces or hazards: --json has all\n");
    }
    text
}

fn matters(tally: &Tally) -> bool {
    tally.bounces + tally.hazards() + tally.overlaps + tally.failed > 0
}

/// What a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Device,
    Driver,
    Site,
    Direction,
    Length,
}

/// Rows so far of the kinds that may have many.
#[derive(Default)]
struct Shown {
    devices: usize,
    drivers: usize,
    sites: usize,
}

impl Shown {
    /// Whether one more of this kind is shown.
    fn takes(&mut self, kind: Kind) -> bool {
        let (count, most) = match kind {
            Kind::Device => (&mut self.devices, SHOWN),
            Kind::Driver => (&mut self.drivers, SHOWN),
            Kind::Site => (&mut self.sites, SITES),
            Kind::Direction | Kind::Length => return true,
        };
        *count += 1;
        *count <= most
    }

    /// What was not.
    fn more(&self) -> String {
        let sites = match self.sites.checked_sub(SITES) {
            Some(more) if more > 0 => format!("  … and {more} more call sites: --json has all\n"),
            _ => String::new(),
        };
        label::more(self.devices, "devices") + &label::more(self.drivers, "drivers") + &sites
    }
}

/// Counts of each policy, put as words by `cell`; rows that `counts` makes nothing of are left out.
fn counted(replayed: &Replayed, counts: impl Fn(&Tally) -> bool, cell: impl Fn(&Tally) -> String) -> String {
    let mut headings = vec![""];
    headings.extend(replayed.outcomes.iter().map(|outcome| outcome.name.as_str()));
    let mut table = Table::new(&headings);
    let mut shown = Shown::default();
    for Row { label, kind, tallies, .. } in rows(replayed) {
        if tallies.iter().any(&counts) {
            if !shown.takes(kind) {
                continue;
            }
            table.row(std::iter::once(label).chain(tallies.iter().map(&cell)));
        }
    }
    if table.is_empty() { String::new() } else { table.blocks(2, 1, WIDTH) + &shown.more() }
}

/// One row: what the kernel did, and each policy.
struct Row {
    label: String,
    kind: Kind,
    observed: Tally,
    tallies: Vec<Tally>,
}

/// All rows, in the order of what the kernel did; what only a policy has, at the end.
fn rows(replayed: &Replayed) -> Vec<Row> {
    let mut observed = labelled(&replayed.observed_rows);
    let runs: Vec<Vec<Labelled>> = replayed.outcomes.iter().map(|outcome| labelled(&outcome.rows)).collect();
    let seen: HashSet<String> = observed.iter().map(|one| one.label.clone()).collect();
    let only_theirs = runs.iter().flatten().filter(|one| !seen.contains(&one.label));
    observed.extend(only_theirs.map(|one| Labelled { tally: Tally::default(), ..one.clone() }).collect::<Vec<_>>());
    let by_label: Vec<HashMap<&str, Tally>> =
        runs.iter().map(|rows| rows.iter().map(|one| (one.label.as_str(), one.tally)).collect()).collect();
    let mut taken = HashSet::new();
    observed.retain(|one| taken.insert(one.label.clone()));
    let row = |one: Labelled| Row {
        tallies: by_label.iter().map(|run| run.get(one.label.as_str()).copied().unwrap_or_default()).collect(),
        label: one.label,
        kind: one.kind,
        observed: one.tally,
    };
    observed.into_iter().map(row).collect()
}

/// Lists that lose their concatenation, by driver, and by who mapped them where that was recorded.
pub(super) fn lists(replayed: &Replayed) -> String {
    let headings = ["", "policy", "lists", "split", "DMA segments before", "after"];
    let (mut by_driver, mut by_caller) = (Table::new(&headings), Table::new(&headings));
    for outcome in &replayed.outcomes {
        for row in outcome.rows.by_driver.iter().filter(|row| row.lists_losing_concatenation > 0).take(SHOWN) {
            by_driver.row([
                driver(&row.driver).to_owned(),
                outcome.name.clone(),
                row.lists.to_string(),
                row.lists_losing_concatenation.to_string(),
                row.segments_before.to_string(),
                row.segments_after.to_string(),
            ]);
        }
        for row in outcome.rows.by_list_caller.iter().filter(|row| row.lists_losing_concatenation > 0).take(SHOWN) {
            by_caller.row([
                list_caller(row),
                outcome.name.clone(),
                row.lists.to_string(),
                row.lists_losing_concatenation.to_string(),
                row.segments_before.to_string(),
                row.segments_after.to_string(),
            ]);
        }
    }
    if by_driver.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\nscatterlists behind an IOMMU that bounces split into more DMA segments, by driver\n{}",
        by_driver.text(2)
    );
    if !by_caller.is_empty() {
        text += &format!("\nthe same by the function that mapped the list\n{}", by_caller.text(2));
    }
    text
}

/// A row of one breakdown.
#[derive(Clone)]
struct Labelled {
    label: String,
    kind: Kind,
    tally: Tally,
}

/// The rows of one kind, in their order.
pub(super) fn of_kind(rows: &Rows, kind: Kind) -> Vec<(String, Tally)> {
    labelled(rows).into_iter().filter(|one| one.kind == kind).map(|one| (one.label, one.tally)).collect()
}

fn labelled(rows: &Rows) -> Vec<Labelled> {
    let mut labelled = Vec::new();
    let mut add = |label: String, kind: Kind, tally: Tally| labelled.push(Labelled { label, kind, tally });
    for row in &rows.by_device {
        add(label::device(&row.device, &row.driver, row.coherent), Kind::Device, row.tally);
    }
    for row in &rows.by_driver {
        add(format!("driver {}", label::name(driver(&row.driver))), Kind::Driver, row.tally);
    }
    for row in rows.by_call_site.iter().filter(|row| !row.call_site.is_empty()) {
        add(label::call_site(&row.call_site, &row.module), Kind::Site, row.tally);
    }
    for row in &rows.by_direction {
        add(row.direction.name().to_owned(), Kind::Direction, row.tally);
    }
    let (short, long): (Vec<_>, Vec<_>) = rows.by_size_class.iter().partition(|row| row.up_to <= SHORT);
    for row in short {
        add(format!("up to {} B", row.up_to), Kind::Length, row.tally);
    }
    let mut longer = Tally::default();
    for row in long {
        longer.add(&row.tally);
    }
    add(format!("longer than {SHORT} B"), Kind::Length, longer);
    labelled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_rows_of_a_kind_are_shown_and_the_others_counted() {
        let mut shown = Shown::default();
        let taken = |shown: &mut Shown, kind| (0..SHOWN + 3).filter(|_| shown.takes(kind)).count();
        assert_eq!(taken(&mut shown, Kind::Device), SHOWN);
        assert_eq!(taken(&mut shown, Kind::Length), SHOWN + 3, "there are few lengths");
        assert!(shown.more().contains("and 3 more devices") && !shown.more().contains("drivers"), "{}", shown.more());
    }
}
