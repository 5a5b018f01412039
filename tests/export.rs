//! `export` as a user runs it, on captures of real kernels: as many rows as `verify` counts, read back by others.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

/// The embedded capture, and one in which mappings are refused.
const CAPTURES: [&str; 2] = ["captures/default.bounce", "captures/6.12-full-hold-300.bounce"];

/// Bounces of the first, by device.
const BOUNCES: [(&str, u64); 3] = [("0000:00:03.0", 350), ("0000:00:04.0", 182), ("0000:00:05.0", 64)];

fn bouncescope(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(env!("CARGO_BIN_EXE_bouncescope")).current_dir(root).args(arguments).output().unwrap()
}

fn export(capture: &str, format: &str, to: &Path) {
    let output = bouncescope(&["export", capture, "--format", format, "-o", to.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Mappings, buffers, bounces, and the peak that the model predicts, as `verify` tells them.
fn verified(capture: &str) -> [u64; 4] {
    let json: Value = serde_json::from_slice(&bouncescope(&["verify", "--json", capture]).stdout).unwrap();
    ["mappings", "buffers", "bounces_kernel", "peak_slots_predicted"].map(|key| json[key].as_u64().unwrap())
}

/// The rows of a table, by column.
fn table(dir: &Path, name: &str) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(dir.join(format!("{name}.csv"))).unwrap();
    let mut lines = text.lines();
    let columns: Vec<_> = lines.next().unwrap().split(',').map(str::to_owned).collect();
    lines.map(|line| columns.iter().cloned().zip(line.split(',').map(str::to_owned)).collect()).collect()
}

#[test]
fn tables_have_a_row_for_each_mapping_buffer_and_bounce_that_verify_counts() {
    for capture in CAPTURES {
        let dir = tempfile::tempdir().unwrap();
        export(capture, "csv", dir.path());
        let occupancy = table(dir.path(), "occupancy");
        let predicted = occupancy.iter().filter(|row| row["whose"] == "mainline");
        let found = [
            table(dir.path(), "mappings").len() as u64,
            table(dir.path(), "segments").len() as u64,
            table(dir.path(), "bounces").len() as u64,
            predicted.map(|row| row["used_slots"].parse().unwrap()).max().unwrap(),
        ];
        assert_eq!(found, verified(capture), "{capture}");
    }
}

#[test]
fn a_bounce_names_its_mapping_and_that_its_device() {
    let dir = tempfile::tempdir().unwrap();
    export(CAPTURES[0], "csv", dir.path());
    let devices: BTreeMap<_, _> =
        table(dir.path(), "devices").into_iter().map(|row| (row["id"].clone(), row["name"].clone())).collect();
    let mut by_device = BTreeMap::<_, u64>::new();
    for mapping in table(dir.path(), "mappings") {
        *by_device.entry(devices[&mapping["device"]].clone()).or_default() +=
            mapping["bounced"].parse::<u64>().unwrap();
    }
    by_device.retain(|_, bounces| *bounces > 0);
    assert_eq!(by_device, BOUNCES.map(|(device, bounces)| (device.to_owned(), bounces)).into());
}

#[test]
fn what_cannot_be_written_is_said_in_a_line() {
    let output = bouncescope(&["export", "--format", "csv", "-o", "/dev/null/x"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("/dev/null/x"), "{said}");
}

/// Fields of a message: number, and a number or bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let varint = |bytes: &mut &[u8]| {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            shift += 7;
            if first & 0x80 == 0 {
                return value;
            }
        }
    };
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = varint(&mut bytes);
        let (content, rest) = bytes.split_at(if key & 7 == 2 { value as usize } else { 0 });
        bytes = rest;
        found.push((key >> 3, value, content));
    }
    found
}

#[test]
fn a_timeline_begins_and_ends_a_slice_for_each_mapping_that_did_not_fail() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    export(CAPTURES[0], "perfetto", &file);
    let trace = fs::read(&file).unwrap();
    let mut kinds = BTreeMap::<u64, u64>::new();
    for (_, _, packet) in fields(&trace) {
        for (_, _, event) in fields(packet).iter().filter(|(number, ..)| *number == 11) {
            let kind = fields(event).iter().find(|(number, ..)| *number == 9).map(|(_, kind, _)| *kind);
            *kinds.entry(kind.unwrap()).or_default() += 1;
        }
    }
    // TrackEvent.Type: 1 begins, 2 ends, 4 counts.
    assert_eq!((kinds[&1], kinds[&2]), (8758, 8758));
    assert!(kinds[&4] > 0);
}

