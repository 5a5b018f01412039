//! What lies inside the types of a BTF: members of structures by path, values of enumerations, parameters of functions.

use super::{Btf, Kind, Raw, TypeId};

/// Anonymous structures within anonymous structures that are searched.
const MAX_NESTING: usize = 16;
/// Members that one search looks at before it gives up: only damaged BTF has so many.
const MAX_MEMBERS: usize = 200_000;

/// Where a member lies in its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bits from the start of the structure; bit 0 is the lowest of the first byte.
    pub bit_offset: u64,
    /// Bits of a bitfield; `None` for other members.
    pub bitfield_bits: Option<u32>,
    /// The member's type.
    pub type_id: TypeId,
}

impl Member {
    /// Bytes from the start of the structure; `None` for a bitfield, and for what no `u32` can hold.
    pub fn byte_offset(&self) -> Option<u32> {
        if self.bitfield_bits.is_some() || !self.bit_offset.is_multiple_of(8) {
            return None;
        }
        u32::try_from(self.bit_offset / 8).ok()
    }
}

/// A function's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
}

impl Function {
    /// The position, from 0, of the first parameter whose name contains each of `words`.
    pub fn position(&self, words: &[&str]) -> Option<u32> {
        let found = self.parameters.iter().position(|p| words.iter().all(|word| p.name.contains(word)))?;
        u32::try_from(found).ok()
    }
}

/// One parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in the source; empty when the BTF has none.
    pub name: String,
    /// It is a pointer.
    pub pointer: bool,
}

impl Btf {
    /// The first structure (or union) of this name that has a member at `path`, with that member.
    ///
    /// `path` names a member, or a member of a member and so on with dots; anonymous structures and unions in between
    /// are looked through, as C does.
    pub fn member_of(&self, structure: &str, path: &str) -> Option<Member> {
        self.find(Kind::Struct, structure).chain(self.find(Kind::Union, structure)).find_map(|id| self.member(id, path))
    }

    /// The member at `path` of the structure `id`; see [`Btf::member_of`].
    pub fn member(&self, id: TypeId, path: &str) -> Option<Member> {
        let mut found = Member { bit_offset: 0, bitfield_bits: None, type_id: id };
        for name in path.split('.') {
            let mut budget = MAX_MEMBERS;
            let next = self.direct_member(found.type_id, name, MAX_NESTING, &mut budget)?;
            found = Member { bit_offset: found.bit_offset + next.bit_offset, ..next };
        }
        Some(found)
    }

    fn direct_member(&self, id: TypeId, name: &str, nesting: usize, budget: &mut usize) -> Option<Member> {
        let (_, ty) = self.strip(id)?;
        if !matches!(ty.kind, Kind::Struct | Kind::Union) {
            return None;
        }
        for n in 0..ty.vlen {
            *budget = budget.checked_sub(1)?;
            let at = ty.extra + n * 12;
            let member = self.decode_member(ty, at);
            let member_name = self.string(self.word(at));
            if member_name == name.as_bytes() {
                return Some(member);
            }
            if member_name.is_empty()
                && nesting > 0
                && let Some(inner) = self.direct_member(member.type_id, name, nesting - 1, budget)
            {
                return Some(Member { bit_offset: member.bit_offset + inner.bit_offset, ..inner });
            }
        }
        None
    }

    /// `struct btf_member` at `at`, of structure `ty`.
    fn decode_member(&self, ty: Raw, at: usize) -> Member {
        let type_id = self.word(at + 4);
        let offset = self.word(at + 8);
        if ty.kind_flag {
            let bits = offset >> 24;
            let bit_offset = u64::from(offset & 0x00ff_ffff);
            return Member { bit_offset, bitfield_bits: (bits != 0).then_some(bits), type_id };
        }
        let bit_offset = u64::from(offset);
        // Before kind_flag existed, a bitfield's type was an integer of fewer bits than its size.
        if let Some((_, int)) = self.strip(type_id).filter(|(_, ty)| ty.kind == Kind::Int) {
            let encoding = self.word(int.extra);
            let (bits, shift) = (encoding & 0xff, encoding >> 16 & 0xff);
            if u64::from(bits) != u64::from(int.size_or_type) * 8 {
                return Member { bit_offset: bit_offset + u64::from(shift), bitfield_bits: Some(bits), type_id };
            }
        }
        Member { bit_offset, bitfield_bits: None, type_id }
    }

    /// The size of the first structure of this name, bytes.
    pub fn structure_size(&self, name: &str) -> Option<u64> {
        self.find(Kind::Struct, name).find_map(|id| self.size_of(id))
    }

    /// The value of an enumerator; `enumeration` may be 32 or 64 bits wide.
    pub fn enum_value(&self, enumeration: &str, name: &str) -> Option<i64> {
        let narrow = self.find(Kind::Enum, enumeration).map(|id| (id, 8));
        let wide = self.find(Kind::Enum64, enumeration).map(|id| (id, 12));
        for (id, stride) in narrow.chain(wide) {
            let ty = self.get(id)?;
            for n in 0..ty.vlen {
                let at = ty.extra + n * stride;
                if self.string(self.word(at)) != name.as_bytes() {
                    continue;
                }
                let low = self.word(at + 4);
                return Some(match (stride, ty.kind_flag) {
                    (8, true) => i64::from(low as i32),
                    (8, false) => i64::from(low),
                    _ => (u64::from(self.word(at + 8)) << 32 | u64::from(low)) as i64,
                });
            }
        }
        None
    }

