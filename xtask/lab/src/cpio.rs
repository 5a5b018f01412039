//! Writes cpio archives in the "newc" format that the kernel unpacks as an initramfs (`init/initramfs.c`,
//! `Documentation/driver-api/early-userspace/buffer-format.rst`). It does not read them.

/// An archive being written; parents of a path are added by themselves.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: std::collections::BTreeSet<String>,
}

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;

impl Archive {
    /// Adds a regular file under `path`, which has no slash in front.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.parents(path);
        self.entry(path, REGULAR, content);
    }

    /// Adds a program.
    pub(super) fn program(&mut self, path: &str, content: &[u8]) {
        self.parents(path);
        self.entry(path, EXECUTABLE, content);
    }

    /// Adds an empty directory.
    pub(super) fn directory(&mut self, path: &str) {
        self.parents(path);
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY, &[]);
        }
    }

    /// The whole archive, with its trailer.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            if self.directories.insert(parent.to_owned()) {
                self.entry(parent, DIRECTORY, &[]);
            }
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let name_size = path.len() as u32 + 1;
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.entries, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Header with name, and content, each end at a multiple of 4.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, mode and content of every entry, read by the format's own rules.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
                u32::from_str_radix(text, 16).unwrap() as usize
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            let start = (110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return entries;
            }
            entries.push((name, mode as u32, bytes[start..start + size].to_vec()));
            bytes = &bytes[(start + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn what_was_added_is_read_back_whatever_its_length() {
        let mut archive = Archive::default();
        for length in 0..9_u8 {
            archive.file(&"n".repeat(usize::from(length) + 1), &vec![length; usize::from(length)]);
        }
        let entries = read(&archive.finish());
        assert_eq!(entries.len(), 9);
        for (length, (name, mode, content)) in entries.into_iter().enumerate() {
            assert_eq!((name.len(), mode, content), (length + 1, REGULAR, vec![length as u8; length]));
        }
    }

    #[test]
    fn directories_come_before_what_lies_in_them_and_once() {
        let mut archive = Archive::default();
        archive.program("bin/tool", b"x");
        archive.file("a/b/c", b"y");
        archive.directory("a/b");
        archive.directory("proc");
        let entries: Vec<_> = read(&archive.finish()).into_iter().map(|(name, mode, _)| (name, mode)).collect();
        assert_eq!(
            entries,
            [
                ("bin".to_owned(), DIRECTORY),
                ("bin/tool".into(), EXECUTABLE),
                ("a".into(), DIRECTORY),
                ("a/b".into(), DIRECTORY),
                ("a/b/c".into(), REGULAR),
                ("proc".into(), DIRECTORY)
            ]
        );
    }
}
