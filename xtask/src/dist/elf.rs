//! Whether a program needs a dynamic loader.

/// `PT_INTERP`.
const INTERPRETER: u32 = 3;
/// `sizeof(Elf64_Ehdr)` and `sizeof(Elf64_Phdr)`.
const HEADERS: (usize, usize) = (64, 56);

/// A 64-bit little-endian ELF program without `PT_INTERP`.
pub(super) fn is_static(bytes: &[u8]) -> bool {
    needs_loader(bytes) == Some(false)
}

/// `None` for what is no such program.
fn needs_loader(bytes: &[u8]) -> Option<bool> {
    let header = bytes.get(..HEADERS.0)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let start = usize::try_from(u64::from_le_bytes(header[32..40].try_into().ok()?)).ok()?;
    let count = usize::from(u16::from_le_bytes(header[56..58].try_into().ok()?));
    let headers = bytes.get(start..start.checked_add(count * HEADERS.1)?)?;
    Some(headers.chunks_exact(HEADERS.1).any(|header| header[..4] == INTERPRETER.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(types: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; HEADERS.0];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = HEADERS.0 as u8;
        bytes[56] = types.len() as u8;
        for kind in types {
            bytes.extend(kind.to_le_bytes());
            bytes.resize(bytes.len() + HEADERS.1 - 4, 0);
        }
        bytes
    }

    #[test]
    fn an_interpreter_makes_a_program_dynamic() {
        assert!(is_static(&program(&[1, 1, 4])));
        assert!(!is_static(&program(&[1, INTERPRETER, 4])));
    }

    #[test]
    fn what_is_no_program_or_cut_is_not_static() {
        assert!(!is_static(b"#!/bin/sh\n"));
        let whole = program(&[1]);
        assert!(!is_static(&whole[..whole.len() - 1]));
    }
}
