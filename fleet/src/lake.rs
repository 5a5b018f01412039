//! A lake: a directory of Parquet files, and who may change it. One ingest adds one directory, `part=…`, by one rename, so it is there whole
//! or not at all. The part's list of files, `part.json`, says what belongs to it; a lake that is not what its lists say is not read.
//!
//! ```text
//! LAKE/lake.json                                version of the tables
//! LAKE/.lock                                    locked by whoever adds
//! LAKE/part=0123…/part.json                     the files of this part
//! LAKE/part=0123…/day=2026-11-30/captures.parquet
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use datafusion::arrow::array::RecordBatch;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::{metadata::KeyValue, properties::WriterProperties},
};
use serde::{Deserialize, Serialize};
use tracer::{
    output::{Access, Directory},
    plain::plain,
};

use crate::schema::{Row, Table, VERSION, batch};

const LAKE: &str = "lake.json";
const PART: &str = "part.json";
const LOCK: &str = ".lock";
/// Begins the name of a part that is not whole yet. Whoever holds the lock may remove those of others.
const UNFINISHED: &str = ".new-";
/// Cells of rows that are not written yet; beyond, files are written.
const MOST_CELLS: usize = 1 << 21;
/// The longest file of ours that is no table, bytes.
const LONGEST: u64 = 64 << 20;

/// `lake.json`.
#[derive(Serialize, Deserialize)]
struct About {
    format: String,
    schema: u32,
}

const FORMAT: &str = "bouncescope fleet";

/// `part.json`.
#[derive(Default, Serialize, Deserialize)]
struct Part {
    schema: u32,
    /// The program that wrote it.
    program: String,
    files: Vec<PartFile>,
}

#[derive(Clone, Serialize, Deserialize)]
struct PartFile {
    table: String,
    /// Within the part.
    path: String,
    bytes: u64,
    rows: u64,
}

/// A lake that is what its lists say.
#[derive(Debug)]
pub(crate) struct Lake {
    /// The files of each table.
    pub(crate) files: BTreeMap<Table, Vec<PathBuf>>,
}

impl Lake {
    /// Whether a path is a lake, as far as its name goes.
    pub(crate) fn is_one(path: &Path) -> bool {
        path.join(LAKE).is_file()
    }

    /// Opens a lake to read it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        if !Self::is_one(path) {
            let why = if path.exists() { "has no lake.json" } else { "does not exist" };
            bail!("{shown} is no lake: it {why}; `bouncescope fleet ingest CAPTURES -o {shown}` makes one");
        }
        let about: About = read_json(&path.join(LAKE))?;
        ensure!(about.format == FORMAT, "{shown} is no lake: its lake.json is of something else");
        readable(about.schema, path)?;
        let mut files = BTreeMap::<Table, Vec<PathBuf>>::new();
        let mut parts = Vec::new();
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {shown}"))? {
            let entry = entry.with_context(|| format!("cannot read {shown}"))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("part=") && entry.path().is_dir() {
                parts.push(entry.path());
            } else if name.ends_with(".parquet") {
                bail!(
                    "{} is no part of the lake, which nothing but `ingest` writes to: move it elsewhere",
                    entry.path().display()
                );
            }
        }
        parts.sort();
        for part in parts {
            for (table, path) in part_files(&part)? {
                files.entry(table).or_default().push(path);
            }
        }
        Ok(Self { files })
    }
}

/// The files of a part, each of which is there, in its full length, with no other among them.
fn part_files(part: &Path) -> Result<Vec<(Table, PathBuf)>> {
    let list: Part = read_json(&part.join(PART))?;
    readable(list.schema, part)?;
    let mut there = BTreeSet::new();
    parquet_files(part, &mut there)?;
    let mut files = Vec::new();
    for file in &list.files {
        let path = part.join(&file.path);
        let within = Path::new(&file.path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        ensure!(within, "{}: a file of this part lies outside of it", part.display());
        // Tables of later versions are none of ours; `readable` has let only older ones pass.
        let Some(table) = Table::named(&file.table) else {
            bail!("{}: there is no table {}", part.display(), plain(&file.table))
        };
        ensure!(there.remove(&path), "{} is missing: the lake is damaged", path.display());
        let bytes = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
        ensure!(
            bytes == file.bytes,
            "{} has {bytes} bytes instead of {}: the lake is damaged",
            path.display(),
            file.bytes
        );
        files.push((table, path));
    }
    if let Some(foreign) = there.first() {
        bail!("{} is no part of the lake, which nothing but `ingest` writes to: move it elsewhere", foreign.display());
    }
    Ok(files)
}

fn parquet_files(folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let cannot = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.is_dir() {
            parquet_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.insert(path);
        }
    }
    Ok(())
}

