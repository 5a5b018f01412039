//! Every file that bouncescope writes: made beside its place under a name of its own, and put there by a rename when it is whole.
//!
//! What was there is kept when the command fails, is killed, or the disk is full. Nothing is written through a link, or into a FIFO that
//! belongs to somebody else: whoever else can write to the directory must not be able to redirect an output, or to read it.

#[cfg_attr(unix, path = "output/unix.rs")]
#[cfg_attr(not(unix), path = "output/portable.rs")]
mod dir;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use dir::{Dir, Found, Kind, Permissions};

/// Names that are tried for a new file; each is one of 2^64.
const ATTEMPTS: usize = 8;

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The system refused.
    #[error("cannot write {path}: {source}")]
    System {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something that is not written to.
    #[error("cannot write {path}: {why}")]
    Refused {
        /// Which file.
        path: PathBuf,
        /// What is there, and what to do.
        why: &'static str,
    },
    /// A FIFO has no reader yet.
    #[error("cannot write {path}: nobody reads this FIFO")]
    NoReader {
        /// Which FIFO.
        path: PathBuf,
    },
}

/// For traits whose errors are the system's.
impl From<OutputError> for io::Error {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::System { ref source, .. } => Self::new(source.kind(), error),
            other => Self::other(other),
        }
    }
}

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner alone (0600).
    Private,
    /// Those whom the umask lets; a file of the same owner that is replaced keeps its mode.
    Shared,
    /// As the file of the same owner that is replaced; its owner alone where there is none.
    Kept,
}

/// A directory to write files into.
#[derive(Debug)]
pub struct Directory {
    dir: Arc<Dir>,
    path: PathBuf,
    /// Files that are read meanwhile, and so must not be replaced.
    inputs: Vec<Found>,
}

impl Directory {
    /// Makes the directory where it is missing. No file of `inputs` will be replaced.
    pub fn create(path: &Path, inputs: &[&Path]) -> Result<Self, OutputError> {
        let failed = |source| OutputError::System { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        let refused = OutputError::Refused { path: path.to_owned(), why: "it is a link; name the directory itself" };
        let dir = Dir::open_itself(path).map_err(failed)?.ok_or(refused)?;
        Ok(Self { dir: Arc::new(dir), path: path.to_owned(), inputs: found(inputs) })
    }

    /// The directory that a file lies in.
    fn of_file(path: &Path, inputs: &[&Path]) -> Result<Self, OutputError> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = Dir::open(parent).map_err(|source| OutputError::System { path: path.to_owned(), source })?;
        Ok(Self { dir: Arc::new(dir), path: parent.to_owned(), inputs: found(inputs) })
    }

    /// Begins a file of this name.
    pub fn file(&self, name: &str, access: Access) -> Result<Output, OutputError> {
        self.output(OsStr::new(name), self.path.join(name), access)
    }

    fn output(&self, name: &OsStr, path: PathBuf, access: Access) -> Result<Output, OutputError> {
        let system = |source| OutputError::System { path: path.clone(), source };
        let refused = |why| Err(OutputError::Refused { path: path.clone(), why });
        let there = self.dir.find(name).map_err(system)?;
        match there.as_ref().map(Found::kind) {
            None | Some(Kind::File) => {}
            Some(Kind::Link) => return refused("it is a link; name the file that it points to"),
            Some(Kind::Directory) => return refused("it is a directory"),
            Some(Kind::Fifo | Kind::Device) => {
                let file = match self.dir.open_stream(name) {
                    Ok(file) => file,
                    Err(error) if dir::has_no_reader(&error) => return Err(OutputError::NoReader { path }),
                    Err(error) => return Err(system(error)),
                };
                return match Found::of(&file).map_err(system)? {
                    now if now.kind() == Kind::Device || (now.kind() == Kind::Fifo && now.is_own()) => {
                        Ok(Output::stream(path, file))
                    }
                    _ => refused("it is a FIFO of another user; write to /dev/stdout, and redirect that"),
                };
            }
            Some(Kind::Other) => return refused("it is neither a file, nor a FIFO or a character device"),
        }
        if there.as_ref().is_some_and(|there| self.inputs.iter().any(|input| input.is_same(there))) {
            return refused("it is also read; name another file");
        }
        let mode = match access {
            Access::Private => Some(dir::PRIVATE),
            Access::Shared => there.filter(Found::is_own).map(|there| there.permissions()),
            Access::Kept => Some(there.filter(Found::is_own).map_or(dir::PRIVATE, |there| there.permissions())),
        };
        let (temporary, file) = create_new(&self.dir, mode).map_err(system)?;
        let place = Place { dir: Arc::clone(&self.dir), name: name.to_owned(), temporary: Some(temporary) };
        Ok(Output { file: BufWriter::new(file), path, place: Some(place) })
    }
}

/// Those that are there.
fn found(paths: &[&Path]) -> Vec<Found> {
    paths.iter().filter_map(|path| Found::at(path).ok()).collect()
}

