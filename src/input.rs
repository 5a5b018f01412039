//! Captures and other files as arguments, and output that may go to a terminal or into a pipe.

use std::{
    borrow::Cow,
    fs::{self, File, Metadata},
    io::{self, BufReader, ErrorKind, Read as _, Write},
    path::{Path, PathBuf},
};

use anstream::{AutoStream, ColorChoice};
use anstyle::AnsiColor;
use anyhow::{Context, Result, anyhow, bail};
use clap::builder::{PathBufValueParser, TypedValueParser};
use tracer::{
    capture::{
        Ahead, ReadError, Reader,
        relabel::{Identity, identity},
    },
    labels::Labels,
    plain::{controls, plain, plain_lines},
    replay::{Replayed, Wanted},
    stream::{Source, Start},
    sweep::sweep,
};

use crate::{
    foreign::instead_of_capture,
    limit::{Limit, Limited},
    progress::Progress,
};

/// What is read without a capture: [`captures/README.md`](../captures/README.md) says how it was made.
const EMBEDDED: Option<&[u8]> = {
    #[cfg(feature = "embedded")]
    let embedded: Option<&[u8]> = Some(include_bytes!("../captures/default.bounce"));
    #[cfg(not(feature = "embedded"))]
    let embedded = None;
    embedded
};

/// Words of a help page about the embedded capture; none in a program that was built without.
#[cfg(feature = "embedded")]
macro_rules! of_embedded {
    ($words:literal) => {
        $words
    };
}
#[cfg(not(feature = "embedded"))]
macro_rules! of_embedded {
    ($words:literal) => {
        ""
    };
}
pub(crate) use of_embedded;

/// The capture that is read where none is named; an error in a program that was built without.
pub(crate) fn embedded() -> Result<&'static [u8]> {
    EMBEDDED
        .context("name a capture: this program was built without one of its own; `bouncescope record -d 10` makes one")
}

/// A file to read among the arguments; `-` is standard input.
pub(crate) fn input_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| if path == Path::new("-") { "/dev/stdin".into() } else { path })
}

/// A pass over a capture before the one that answers.
pub(crate) fn first_pass(path: Option<&PathBuf>, limit: Limit) -> Result<Replayed> {
    if let Some(path) = path
        && fs::metadata(path).is_ok_and(|file| !file.is_file())
    {
        bail!(
            "{} can be read only once, and `packed` takes two passes: write the capture to a file first",
            path.display()
        );
    }
    replay_capture(path, limit, |_| Wanted::default())
}

/// Replays the capture, or the embedded one.
pub(crate) fn replay_capture(
    path: Option<&PathBuf>,
    limit: Limit,
    wanted: impl FnOnce(&Start) -> Wanted,
) -> Result<Replayed> {
    let (source, length, name) = opened(path)?;
    replay_any(limit.of(source, length), wanted).with_context(|| name)
}

/// Whatever a capture is read from.
pub(crate) type Any = Box<dyn Source<Error = ReadError>>;

/// The capture, or the embedded one, with its length, 0 where that is not known, and its name.
fn opened(path: Option<&PathBuf>) -> Result<(Any, u64, String)> {
    let Some(path) = path else {
        let embedded = embedded()?;
        return Ok((Box::new(Reader::new(embedded)?), embedded.len() as u64, "the embedded capture".to_owned()));
    };
    let ahead = Ahead::new(open_capture(path)?).context("cannot start a thread to read with")?;
    // Without a length, as of a pipe, no progress can be told.
    let length = fs::metadata(path).map_or(0, |file| file.len());
    Ok((Box::new(Progress::new(ahead, length)), length, path.display().to_string()))
}

/// Opens a capture; where the file is something else, says what, and which command reads it.
pub(crate) fn open_capture(path: &Path) -> Result<Reader<BufReader<File>>> {
    Reader::open(path).map_err(|error| {
        let is_other = matches!(&error, ReadError::In { source, .. } if matches!(**source, ReadError::NotACapture));
        match instead_of_capture(path).filter(|_| is_other) {
            Some(instead) => anyhow!(instead),
            None => error.into(),
        }
    })
}

/// Identity and labels of a capture, of which everything is read.
pub(crate) fn identity_of(path: &Path) -> Result<(Identity, Labels)> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    identity(BufReader::new(file)).with_context(|| path.display().to_string())
}

