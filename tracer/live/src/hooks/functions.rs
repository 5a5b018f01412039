//! How programs get to the kernel's functions: whether it has kprobes, and the numbers of functions in its BTF, which fentry and fexit are
//! attached by, as aya takes them.
//!
//! aya looks a function up in a whole [`aya::Btf`]. Reading the kernel's own takes it 15 MB and as long as all that is read of the kernel
//! besides, and this crate has read those types already. So it gets the few functions that matter, each under its own number.

use aya::{Btf, BtfError, Endianness};

use super::subjects::{Place, SUBJECTS};
use crate::kernel::{
    btf::{self, Kind, TypeId},
    symbols::Symbols,
};

/// In every kernel with `CONFIG_KPROBES`.
const REGISTERS_KPROBES: &str = "register_kprobe";

/// What programs can be attached to.
pub(in super::super) struct Functions {
    /// Those that programs of fentry and fexit are for, in the order of their numbers.
    known: Vec<(&'static str, TypeId)>,
    has_btf: bool,
    /// Without them, no program for one needs to be loaded, which takes a verifier's time.
    pub(super) has_kprobes: bool,
}

impl Functions {
    /// From the types and symbols of the running kernel, if it shows them.
    pub(in super::super) fn of(btf: Option<&btf::Btf>, symbols: Option<&Symbols>) -> Self {
        let places = SUBJECTS.iter().flat_map(|subject| subject.candidates.iter().copied().flatten());
        let names = places.filter_map(|place| match place {
            Place::Traced(_, function) => Some(*function),
            _ => None,
        });
        let numbered = |name| Some((name, btf?.find(Kind::Func, name).next()?));
        let mut known: Vec<_> = names.filter_map(numbered).collect();
        known.sort_unstable_by_key(|&(_, id)| id);
        known.dedup();
        let has_kprobes = symbols.is_none_or(|symbols| symbols.exists(REGISTERS_KPROBES));
        Self { known, has_btf: btf.is_some(), has_kprobes }
    }

    /// As aya takes them.
    pub(super) fn btf(&self) -> Result<Btf, BtfError> {
        if !self.has_btf {
            // It says why.
            return Btf::from_sys_fs();
        }
        Btf::parse(&self.blob(), Endianness::Little)
    }

    /// Functions under their own numbers, and forward declarations under those in between, as BTF has them (`include/uapi/linux/btf.h`).
    fn blob(&self) -> Vec<u8> {
        let (mut types, mut strings) = (Vec::<u8>::new(), vec![0_u8]);
        let mut known = self.known.iter().peekable();
        let last = self.known.last().map_or(0, |&(_, id)| id);
        for id in 1..=last {
            let (name, kind) = match known.next_if(|&&(_, number)| number == id) {
                Some((name, _)) => {
                    let offset = strings.len() as u32;
                    strings.extend(name.bytes().chain([0]));
                    (offset, Kind::Func)
                }
                None => (0, Kind::Fwd),
            };
            for word in [name, (kind as u32) << 24, 0] {
                types.extend(word.to_le_bytes());
            }
        }
        let lengths = [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
        let header = [0x9f, 0xeb, 1, 0].into_iter().chain(lengths.into_iter().flat_map(u32::to_le_bytes));
        header.chain(types).chain(strings).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::btf::sample::Builder;

    #[test]
    fn aya_gets_each_function_under_its_number_and_no_other() {
        let mut kernel = Builder::default();
        for n in 0..100 {
            kernel.structure(&format!("thing{n}"), 8, &[]);
        }
        let free = kernel.function("kmem_cache_free_bulk", &[]);
        kernel.structure("kmem_cache", 8, &[]);
        let map = kernel.function("dma_map_sgtable", &[]);
        let kernel = btf::Btf::from_bytes(kernel.build()).unwrap();
        let functions = Functions::of(Some(&kernel), None);
        assert!(functions.btf().is_ok());
        let taken = btf::Btf::from_bytes(functions.blob()).unwrap();
        let numbers = |name| taken.find(Kind::Func, name).collect::<Vec<_>>();
        assert_eq!((numbers("kmem_cache_free_bulk"), numbers("dma_map_sgtable")), (vec![free], vec![map]));
        assert!(numbers("dma_iova_link").is_empty());
        assert_eq!(taken.type_count(), map as usize);
    }
}
