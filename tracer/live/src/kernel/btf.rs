//! BTF, the kernel's description of its own types: reading the blob, and finding types in it by name. What lies inside
//! a structure or behind a function is in [`members`]; which of it the tracer needs is in [`super::layout`].
//!
//! Format: `include/uapi/linux/btf.h` and `Documentation/bpf/btf.rst` of Linux. Nothing here panics, whatever the bytes.

use std::path::{Path, PathBuf};

mod file;
mod kind;
mod members;
#[cfg(test)]
pub(crate) mod sample;

pub use file::unpacked;
pub use kind::Kind;
pub use members::{Function, Member, Parameter};

/// Where a kernel built with `CONFIG_DEBUG_INFO_BTF` shows its BTF.
pub const RUNNING: &str = "/sys/kernel/btf/vmlinux";

/// Bytes of `struct btf_header` that every version has.
const HEADER_LEN: usize = 24;
/// Bytes of `struct btf_type`.
const TYPE_LEN: usize = 12;
const MAGIC: u16 = 0xeb9f;
/// Modifiers and typedefs that are followed before a chain is taken to be a loop.
const MAX_CHAIN: usize = 32;

/// Why BTF could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is not there or not readable.
    #[error("cannot read BTF from {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The bytes do not start with BTF's magic number.
    #[error("not BTF: starts with {found:#06x}, not {MAGIC:#06x}")]
    NotBtf {
        /// What is there instead.
        found: u16,
    },
    /// BTF of a big-endian kernel.
    #[error("BTF of a big-endian kernel, which is not supported")]
    BigEndian,
    /// A version of the format that did not exist when this was written.
    #[error("BTF version {0}, only version 1 is known")]
    Version(u8),
    /// The header promises more than there is.
    #[error("BTF is cut short: its {what} should end at byte {end}, but there are {len}")]
    Cut {
        /// What is cut.
        what: &'static str,
        /// Where it should end.
        end: u64,
        /// Bytes there are.
        len: usize,
    },
    /// A kind of type that did not exist when this was written: its length is unknown, so nothing behind it is readable.
    #[error("BTF type {id} is of the unknown kind {kind}")]
    UnknownKind {
        /// Type id.
        id: u32,
        /// Its kind.
        kind: u8,
    },
}

/// A type's number in its BTF; 0 is `void`.
pub type TypeId = u32;

/// `struct btf_type`, decoded.
#[derive(Clone, Copy, Debug)]
struct Raw {
    kind: Kind,
    kind_flag: bool,
    vlen: usize,
    name_off: u32,
    /// Bytes, or the type referred to, as the kind has it.
    size_or_type: u32,
    /// Where in the blob the data that the kind adds begins.
    extra: usize,
}

/// One kernel's types.
#[derive(Debug)]
pub struct Btf {
    blob: Vec<u8>,
    /// Where in the blob each type begins; type 1 first.
    starts: Vec<u32>,
    /// Hash of the name and id of each type that can be looked up by name, sorted.
    names: Vec<(u64, TypeId)>,
    strings: std::ops::Range<usize>,
}