/// A file with a name that no other has.
fn create_new(dir: &Dir, mode: Option<Permissions>) -> io::Result<(OsString, File)> {
    let mut last = io::Error::from(ErrorKind::AlreadyExists);
    for _ in 0..ATTEMPTS {
        let name = temporary_name();
        match dir.create_new(&name, mode) {
            Ok(file) => return Ok((name, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn temporary_name() -> OsString {
    format!(".bouncescope-{:016x}.new", RandomState::new().build_hasher().finish()).into()
}

/// A file that is being written.
#[derive(Debug)]
pub struct Output {
    file: BufWriter<File>,
    path: PathBuf,
    /// `None` for what is written to as it is: a pipe, a terminal, `/dev/null`.
    place: Option<Place>,
}

/// Where a file belongs.
#[derive(Debug)]
struct Place {
    dir: Arc<Dir>,
    name: OsString,
    /// Its name until it is put into its place.
    temporary: Option<OsString>,
}

impl Output {
    /// Begins a file that is to lie at `path`, and is none of `inputs`. Character devices and one's own FIFOs are written to as
    /// they are, likewise `/dev/stdout`, `/dev/stderr` and `/dev/fd/N`; of links, directories and all else nothing is touched.
    pub fn create(path: &Path, access: Access, inputs: &[&Path]) -> Result<Self, OutputError> {
        let system = |source| OutputError::System { path: path.to_owned(), source };
        if let Some(file) = dir::own_descriptor(path) {
            let file = file.map_err(system)?;
            let this = Found::of(&file).map_err(system)?;
            if found(inputs).iter().any(|input| input.is_same(&this)) {
                let why = "it is also read; name another file";
                return Err(OutputError::Refused { path: path.to_owned(), why });
            }
            return Ok(Self::stream(path.to_owned(), file));
        }
        let Some(name) = path.file_name().filter(|_| !ends_in_slash(path)) else {
            return Err(OutputError::Refused { path: path.to_owned(), why: "it names a directory" });
        };
        Directory::of_file(path, inputs)?.output(name, path.to_owned(), access)
    }

    fn stream(path: PathBuf, file: File) -> Self {
        Self { file: BufWriter::new(file), path, place: None }
    }

    /// Puts the file into its place as it is by now, where it can be read while it grows. What was there goes away.
    pub fn publish(&mut self) -> Result<(), OutputError> {
        self.put(None)
    }

    /// The same; a file that was there is renamed to its own name and this.
    pub fn publish_keeping(&mut self, suffix: &str) -> Result<(), OutputError> {
        self.put(Some(suffix))
    }

    fn put(&mut self, suffix: Option<&str>) -> Result<(), OutputError> {
        let system = |source| OutputError::System { path: self.path.clone(), source };
        self.file.flush().map_err(system)?;
        let Some(place) = &mut self.place else { return Ok(()) };
        let Some(temporary) = &place.temporary else { return Ok(()) };
        if let Some(suffix) = suffix {
            let mut old = place.name.clone();
            old.push(suffix);
            place.keep(&old).map_err(system)?;
        }
        place.dir.rename(temporary, &place.name).map_err(system)?;
        place.temporary = None;
        // In a directory that others can write to, the new name may have been given to another file.
        let now = place.dir.find(&place.name).map_err(system)?;
        let this = Found::of(self.file.get_ref()).map_err(system)?;
        if now.is_some_and(|now| now.is_same(&this)) {
            return Ok(());
        }
        let why = "somebody else put another file there meanwhile";
        Err(OutputError::Refused { path: self.path.clone(), why })
    }

    /// Brings everything to the disk, and does not put it into its place yet.
    pub fn complete(&mut self) -> Result<(), OutputError> {
        let system = |source| OutputError::System { path: self.path.clone(), source };
        self.file.flush().map_err(system)?;
        if self.place.is_some() {
            self.file.get_ref().sync_all().map_err(system)?;
        }
        Ok(())
    }

    /// Brings everything to the disk, and puts the file into its place unless it is there already.
    pub fn finish(mut self) -> Result<(), OutputError> {
        self.complete()?;
        self.publish()
    }

    /// Writes a file of this content.
    pub fn write(path: &Path, access: Access, inputs: &[&Path], content: &[u8]) -> Result<(), OutputError> {
        let mut output = Self::create(path, access, inputs)?;
        output.write_all(content).map_err(|source| OutputError::System { path: path.to_owned(), source })?;
        output.finish()
    }
}

impl Place {
    /// Gives the file that has the name another one. There is a file of the name at every moment, where the file system has hard links.
    fn keep(&self, old: &OsStr) -> io::Result<()> {
        if !self.dir.find(&self.name)?.is_some_and(|there| there.kind() == Kind::File) {
            return Ok(());
        }
        let second = temporary_name();
        if self.dir.link(&self.name, &second).is_err() {
            return self.dir.rename(&self.name, old);
        }
        let renamed = self.dir.rename(&second, old);
        // Between two names of one file rename(2) does nothing.
        self.dir.remove(&second).ok();
        renamed
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    /// What is not whole leaves nothing behind.
    fn drop(&mut self) {
        if let Some(Place { dir, temporary: Some(temporary), .. }) = &self.place {
            dir.remove(temporary).ok();
        }
    }
}

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().last().is_some_and(|last| std::path::is_separator(char::from(*last)))
}

#[cfg(all(test, unix))]
mod tests;
