//! One capture among many: found, opened, replayed within bounds, and its rows. Whatever is wrong with it stays its own matter: an error,
//! and also a panic, is the reason why it has no rows.

use std::{
    any::Any,
    cell::Cell as Flag,
    fs::File,
    io::{self, BufReader, Read as _},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow, bail};
use sha2::{Digest as _, Sha256};
use tracer::{
    capture::{
        Reader,
        relabel::{Identity, identity},
    },
    event::Batch,
    exchange::export::{
        follow::Follow as _,
        rows::ToRows,
        table::{self as export, Rows, Value},
    },
    labels::Labels,
    model::policy::{Caches, Policy, PoolChoice, builtins, named},
    passed::Needs,
    plain::plain,
    replay::{
        Replayed, Wanted, bounds,
        check::Gauge,
        figures::{self, Figure, Run},
        proposals, replay,
        settings::{Settings, WhatIf},
    },
    report,
    stream::{Gaps, Item, Source},
};

use crate::limit::Limit;
use crate::schema::{Cell, KEYS, Kind, Row, Table, figure_kind, figures, has_bounds};

/// What is simulated where nothing else is asked for: as in `bouncescope replay`.
pub(crate) const POLICIES: &str = "mainline,legacy,dynamic,always-small";
/// The policy of rows about what the kernel did.
pub(crate) const KERNEL: &str = "kernel";
/// The longest file with a policy or rules, bytes.
const LONGEST_TEXT: u64 = 1 << 20;

/// What is simulated over each capture: every policy with every pool and every line size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scenarios {
    pub(crate) policies: Vec<Policy>,
    /// `None` is the policy's own.
    pub(crate) pools: Vec<Option<PoolChoice>>,
    /// Bytes; `None` is the captured one.
    pub(crate) lines: Vec<Option<u32>>,
}

