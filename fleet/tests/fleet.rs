//! The whole program, on captures of this repository and on generated fleets.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn capture(name: &str) -> PathBuf {
    repository().join("captures").join(name)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bouncescope-fleet"));
    command.args(arguments);
    command
}

fn fleet(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command prints that ends well.
fn printed(arguments: &[&str]) -> String {
    let output = fleet(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The rows of a query.
fn rows(lake: &Path, sql: &str) -> Vec<Value> {
    let text = printed(&["query", text(lake), sql, "--format", "json"]);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{sql}: {error}: {text}"))
}

/// The only value of a query.
fn value(lake: &Path, sql: &str) -> Value {
    let rows = rows(lake, sql);
    assert_eq!(rows.len(), 1, "{sql}");
    rows[0].as_object().unwrap().values().next().unwrap().clone()
}

fn count(lake: &Path, what: &str) -> u64 {
    value(lake, &format!("SELECT count(*) FROM {what}")).as_u64().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every file below a folder with its content, but for the lock.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(content(&path));
        } else if !path.ends_with(".lock") {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

/// A generated fleet of small captures, the lake that it is taken into, and its answers.
struct Generated {
    folder: TempDir,
    captures: PathBuf,
    lake: PathBuf,
    answers: Value,
}

fn generated(number: usize) -> Generated {
    let folder = tempfile::tempdir().unwrap();
    let (captures, lake) = (folder.path().join("captures"), folder.path().join("lake"));
    // The second half of the builds bounces more, and a rare capture needs a larger pool.
    let bases = ["kernels/6.1.bounce", "6.12-full-hold-300.bounce", "7.3-direct-hold-300.bounce"].map(capture);
    let mut arguments = vec!["generate", "-o", text(&captures), "-n"];
    let number = number.to_string();
    arguments.push(&number);
    arguments.extend(bases.iter().map(|path| text(path)));
    printed(&arguments);
    let answers = serde_json::from_str(&fs::read_to_string(captures.join("answers.json")).unwrap()).unwrap();
    Generated { folder, captures, lake, answers }
}

#[test]
fn answers_about_a_generated_fleet_are_those_that_are_known() {
    let fleet = generated(210);
    printed(&["ingest", text(&fleet.captures), "-o", text(&fleet.lake)]);
    let by = |sql: &str| -> Value {
        let rows = rows(&fleet.lake, sql);
        rows.iter()
            .map(|row| (row["key"].as_str().unwrap().to_owned(), row["value"].clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let answers = &fleet.answers;
    assert_eq!(count(&fleet.lake, "captures"), 210);
    assert_eq!(by("SELECT soc AS key, count(*) AS value FROM captures GROUP BY soc"), answers["captures_by_soc"]);
    assert_eq!(
        by("SELECT driver AS key, sum(bounces) AS value FROM drivers GROUP BY driver"),
        answers["bounces_by_driver"]
    );
    let first = "SELECT concat(soc, ' ', driver) AS key, min(build) AS value FROM drivers WHERE bounces > 0 GROUP BY soc, driver";
    assert_eq!(by(first), answers["first_build_with_bounces"]);
    let pools = "'128,512,1M,2M,4M,captured'";
    let fits = format!(
        "SELECT swiotlb AS key, sum(CASE WHEN failed = 0 THEN 1 ELSE 0 END) AS value FROM replay('mainline', {pools}) GROUP BY swiotlb"
    );
    let asked = |name: &str| name.parse::<tracer::model::policy::PoolChoice>().unwrap().to_string();
    let renamed = |answers: &Value| -> BTreeMap<String, u64> {
        let mut named = BTreeMap::new();
        for (name, count) in answers.as_object().unwrap() {
            named.insert(asked(name), count.as_u64().unwrap());
        }
        named
    };
    // 512 slots and 1 MiB are one pool asked for twice: it has its rows once.
    let by_pool = |sql: &str| -> BTreeMap<String, u64> {
        let rows = rows(&fleet.lake, sql);
        rows.iter().map(|row| (row["key"].as_str().unwrap().to_owned(), row["value"].as_u64().unwrap())).collect()
    };
    let expected = renamed(&answers["fits_by_pool"]);
    assert_eq!(by_pool(&fits), expected);
    let refused =
        format!("SELECT swiotlb AS key, sum(failed) AS value FROM replay('mainline', {pools}) GROUP BY swiotlb");
    assert_eq!(by_pool(&refused), renamed(&answers["refused_by_pool"]));
    assert!(expected.values().any(|count| *count < 210), "some pool is too small: {expected:?}");
}

#[test]
fn figures_of_a_lake_are_those_of_the_capture() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    printed(&["ingest", text(&capture("default.bounce")), "-o", text(&lake)]);
    // As `bouncescope replay` and `verify` print them: README.md.
    let mainline = &rows(&lake, "SELECT * FROM outcomes WHERE policy = 'mainline'")[0];
    assert_eq!(
        (&mainline["mappings"], &mainline["bounces"], &mainline["failed"]),
        (&8758.into(), &596.into(), &0.into())
    );
    assert_eq!(
        (&mainline["hazards_unknown"], &mainline["hazards_own"], &mainline["peak_slots"]),
        (&2.into(), &20.into(), &1.into())
    );
    let observed = &rows(&lake, "SELECT * FROM observed")[0];
    assert_eq!((&observed["bounces"], &observed["peak_slots"]), (&596.into(), &1.into()));
    let one = &rows(&lake, "SELECT * FROM captures")[0];
    assert_eq!((&one["verdict"], &one["capture"]), (&"agree".into(), &"20504825fb1b6ba513e07e571f02bba6".into()));
    assert_eq!((&one["release"], &one["disagreements"]), (&"6.12.107+deb13-arm64".into(), &0.into()));
    assert_eq!(value(&lake, "SELECT sum(bounces) FROM traffic"), 596);
    assert_eq!(value(&lake, "SELECT sum(bounces) FROM traffic WHERE driver = 'xhci_hcd'"), 182);
    assert_eq!(
        value(&lake, "SELECT sum(buffers) FROM lengths"),
        value(&lake, "SELECT sum(buffers) FROM traffic"),
        "each buffer has a length"
    );
}

#[test]
fn a_replay_is_the_same_in_a_lake_and_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let captures = ["6.12-full-hold-300.bounce", "7.3-direct-hold-300.bounce", "kernels/6.12.bounce"].map(capture);
    let paths: Vec<&str> = captures.iter().map(|path| text(path)).collect();
    printed(&[&["ingest", "-o", text(&lake)], &paths[..]].concat());
    let options = ["--policy", "mainline,legacy", "--swiotlb", "none,128,2M", "--cache-line-size", "64,128"];
    let of = |inputs: &[&str], name: &str| -> Vec<Value> {
        let file = folder.path().join(name);
        printed(&[&["replay", "-o", text(&file)], inputs, &options[..]].concat());
        let mut rows: Vec<Value> = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        rows.sort_by_key(ToString::to_string);
        rows
    };
    let (in_lake, without) = (of(&[text(&lake)], "a.json"), of(&paths, "b.json"));
    assert_eq!(in_lake.len(), 3 * 2 * 3 * 2);
    assert_eq!(in_lake, without);
    assert!(in_lake.iter().any(|row| row["failed"].as_u64() > Some(0)), "128 slots are too few for 300 buffers");
    // What is asked for in SQL is what is asked for as a command, and each capture is replayed once, however many partitions there are.
    assert_eq!(count(&lake, "replay('mainline,legacy', 'none,128,2M', '64,128')"), 36);
    let sum = "SELECT sum(bounces) FROM replay('mainline') WHERE capture = ";
    let one = rows(&lake, "SELECT capture, bounces FROM outcomes WHERE policy = 'mainline'");
    for row in one {
        assert_eq!(value(&lake, &format!("{sum}'{}'", row["capture"].as_str().unwrap())), row["bounces"]);
    }
}

#[test]
fn a_capture_is_taken_in_once_wherever_it_lies() {
    let fleet = generated(12);
    let ingest = || fleet_ingest(&fleet.captures, &fleet.lake);
    assert_eq!(ingest(), "12 captures taken in, 0 were there already, 0 bad\n");
    let before = content(&fleet.lake);
    assert_eq!(ingest(), "0 captures taken in, 12 were there already, 0 bad\n");
    assert_eq!(content(&fleet.lake), before);
    // A copy under another name is the same capture, in one run too.
    let elsewhere = fleet.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for name in ["a.bounce", "b.bounce"] {
        fs::copy(fleet.captures.join("000000.bounce"), elsewhere.join(name)).unwrap();
    }
    assert_eq!(fleet_ingest(&elsewhere, &fleet.lake), "0 captures taken in, 2 were there already, 0 bad\n");
    let other = fleet.folder.path().join("other");
    assert_eq!(fleet_ingest(&elsewhere, &other), "1 captures taken in, 1 were there already, 0 bad\n");
}

fn fleet_ingest(captures: &Path, lake: &Path) -> String {
    let output = fleet(&["ingest", text(captures), "-o", text(lake)]);
    assert!(output.status.success(), "{}", said(&output));
    let words = said(&output);
    let lines: Vec<&str> = words.lines().filter(|line| !line.starts_with("note: ")).collect();
    lines.join("\n") + "\n"
}

#[test]
fn two_at_once_wait_for_each_other_and_nothing_is_there_twice() {
    let fleet = generated(60);
    let start = || -> Child {
        command(&["ingest", text(&fleet.captures), "-o", text(&fleet.lake)]).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [start(), start()];
    let taken: usize = both
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            let words = said(&output);
            assert!(output.status.success(), "{words}");
            let line = words.lines().find(|line| line.contains("taken in")).unwrap().to_owned();
            line.split(' ').next().unwrap().parse::<usize>().unwrap()
        })
        .sum();
    assert_eq!(taken, 60);
    assert_eq!(value(&fleet.lake, "SELECT count(*) - count(DISTINCT capture) FROM captures"), 0);
    assert_eq!(count(&fleet.lake, "captures"), 60);
}

#[test]
fn a_kill_in_the_middle_leaves_the_lake_as_it_was() {
    let fleet = generated(60);
    let (some, rest) = (fleet.folder.path().join("some"), &fleet.captures);
    fs::create_dir(&some).unwrap();
    for n in 0..6 {
        fs::copy(rest.join(format!("{n:06}.bounce")), some.join(format!("{n}.bounce"))).unwrap();
    }
    fleet_ingest(&some, &fleet.lake);
    let before = content(&fleet.lake);
    let mut killed = 0;
    for n in 0..20u64 {
        let mut child =
            command(&["ingest", text(rest), "-o", text(&fleet.lake)]).stderr(Stdio::null()).spawn().unwrap();
        let since = Instant::now();
        // While a part is written, its folder is there.
        let begun = || {
            fs::read_dir(&fleet.lake)
                .unwrap()
                .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(".new-"))
        };
        while !begun() && child.try_wait().unwrap().is_none() && since.elapsed() < Duration::from_mins(1) {
            thread::sleep(Duration::from_millis(2));
        }
        thread::sleep(Duration::from_millis(n * 7 % 60));
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        if ended.success() {
            break;
        }
        killed += 1;
        let whole: BTreeMap<_, _> =
            content(&fleet.lake).into_iter().filter(|(path, _)| !text(path).contains("/.new-")).collect();
        assert_eq!(whole, before, "after {killed} kills");
        assert_eq!(count(&fleet.lake, "captures"), 6);
    }
    assert!(killed > 0, "no ingest was killed before its end");
    fleet_ingest(rest, &fleet.lake);
    assert_eq!(count(&fleet.lake, "captures"), 60);
    assert!(
        !fs::read_dir(&fleet.lake).unwrap().any(|entry| entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".new-"))
    );
}

#[test]
fn bad_files_are_rows_with_their_reason_and_a_cut_capture_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (captures, lake) = (folder.path().join("captures"), folder.path().join("lake"));
    fs::create_dir(&captures).unwrap();
    let whole = fs::read(capture("7.3-direct-hold-300.bounce")).unwrap();
    fs::write(captures.join("good.bounce"), &whole).unwrap();
    fs::write(captures.join("cut.bounce"), &whole[..whole.len() / 2]).unwrap();
    fs::write(captures.join("empty.bounce"), b"").unwrap();
    fs::write(captures.join("text.bounce"), "no capture at all").unwrap();
    fs::write(captures.join("headless.bounce"), &whole[..20]).unwrap();
    let ingest = || fleet(&["ingest", text(&captures), "-o", text(&lake)]);
    let output = ingest();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("2 captures taken in, 0 were there already, 3 bad"), "{}", said(&output));
    let captured = rows(&lake, "SELECT complete, missing, file_bytes FROM captures ORDER BY file_bytes");
    assert_eq!((&captured[0]["complete"], &captured[1]["complete"]), (&false.into(), &true.into()));
    assert!(captured[0]["missing"].as_str().unwrap().contains("has no end"));
    let bad = rows(&lake, "SELECT path, reason, checksum, file_bytes FROM bad ORDER BY path");
    assert_eq!(bad.len(), 3);
    for (row, name) in bad.iter().zip(["empty", "headless", "text"]) {
        assert!(row["path"].as_str().unwrap().ends_with(&format!("{name}.bounce")), "{row}");
        assert!(!row["reason"].as_str().unwrap().is_empty() && row["checksum"].as_str().unwrap().len() == 32, "{row}");
    }
    // They are said again, and stand there once.
    assert_eq!(ingest().status.code(), Some(2));
    assert_eq!(count(&lake, "bad"), 3);
}

