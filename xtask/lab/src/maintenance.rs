//! What cache maintenance takes, as the product times it, compared with what the lab's module says: how often the kernel had to
//! maintain caches, exactly; and how much longer that takes for longer buffers, on a machine whose clock counts instructions.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use tracer::{
    capture::Reader,
    facts::{MaintenanceFunction, MaintenanceTime},
    stream::{Item, Source as _},
};
use workspace::jobs;

use super::{
    boot::Boot,
    run::Run,
    table::Row,
    truth::{Booted, Test},
};

/// By which it is asked for and shown.
pub(super) const NAME: &str = "maintenance";
/// Without a recorder, and then with one.
const SCRIPT: &str = "alone truth maintenance=1\nrecorded maintenance maintenance=1\n";
const FUNCTIONS: [(MaintenanceFunction, &str); 2] =
    [(MaintenanceFunction::ForDevice, "for_device"), (MaintenanceFunction::ForCpu, "for_cpu")];
/// Handing over what is as long as a line costs what the module and the probes add to any call.
const SHORTEST: u64 = 64;
/// By how much the product's times may be off.
const PERCENT: f64 = 2.0;

/// What the columns hold: calls that the module needed, and that were timed; instructions that a call takes more than one for a
/// single line, as the module has it, and as it was timed.
pub(super) const HEADER: [&str; 9] =
    ["kernel", "function", "length", "calls", "timed", "instructions", "recorded", "error %", ""];

/// Boots every kernel, and compares: a row for each function and length, whatever happens.
pub(super) fn all(run: &Run, kernels: &[Booted]) -> Vec<Row> {
    jobs::all(kernels, run.jobs, |booted| one(run, booted)).concat()
}

fn one(run: &Run, booted: &Booted) -> Vec<Row> {
    let series = &booted.kernel.series;
    let dir = run.out.join(format!("{series}-{NAME}"));
    let boot = boot(run, booted, &dir)
        .unwrap_or_else(|error| Boot { troubles: vec![format!("{error:#}")], ..Boot::default() });
    eprintln!("lab: {series} {NAME}: {:.0} s", boot.seconds);
    let share = dir.join("share");
    let compared = fs::read_to_string(share.join("alone.truth"))
        .context("the guest left no table")
        .and_then(|text| Reference::parse(&text))
        .and_then(|reference| Ok((reference, timed(&share.join("recorded.bounce"))?)))
        .map(|(reference, timed)| rows(series, &reference, &timed));
    let mut rows = compared.unwrap_or_else(|error| vec![failed(series, format!("{error:#}"))]);
    rows.extend(boot.troubles.into_iter().map(|trouble| failed(series, trouble)));
    rows
}

fn failed(series: &str, problem: String) -> Row {
    let cells = [series, NAME].into_iter().chain(["-"; HEADER.len() - 3]).map(str::to_owned).collect();
    Row { cells, problems: vec![problem] }
}

fn boot(run: &Run, booted: &Booted, dir: &Path) -> Result<Boot> {
    let test = Test {
        script: SCRIPT,
        // Its counter has a tick every nanosecond.
        cpu: "max",
        // Others would count as well.
        cpus: 1,
        counts_instructions: true,
        cache_line: None,
        smmu: false,
        parameters: "",
    };
    booted.boot(run, &test, dir, NAME)
}

/// The last times in a capture.
fn timed(capture: &Path) -> Result<Vec<MaintenanceTime>> {
    let mut reader = Reader::open(capture).context("the guest left no capture")?;
    let mut last = None;
    while let Some(item) = reader.next_item()? {
        match item {
            Item::PoolTimes(times) => last = Some(times.maintenance),
            Item::Counters(counters) => ensure!(counters.total_lost() == 0, "lost: {:?}", counters.lost),
            _ => {}
        }
    }
    last.context("the capture has no times")
}

/// What the module says.
#[derive(Debug, Default, PartialEq)]
struct Reference {
    /// Calls that must be made, by function and length.
    calls: BTreeMap<(String, u64), u64>,
    /// What handing over a buffer of a length took, ns each.
    each_ns: BTreeMap<(String, u64), f64>,
    /// Mappings that bounced.
    bounced: u64,
}

impl Reference {
    fn parse(text: &str) -> Result<Self> {
        let (mut reference, mut lines) = (Self::default(), 0);
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |text: &str| text.parse::<u64>().with_context(|| format!("no number in {line:?}"));
            match words[..] {
                ["calls", function, length, calls] => {
                    reference.calls.insert((function.to_owned(), number(length)?), number(calls)?);
                }
                ["time", function, length, calls, ns] => {
                    let each = number(ns)? as f64 / number(calls)?.max(1) as f64;
                    reference.each_ns.insert((function.to_owned(), number(length)?), each);
                }
                ["bounced", _, _, bounced] => reference.bounced += number(bounced)?,
                ["end", count] => {
                    ensure!(number(count)? == lines, "the table was cut");
                    return Ok(reference);
                }
                _ => bail!("the table has {line:?}"),
            }
            lines += 1;
        }
        bail!("the table has no end")
    }
}

