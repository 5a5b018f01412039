//! BTF in files: a raw blob, an ELF file with a section `.BTF` (`vmlinux`), or an archive that holds one raw blob, as
//! `BTFHub` keeps them (`RELEASE.btf.tar.xz`).

use std::{
    io::{Cursor, Read},
    path::Path,
};

use object::{Object as _, ObjectSection as _};

use super::{Btf, BtfError};

/// A kernel's BTF is some 10 MB; what unpacks to more than this is something else.
const LIMIT: u64 = 256 << 20;
const ELF: &[u8] = b"\x7fELF";
const GZIP: &[u8] = &[0x1f, 0x8b];
const XZ: &[u8] = b"\xfd7zXZ\0";
/// Where a tar archive says that it is one.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

impl Btf {
    /// What a file holds, told by its first bytes.
    pub fn from_file(path: &Path) -> Result<Self, BtfError> {
        let unreadable = |source| BtfError::Unreadable { path: path.into(), source };
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let bytes = unpacked(bytes).map_err(unreadable)?;
        Self::from_bytes(bytes)
    }
}

/// The blob inside whatever is around it. What is not known is returned as it is, for its reader to say what it is.
///
/// # Errors
///
/// When what is around it is damaged, holds no BTF or several files, or unpacks to more than 256 MiB.
pub fn unpacked(mut bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    if bytes.starts_with(XZ) {
        bytes = limited(lzma_rust2::XzReader::new(Cursor::new(bytes), true))?;
    } else if bytes.starts_with(GZIP) {
        bytes = limited(flate2::read::GzDecoder::new(Cursor::new(bytes)))?;
    }
    if bytes.get(TAR_MAGIC) == Some(b"ustar") {
        bytes = only_file(&bytes)?;
    }
    if bytes.starts_with(ELF) {
        bytes = section(&bytes)?;
    }
    Ok(bytes)
}

fn limited(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(LIMIT).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == LIMIT {
        return Err(other("unpacks to more than 256 MiB, which is not one kernel's BTF"));
    }
    Ok(bytes)
}

/// The only regular file of an archive.
fn only_file(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    let mut found = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() && found.replace(limited(&mut entry)?).is_some() {
            return Err(other("the archive holds several files: unpack it and name the one of this kernel"));
        }
    }
    found.ok_or_else(|| other("the archive holds no file"))
}

fn section(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let elf = object::File::parse(bytes).map_err(|error| other(&format!("a damaged ELF file: {error}")))?;
    let section = elf.section_by_name(".BTF").ok_or_else(|| {
        other("an ELF file without a section .BTF: make one with `pahole --btf_encode_detached=vmlinux.btf -J vmlinux`")
    })?;
    let data = section.data().map_err(|error| other(&format!("a damaged ELF file: {error}")))?;
    Ok(data.to_vec())
}

fn other(what: &str) -> std::io::Error {
    std::io::Error::other(what.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::kernel::btf::sample;

    fn blob() -> Vec<u8> {
        let mut builder = sample::Builder::default();
        builder.structure("page", 64, &[]);
        builder.build()
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_raw_blob_is_left_alone() {
        assert_eq!(unpacked(blob()).unwrap(), blob());
    }

    #[test]
    fn the_one_file_of_a_packed_archive_is_taken() {
        assert_eq!(unpacked(gzip(&archive(&[("6.1.btf", &blob())]))).unwrap(), blob());
    }

    #[test]
    fn an_archive_of_xz_is_unpacked() {
        // `printf BTF | xz`
        let packed = [
            0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x16, 0x00,
            0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x02, 0x42, 0x54, 0x46, 0x00, 0x00, 0xbc, 0x10, 0x3d, 0xdd,
            0x2a, 0xeb, 0xa8, 0x6e, 0x00, 0x01, 0x1b, 0x03, 0x0b, 0x2f, 0xb9, 0x10, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00,
            0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
        ];
        assert_eq!(unpacked(packed.to_vec()).unwrap(), b"BTF");
    }

    #[test]
    fn of_several_files_none_is_guessed() {
        let error = unpacked(archive(&[("a.btf", &blob()), ("b.btf", &blob())])).unwrap_err();
        assert!(error.to_string().contains("several files"), "{error}");
    }

    #[test]
    fn an_elf_file_without_btf_says_how_to_make_one() {
        let object = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let error = unpacked(object).unwrap_err();
        assert!(error.to_string().contains("pahole"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..600), start in 0..4_usize) {
            let start: &[u8] = [ELF, GZIP, XZ, b""][start];
            let _ = unpacked([start, &bytes].concat());
        }
    }
}