impl Btf {
    /// The running kernel's, from [`RUNNING`].
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        Self::from_file(Path::new(RUNNING))
    }

    /// A raw BTF blob.
    pub fn from_bytes(blob: Vec<u8>) -> Result<Self, BtfError> {
        match blob.get(..2) {
            Some(&[0x9f, 0xeb]) => {}
            Some(&[0xeb, 0x9f]) => return Err(BtfError::BigEndian),
            Some(&[low, high]) => return Err(BtfError::NotBtf { found: u16::from_le_bytes([low, high]) }),
            _ => return Err(BtfError::Cut { what: "header", end: HEADER_LEN as u64, len: blob.len() }),
        }
        if blob.len() < HEADER_LEN {
            return Err(BtfError::Cut { what: "header", end: HEADER_LEN as u64, len: blob.len() });
        }
        if blob[2] != 1 {
            return Err(BtfError::Version(blob[2]));
        }
        let field = |at| u64::from(read_u32(&blob, at).unwrap_or(0));
        let section = |what, off: u64, len: u64| {
            let start = field(4) + off;
            let end = start + len;
            if end > blob.len() as u64 {
                return Err(BtfError::Cut { what, end, len: blob.len() });
            }
            Ok(start as usize..end as usize)
        };
        let types = section("type section", field(8), field(12))?;
        let strings = section("string section", field(16), field(20))?;
        let mut btf = Self { blob, starts: Vec::new(), names: Vec::new(), strings };
        btf.index(types)?;
        Ok(btf)
    }

    /// Walks the type section once and notes where each type is and what it is called.
    fn index(&mut self, types: std::ops::Range<usize>) -> Result<(), BtfError> {
        self.starts.reserve(types.len() / 24);
        self.names.reserve(types.len() / 48);
        let mut at = types.start;
        while at < types.end {
            let id = self.starts.len() as TypeId + 1;
            let cut = |end: usize| BtfError::Cut { what: "last type", end: end as u64, len: types.end };
            if at + TYPE_LEN > types.end {
                return Err(cut(at + TYPE_LEN));
            }
            let ty = self.decode(at).map_err(|kind| BtfError::UnknownKind { id, kind })?;
            let end = ty.extra + ty.kind.extra_len(ty.vlen);
            if end > types.end {
                return Err(cut(end));
            }
            self.starts.push(at as u32);
            if ty.name_off != 0
                && matches!(
                    ty.kind,
                    Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Func | Kind::Typedef
                )
            {
                self.names.push((hash(self.string(ty.name_off)), id));
            }
            at = end;
        }
        self.names.sort_unstable();
        Ok(())
    }

    /// The type whose `struct btf_type` is at `at`; its kind's number when that is unknown.
    fn decode(&self, at: usize) -> Result<Raw, u8> {
        let word = |n: usize| read_u32(&self.blob, at + 4 * n).unwrap_or(0);
        let info = word(1);
        let number = (info >> 24 & 0x1f) as u8;
        Ok(Raw {
            kind: Kind::from_number(number).ok_or(number)?,
            kind_flag: info >> 31 == 1,
            vlen: (info & 0xffff) as usize,
            name_off: word(0),
            size_or_type: word(2),
            extra: at + TYPE_LEN,
        })
    }

    fn get(&self, id: TypeId) -> Option<Raw> {
        let at = *self.starts.get((id as usize).checked_sub(1)?)?;
        self.decode(at as usize).ok()
    }

    /// A word of what a kind adds to `struct btf_type`.
    fn word(&self, at: usize) -> u32 {
        read_u32(&self.blob, at).unwrap_or(0)
    }

    /// The string at `offset` of the string section; empty when there is none.
    fn string(&self, offset: u32) -> &[u8] {
        let bytes = self.blob.get(self.strings.clone()).and_then(|s| s.get(offset as usize..)).unwrap_or_default();
        bytes.split(|&b| b == 0).next().unwrap_or_default()
    }

    fn name(&self, offset: u32) -> String {
        String::from_utf8_lossy(self.string(offset)).into_owned()
    }

    /// How many types there are, `void` not counted.
    pub fn type_count(&self) -> usize {
        self.starts.len()
    }

    /// Every type of this kind and name, in the order of their ids: several structures may share one.
    pub fn find(&self, kind: Kind, name: &str) -> impl Iterator<Item = TypeId> {
        let wanted = hash(name.as_bytes());
        let first = self.names.partition_point(|&(hash, _)| hash < wanted);
        self.names[first..].iter().take_while(move |&&(hash, _)| hash == wanted).map(|&(_, id)| id).filter(move |&id| {
            self.get(id).is_some_and(|ty| ty.kind == kind && self.string(ty.name_off) == name.as_bytes())
        })
    }

    /// Bytes that a value of this type takes; `None` for functions, forward declarations and nonsense.
    pub fn size_of(&self, id: TypeId) -> Option<u64> {
        let (mut id, mut count) = (id, 1u64);
        for _ in 0..MAX_CHAIN {
            let ty = self.get(id)?;
            match ty.kind {
                Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Float | Kind::Datasec => {
                    return count.checked_mul(u64::from(ty.size_or_type));
                }
                Kind::Ptr => return count.checked_mul(8),
                Kind::Array => {
                    count = count.checked_mul(u64::from(self.word(ty.extra + 8)))?;
                    id = self.word(ty.extra);
                }
                Kind::Fwd | Kind::Func | Kind::FuncProto => return None,
                _ => id = ty.size_or_type,
            }
        }
        None
    }

    /// The type behind typedefs, qualifiers and tags.
    fn strip(&self, id: TypeId) -> Option<(TypeId, Raw)> {
        let mut id = id;
        for _ in 0..MAX_CHAIN {
            let ty = self.get(id)?;
            match ty.kind {
                Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag => id = ty.size_or_type,
                _ => return Some((id, ty)),
            }
        }
        None
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::sample::Builder;
    use super::*;

    /// A blob with a bit of everything.
    fn blob() -> Vec<u8> {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        let pointer = b.pointer(int);
        let array = b.array(int, 6);
        b.structure("thing", 40, &[("number", int, 0), ("list", array, 32), ("link", pointer, 256)]);
        b.enumeration("colour", &[("RED", 1), ("BLUE", 5)]);
        b.function("paint", &[("what", pointer), ("how", int)]);
        b.build()
    }

    #[test]
    fn every_type_is_found_by_kind_and_name() {
        let btf = Btf::from_bytes(blob()).unwrap();
        assert_eq!(btf.find(Kind::Struct, "thing").collect::<Vec<_>>(), [4]);
        assert_eq!(btf.find(Kind::Union, "thing").count(), 0);
        assert_eq!(btf.find(Kind::Struct, "nothing").count(), 0);
        assert_eq!(btf.find(Kind::Func, "paint").count(), 1);
    }

    #[test]
    fn two_structures_of_one_name_are_both_found() {
        let mut b = Builder::default();
        let first = b.structure("device", 8, &[]);
        let second = b.structure("device", 16, &[]);
        let btf = Btf::from_bytes(b.build()).unwrap();
        assert_eq!(btf.find(Kind::Struct, "device").collect::<Vec<_>>(), [first, second]);
    }

    #[test]
    fn sizes_follow_arrays_pointers_and_typedefs() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        let array = b.array(int, 6);
        let name = b.typedef("six", array);
        let pointer = b.pointer(name);
        let function = b.function("f", &[]);
        let btf = Btf::from_bytes(b.build()).unwrap();
        assert_eq!(btf.size_of(name), Some(24));
        assert_eq!(btf.size_of(pointer), Some(8));
        assert_eq!(btf.size_of(function), None);
        assert_eq!(btf.size_of(0), None);
        assert_eq!(btf.size_of(99), None);
    }

    #[test]
    fn a_typedef_of_itself_ends() {
        let mut b = Builder::default();
        b.typedef("loop", 1);
        let btf = Btf::from_bytes(b.build()).unwrap();
        assert_eq!(btf.size_of(1), None);
        assert!(btf.strip(1).is_none());
    }

    #[test]
    fn wrong_headers_are_told_apart() {
        let with = |at: usize, byte: u8| {
            let mut bytes = blob();
            bytes[at] = byte;
            Btf::from_bytes(bytes).unwrap_err()
        };
        assert!(matches!(Btf::from_bytes(vec![0x9f]).unwrap_err(), BtfError::Cut { what: "header", .. }));
        assert!(matches!(Btf::from_bytes(vec![0x7f, b'E']).unwrap_err(), BtfError::NotBtf { found: 0x457f }));
        assert!(matches!(Btf::from_bytes(vec![0xeb, 0x9f]).unwrap_err(), BtfError::BigEndian));
        assert!(matches!(with(2, 2), BtfError::Version(2)));
        assert!(matches!(with(15, 1), BtfError::Cut { what: "type section", .. }));
        assert!(matches!(with(HEADER_LEN + 7, 31), BtfError::UnknownKind { id: 1, kind: 31 }));
    }

    proptest! {
        #[test]
        fn damaged_btf_never_panics(cut in 0usize..600, flips in prop::collection::vec((0usize..600, any::<u8>()), 0..8)) {
            let mut bytes = blob();
            bytes.truncate(cut.max(1));
            for (at, byte) in flips {
                let at = at % bytes.len();
                bytes[at] ^= byte;
            }
            use_everything(bytes);
        }

        #[test]
        fn random_types_never_panic(types in prop::collection::vec(any::<u32>(), 0..200)) {
            let mut bytes = Builder::default().build();
            let len = (types.len() * 4) as u32;
            bytes[12..16].copy_from_slice(&len.to_le_bytes());
            bytes[16..20].copy_from_slice(&0u32.to_le_bytes());
            bytes[20..24].copy_from_slice(&len.to_le_bytes());
            bytes.truncate(HEADER_LEN);
            bytes.extend(types.iter().flat_map(|w| (w & 0x9fff_00ff).to_le_bytes()));
            use_everything(bytes);
        }
    }

    /// Asks a blob everything that can be asked.
    fn use_everything(bytes: Vec<u8>) {
        let Ok(btf) = Btf::from_bytes(bytes) else { return };
        for id in 0..=btf.type_count() as TypeId + 1 {
            btf.size_of(id);
            btf.member(id, "list");
            btf.member(id, "number.list");
        }
        btf.enum_value("colour", "BLUE");
        btf.function("paint");
    }
}
