//! What the system does for an output: everything relative to an opened directory, and nothing through a link.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        self as sys, AtFlags, FileType, Mode, OFlags, Stat, fcntl_getfl, fcntl_setfl, fstat, linkat, openat, renameat,
        statat, unlinkat,
    },
    io::Errno,
    process::geteuid,
};

/// Enough to look up names in a directory.
#[cfg(target_os = "linux")]
const LOOK_UP: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const LOOK_UP: OFlags = OFlags::RDONLY;

/// Who may read, write and execute a file.
pub(super) type Permissions = Mode;
/// 0600.
pub(super) const PRIVATE: Permissions = Mode::RUSR.union(Mode::WUSR);
/// 0666, of which the umask takes away.
const EVERYBODY: Permissions = PRIVATE.union(Mode::RGRP).union(Mode::WGRP).union(Mode::ROTH).union(Mode::WOTH);

/// An opened directory: what its path means later on changes nothing.
#[derive(Debug)]
pub(super) struct Dir(OwnedFd);

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Link,
    Directory,
    Fifo,
    /// A character device.
    Device,
    Other,
}

/// A file that is there.
#[derive(Debug)]
pub(super) struct Found(Stat);

impl Found {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self(fstat(file)?))
    }

    /// What a path leads to.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self(sys::stat(path)?))
    }

    pub(super) fn kind(&self) -> Kind {
        match FileType::from_raw_mode(self.0.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Link,
            FileType::Directory => Kind::Directory,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::Device,
            _ => Kind::Other,
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.0.st_dev, self.0.st_ino) == (other.0.st_dev, other.0.st_ino)
    }

    /// Whether it belongs to this process's effective user.
    pub(super) fn is_own(&self) -> bool {
        self.0.st_uid == geteuid().as_raw()
    }

    pub(super) fn permissions(&self) -> Permissions {
        Mode::from_raw_mode(self.0.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO)
    }
}

impl Dir {
    /// Opens what the path leads to.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(sys::open(path, LOOK_UP | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Opens the directory; `None` where the path's last part is a link.
    pub(super) fn open_itself(path: &Path) -> io::Result<Option<Self>> {
        let flags = LOOK_UP | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match sys::open(path, flags, Mode::empty()) {
            Ok(dir) => Ok(Some(Self(dir))),
            Err(Errno::LOOP | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn find(&self, name: &OsStr) -> io::Result<Option<Found>> {
        match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Found(stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a file that was not there, with this mode, or with the one that the umask leaves.
    pub(super) fn create_new(&self, name: &OsStr, mode: Option<Permissions>) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at_first = if mode.is_some() { PRIVATE } else { EVERYBODY };
        let file = openat(&self.0, name, flags, at_first)?;
        if let Some(mode) = mode {
            sys::fchmod(&file, mode)?;
        }
        Ok(file.into())
    }

    /// Opens a FIFO or a device that is there, to write to. A FIFO that nobody reads is [`has_no_reader()`]; without `O_NONBLOCK` this
    /// would wait.
    pub(super) fn open_stream(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::empty())?;
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
        Ok(file.into())
    }

    pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    pub(super) fn link(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(linkat(&self.0, from, &self.0, to, AtFlags::empty())?)
    }

    pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, AtFlags::empty())?)
    }
}

pub(super) fn has_no_reader(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
}

/// A descriptor that this process was given, where the path names one: shells write `>(command)` as `/dev/fd/63`.
pub(super) fn own_descriptor(path: &Path) -> Option<io::Result<File>> {
    let number: i32 = match path.to_str()? {
        "/dev/stdout" | "/proc/self/fd/1" => 1,
        "/dev/stderr" | "/proc/self/fd/2" => 2,
        other => other.strip_prefix("/dev/fd/").or_else(|| other.strip_prefix("/proc/self/fd/"))?.parse().ok()?,
    };
    if number < 0 {
        return None;
    }
    // SAFETY: it is only duplicated, at once; a number that is not open is EBADF.
    let given = unsafe { BorrowedFd::borrow_raw(number) };
    Some(given.try_clone_to_owned().map(File::from))
}