impl Scenarios {
    /// Lists of words as on a command line; those that are empty or `captured` change nothing.
    pub(crate) fn parse(policies: &str, pools: &str, lines: &str) -> Result<Self> {
        const MOST: usize = 1024;
        let words = |text: &str| -> Vec<String> {
            text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let mut chosen = Vec::new();
        for name in words(policies) {
            if name == "all" {
                chosen.extend(builtins());
            } else {
                let read = |path: &str| read_text(Path::new(path)).map_err(|error| format!("{error:#}"));
                chosen.push(named(&name, read).map_err(anyhow::Error::msg)?);
            }
        }
        if chosen.is_empty() {
            bail!("name a policy, such as mainline");
        }
        let pool = |word: String| word.parse::<PoolChoice>().map(Some).map_err(anyhow::Error::msg);
        let line = |word: String| match word.as_str() {
            "captured" => Ok(None),
            word => tracer::replay::scenarios::parse_alignment(word).map(Some).map_err(anyhow::Error::msg),
        };
        let mut pools = words(pools).into_iter().map(pool).collect::<Result<Vec<_>>>()?;
        let mut lines = words(lines).into_iter().map(line).collect::<Result<Vec<_>>>()?;
        // What is asked for twice has its rows once, or sums would count it twice.
        once(&mut chosen);
        once(&mut pools);
        once(&mut lines);
        if pools.is_empty() {
            pools.push(None);
        }
        if lines.is_empty() {
            lines.push(None);
        }
        if chosen.len() * pools.len() * lines.len() > MOST {
            bail!("these are more than {MOST} simulated kernels: ask for fewer at once");
        }
        Ok(Self { policies: chosen, pools, lines })
    }

    /// How many rows each capture has.
    pub(crate) fn count(&self) -> usize {
        self.policies.len() * self.pools.len() * self.lines.len()
    }

    fn packs(&self) -> bool {
        self.policies.iter().any(|policy| policy.caches == Caches::Packed)
    }
}

/// Takes out what was there before.
fn once<T: PartialEq>(list: &mut Vec<T>) {
    let mut kept: Vec<T> = Vec::new();
    for one in list.drain(..) {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    *list = kept;
}

/// A file that people write.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let mut text = String::new();
    File::open(path).with_context(cannot)?.take(LONGEST_TEXT + 1).read_to_string(&mut text).with_context(cannot)?;
    if text.len() as u64 > LONGEST_TEXT {
        bail!("{} is longer than the {LONGEST_TEXT} bytes that are read of such a file", path.display());
    }
    Ok(text)
}

/// A capture that is known, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) capture: String,
    /// Values of [`KEYS`].
    pub(crate) keys: [Option<String>; KEYS.len()],
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl Known {
    /// The first cells of each of its rows.
    fn first_cells(&self) -> Row {
        [Cell::text(&self.capture)].into_iter().chain(self.keys.iter().map(|key| Cell::maybe(key.as_deref()))).collect()
    }
}

/// Identity and labels of a file, of which everything is read.
pub(crate) fn identify(path: &Path) -> Result<(Identity, Labels, u64)> {
    let file = File::open(path).context("cannot open it")?;
    let kind = file.metadata().context("cannot open it")?;
    if !kind.is_file() {
        bail!("it is no regular file");
    }
    let (identity, labels) = identity(BufReader::with_capacity(1 << 16, file))?;
    Ok((identity, labels, kind.len()))
}

/// The first 32 digits of a file's SHA-256; empty where it cannot be read.
pub(crate) fn checksum(path: &Path) -> String {
    let hash = || -> io::Result<String> {
        let mut file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 1 << 16];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(got) => hash.update(&chunk[..got]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let digits = |text: String, byte: &u8| text + &format!("{byte:02x}");
        Ok(hash.finalize()[..16].iter().fold(String::new(), digits))
    };
    hash().unwrap_or_default()
}

/// Values of [`KEYS`].
pub(crate) fn keys(labels: &Labels, wall_clock_s: Option<u64>) -> [Option<String>; KEYS.len()] {
    KEYS.map(|key| match (labels.get(key), key) {
        (Some(value), _) => Some(plain(value).into_owned()),
        (None, "day") => wall_clock_s.map(day),
        (None, _) => None,
    })
}

/// A day of the Gregorian calendar, UTC, as `2026-11-30`.
fn day(wall_clock_s: u64) -> String {
    // Howard Hinnant's `civil_from_days`, for days since 1970.
    let days = (wall_clock_s / 86_400).min(100_000_000) + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02}")
}

thread_local! {
    /// A panic on this thread is about to become an error.
    static CAUGHT: Flag<bool> = const { Flag::new(false) };
}

/// Panics that become errors are not printed by themselves. To be called once.
pub(crate) fn quiet_caught_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !CAUGHT.get() {
            before(info);
        }
    }));
}

/// What `of` gives; a panic in it is an error.
pub(crate) fn caught<T>(of: impl FnOnce() -> Result<T>) -> Result<T> {
    CAUGHT.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(of));
    CAUGHT.set(false);
    result.unwrap_or_else(|panic| Err(anyhow!("the program failed on it: {}", said(&*panic))))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// An error and its causes in one line, whatever names are in it.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    plain(&format!("{error:#}")).into_owned()
}

/// One pass over a capture, by this thread alone.
fn pass<R: Rows>(
    path: &Path,
    rows: Option<&mut ToRows<R>>,
    wanted: impl FnOnce(&tracer::stream::Start) -> Wanted,
) -> Result<Replayed> {
    let reader = Reader::open(path)?;
    let length = path.metadata().map_or(0, |file| file.len());
    let mut source = Told { source: Limit::default().of(reader, length), rows, left: MOST_DEVICES, has_begun: false };
    let mut replayed = replay(&mut source, wanted)?;
    replayed.start.notes.extend(source.source.left_out());
    Ok(replayed)
}

/// A source whose beginning and devices also become rows.
struct Told<'a, S, R> {
    source: S,
    rows: Option<&'a mut ToRows<R>>,
    /// Devices of which rows are made yet.
    left: usize,
    /// The beginning has come. A file that has two of them is one capture all the same.
    has_begun: bool,
}

