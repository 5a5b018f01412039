//! What `import` makes of a tool's file, compared with tracefs's own count and with what it makes of the tool's text.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use tracer::{
    capture::Reader,
    event::What,
    stream::{Item, Source as _},
};

use super::Tool;
use crate::{default_mode, kernel::Kernel, mappings, witness::Witness};

/// Tables of `export` in which a file and its text have to be the same.
const TABLES: [&str; 4] = ["devices.csv", MAPPINGS, "segments.csv", "bounces.csv"];

const MAPPINGS: &str = "mappings.csv";

/// What `import` says when lists are not in a trace.
const LISTS_LEFT_OUT: &str = "events of scatterlists were passed over";

/// What a trace cannot have of a kernel's mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeftOut {
    /// Lists: Perfetto records no arrays (`InferFtraceType()`, `src/traced/probes/ftrace/proto_translation_table.cc`, v56).
    Lists,
    /// All: the kernel has no events for them (`include/trace/events/dma.h` came with 6.12).
    Mappings,
}

impl LeftOut {
    fn of(tool: &Tool, kernel: &Kernel) -> Option<Self> {
        if kernel.version() < (6, 12) {
            Some(Self::Mappings)
        } else {
            (tool.program == "perfetto").then_some(Self::Lists)
        }
    }

    const fn why(self) -> &'static str {
        match self {
            Self::Lists => "no lists: Perfetto records no arrays",
            Self::Mappings => "no mappings: the kernel has no events for them",
        }
    }
}

/// A recording of a tool.
#[derive(Debug, Default)]
pub(super) struct Compared {
    imported: Imported,
    witness: Witness,
    left_out: Option<LeftOut>,
    /// What came of each text, in the order of the tool's.
    texts: Vec<&'static str>,
    /// What is off, a line each.
    pub(super) problems: Vec<String>,
}

/// What a file became.
#[derive(Debug, Default)]
struct Imported {
    events: u64,
    /// Attempts to bounce by device.
    bounced: BTreeMap<String, u64>,
    /// Bounces by device, as the product reports what the kernel did.
    reported: BTreeMap<String, u64>,
    single: mappings::Counts,
    mappings: u64,
    lists: u64,
    /// Of all lists.
    buffers: u64,
    /// Bounces of them.
    bounced_in_lists: u64,
    /// Events that the trace lost.
    lost: u64,
    /// What `import` said.
    said: String,
}

impl Compared {
    /// Imports what the guest left as `path` with the tool's suffixes.
    pub(super) fn of(product: &Path, kernel: &Kernel, tool: &Tool, path: &Path) -> Result<Self> {
        let (share, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default().to_string_lossy());
        let witness = Witness::read(share, &name)?;
        let (suffix, texts) = tool.files();
        let capture = import(product, &path.with_added_extension(suffix))?;
        let mut imported = Imported::read(&capture)?;
        imported.bounced_in_lists = in_lists(&fs::read_to_string(exported(product, &capture)?.join(MAPPINGS))?);
        let left_out = LeftOut::of(tool, kernel);
        let mut compared = Self { imported, witness, left_out, ..Self::default() };
        compared.with_tracefs();
        for suffix in texts {
            let came = match import(product, &path.with_added_extension(suffix)) {
                Ok(of_text) => compared.with_text(product, &capture, &of_text, suffix)?,
                Err(error) => {
                    compared.problems.push(format!("{suffix}: {error:#}"));
                    "refused"
                }
            };
            compared.texts.push(came);
        }
        Ok(compared)
    }

    /// The cells of its row, without kernel and tool.
    pub(super) fn cells(&self) -> Vec<String> {
        let Self { imported, witness, left_out, .. } = self;
        let of = |ours: u64, tracefs: u64| format!("{ours}/{tracefs}");
        let mapped = |cell: String| if *left_out == Some(LeftOut::Mappings) { "-".to_owned() } else { cell };
        vec![
            witness.facts.get("seconds").cloned().unwrap_or_else(|| "-".to_owned()),
            imported.events.to_string(),
            of(imported.bounced.values().sum(), witness.bounced),
            mapped(imported.bounced_in_lists.to_string()),
            mapped(of(imported.mappings - imported.lists, witness.maps)),
            mapped(of(imported.lists, witness.lists)),
            mapped(imported.buffers.to_string()),
            self.text(0),
            self.text(1),
            left_out.map_or("", LeftOut::why).to_owned(),
        ]
    }

