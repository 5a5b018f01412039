//! The file that an import reads: which format it has, told by its first bytes, and its text.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Read, Seek},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use tracer::exchange::{
    as_text::Noted,
    packed::unpacked,
    perfdata::{PerfData, is_perf_data},
    perfetto::{self, Perfetto},
    tracedat::{TraceDat, is_trace_dat},
};

use crate::{foreign::not_imported, input::special};

/// A trace that can be read twice.
pub(super) struct TraceFile {
    name: String,
    source: Source,
    format: Format,
    /// What has to be known of the file, a line each.
    notes: Vec<String>,
}

/// What the file holds, once it is unpacked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    TraceDat,
    PerfData,
    Perfetto,
}

/// The text of a file, which is read once.
pub(super) enum Opened<'a> {
    Text(Box<dyn BufRead + 'a>),
    /// Made from a trace in binary.
    Made(Box<dyn Noted + 'a>),
}

/// A file, or one that is kept.
pub(super) trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

enum Source {
    /// Read from the disk each time: such a trace may be larger than memory.
    File(PathBuf),
    /// Standard input, a pipe or what was packed, kept in a file without a name.
    Kept(File),
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
        let mut trace = Self { name, source, format: Format::Text, notes: Vec::new() };
        let mut text = trace.unpacked()?;
        let cannot_read = || format!("cannot read {}", trace.name);
        let first = text.fill_buf().with_context(cannot_read)?;
        if let Some(instead) = not_imported(first, &trace.name) {
            bail!("{instead}");
        }
        let format = match first {
            first if is_trace_dat(first) => Format::TraceDat,
            first if is_perf_data(first) => Format::PerfData,
            _ => Format::Text,
        };
        // A packet of Perfetto begins with a byte that in a text is an empty line.
        let may_be_perfetto = first.starts_with(b"\n");
        if format == Format::Text && !may_be_perfetto {
            drop(text);
            return Ok(trace);
        }
        // All these are read here and there: of a file that is packed, what it holds is kept.
        if trace.begins()? == first[..first.len().min(MAGIC)] {
            drop(text);
        } else {
            let most = trace.most_unpacked()?;
            let kept = keep(&mut text.take(most.saturating_add(1))).with_context(cannot_read)?;
            trace.check_unpacked(&kept, most)?;
            trace.source = Source::Kept(kept);
        }
        trace.format = format;
        if may_be_perfetto
            && perfetto::is_trace(trace.file()?).with_context(|| format!("cannot read {}", trace.name))?
        {
            trace.format = Format::Perfetto;
            trace.unpack_packets()?;
        }
        Ok(trace)
    }

    /// Keeps the packets of a trace of Perfetto, if they are compressed.
    fn unpack_packets(&mut self) -> Result<()> {
        let most = self.most_unpacked()?;
        let mut kept = tempfile::tempfile()?;
        let unpacked = perfetto::unpack(self.file()?, BufWriter::new(&mut kept), most);
        if let Some(notes) = unpacked.with_context(|| format!("cannot read {}", self.name))? {
            self.check_unpacked(&kept, most)?;
            (self.source, self.notes) = (Source::Kept(kept), notes);
        }
        Ok(())
    }

    /// An error when a packed file has unpacked to more than it may, bytes.
    fn check_unpacked(&self, kept: &File, most: u64) -> Result<()> {
        let bytes = kept.metadata().with_context(|| format!("cannot read {}", self.name))?.len();
        ensure!(
            bytes <= most,
            "{} unpacks to more than {} MiB, many times what a trace does: if it is to be trusted, unpack it, and import what is in it",
            self.name,
            most >> 20
        );
        Ok(())
    }

    /// The file, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The text from its first line on, whatever it is packed in.
    pub(super) fn open(&self) -> Result<Opened<'_>> {
        let cannot_read = || format!("cannot read {}", self.name);
        Ok(match self.format {
            Format::Text => Opened::Text(self.unpacked()?),
            Format::TraceDat => Opened::Made(Box::new(TraceDat::open(self.file()?).with_context(cannot_read)?)),
            Format::PerfData => Opened::Made(Box::new(PerfData::open(self.file()?).with_context(cannot_read)?)),
            Format::Perfetto => Opened::Made(Box::new(Perfetto::open(self.file()?).with_context(cannot_read)?)),
        })
    }

    /// What has to be known of the file, a line each, after it was read to its end.
    pub(super) fn notes(&self, opened: &Opened<'_>) -> Vec<String> {
        let more = if let Opened::Made(text) = opened { text.notes() } else { Vec::new() };
        self.notes.iter().cloned().chain(more).collect()
    }

    /// The bytes as they are, from the first one on.
    fn file(&self) -> Result<Box<dyn ReadSeek + '_>> {
        let file: Box<dyn ReadSeek + '_> = match &self.source {
            Source::File(path) => Box::new(File::open(path).with_context(|| format!("cannot open {}", self.name))?),
            Source::Kept(file) => Box::new(file),
        };
        Ok(file)
    }

    /// The first bytes as they are.
    fn begins(&self) -> Result<Vec<u8>> {
        let mut first = Vec::new();
        let mut file = self.file()?;
        let read = file.rewind().and_then(|()| file.take(MAGIC as u64).read_to_end(&mut first));
        read.with_context(|| format!("cannot read {}", self.name))?;
        Ok(first)
    }

    /// What the file may unpack to where it is packed, bytes.
    fn most_unpacked(&self) -> Result<u64> {
        Ok(match &self.source {
            Source::File(path) => {
                let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", self.name))?;
                metadata.len().saturating_mul(UNPACKED.0).saturating_add(UNPACKED.1)
            }
            Source::Kept(_) => UNPACKED_INPUT,
        })
    }

    /// What the file holds, whatever it is packed in.
    fn unpacked(&self) -> Result<Box<dyn BufRead + '_>> {
        let text = match &self.source {
            Source::File(path) => {
                unpacked(buffered(File::open(path).with_context(|| format!("cannot open {}", self.name))?))
            }
            Source::Kept(file) => {
                let mut file = file;
                file.rewind().and_then(|()| unpacked(buffered(file)))
            }
        };
        text.with_context(|| format!("cannot read {}", self.name))
    }
}

impl Opened<'_> {
    fn text(&mut self) -> &mut dyn BufRead {
        match self {
            Self::Text(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl Read for Opened<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.text().read(buffer)
    }
}

impl BufRead for Opened<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Text(text) => text.fill_buf(),
            Self::Made(text) => text.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        self.text().consume(amount);
    }
}

/// So many times its size a packed file may unpack to, besides so many bytes.
const UNPACKED: (u64, u64) = (256, 4 << 20);

/// What a packed standard input or pipe may unpack to, bytes.
const UNPACKED_INPUT: u64 = 1 << 30;

/// So many of its first bytes tell the format.
const MAGIC: usize = 8;

/// A text is read in few calls.
fn buffered<R: Read>(file: R) -> BufReader<R> {
    BufReader::with_capacity(128 << 10, file)
}

/// Copies a stream, which cannot be read twice, to a file that is gone when the program ends.
fn keep(stream: &mut impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(stream, &mut file)?;
    Ok(file)
}