/// More descriptions of devices than a machine has.
const MOST_DEVICES: usize = 1 << 16;

impl<S: Source, R: Rows> Source for Told<'_, S, R> {
    type Error = S::Error;

    fn next_item(&mut self) -> Result<Option<Item>, S::Error> {
        let item = self.source.next_item()?;
        let is_wanted = match &item {
            Some(Item::Start(_)) => !std::mem::replace(&mut self.has_begun, true),
            Some(Item::Device(_)) if self.left > 0 => {
                self.left -= 1;
                true
            }
            _ => false,
        };
        if let (Some(rows), Some(item), true) = (&mut self.rows, &item, is_wanted) {
            let mut item = item.clone();
            bounds::any(&mut item);
            // They are kept in memory, which does not fail.
            let _ = rows.item(&item);
        }
        Ok(item)
    }

    fn leave_out(&mut self, needs: Needs) {
        self.source.leave_out(needs);
    }

    fn take_back(&mut self, used: Batch) {
        self.source.take_back(used);
    }

    fn gaps(&self) -> Gaps {
        self.source.gaps()
    }

    fn bytes_read(&self) -> u64 {
        self.source.bytes_read()
    }
}

/// Rows of tables of `export`, kept.
#[derive(Default)]
struct Kept(Vec<(export::Table, Row)>);