    /// The signature of a function, static or not; pahole leaves out those that the compiler changed.
    pub fn function(&self, name: &str) -> Option<Function> {
        self.find(Kind::Func, name).find_map(|id| {
            let proto = self.get(self.get(id)?.size_or_type).filter(|ty| ty.kind == Kind::FuncProto)?;
            let parameters = (0..proto.vlen)
                .map(|n| {
                    let at = proto.extra + n * 8;
                    let pointer = self.strip(self.word(at + 4)).is_some_and(|(_, ty)| ty.kind == Kind::Ptr);
                    Parameter { name: self.name(self.word(at)), pointer }
                })
                .collect();
            Some(Function { parameters })
        })
    }

    /// Whether there is a type of this name made by `typedef`.
    pub fn has_typedef(&self, name: &str) -> bool {
        self.find(Kind::Typedef, name).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Builder;
    use super::*;

    #[test]
    fn members_are_found_through_anonymous_structures_and_paths() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        let inner = b.structure("", 8, &[("x", int, 0), ("y", int, 32)]);
        let named = b.structure("named", 8, &[("z", int, 32)]);
        b.structure("outer", 24, &[("first", int, 0), ("", inner, 64), ("part", named, 128)]);
        let btf = Btf::from_bytes(b.build()).unwrap();
        let offset = |path| btf.member_of("outer", path).and_then(|m| m.byte_offset());
        assert_eq!(offset("first"), Some(0));
        assert_eq!(offset("y"), Some(12));
        assert_eq!(offset("part.z"), Some(20));
        assert_eq!(offset("part.first"), None);
        assert_eq!(offset("z"), None, "a named member is not looked through");
    }

    #[test]
    fn a_bitfield_keeps_its_bit_and_has_no_byte_offset() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        b.bitfields("flags", 8, &[("a", int, 32, 1), ("b", int, 37, 2), ("whole", int, 0, 0)]);
        let btf = Btf::from_bytes(b.build()).unwrap();
        let b = btf.member_of("flags", "b").unwrap();
        assert_eq!((b.bit_offset, b.bitfield_bits, b.byte_offset()), (37, Some(2), None));
        assert_eq!(btf.member_of("flags", "whole").unwrap().byte_offset(), Some(0));
    }

    #[test]
    fn a_bitfield_without_kind_flag_is_an_integer_of_few_bits() {
        let mut b = Builder::default();
        let bit = b.int_of_bits("unsigned int", 4, 1, 3);
        b.structure("old", 4, &[("flag", bit, 8)]);
        let btf = Btf::from_bytes(b.build()).unwrap();
        let flag = btf.member_of("old", "flag").unwrap();
        assert_eq!((flag.bit_offset, flag.bitfield_bits), (11, Some(1)));
    }

    #[test]
    fn the_structure_that_has_the_member_is_taken() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        b.structure("device", 4, &[("other", int, 0)]);
        b.structure("device", 8, &[("other", int, 0), ("kobj", int, 32)]);
        let btf = Btf::from_bytes(b.build()).unwrap();
        assert_eq!(btf.member_of("device", "kobj").unwrap().byte_offset(), Some(4));
    }

    #[test]
    fn enumerators_of_both_widths_and_signs_have_their_values() {
        let mut b = Builder::default();
        b.enumeration("small", &[("A", 0), ("B", 6)]);
        b.enumeration_signed("signed", &[("MINUS", -1)]);
        b.enumeration64("big", &[("C", 1 << 40)]);
        let btf = Btf::from_bytes(b.build()).unwrap();
        assert_eq!(btf.enum_value("small", "B"), Some(6));
        assert_eq!(btf.enum_value("signed", "MINUS"), Some(-1));
        assert_eq!(btf.enum_value("big", "C"), Some(1 << 40));
        assert_eq!(btf.enum_value("small", "C"), None);
    }

    #[test]
    fn parameters_have_names_and_say_whether_they_are_pointers() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        let pointer = b.pointer(int);
        let handle = b.typedef("handle_t", pointer);
        b.function("f", &[("count", int), ("handle", handle)]);
        let btf = Btf::from_bytes(b.build()).unwrap();
        let f = btf.function("f").unwrap();
        assert_eq!(f.parameters.iter().map(|p| p.pointer).collect::<Vec<_>>(), [false, true]);
        assert_eq!(f.position(&["han"]), Some(1));
        assert_eq!(f.position(&["count", "han"]), None);
        assert_eq!(btf.function("g"), None);
    }

    #[test]
    fn a_structure_that_contains_itself_anonymously_ends() {
        let mut b = Builder::default();
        b.structure("ouroboros", 8, &[("", 1, 0), ("", 1, 0), ("", 1, 0)]);
        let btf = Btf::from_bytes(b.build()).unwrap();
        assert_eq!(btf.member_of("ouroboros", "tail"), None);
    }
}