fn readable(schema: u32, path: &Path) -> Result<()> {
    ensure!(
        schema <= VERSION,
        "{} is of a later version ({schema}) than this program reads ({VERSION})",
        path.display()
    );
    Ok(())
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let shown = path.display();
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("{shown} cannot be read: the lake is damaged"))?;
    file.take(LONGEST).read_to_string(&mut text).with_context(|| format!("{shown} cannot be read"))?;
    serde_json::from_str(&text).with_context(|| format!("{shown} is not what it was: the lake is damaged"))
}

/// The right to add to a lake. There is one at a time; it ends with the process, however that ends.
pub(crate) struct Adding {
    path: PathBuf,
    /// Keeps the lock.
    _lock: File,
}

impl Adding {
    /// Makes a lake where there is none, and waits until nobody else adds to it.
    pub(crate) fn begin(path: &Path, waits: impl FnOnce()) -> Result<Self> {
        let shown = path.display();
        let cannot = || format!("cannot write to {shown}");
        fs::create_dir_all(path).with_context(cannot)?;
        if !Lake::is_one(path) {
            let foreign = fs::read_dir(path).with_context(cannot)?.filter_map(Result::ok).find(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy().into_owned();
                name != LOCK && !name.starts_with(".bouncescope-")
            });
            if let Some(foreign) = foreign {
                bail!(
                    "{shown} is no lake and is not empty (it has {}): name another directory",
                    plain(&foreign.file_name().to_string_lossy())
                );
            }
        }
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join(LOCK)).with_context(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                waits();
                lock.lock().with_context(cannot)?;
            }
            Err(fs::TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        if !Lake::is_one(path) {
            let about = About { format: FORMAT.to_owned(), schema: VERSION };
            write_json(path, LAKE, &about)?;
        }
        for entry in fs::read_dir(path).with_context(cannot)?.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path()).with_context(cannot)?;
            }
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Begins a part.
    pub(crate) fn part(&self) -> Result<NewPart> {
        let cannot = || format!("cannot write to {}", self.path.display());
        let folder = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.path).with_context(cannot)?;
        Ok(NewPart {
            lake: self.path.clone(),
            folder,
            rows: BTreeMap::new(),
            kept: 0,
            list: Part::default(),
            numbers: BTreeMap::new(),
        })
    }
}

fn write_json(folder: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    let mut file = Directory::create(folder, &[])?.file(name, Access::Shared)?;
    file.write_all(format!("{}\n", serde_json::to_string_pretty(value)?).as_bytes())?;
    Ok(file.finish()?)
}

/// A part that is being written. What is not finished is removed.
pub(crate) struct NewPart {
    lake: PathBuf,
    folder: tempfile::TempDir,
    /// By folder, as `day=2026-11-30`, and table.
    rows: BTreeMap<(String, Table), Vec<Row>>,
    /// Cells in them.
    kept: usize,
    list: Part,
    numbers: BTreeMap<(String, Table), u32>,
}

