//! The file that an import is of: which format it has, told by its first bytes, and its text.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use tracer::exchange::perfetto;

/// `tracecmd_open_head()`'s magic (`lib/trace-cmd/trace-input.c` of trace-cmd).
const TRACE_DAT: &[u8] = b"\x17\x08\x44tracing";
/// `PERF_MAGIC` (`tools/perf/util/header.c`), of both byte orders.
const PERF_DATA: [&[u8]; 2] = [b"PERFILE2", b"2ELIFREP"];
const GZIP: &[u8] = b"\x1f\x8b";

/// A trace that can be read twice.
pub(super) struct TraceFile {
    name: String,
    text: Text,
    /// What has to be known of the file, a line each.
    pub(super) notes: Vec<String>,
}

enum Text {
    /// Read as it is: such a trace may be larger than memory.
    InFile(PathBuf),
    InMemory(Vec<u8>),
}

impl TraceFile {
    /// A file, or for `-` the standard input.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let (name, from): (_, Box<dyn Read>) = if path == Path::new("-") {
            ("standard input".to_owned(), Box::new(io::stdin().lock()))
        } else {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            let plain = file.metadata().is_ok_and(|metadata| metadata.is_file());
            let mut file = BufReader::new(file);
            let first = file.fill_buf().with_context(|| format!("cannot read {name}"))?;
            refuse(&name, first)?;
            // A packet of Perfetto begins with a byte that in a text is an empty line.
            if plain && !first.starts_with(GZIP) && !first.starts_with(b"\n") {
                return Ok(Self { name, text: Text::InFile(path.to_owned()), notes: Vec::new() });
            }
            (name, Box::new(file))
        };
        let mut bytes = read(&name, from)?;
        if bytes.starts_with(GZIP) {
            bytes = read(&name, MultiGzDecoder::new(&*bytes))?;
        }
        refuse(&name, &bytes)?;
        if perfetto::is_trace(&bytes) {
            let perfetto::Text { lines, notes } = perfetto::read(&bytes);
            return Ok(Self { name, text: Text::InMemory(lines), notes });
        }
        Ok(Self { name, text: Text::InMemory(bytes), notes: Vec::new() })
    }

    /// The file, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The lines from the first on.
    pub(super) fn open(&self) -> Result<Box<dyn BufRead + '_>> {
        Ok(match &self.text {
            Text::InFile(path) => {
                Box::new(BufReader::new(File::open(path).with_context(|| format!("cannot open {}", self.name))?))
            }
            Text::InMemory(bytes) => Box::new(Cursor::new(bytes)),
        })
    }
}

fn read(name: &str, mut from: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    Ok(bytes)
}

/// Formats whose own tools print them.
fn refuse(name: &str, first: &[u8]) -> Result<()> {
    if first.starts_with(TRACE_DAT) {
        bail!("{name} is a trace.dat of trace-cmd; run: trace-cmd report {name} | bouncescope import -");
    }
    if PERF_DATA.iter().any(|magic| first.starts_with(magic)) {
        bail!("{name} is a perf.data; run: perf script -i {name} | bouncescope import -");
    }
    Ok(())
}