/// Replays a capture from wherever it is read.
pub(crate) fn replay_any(mut source: Limited<Any>, wanted: impl FnOnce(&Start) -> Wanted) -> Result<Replayed> {
    let mut replayed = sweep(&mut source, wanted)?;
    replayed.start.notes.extend(source.left_out());
    Ok(replayed)
}

/// The longest file of rules, policies, devices or call sites, bytes.
const LONGEST_TEXT: u64 = 16 << 20;

/// A text file that people write: rules, policies, devices, call sites.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    if let Some(kind) = special(&file.metadata().with_context(cannot)?) {
        bail!("{} is {kind}, not a text file", path.display());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_TEXT + 1).read_to_end(&mut bytes).with_context(cannot)?;
    if bytes.len() as u64 > LONGEST_TEXT {
        bail!("{} is longer than the {} MiB that are read of such a file", path.display(), LONGEST_TEXT >> 20);
    }
    String::from_utf8(bytes).ok().with_context(|| format!("{} is not UTF-8 text", path.display()))
}

/// What a file is that is neither a regular one nor a pipe.
pub(crate) fn special(file: &Metadata) -> Option<&'static str> {
    let kind = file.file_type();
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
    }
    kind.is_dir().then_some("a directory")
}

/// As many names as a line has use for, and how many there are more.
pub(crate) fn some_of(names: impl Iterator<Item = String>, count: usize) -> String {
    const SOME: usize = 10;
    let mut text = names.take(SOME).collect::<Vec<_>>().join(", ");
    if count > SOME {
        text += &format!(" and {} more", count - SOME);
    }
    text
}

/// Prints to standard output; a reader that has seen enough (`| head`) is no error. Whatever is in the text, a terminal only gets lines.
pub(crate) fn print(text: &str) -> Result<()> {
    write_out(&plain_lines(text))
}

/// Says for all that is printed later whether it has colours.
pub(crate) fn choose_colours(choice: clap::ColorChoice) {
    match choice {
        clap::ColorChoice::Auto => ColorChoice::Auto,
        clap::ColorChoice::Always => ColorChoice::Always,
        clap::ColorChoice::Never => ColorChoice::Never,
    }
    .write_global();
}

/// The same, with a verdict's word in this colour where it begins a line, on a terminal that shows colours.
pub(crate) fn print_verdict(text: &str, word: &str, colour: AnsiColor) -> Result<()> {
    let text = plain_lines(text);
    let choice = AutoStream::choice(&io::stdout());
    let line = format!("\n{word}");
    let (Some(at), true) = (text.find(&line), choice != ColorChoice::Never) else { return write_out(&text) };
    let style = colour.on_default().bold();
    let (before, behind) = (&text[..=at], &text[at + line.len()..]);
    write_out(&format!("{before}{style}{word}{style:#}{behind}"))
}

fn write_out(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Says something on standard error, in lines as [`print()`] does. Where that cannot be written (a log on the disk that is full, a closed
/// pipe) nothing is said, and what is going on goes on, with its own exit code; `eprint!` would panic.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().lock().write_all(plain_lines(text).as_bytes());
}

/// Says why the command failed, as clap says what is wrong with its arguments: an error in a line behind one word.
pub(crate) fn fail(error: &anyhow::Error) {
    say(&format!("error: {}\n", one_line(error)));
}

/// Says what makes the result less than what was asked for.
pub(crate) fn warn(text: &str) {
    say(&format!("warning: {text}\n"));
}

/// Says what the result rests on.
pub(crate) fn note(text: &str) {
    say(&format!("note: {text}\n"));
}

/// The error and its causes in one line, whatever names are in it; causes that the errors above them have already quoted are left out.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    plain(&line).into_owned()
}

/// Prints JSON, indented, with a line end. Characters that control a terminal are written as JSON's own escapes.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<()> {
    let text = format!("{value:#}\n");
    let hidden = |c: char| controls(c) && c != '\n';
    let text: Cow<'_, str> = if text.chars().any(hidden) {
        let mut escaped = String::with_capacity(text.len() + 64);
        for c in text.chars() {
            if hidden(c) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    escaped += &format!("\\u{unit:04x}");
                }
            } else {
                escaped.push(c);
            }
        }
        escaped.into()
    } else {
        text.into()
    };
    write_out(&text)
}
