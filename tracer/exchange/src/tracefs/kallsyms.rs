//! `/proc/kallsyms`: names of the functions that call.

use std::fmt::Write as _;
use std::io::{self, BufRead, Read as _};

/// So many bytes of names are kept. A distribution's kernel with its modules has 10 MB.
const NAMES: usize = 64 << 20;

/// Longest line, bytes (`KSYM_NAME_LEN`, `include/linux/kallsyms.h`, is 512).
const LONGEST: u64 = 4096;

/// Functions by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Symbols {
    /// Address, and where in `names` the name begins.
    places: Vec<(u64, u32)>,
    /// `name` or `name [module]`, each with a line end.
    names: String,
}

impl Symbols {
    /// Reads lines such as `ffffffff81000000 T function [module]`. Those of other symbols than functions, and those without an address
    /// (`kptr_restrict`), are left out.
    pub(crate) fn read(&mut self, mut text: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if text.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let Ok(line) = str::from_utf8(&line) else { continue };
            let mut words = line.split_whitespace();
            let (Some(addr), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else { continue };
            let Ok(addr) = u64::from_str_radix(addr, 16) else { continue };
            // `$x` and `$d` mark code and data on arm.
            if addr == 0 || !matches!(kind, "T" | "t" | "W" | "w") || name.starts_with('$') {
                continue;
            }
            if self.names.len() + line.len() > NAMES {
                break;
            }
            self.places.push((addr, self.names.len() as u32));
            self.names.push_str(name);
            if let Some(module) = words.next() {
                self.names.push(' ');
                self.names.push_str(module);
            }
            self.names.push('\n');
        }
        self.places.sort_by_key(|(addr, _)| *addr);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Appends `function+0x10 [module]`, or the address where no function is known there.
    pub(crate) fn name(&self, addr: u64, line: &mut String) {
        let below = self.places.partition_point(|(begin, _)| *begin <= addr);
        let Some((begin, at)) = below.checked_sub(1).map(|at| self.places[at]) else {
            let _ = write!(line, "{addr:#x}");
            return;
        };
        let name = self.names[at as usize..].lines().next().unwrap_or_default();
        let (name, module) = name.split_once(' ').unwrap_or((name, ""));
        let _ = write!(line, "{name}+{:#x}", addr - begin);
        if !module.is_empty() {
            let _ = write!(line, " {module}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_the_function_that_begins_before_it() {
        let text =
            b"ffff0020 T b\nffff0010 t a\t[usb]\n0000000 T hidden\nffff0030 D data\nffff0031 t $x\nbad\n\xff\xff\n";
        let mut symbols = Symbols::default();
        symbols.read(&text[..]).unwrap();
        let name = |addr| {
            let mut line = String::new();
            symbols.name(addr, &mut line);
            line
        };
        assert_eq!([name(0xffff_0014), name(0xffff_0020), name(1)], ["a+0x4 [usb]", "b+0x0", "0x1"]);
    }
}
