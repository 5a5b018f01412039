//! What any system does for an output, by paths: links are refused as far as they can be seen.

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// Who may read a file is left to the system.
pub(super) type Permissions = ();
pub(super) const PRIVATE: Permissions = ();

/// A directory.
#[derive(Debug)]
pub(super) struct Dir(PathBuf);

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Link,
    Directory,
    Fifo,
    Device,
    Other,
}

/// A file that is there, and its path without links where that is known.
#[derive(Debug)]
pub(super) struct Found(Metadata, Option<PathBuf>);

impl Found {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self(file.metadata()?, None))
    }

    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self(fs::metadata(path)?, fs::canonicalize(path).ok()))
    }

    pub(super) fn kind(&self) -> Kind {
        match self.0.file_type() {
            kind if kind.is_symlink() => Kind::Link,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_file() => Kind::File,
            _ => Kind::Other,
        }
    }

    /// An opened file has no path: nothing is known of it, and it is taken to be the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.1.is_none() || other.1.is_none() || self.1 == other.1
    }

    pub(super) fn is_own(&self) -> bool {
        false
    }

    pub(super) fn permissions(&self) -> Permissions {}
}

impl Dir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(path.to_owned()))
    }

    pub(super) fn open_itself(path: &Path) -> io::Result<Option<Self>> {
        Ok((!fs::symlink_metadata(path)?.is_symlink()).then(|| Self(path.to_owned())))
    }

    pub(super) fn find(&self, name: &OsStr) -> io::Result<Option<Found>> {
        let path = self.0.join(name);
        match fs::symlink_metadata(&path) {
            Ok(there) => Ok(Some(Found(there, fs::canonicalize(&path).ok()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn create_new(&self, name: &OsStr, _: Option<Permissions>) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(self.0.join(name))
    }

    pub(super) fn open_stream(&self, _: &OsStr) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    pub(super) fn link(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        fs::hard_link(self.0.join(from), self.0.join(to))
    }

    pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }
}

pub(super) fn has_no_reader(_: &io::Error) -> bool {
    false
}

pub(super) fn own_descriptor(_: &Path) -> Option<io::Result<File>> {
    None
}
