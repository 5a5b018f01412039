//! Small BTF blobs made in tests, type by type.

use super::{Kind, TypeId};

/// Writes types in the order they are asked for; each method returns its type's id.
pub(crate) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: TypeId,
}

impl Default for Builder {
    fn default() -> Self {
        Self { types: Vec::new(), strings: vec![0], count: 0 }
    }
}

impl Builder {
    pub(crate) fn build(self) -> Vec<u8> {
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [24, 0, types, types, strings] {
            blob.extend(word.to_le_bytes());
        }
        blob.extend(self.types);
        blob.extend(self.strings);
        blob
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        offset
    }

    fn add(&mut self, kind: Kind, flag: bool, vlen: usize, name: &str, size_or_type: u32, extra: &[u32]) -> TypeId {
        let info = vlen as u32 | (kind as u32) << 24 | u32::from(flag) << 31;
        let words = [self.name(name), info, size_or_type];
        for word in words.iter().chain(extra) {
            self.types.extend(word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    pub(crate) fn int(&mut self, name: &str, size: u32) -> TypeId {
        self.int_of_bits(name, size, size * 8, 0)
    }

    pub(crate) fn int_of_bits(&mut self, name: &str, size: u32, bits: u32, shift: u32) -> TypeId {
        self.add(Kind::Int, false, 0, name, size, &[bits | shift << 16])
    }

    pub(crate) fn pointer(&mut self, to: TypeId) -> TypeId {
        self.add(Kind::Ptr, false, 0, "", to, &[])
    }

    pub(crate) fn typedef(&mut self, name: &str, of: TypeId) -> TypeId {
        self.add(Kind::Typedef, false, 0, name, of, &[])
    }

    pub(crate) fn array(&mut self, of: TypeId, count: u32) -> TypeId {
        self.add(Kind::Array, false, 0, "", 0, &[of, of, count])
    }

    /// Members as (name, type, offset in bits).
    pub(crate) fn structure(&mut self, name: &str, size: u32, members: &[(&str, TypeId, u32)]) -> TypeId {
        let extra: Vec<u32> = members.iter().flat_map(|&(name, ty, bits)| [self.name(name), ty, bits]).collect();
        self.add(Kind::Struct, false, members.len(), name, size, &extra)
    }

    /// Members as (name, type, offset in bits, bits of a bitfield or 0).
    pub(crate) fn bitfields(&mut self, name: &str, size: u32, members: &[(&str, TypeId, u32, u32)]) -> TypeId {
        let extra: Vec<u32> =
            members.iter().flat_map(|&(name, ty, at, bits)| [self.name(name), ty, at | bits << 24]).collect();
        self.add(Kind::Struct, true, members.len(), name, size, &extra)
    }

    pub(crate) fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> TypeId {
        let extra: Vec<u32> = values.iter().flat_map(|&(name, value)| [self.name(name), value]).collect();
        self.add(Kind::Enum, false, values.len(), name, 4, &extra)
    }

    pub(crate) fn enumeration_signed(&mut self, name: &str, values: &[(&str, i32)]) -> TypeId {
        let extra: Vec<u32> = values.iter().flat_map(|&(name, value)| [self.name(name), value as u32]).collect();
        self.add(Kind::Enum, true, values.len(), name, 4, &extra)
    }

    pub(crate) fn enumeration64(&mut self, name: &str, values: &[(&str, u64)]) -> TypeId {
        let extra: Vec<u32> =
            values.iter().flat_map(|&(name, value)| [self.name(name), value as u32, (value >> 32) as u32]).collect();
        self.add(Kind::Enum64, false, values.len(), name, 8, &extra)
    }

    pub(crate) fn function(&mut self, name: &str, parameters: &[(&str, TypeId)]) -> TypeId {
        let extra: Vec<u32> = parameters.iter().flat_map(|&(name, ty)| [self.name(name), ty]).collect();
        let proto = self.add(Kind::FuncProto, false, parameters.len(), "", 0, &extra);
        self.add(Kind::Func, false, 1, name, proto, &[])
    }
}
