//! The file that an import reads: which format it has, told by its first bytes, and its text.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read, Seek as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use tracer::exchange::{packed::unpacked, perfetto};

use crate::{foreign::not_imported, input::special};

/// A trace that can be read twice.
pub(super) struct TraceFile {
    name: String,
    source: Source,
    /// What has to be known of the file, a line each.
    pub(super) notes: Vec<String>,
}

enum Source {
    /// Read from the disk each time: such a trace may be larger than memory.
    File(PathBuf),
    /// Standard input or a pipe, kept in a file without a name.
    Kept(File),
    /// Lines of a trace of Perfetto.
    Lines(Vec<u8>),
}

impl TraceFile {
    /// A file, or for `-` the standard input.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let (name, source) = if path == Path::new("-") {
            let name = "standard input".to_owned();
            let kept = keep(&mut io::stdin().lock()).with_context(|| format!("cannot read {name}"))?;
            (name, Source::Kept(kept))
        } else {
            let name = path.display().to_string();
            let mut file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            let metadata = file.metadata().with_context(|| format!("cannot read {name}"))?;
            if let Some(kind) = special(&metadata) {
                bail!("{name} is {kind}, not a trace");
            }
            let source = if metadata.is_file() {
                Source::File(path.to_owned())
            } else {
                Source::Kept(keep(&mut file).with_context(|| format!("cannot read {name}"))?)
            };
            (name, source)
        };
        let mut trace = Self { name, source, notes: Vec::new() };
        let mut text = trace.open()?;
        let cannot_read = || format!("cannot read {}", trace.name);
        let first = text.fill_buf().with_context(cannot_read)?;
        if let Some(instead) = not_imported(first, &trace.name) {
            bail!("{instead}");
        }
        // A packet of Perfetto begins with a byte that in a text is an empty line.
        if first.starts_with(b"\n") {
            let mut bytes = Vec::new();
            text.read_to_end(&mut bytes).with_context(cannot_read)?;
            if perfetto::is_trace(&bytes) {
                drop(text);
                let perfetto::Text { lines, notes } = perfetto::read(&bytes);
                (trace.source, trace.notes) = (Source::Lines(lines), notes);
                return Ok(trace);
            }
        }
        drop(text);
        Ok(trace)
    }

    /// The file, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The text from its first line on, whatever it is packed in.
    pub(super) fn open(&self) -> Result<Box<dyn BufRead + '_>> {
        let text = match &self.source {
            Source::File(path) => {
                unpacked(BufReader::new(File::open(path).with_context(|| format!("cannot open {}", self.name))?))
            }
            Source::Kept(file) => {
                let mut file = file;
                file.rewind().and_then(|()| unpacked(BufReader::new(file)))
            }
            Source::Lines(lines) => return Ok(Box::new(Cursor::new(lines))),
        };
        text.with_context(|| format!("cannot read {}", self.name))
    }
}

/// Copies a stream, which cannot be read twice, to a file that is gone when the program ends.
fn keep(stream: &mut impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(stream, &mut file)?;
    Ok(file)
}
