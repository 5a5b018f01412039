//! Whether a program needs a dynamic loader.

use object::{
    elf::PT_INTERP,
    read::elf::{ElfFile64, ProgramHeader as _},
};

/// A 64-bit little-endian ELF program without `PT_INTERP`.
pub(super) fn is_static(bytes: &[u8]) -> bool {
    let Ok(program) = ElfFile64::<object::LittleEndian>::parse(bytes) else { return false };
    program.elf_program_headers().iter().all(|header| header.p_type(program.endian()) != PT_INTERP)
}

#[cfg(test)]
mod tests {
    use object::write::elf::{FileHeader, ProgramHeader, Writer};

    use super::*;

    fn program(types: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(object::Endianness::Little, true, &mut bytes);
        writer.reserve_file_header();
        writer.reserve_program_headers(types.len() as u32);
        let header = FileHeader {
            os_abi: object::elf::ELFOSABI_NONE,
            abi_version: 0,
            e_type: object::elf::ET_EXEC,
            e_machine: object::elf::EM_AARCH64,
            e_entry: 0,
            e_flags: 0,
        };
        writer.write_file_header(&header).unwrap();
        for &p_type in types {
            let header = ProgramHeader {
                p_type,
                p_flags: 0,
                p_offset: 0,
                p_vaddr: 0,
                p_paddr: 0,
                p_filesz: 0,
                p_memsz: 0,
                p_align: 0,
            };
            writer.write_program_header(&header);
        }
        bytes
    }

    #[test]
    fn an_interpreter_makes_a_program_dynamic() {
        assert!(is_static(&program(&[object::elf::PT_LOAD, object::elf::PT_PHDR])));
        assert!(!is_static(&program(&[object::elf::PT_LOAD, PT_INTERP])));
    }

    #[test]
    fn what_is_no_program_or_cut_is_not_static() {
        assert!(!is_static(b"#!/bin/sh\n"));
        let whole = program(&[object::elf::PT_LOAD]);
        assert!(!is_static(&whole[..whole.len() - 1]));
    }
}