impl NewPart {
    /// Takes rows that belong into this folder.
    pub(crate) fn add(&mut self, folder: &str, rows: impl IntoIterator<Item = (Table, Row)>) -> Result<()> {
        for (table, row) in rows {
            self.kept += row.len();
            self.rows.entry((folder.to_owned(), table)).or_default().push(row);
        }
        if self.kept >= MOST_CELLS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.kept = 0;
        for ((folder, table), rows) in std::mem::take(&mut self.rows) {
            let number = self.numbers.entry((folder.clone(), table)).or_default();
            let name = if *number == 0 {
                format!("{}.parquet", table.name())
            } else {
                format!("{}-{number}.parquet", table.name())
            };
            *number += 1;
            let batch = batch(table, &rows)?;
            let inside = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let bytes = write_parquet(&self.folder.path().join(&folder), &name, table, &batch)?;
            self.list.files.push(PartFile {
                table: table.name().to_owned(),
                path: inside,
                bytes,
                rows: rows.len() as u64,
            });
        }
        Ok(())
    }

    /// Puts the part into the lake; nothing where it has no rows.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.write()?;
        if self.list.files.is_empty() {
            return Ok(());
        }
        (self.list.schema, self.list.program) = (VERSION, env!("CARGO_PKG_VERSION").to_owned());
        write_json(self.folder.path(), PART, &self.list)?;
        let cannot = || format!("cannot write to {}", self.lake.display());
        sync_folders(self.folder.path()).with_context(cannot)?;
        let name = self.folder.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let seconds =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let part = self.lake.join(format!("part={seconds:010}-{}", name.trim_start_matches(UNFINISHED)));
        fs::set_permissions(self.folder.path(), fs::metadata(&self.lake).with_context(cannot)?.permissions())
            .with_context(cannot)?;
        fs::rename(self.folder.path(), &part).with_context(cannot)?;
        // Its name is gone: there is nothing to remove.
        let _ = self.folder.keep();
        File::open(&self.lake).and_then(|folder| folder.sync_all()).with_context(cannot)
    }
}

/// Brings the names in a folder to the disk; those of files are there by then.
fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Writes a file, and gives its length in bytes.
fn write_parquet(folder: &Path, name: &str, table: Table, batch: &RecordBatch) -> Result<u64> {
    let about = [("bouncescope.table", table.name().to_owned()), ("bouncescope.schema", VERSION.to_string())];
    let about = Vec::from(about.map(|(key, value)| KeyValue::new(key.to_owned(), value)));
    let properties = properties(Some(about))?;
    let file = Directory::create(folder, &[])?.file(name, Access::Shared)?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties))?;
    writer.write(batch).map_err(disk)?;
    writer.into_inner().map_err(disk)?.finish()?;
    Ok(fs::metadata(folder.join(name))?.len())
}

/// As every file of ours is written.
pub(crate) fn properties(about: Option<Vec<KeyValue>>) -> Result<WriterProperties> {
    let compression = Compression::ZSTD(ZstdLevel::try_new(3)?);
    Ok(WriterProperties::builder().set_compression(compression).set_key_value_metadata(about).build())
}

/// A full disk is said as such.
fn disk(error: parquet::errors::ParquetError) -> anyhow::Error {
    anyhow::Error::new(error).context("cannot write the lake")
}

/// A folder of a part, for values of labels: `soc=a/day=2026-11-30`. Of what a name of a file cannot hold, `_` and its code are
/// written: the values themselves are in the files.
pub(crate) fn folder(values: impl Iterator<Item = (String, Option<String>)>) -> String {
    let escaped = |text: String| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
                b'.' if text != "." && text != ".." => ".".to_owned(),
                byte => format!("_{byte:02x}"),
            })
            .collect()
    };
    // As Hive names what has no value.
    let one = |(name, value): (String, Option<String>)| {
        let value =
            value.filter(|value| !value.is_empty()).map_or_else(|| "__HIVE_DEFAULT_PARTITION__".to_owned(), escaped);
        format!("{name}={}", &value[..value.len().min(200)])
    };
    values.map(one).collect::<Vec<_>>().join("/")
}

/// Whether an error is that of a file that is gone.
pub(crate) fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_holds_any_value() {
        let values = [("soc", Some("a/b c")), ("build", Some("..")), ("day", None)];
        let values = values.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        assert_eq!(folder(values.into_iter()), "soc=a_2fb_20c/build=_2e_2e/day=__HIVE_DEFAULT_PARTITION__");
    }
}