    /// What came of the n-th of the tool's texts.
    fn text(&self, n: usize) -> String {
        (*self.texts.get(n).unwrap_or(&"-")).to_owned()
    }

    fn with_tracefs(&mut self) {
        let Self { imported, witness, problems, left_out, .. } = self;
        let code = witness.facts.get("exit").map_or("nothing", String::as_str);
        if code != "0" {
            problems.push(format!("tool or workload exits with {code}"));
        }
        if witness.facts.get("quiet").is_none_or(|quiet| quiet != "true") {
            problems.push("devices were not idle at the start".into());
        }
        if witness.bounced == 0 {
            problems.push("nothing bounced".into());
        }
        if imported.lost > 0 || imported.said.contains("can't be read") {
            problems.push(format!("import: {}", imported.said.trim_end().replace('\n', " ")));
        }
        if imported.bounced != witness.bounced_by_device {
            let (ours, tracefs) = (&imported.bounced, &witness.bounced_by_device);
            problems.push(format!("import has bounces {ours:?}, tracefs counted {tracefs:?}"));
        }
        // A bounce of what is left out belongs to no mapping, and such are not reported by device.
        let is_reported = |(device, tracefs): (&String, &u64)| {
            let ours = imported.reported.get(device).copied().unwrap_or(0);
            if left_out.is_some() { ours <= *tracefs } else { ours == *tracefs }
        };
        if !witness.bounced_by_device.iter().all(is_reported) {
            let (ours, tracefs) = (&imported.reported, &witness.bounced_by_device);
            problems.push(format!("reported are bounces {ours:?}, tracefs counted {tracefs:?}"));
        }
        if *left_out != Some(LeftOut::Mappings) {
            problems.extend(mappings::differences(&imported.single, &witness.by_buffer, 0));
        }
        let (lists, said) = (imported.lists, imported.said.contains(LISTS_LEFT_OUT));
        let (wanted, is_said) = match left_out {
            None => (witness.lists, false),
            Some(LeftOut::Lists) => (0, true),
            Some(LeftOut::Mappings) => (0, false),
        };
        if (lists, said) != (wanted, is_said) {
            problems.push(format!("{lists} lists of {wanted}, said to be left out: {said}"));
        }
    }

    /// Compares two captures, of a file and of its text.
    fn with_text(&mut self, product: &Path, file: &Path, text: &Path, suffix: &str) -> Result<&'static str> {
        let tables = [file, text].map(|capture| exported(product, capture));
        let [of_file, of_text] =
            [&tables[0], &tables[1]].map(|dir| dir.as_ref().map_err(|error| anyhow::anyhow!("{error:#}")));
        let (of_file, of_text) = (of_file?, of_text?);
        let mut came = "same";
        for table in TABLES {
            let read = |dir: &Path| fs::read_to_string(dir.join(table)).with_context(|| format!("no {table}"));
            let (file, text) = (read(of_file)?, read(of_text)?);
            if file != text {
                let differing = file.lines().zip(text.lines()).filter(|(file, text)| file != text);
                let first = differing.map(|(file, text)| format!("{file} | {text}")).next().unwrap_or_default();
                let lines = [&file, &text].map(|table| table.lines().count());
                self.problems.push(format!("{suffix}: {table} differs ({lines:?} lines): {first}"));
                came = "differs";
            }
        }
        Ok(came)
    }
}

/// Makes a capture of a tool's file, beside it; what was said is kept beside it too.
fn import(product: &Path, file: &Path) -> Result<PathBuf> {
    ensure!(file.is_file(), "the guest left no {}", file.display());
    let capture = file.with_added_extension("bounce");
    let mut command = Command::new(product);
    let output = command.arg("import").arg(file).arg("-o").arg(&capture).args(["--swiotlb", "16384"]).output();
    let output = output.context("cannot run bouncescope")?;
    let said = String::from_utf8_lossy(&output.stderr);
    fs::write(capture.with_extension("said"), &*said)?;
    ensure!(output.status.success(), "import: {}", said.trim());
    Ok(capture)
}