impl Rows for Kept {
    fn row(&mut self, table: export::Table, values: &[Value<'_>]) -> io::Result<()> {
        let cell = |value: &Value| match *value {
            Value::U64(number) => Cell::U64(number),
            Value::Bool(is) => Cell::Bool(is),
            Value::Text(text) => Cell::text(plain(text)),
            Value::Null => Cell::Null,
        };
        // The first is the capture, which stands in front with its keys.
        self.0.push((table, values[1..].iter().map(cell).collect()));
        Ok(())
    }
}

/// All rows of a capture.
pub(crate) struct Summary {
    pub(crate) known: Known,
    pub(crate) rows: Vec<(Table, Row)>,
}

/// Takes in a capture that [`identify`] has read.
pub(crate) fn summarise(
    path: &Path,
    identity: Identity,
    labels: &Labels,
    bytes: u64,
    scenarios: &Scenarios,
) -> Result<Summary> {
    let mut kept = ToRows { rows: Kept::default(), capture: String::new() };
    let simulated = simulate(path, scenarios, Some(&mut kept), true)?;
    let replayed = &simulated.replayed;
    let keys = keys(labels, Some(replayed.start.wall_clock_s));
    let known = Known { capture: identity.to_string(), keys, path: path.to_owned(), bytes };
    let first = known.first_cells();
    let behind = |more: Row| first.iter().cloned().chain(more).collect::<Row>();
    let mut rows: Vec<(Table, Row)> = Vec::new();
    for (table, row) in kept.rows.0 {
        match table {
            export::Table::Captures => {
                let more = row.into_iter().chain(of_capture(&known, replayed)).collect();
                rows.push((Table::Captures, behind(more)));
            }
            export::Table::Labels => rows.push((Table::Labels, behind(row))),
            export::Table::Devices => rows.push((Table::Devices, behind(row))),
            _ => {}
        }
    }
    for device in replayed.statistics.devices() {
        let of_device = [
            Cell::text(&device.device),
            Cell::text(&device.driver),
            Cell::Bool(device.coherent),
            Cell::text(&device.direction),
        ];
        let counts = [
            device.mappings,
            device.lists,
            device.buffers,
            device.bytes,
            device.bounces,
            device.refused,
            device.starts_inside_a_line,
            device.ends_inside_a_line,
        ];
        rows.push((Table::Traffic, behind(of_device.iter().cloned().chain(counts.map(Cell::count)).collect())));
        for (length, buffers) in &device.lengths {
            let more = of_device.iter().cloned().chain([*length, *buffers].map(Cell::count)).collect();
            rows.push((Table::Lengths, behind(more)));
        }
    }
    for (loss, by_cpu) in &replayed.counters.lost {
        let count = by_cpu.iter().fold(0, |sum: u64, one| sum.saturating_add(*one));
        rows.push((Table::Losses, behind(vec![Cell::text(plain(&loss.to_string())), Cell::count(count)])));
    }
    rows.extend(simulated.rows(&known).into_iter().map(|row| (Table::Outcomes, row)));
    Ok(Summary { known, rows })
}

/// The columns of `captures` that `export` does not have.
fn of_capture(known: &Known, replayed: &Replayed) -> Row {
    let verdict = &replayed.verdict;
    let said = match verdict {
        verdict if !verdict.agrees() => "disagree",
        verdict if verdict.agreements > 0 => "agree",
        _ => "unknown",
    };
    let read = |figure: Figure| {
        let value = figure.read(Run { replayed, outcome: None });
        value.map_or(Cell::Null, |value| cell(figure, value.number()))
    };
    let gaps = &replayed.gaps;
    vec![
        Cell::text(plain(&known.path.display().to_string())),
        Cell::count(known.bytes),
        Cell::count(replayed.span_ns),
        Cell::Bool(replayed.end.is_some() && gaps.is_empty()),
        Cell::count(gaps.damaged_frames),
        Cell::count(replayed.counters.total_lost()),
        Cell::text(said),
        Cell::count(verdict.agreements),
        read(Figure::Disagreements),
        Cell::count(verdict.unknown),
        Cell::maybe(report::losses::missing(replayed)),
    ]
}

/// A capture under all scenarios.
struct Simulated {
    replayed: Replayed,
    /// Policy, pool as asked for, and the outcome that belongs to it.
    asked: Vec<(String, String, usize)>,
    with_kernel: bool,
}

/// Scenarios that come to one kernel are simulated once, and each has its row all the same.
fn simulate(
    path: &Path,
    scenarios: &Scenarios,
    rows: Option<&mut ToRows<Kept>>,
    with_kernel: bool,
) -> Result<Simulated> {
    let packed = if scenarios.packs() {
        let first = pass::<Kept>(path, None, |_| Wanted::default())?;
        proposals::packed_sites(&first)
    } else {
        Arc::default()
    };
    let mut asked = Vec::new();
    let replayed = pass(path, rows, |start| {
        let mut settings: Vec<Settings> = Vec::new();
        let mut nameless: Vec<Settings> = Vec::new();
        for policy in &scenarios.policies {
            for pool in &scenarios.pools {
                for line in &scenarios.lines {
                    let packed_sites = Arc::clone(&packed);
                    let change = WhatIf { cache_line_size: *line, pool: *pool, packed_sites, ..WhatIf::default() };
                    let one = Settings::what_if(&start.kernel, policy, &change);
                    let without_name = Settings { name: String::new(), ..one.clone() };
                    let place = nameless.iter().position(|other| *other == without_name).unwrap_or_else(|| {
                        settings.push(one);
                        nameless.push(without_name);
                        settings.len() - 1
                    });
                    asked.push((policy.name.clone(), pool.unwrap_or(policy.pool).to_string(), place));
                }
            }
        }
        Wanted {
            settings,
            verdict: with_kernel,
            statistics: with_kernel,
            overlaps: true,
            holders: with_kernel,
            ..Wanted::default()
        }
    })?;
    Ok(Simulated { replayed, asked, with_kernel })
}

impl Simulated {
    /// A row of `outcomes` for each scenario, and for the kernel itself where that was asked for.
    fn rows(&self, known: &Known) -> Vec<Row> {
        let replayed = &self.replayed;
        let gauge = Gauge::new(replayed);
        let word = |value: serde_json::Value| Cell::maybe(value.as_str());
        let missing = || Cell::maybe(report::losses::missing(replayed));
        let mut rows = Vec::new();
        if self.with_kernel {
            let mut row = known.first_cells();
            row.extend([Cell::text(KERNEL), Cell::Null, Cell::Null, Cell::Null, missing(), Cell::Null]);
            read_figures(&mut row, Run { replayed, outcome: None }, |figure| gauge.observed(figure));
            rows.push(row);
        }
        for (policy, pool, n) in &self.asked {
            let (outcome, settings) = (&replayed.outcomes[*n], &replayed.settings[*n]);
            let mut row = known.first_cells();
            let (lists, when_full) = (serde_json::json!(settings.lists), serde_json::json!(settings.when_full));
            row.extend([
                Cell::text(plain(policy)),
                Cell::text(pool),
                word(lists),
                word(when_full),
                missing(),
                Cell::Null,
            ]);
            read_figures(&mut row, Run { replayed, outcome: Some(outcome) }, |figure| gauge.total(outcome, figure));
            rows.push(row);
        }
        rows
    }
}

fn read_figures(row: &mut Row, run: Run, measured: impl Fn(Figure) -> Option<tracer::check::Measured>) {
    for figure in figures() {
        let value = figure.read(run).map(figures::Value::number);
        row.push(value.map_or(Cell::Null, |value| cell(figure, value)));
        if has_bounds(figure) {
            let bound = |of: fn(&tracer::check::Measured) -> f64| {
                let bound = value.and_then(|_| measured(figure)).map(|measured| of(&measured));
                bound.filter(|bound| bound.is_finite()).map_or(Cell::Null, |bound| cell(figure, bound))
            };
            row.extend([bound(|measured| measured.low), bound(|measured| measured.high)]);
        }
    }
}

/// A figure as a cell of its column.
fn cell(figure: Figure, value: f64) -> Cell {
    match figure_kind(figure) {
        Kind::F64 => Cell::F64(value),
        _ => Cell::count(value as u64),
    }
}

/// The rows of `outcomes` of a known capture under scenarios. A capture that cannot be replayed has rows too, with the reason and no figure.
pub(crate) fn outcomes(known: &Known, scenarios: &Scenarios) -> Vec<Row> {
    let replayed = caught(|| {
        let (identity, ..) = identify(&known.path)?;
        if identity.to_string() != known.capture {
            bail!("the file holds another capture now, {identity}");
        }
        simulate(&known.path, scenarios, None, false)
    });
    match replayed {
        Ok(simulated) => simulated.rows(known),
        Err(error) => {
            let reason = format!("{}: {}", plain(&known.path.display().to_string()), one_line(&error));
            let mut rows = Vec::new();
            for policy in &scenarios.policies {
                for pool in &scenarios.pools {
                    for _ in &scenarios.lines {
                        let mut row = known.first_cells();
                        let pool = pool.unwrap_or(policy.pool).to_string();
                        row.extend([Cell::text(plain(&policy.name)), Cell::text(pool)]);
                        row.extend([Cell::Null, Cell::Null, Cell::Null, Cell::text(&reason)]);
                        rows.push(row);
                    }
                }
            }
            rows
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_the_calendar() {
        assert_eq!([0, 951_782_400, 1_796_030_000].map(day), ["1970-01-01", "2000-02-29", "2026-11-30"]);
    }

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        quiet_caught_panics();
        let error = caught::<()>(|| panic!("no such {}", "slot")).unwrap_err();
        assert_eq!(error.to_string(), "the program failed on it: no such slot");
    }

    #[test]
    fn scenarios_are_every_policy_with_every_pool_and_line() {
        let scenarios = Scenarios::parse("mainline,legacy", "1M, 2M,captured", "64,captured").unwrap();
        assert_eq!(scenarios.count(), 12);
        assert_eq!(Scenarios::parse("mainline,mainline", "1M,512", "").unwrap().count(), 1, "512 slots are 1 MiB");
        assert!(Scenarios::parse("nonsense", "", "").unwrap_err().to_string().contains("always-small"));
        assert!(Scenarios::parse("mainline", "", "48").unwrap_err().to_string().contains("power of two"));
        assert!(Scenarios::parse("", "", "").is_err());
    }
}
