//! Slab caches that the programs have described: their numbers, their names, and where in an object of theirs a buffer lies.

use std::collections::HashMap;

use tracer_ebpf::{memory, record};

use bouncescope_capture::event::Memory;
use bouncescope_capture::facts::Symbol;

/// All caches described so far.
#[derive(Default)]
pub(in super::super) struct Caches {
    by_key: HashMap<u64, Described>,
    /// How many have a number, of kmalloc's and of the others.
    numbered: [u16; 2],
    /// Named since they were last taken.
    new: Vec<Symbol>,
}

struct Described {
    number: u16,
    size: u16,
    left_pad: u32,
    name: String,
}

impl Caches {
    /// A cache is described, or described again. One with objects beyond any that a buffer of the kernel's small lengths lies in has no
    /// number, and neither has one too many.
    pub(super) fn describe(&mut self, r: &record::Cache, name: String) {
        let same =
            |known: &Described| known.name == name && u32::from(known.size) == r.size && known.left_pad == r.left_pad;
        if self.by_key.get(&r.key).is_some_and(same) {
            return;
        }
        self.by_key.remove(&r.key);
        let of_kmalloc = is_of_kmalloc(&name);
        let numbers = if of_kmalloc {
            Memory::FIRST_OF_KMALLOC..=Memory::LAST_CACHE
        } else {
            Memory::FIRST_CACHE..=Memory::FIRST_OF_KMALLOC - 1
        };
        let numbered = &mut self.numbered[usize::from(of_kmalloc)];
        let number = numbers.start() + *numbered;
        let Some(size) = u16::try_from(r.size).ok().filter(|size| *size > 0 && numbers.contains(&number)) else {
            return;
        };
        *numbered += 1;
        self.new.push(Symbol { addr: number.into(), name: name.clone(), module: Symbol::SLAB_CACHE.to_owned() });
        self.by_key.insert(r.key, Described { number, size, left_pad: r.left_pad, name });
    }

    /// What the programs say that a buffer lies in, which begins so far into some page.
    pub(super) fn memory(&self, raw: u64, address: u64, page_size: u64) -> Memory {
        if raw == memory::PAGES {
            return Memory::Pages;
        }
        let Some((key, page)) = memory::slab(raw) else { return Memory::Unknown };
        let Some(Described { number, size, left_pad, .. }) = self.by_key.get(&key) else { return Memory::Unknown };
        let page_size = page_size.max(1);
        let in_slab = u64::from(page) * page_size + address % page_size;
        // SLUB puts objects one behind another, each with its red zone in front (`fixup_red_left()`, `mm/slub.c`, 5.10 to 7.3).
        match in_slab.checked_sub((*left_pad).into()) {
            Some(from_first) => Memory::object(*number, *size, (from_first % u64::from(*size)) as u16),
            None => Memory::Unknown,
        }
    }

    /// Names of the caches described since they were last taken.
    pub(in super::super) fn take_new(&mut self) -> Vec<Symbol> {
        std::mem::take(&mut self.new)
    }
}

/// Whether a cache with this name is one of kmalloc's (`create_kmalloc_caches()`, `mm/slab_common.c`): `kmalloc-64`, `kmalloc-cg-64`,
/// `dma-kmalloc-64`, `kmalloc-rnd-03-64`. Those of `kmem_buckets_create()` are named for their users: `memdup_user-64`, `msg_msg-64`.
fn is_of_kmalloc(name: &str) -> bool {
    name.contains("kmalloc-") || name.starts_with("memdup_user-") || name.starts_with("msg_msg-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    fn describe(caches: &mut Caches, key: u64, name: &str, size: u32, left_pad: u32) {
        caches.describe(&record::Cache { key, size, left_pad, ..record::Cache::zeroed() }, name.to_owned());
    }

    #[test]
    fn a_buffer_lies_in_the_object_that_its_place_in_the_slab_says() {
        let mut caches = Caches::default();
        describe(&mut caches, 0x1000, "kmalloc-96", 96, 0);
        describe(&mut caches, 0x2000, "padded", 128, 64);
        let at = |key, page, address| caches.memory(memory::in_slab(key, page), address, 4096);
        let object = |cache, size, offset| Memory::Object { cache, size, offset };
        assert_eq!(at(0x1000, 0, 0xffff_0000_0000_7000 + 96), object(2048, 96, 0));
        // The second page of the slab begins within the 43rd object.
        assert_eq!(at(0x1000, 1, 0x8000), object(2048, 96, (4096 % 96) as u16));
        assert_eq!(at(0x2000, 0, 0x9000 + 64 + 128 + 8), object(2, 128, 8));
        assert_eq!(at(0x2000, 0, 0x9000 + 8), Memory::Unknown, "in front of the first object");
        assert_eq!(at(0x3000, 0, 0x9000), Memory::Unknown, "never described");
        assert_eq!(caches.memory(memory::PAGES, 8, 4096), Memory::Pages);
        assert_eq!(caches.memory(memory::UNKNOWN, 8, 4096), Memory::Unknown);
    }

    #[test]
    fn a_cache_described_again_keeps_its_number_and_another_in_its_place_gets_one() {
        let mut caches = Caches::default();
        for name in ["one", "one", "two"] {
            describe(&mut caches, 0x1000, name, 64, 0);
        }
        let new = caches.take_new();
        assert_eq!(new.iter().map(|symbol| (symbol.addr, &*symbol.name)).collect::<Vec<_>>(), [(2, "one"), (3, "two")]);
        assert!(caches.take_new().is_empty());
        assert_eq!(
            caches.memory(memory::in_slab(0x1000, 0), 0, 4096),
            Memory::Object { cache: 3, size: 64, offset: 0 }
        );
    }

    #[test]
    fn caches_of_no_size_or_too_many_have_no_number() {
        let mut caches = Caches::default();
        for size in [0, 1 << 16] {
            describe(&mut caches, 0x1000, "odd", size, 0);
        }
        for key in 0..5000 {
            describe(&mut caches, 0x1_0000 + key, "one of many", 64, 0);
        }
        assert_eq!(caches.take_new().len(), usize::from(Memory::FIRST_OF_KMALLOC - Memory::FIRST_CACHE));
        assert_eq!(caches.memory(memory::in_slab(0x1000, 0), 0, 4096), Memory::Unknown);
        assert_eq!(caches.memory(memory::in_slab(0x1_0000 + 4999, 0), 0, 4096), Memory::Unknown);
    }
}
