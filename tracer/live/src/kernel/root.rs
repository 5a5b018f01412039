//! The root of the file system that everything in this module is read from: `/`, or a copy of parts of another
//! machine's, which is how the readers are tested.

use std::io;
use std::path::{Path, PathBuf};

/// Where `proc`, `sys`, `boot` and `lib` lie.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Default for Root {
    /// The running system's `/`.
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl Root {
    /// Another root.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// A path below the root; `relative` has no slash in front.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.0.join(relative)
    }

    /// A file's text, whatever its bytes, without the white space around it.
    pub fn text(&self, relative: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.path(relative))?).trim().to_owned())
    }

    /// The decimal number that a file holds.
    pub fn number(&self, relative: &str) -> Option<u64> {
        self.text(relative).ok()?.parse().ok()
    }

    /// The names in a directory; none when it cannot be read.
    pub fn names(&self, relative: &str) -> impl Iterator<Item = String> {
        let entries = std::fs::read_dir(self.path(relative)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
    }
}

#[cfg(test)]
pub(crate) mod sample {
    //! Roots made in tests, file by file.

    use super::Root;

    /// A root in a temporary directory that goes away with it.
    pub(crate) struct SampleRoot {
        dir: tempfile::TempDir,
    }

    impl SampleRoot {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            let sample = Self { dir: tempfile::tempdir().unwrap() };
            for (path, text) in files {
                sample.write(path, text.as_bytes());
            }
            sample
        }

        pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
            let path = self.dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }

        pub(crate) fn root(&self) -> Root {
            Root::at(self.dir.path())
        }
    }
}
