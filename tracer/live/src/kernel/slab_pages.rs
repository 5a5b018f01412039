//! How a page says whose slab it is, by a kernel's BTF: as flag or as type of the page, in `struct page` or in the `struct slab`
//! that lies over it.

use tracer_ebpf::config::SlabLayout;

use super::btf::Btf;

/// Where the programs find the slab cache of a page; [`SlabLayout::NONE`] when this kernel's BTF does not tell all of it.
///
/// `struct slab` lies over `struct page` from 5.17 on (`mm/slab.h`). A page says in `flags` that it is a slab's (`PG_slab`), from 6.10
/// on by its `page_type` with that type's bit cleared, from 6.12 on by the highest byte of it (`include/linux/page-flags.h`).
pub fn layout(btf: &Btf) -> SlabLayout {
    all(btf).unwrap_or(SlabLayout::NONE)
}

fn all(btf: &Btf) -> Option<SlabLayout> {
    let offset = |structure: &str, path: &str| btf.member_of(structure, path)?.byte_offset();
    let cache = offset("slab", "slab_cache").or_else(|| offset("page", "slab_cache"))?;
    let compound = offset("page", "compound_head").or_else(|| offset("page", "compound_info"))?;
    let (mark, mark_mask, mark_value) = mark(btf)?;
    Some(SlabLayout {
        cache,
        compound,
        mark,
        mark_mask,
        mark_value,
        name: offset("kmem_cache", "name")?,
        size: offset("kmem_cache", "size")?,
        left_pad: offset("kmem_cache", "red_left_pad")?,
    })
}

/// Where a page says that it is a slab's, which bits there do, and what they are then.
fn mark(btf: &Btf) -> Option<(u32, u32, u32)> {
    /// What is never cleared in `page_type` while there is a type (`PAGE_TYPE_BASE`, 6.10 and 6.11).
    const BASE: u32 = 0xf000_0000;
    let value = |enumeration: &str, name: &str| u32::try_from(btf.enum_value(enumeration, name)?).ok();
    let page_type = || btf.member_of("page", "page_type")?.byte_offset();
    if let Some(kind) = value("pagetype", "PGTY_slab") {
        return Some((page_type()?, 0xff << 24, kind << 24));
    }
    if let Some(bit) = value("pagetype", "PG_slab") {
        return Some((page_type()?, BASE | bit, BASE));
    }
    let bit = value("pageflags", "PG_slab").filter(|bit| *bit < 32)?;
    Some((btf.member_of("page", "flags")?.byte_offset()?, 1 << bit, 1 << bit))
}

#[cfg(test)]
mod tests {
    use super::super::btf::sample::Builder;
    use super::*;

    /// A kernel whose `struct page` has these members (name, bit), with these types besides.
    fn kernel(members: &[(&str, u32)], more: impl FnOnce(&mut Builder, u32)) -> SlabLayout {
        let mut b = Builder::default();
        let long = b.int("unsigned long", 8);
        let members: Vec<_> = members.iter().map(|&(name, bit)| (name, long, bit)).collect();
        b.structure("page", 64, &members);
        more(&mut b, long);
        b.structure("kmem_cache", 344, &[("size", long, 192), ("red_left_pad", long, 704), ("name", long, 768)]);
        layout(&Btf::from_bytes(b.build()).unwrap())
    }

    #[test]
    fn before_5_17_a_page_has_a_flag_and_the_cache_itself() {
        let members = [("flags", 0), ("compound_head", 64), ("slab_cache", 192), ("page_type", 384)];
        let found = kernel(&members, |b, _| {
            b.enumeration("pageflags", &[("PG_locked", 0), ("PG_slab", 9)]);
        });
        let expected = SlabLayout {
            cache: 24,
            compound: 8,
            mark: 0,
            mark_mask: 1 << 9,
            mark_value: 1 << 9,
            name: 96,
            size: 24,
            left_pad: 88,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_type_of_page_is_a_bit_cleared_and_later_a_byte() {
        let members = |compound| [("flags", 0), (compound, 64), ("page_type", 384)];
        let with = |compound, kind: (&str, u32)| {
            kernel(&members(compound), |b, long| {
                b.structure("slab", 64, &[("slab_cache", long, 64)]);
                b.enumeration("pagetype", &[("PGTY_buddy", 0xf0), kind]);
            })
        };
        let bit = with("compound_head", ("PG_slab", 0x1000));
        assert_eq!((bit.mark, bit.mark_mask, bit.mark_value), (48, 0xf000_1000, 0xf000_0000));
        let byte = with("compound_info", ("PGTY_slab", 0xf5));
        assert_eq!((byte.mark, byte.mark_mask, byte.mark_value), (48, 0xff00_0000, 0xf500_0000));
        assert_eq!((byte.cache, byte.compound), (8, 8));
    }

    #[test]
    fn where_something_is_missing_nothing_is_looked_up() {
        let members = [("flags", 0), ("slab_cache", 192)];
        let found = kernel(&members, |b, _| {
            b.enumeration("pageflags", &[("PG_slab", 9)]);
        });
        assert_eq!(found, SlabLayout::NONE);
    }
}