/// The tables of a capture, in a directory beside it.
fn exported(product: &Path, capture: &Path) -> Result<PathBuf> {
    let dir = capture.with_extension("tables");
    let output = Command::new(product).arg("export").arg("-o").arg(&dir).arg(capture).output();
    let output = output.context("cannot run bouncescope")?;
    ensure!(output.status.success(), "export: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(dir)
}

/// Bounces of lists in a table of mappings.
fn in_lists(mappings: &str) -> u64 {
    let mut lines = mappings.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap_or_default();
    let column = |name: &str| header.iter().position(|one| *one == name);
    let (Some(list), Some(bounced)) = (column("list"), column("bounced")) else { return 0 };
    let of_lists = lines.filter(|cells| cells.get(list) == Some(&"true"));
    of_lists.filter_map(|cells| cells.get(bounced)?.parse::<u64>().ok()).sum()
}

impl Imported {
    fn read(capture: &Path) -> Result<Self> {
        let said = fs::read_to_string(capture.with_extension("said"))?;
        let lost = said.lines().find_map(|line| line.strip_prefix("LOST trace_events: ")?.parse().ok()).unwrap_or(0);
        let counted = mappings::counted(Reader::open(capture)?, true)?;
        let mut imported =
            Self { single: counted.by_buffer, mappings: counted.mappings, lost, said, ..Self::default() };
        let (mut reader, mut names) = (Reader::open(capture)?, Vec::new());
        while let Some(item) = reader.next_item()? {
            match item {
                Item::Device(device) => names.push(device.name),
                Item::Events(batch) => {
                    imported.events += batch.events.len() as u64;
                    for event in &batch.events {
                        match event.what {
                            What::Bounced { device, .. } => {
                                let name = names.get(device.0 as usize).cloned().unwrap_or_default();
                                *imported.bounced.entry(name).or_default() += 1;
                            }
                            What::MapSg { .. } => {
                                imported.lists += 1;
                                imported.buffers += batch.segments(event).len() as u64;
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let reported = default_mode::by_kernel(Reader::open(capture)?)?;
        imported.reported = reported.into_iter().map(|(device, (bounces, _))| (device, bounces)).collect();
        Ok(imported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 bounces of one device, 1 list, and a tool that tells all of them.
    fn compared() -> Compared {
        let bounces = BTreeMap::from([("nvme".to_owned(), 3)]);
        let imported = Imported {
            bounced: bounces.clone(),
            reported: bounces.clone(),
            lists: 1,
            mappings: 1,
            ..Imported::default()
        };
        let facts = [("exit", "0"), ("quiet", "true")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let witness = Witness { bounced: 3, bounced_by_device: bounces, lists: 1, facts, ..Witness::default() };
        Compared { imported, witness, ..Compared::default() }
    }

    fn problems(change: impl FnOnce(&mut Compared)) -> usize {
        let mut compared = compared();
        change(&mut compared);
        compared.with_tracefs();
        compared.problems.len()
    }

    #[test]
    fn each_difference_from_tracefs_is_one_problem() {
        assert_eq!(problems(|_| {}), 0);
        assert_eq!(problems(|one| _ = one.witness.facts.remove("exit")), 1);
        assert_eq!(problems(|one| _ = one.witness.facts.remove("quiet")), 1);
        assert_eq!(problems(|one| one.imported.lost = 1), 1);
        assert_eq!(problems(|one| one.imported.said = "2 lines can't be read".into()), 1);
        assert_eq!(problems(|one| one.imported.lists = 0), 1);
        assert_eq!(problems(|one| one.imported.said = format!("2 {LISTS_LEFT_OUT}")), 1);
        assert_eq!(problems(|one| *one.imported.bounced.get_mut("nvme").unwrap() = 2), 1);
        assert_eq!(problems(|one| *one.imported.reported.get_mut("nvme").unwrap() = 2), 1);
        assert_eq!(problems(|one| _ = one.imported.single.insert(("nvme".into(), 8, 2), 1)), 1);
    }

    #[test]
    fn lists_may_be_missing_only_where_that_is_expected_and_said() {
        let without = |said: &str| {
            problems(|one| {
                one.left_out = Some(LeftOut::Lists);
                (one.imported.lists, one.imported.said) = (0, said.to_owned());
                one.imported.reported.clear();
            })
        };
        assert_eq!(without(&format!("note: 2 {LISTS_LEFT_OUT}")), 0);
        assert_eq!(without(""), 1);
        assert_eq!(problems(|one| one.left_out = Some(LeftOut::Lists)), 1);
    }

    #[test]
    fn bounces_of_lists_are_told_from_those_of_single_buffers() {
        let table = "mapping,list,bytes,bounced,failed\n1,false,8,1,false\n2,true,8,3,false\n3,true,8,,false\n";
        assert_eq!(in_lists(table), 3);
        assert_eq!(in_lists(""), 0);
    }
}