/// The numbers that a Python script prints, run with the `PYTHON` of the environment.
fn python(script: &str, arguments: &[&std::ffi::OsStr]) -> Vec<u64> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let output = Command::new(python).args(["-c", script]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
#[ignore = "needs python3 with perfetto"]
fn perfettos_own_schema_reads_a_slice_or_an_instant_for_each_mapping_and_the_peak() {
    for capture in CAPTURES {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trace");
        export(capture, "perfetto", &file);
        export(capture, "csv", dir.path());
        let script = "\
import sys
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent
trace = Trace.FromString(open(sys.argv[1], 'rb').read())
tracks = {p.track_descriptor.uuid: p.track_descriptor for p in trace.packet if p.HasField('track_descriptor')}
events = [(p.timestamp, p.track_event) for p in trace.packet if p.HasField('track_event')]
assert all(event.track_uuid in tracks and time for time, event in events)
begun, depth = [], {}
for time, event in sorted(events, key=lambda one: one[0]):
    if event.type == TrackEvent.TYPE_SLICE_BEGIN:
        begun.append(event)
    step = {TrackEvent.TYPE_SLICE_BEGIN: 1, TrackEvent.TYPE_SLICE_END: -1}.get(event.type, 0)
    depth[event.track_uuid] = depth.get(event.track_uuid, 0) + step
    assert depth[event.track_uuid] in (0, 1), 'slices of a track overlap'
bounced = sum(a.uint_value for event in begun for a in event.debug_annotations if a.name == 'bounced')
used = [e.counter_value for _, e in events
        if e.type == TrackEvent.TYPE_COUNTER and tracks[e.track_uuid].name == 'slots used: mainline']
print(len(begun), bounced, max(used))
";
        let mappings = table(dir.path(), "mappings");
        let held: Vec<_> = mappings.iter().filter(|row| row["failed"] == "false").collect();
        let bounced = held.iter().map(|row| row["bounced"].parse::<u64>().unwrap()).sum();
        let expected = [held.len() as u64, bounced, verified(capture)[3]];
        assert_eq!(python(script, &[file.as_os_str()]), expected, "{capture}");
    }
}

#[test]
#[cfg(feature = "export")]
#[ignore = "needs python3 with pyarrow"]
fn pyarrow_reads_as_many_rows_as_verify_counts() {
    for (capture, format) in [(CAPTURES[0], "parquet"), (CAPTURES[1], "parquet"), (CAPTURES[1], "arrow")] {
        let dir = tempfile::tempdir().unwrap();
        export(capture, format, dir.path());
        let script = "\
import sys, pyarrow.parquet, pyarrow.feather
def table(name):
    path = f'{sys.argv[1]}/{name}.{sys.argv[2]}'
    return pyarrow.parquet.read_table(path) if sys.argv[2] == 'parquet' else pyarrow.feather.read_table(path)
used = [row['used_slots'] for row in table('occupancy').to_pylist() if row['whose'] == 'mainline']
assert all(len(column.field(0).metadata[b'meaning']) > 3 for column in [table('mappings').schema])
print(table('mappings').num_rows, table('segments').num_rows, table('bounces').num_rows, max(used))
";
        let found = python(script, &[dir.path().as_os_str(), format.as_ref()]);
        assert_eq!(found, verified(capture), "{capture} as {format}");
    }
}

/// The query of docs/export.md.
#[test]
#[cfg(feature = "export")]
#[ignore = "needs python3 with duckdb"]
fn duckdb_tells_who_bounces_and_how_long_slots_are_held() {
    let dir = tempfile::tempdir().unwrap();
    export(CAPTURES[0], "parquet", &dir.path().join("out"));
    let docs = include_str!("../docs/export.md");
    let query = docs.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let script = "\
import duckdb, os, sys
os.chdir(sys.argv[1])
rows = duckdb.sql(sys.argv[2]).fetchall()
assert all(held > 0 for _, _, held in rows)
print(*(bounces for name, bounces, _ in rows if name in sys.argv[3].split()), len(rows))
";
    let names = BOUNCES.map(|(name, _)| name).join(" ");
    let expected = [BOUNCES[0].1, BOUNCES[1].1, BOUNCES[2].1, BOUNCES.len() as u64];
    assert_eq!(python(script, &[dir.path().as_os_str(), query.as_ref(), names.as_ref()]), expected);
}