#[test]
fn a_lake_that_is_not_what_its_lists_say_is_refused_in_a_line() {
    let fleet = generated(6);
    fleet_ingest(&fleet.captures, &fleet.lake);
    let refused = |why: &str| {
        let output = crate::fleet(&["query", text(&fleet.lake), "SELECT 1"]);
        let words = said(&output);
        assert_eq!((output.status.code(), words.lines().count()), (Some(2), 1), "{words}");
        assert!(words.starts_with("error: ") && words.contains(why), "{words}");
    };
    let tables: Vec<PathBuf> =
        content(&fleet.lake).into_keys().filter(|path| path.ends_with("captures.parquet")).collect();
    let table = &tables[0];
    let whole = fs::read(table).unwrap();
    fs::write(table, &whole[..whole.len() - 1]).unwrap();
    refused("the lake is damaged");
    fs::remove_file(table).unwrap();
    refused("is missing");
    fs::write(table, &whole).unwrap();
    let foreign = table.with_file_name("foreign.parquet");
    fs::copy(table, &foreign).unwrap();
    refused("foreign.parquet is no part of the lake");
    fs::rename(&foreign, fleet.lake.join("foreign.parquet")).unwrap();
    refused("foreign.parquet is no part of the lake");
    fs::remove_file(fleet.lake.join("foreign.parquet")).unwrap();
    assert_eq!(count(&fleet.lake, "captures"), 6);
    let about = fleet.lake.join("lake.json");
    let written = fs::read_to_string(&about).unwrap();
    fs::write(&about, written.replace("\"schema\": 1", "\"schema\": 99")).unwrap();
    refused("of a later version (99)");
    // A directory of somebody else is not made into a lake.
    let output = crate::fleet(&["ingest", text(&fleet.captures), "-o", text(fleet.folder.path())]);
    assert!(
        output.status.code() == Some(2) && said(&output).contains("is no lake and is not empty"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_capture_that_changed_or_is_gone_fails_by_itself() {
    let fleet = generated(8);
    fleet_ingest(&fleet.captures, &fleet.lake);
    fs::remove_file(fleet.captures.join("000001.bounce")).unwrap();
    fs::copy(fleet.captures.join("000003.bounce"), fleet.captures.join("000002.bounce")).unwrap();
    let sql = "SELECT capture, error, bounces FROM replay('mainline,legacy') WHERE error IS NOT NULL";
    let failed = rows(&fleet.lake, sql);
    assert_eq!(failed.len(), 4, "two captures, two policies: {failed:?}");
    assert!(failed.iter().all(|row| row["bounces"].is_null()));
    assert_eq!(count(&fleet.lake, "replay('mainline,legacy') WHERE error IS NULL"), 12);
    let output = crate::fleet(&["replay", text(&fleet.lake), "--policy", "mainline"]);
    let words = said(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        words.contains("000001.bounce: cannot open it")
            && words.contains("000002.bounce: the file holds another capture now"),
        "{words}"
    );
}

#[test]
fn labels_choose_captures_before_any_is_opened() {
    let fleet = generated(12);
    fleet_ingest(&fleet.captures, &fleet.lake);
    // Captures that are not chosen could not be opened.
    let chosen = rows(&fleet.lake, "SELECT path FROM captures WHERE soc = 'soc1'");
    for entry in fs::read_dir(&fleet.captures).unwrap() {
        let path = entry.unwrap().path();
        if !chosen.iter().any(|row| row["path"].as_str() == Some(text(&path))) {
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(chosen.len(), 4);
    let output = crate::fleet(&[
        "replay",
        text(&fleet.lake),
        "--policy",
        "mainline",
        "--where",
        "soc = 'soc1' AND build >= 'build0'",
    ]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(count(&fleet.lake, "replay('mainline') WHERE soc = 'soc1' AND error IS NULL"), 4);
    assert_eq!(count(&fleet.lake, "replay('mainline') WHERE soc = 'soc9'"), 0);
}

#[test]
fn files_lie_in_folders_by_labels_and_have_them_as_columns() {
    let fleet = generated(12);
    printed(&["ingest", text(&fleet.captures), "-o", text(&fleet.lake), "--partition", "soc,day"]);
    let files = content(&fleet.lake);
    let has =
        |part: &str| files.keys().any(|path| text(path).contains(part) && text(path).ends_with("/captures.parquet"));
    assert!(has("/soc=soc0/day=2026-01-01/") && has("/soc=soc2/day=2026-01-02/"), "{:?}", files.keys());
    assert_eq!(count(&fleet.lake, "captures WHERE soc = 'soc0' AND day = '2026-01-01'"), 2);
    let output = crate::fleet(&["ingest", text(&fleet.captures), "-o", text(&fleet.lake), "--partition", "nonsense"]);
    assert!(
        output.status.code() == Some(2) && said(&output).contains("board, soc, build, serial, host, day or none"),
        "{}",
        said(&output)
    );
}

#[test]
fn queries_change_nothing_and_their_errors_are_a_line() {
    let fleet = generated(6);
    fleet_ingest(&fleet.captures, &fleet.lake);
    let before = content(&fleet.lake);
    let out = fleet.folder.path().join("x.parquet");
    let copy = format!("COPY (SELECT 1) TO '{}'", text(&out));
    for sql in [
        "DROP TABLE captures",
        "INSERT INTO bad SELECT * FROM bad",
        &copy,
        "SELECT nonsense FROM captures",
        "CHOOSE 1",
        "SELECT * FROM replay(1.5)",
        "SELECT * FROM replay('nonsense')",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/etc'",
    ] {
        let output = crate::fleet(&["query", text(&fleet.lake), sql]);
        let words = said(&output);
        assert!(output.status.code() == Some(2) && words.starts_with("error: "), "{sql}: {words}");
        assert_eq!(words.lines().count(), 1, "{sql}: {words}");
    }
    assert!(content(&fleet.lake) == before && !out.exists());
}

#[test]
fn a_result_is_a_table_csv_json_or_parquet() {
    let fleet = generated(6);
    fleet_ingest(&fleet.captures, &fleet.lake);
    let sql = "SELECT board, count(*) AS captures FROM captures GROUP BY board ORDER BY board LIMIT 2";
    let query = |more: &[&str]| printed(&[&["query", text(&fleet.lake), sql], more].concat());
    assert_eq!(
        query(&[]),
        "+--------+----------+\n| board  | captures |\n+--------+----------+\n| board0 | 1        |\n| board1 | 1        |\n+--------+----------+\n"
    );
    assert_eq!(query(&["--format", "csv"]), "board,captures\nboard0,1\nboard1,1\n");
    assert_eq!(
        query(&["--format", "json"]),
        "[{\"board\":\"board0\",\"captures\":1},{\"board\":\"board1\",\"captures\":1}]\n"
    );
    let file = fleet.folder.path().join("result.parquet");
    query(&["-o", text(&file)]);
    assert!(fs::read(&file).unwrap().starts_with(b"PAR1"));
    // From standard input, as a script has it.
    let mut child = command(&["query", text(&fleet.lake), "--format", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), sql.as_bytes()).unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"board,captures\nboard0,1\nboard1,1\n");
}

#[test]
fn names_from_captures_do_not_reach_a_terminal_as_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let hostile = folder.path().join("bad\u{1b}[31m.bounce");
    fs::write(&hostile, "nothing").unwrap();
    let output = fleet(&["ingest", text(&hostile), "-o", text(&lake)]);
    assert!(!output.stderr.contains(&0x1b));
    let shown = printed(&["query", text(&lake), "SELECT path FROM bad"]);
    assert!(!shown.contains('\u{1b}') && shown.contains("\\u{1b}"), "{shown}");
}

#[test]
fn tables_and_columns_are_those_of_the_documentation() {
    let docs = fs::read_to_string(repository().join("docs/fleet.md")).unwrap();
    let tables = printed(&["query", "/", "--tables"]);
    for line in tables.lines().filter(|line| !line.starts_with(' ') && !line.is_empty()) {
        let name = line.split([':', '(']).next().unwrap();
        assert!(docs.contains(&format!("| `{name}")), "docs/fleet.md does not name {name}");
    }
}