fn rows(series: &str, reference: &Reference, timed: &[MaintenanceTime]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (function, name) in FUNCTIONS {
        let of = |length: u64| {
            timed.iter().find(|time| time.function == function && u32::from(time.log2) == length.max(1).ilog2())
        };
        let recorded_ns = |length: u64| of(length).map(|time| time.total_ns as f64 / time.calls.max(1) as f64);
        let reference_ns = |length: u64| reference.each_ns.get(&(name.to_owned(), length)).copied();
        let beyond = |each: &dyn Fn(u64) -> Option<f64>, length: u64| Some(each(length)? - each(SHORTEST)?);
        for ((_, length), calls) in reference.calls.iter().filter(|((of, _), _)| of == name) {
            let mut problems = Vec::new();
            let timed_calls = of(*length).map_or(0, |time| time.calls);
            if timed_calls != *calls {
                problems.push(format!("{timed_calls} calls were timed"));
            }
            let bytes = of(*length).map_or(0, |time| time.bytes);
            if bytes != calls * length {
                problems.push(format!("they were of {bytes} bytes"));
            }
            let mut cells = [series, name].map(str::to_owned).to_vec();
            cells.extend([*length, *calls, timed_calls].map(|number| number.to_string()));
            match (beyond(&reference_ns, *length), beyond(&recorded_ns, *length)) {
                (Some(expected), Some(recorded)) if *length > SHORTEST => {
                    let error = (recorded - expected) * 100.0 / expected;
                    cells.extend([format!("{expected:.0}"), format!("{recorded:.0}"), format!("{error:+.2}")]);
                    // Not a number is no agreement.
                    if !(expected > 0.0 && error.abs() <= PERCENT) {
                        problems.push(format!("the time is off by more than {PERCENT} %"));
                    }
                }
                _ => cells.extend(["-"; 3].map(str::to_owned)),
            }
            rows.push(Row { cells, problems });
        }
    }
    let mut problems = Vec::new();
    if reference.each_ns.len() < 2 * 4 || reference.calls.len() < 2 * 10 {
        problems.push("the module did not do all".to_owned());
    }
    if reference.bounced == 0 {
        problems.push("nothing bounced".to_owned());
    }
    if let Some(first) = rows.first_mut() {
        first.problems.extend(problems);
    } else {
        rows.push(failed(series, "the module needed no maintenance".into()));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the module would say of times that are 100 ns, and one for each 16 bytes.
    fn text() -> String {
        let mut text = String::new();
        for (_, name) in FUNCTIONS {
            for length in [64_u64, 4096, 16384, 65536] {
                text += &format!("time {name} {length} 10 {}\n", 10 * (100 + length / 16));
            }
            for length in [8, 16, 32, 64, 512, 1024, 2048, 4096, 16384, 65536] {
                text += &format!("calls {name} {length} {}\n", if length == 32 && name == "for_cpu" { 0 } else { 10 });
            }
        }
        text += "bounced 8 2 10\n";
        let lines = text.lines().count();
        text + &format!("end {lines}\n")
    }

    /// The same as timed, with other constant costs, and `longer` ns more for each call of the longest.
    fn times(longer: u64) -> Vec<MaintenanceTime> {
        let time = |function, length: u64| {
            let more = if length == 65536 { longer } else { 0 };
            let total_ns = 10 * (900 + length / 16 + more);
            MaintenanceTime { function, log2: length.ilog2() as u8, calls: 10, bytes: 10 * length, total_ns }
        };
        let lengths = [8, 16, 32, 64, 512, 1024, 2048, 4096, 16384, 65536];
        let all = FUNCTIONS.iter().flat_map(|(function, _)| lengths.map(|length| time(*function, length)));
        all.filter(|time| time.log2 != 5 || time.function == MaintenanceFunction::ForDevice).collect()
    }

    fn problems(text: &str, times: &[MaintenanceTime]) -> Vec<String> {
        rows("6.12", &Reference::parse(text).unwrap(), times).into_iter().flat_map(|row| row.problems).collect()
    }

    #[test]
    fn the_same_calls_whose_time_grows_alike_are_no_problem() {
        assert_eq!(problems(&text(), &times(0)), Vec::<String>::new());
        assert_eq!(problems(&text(), &times(80)), Vec::<String>::new());
    }

    #[test]
    fn times_that_grow_otherwise_calls_that_are_missing_and_no_bounce_are_a_problem_each() {
        assert_eq!(problems(&text(), &times(90)).len(), 2, "of both functions");
        let mut missing = times(0);
        missing[0].calls -= 1;
        assert_eq!(problems(&text(), &missing), ["9 calls were timed"]);
        let mut too_many = times(0);
        too_many.push(MaintenanceTime {
            function: MaintenanceFunction::ForCpu,
            log2: 5,
            bytes: 32,
            calls: 1,
            total_ns: 1,
        });
        assert_eq!(problems(&text(), &too_many).len(), 2, "calls and bytes for what the device only reads");
        assert_eq!(problems(&text().replace("bounced 8 2 10", "bounced 8 2 0"), &times(0)), ["nothing bounced"]);
    }

    #[test]
    fn a_table_that_was_cut_is_refused() {
        let text = text();
        let (cut, _) = text.rsplit_once("end").unwrap();
        assert!(Reference::parse(cut).is_err());
        assert!(Reference::parse(&text.replacen("time for_cpu 64 10 1040\n", "", 1)).is_err());
    }
}
