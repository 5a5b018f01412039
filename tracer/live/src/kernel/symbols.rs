//! `/proc/kallsyms`: from addresses to names, and back.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::ops::Range;

use super::root::Root;
use bouncescope_capture::facts::Symbol;

/// Why symbols cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// No `/proc/kallsyms`.
    #[error("cannot read /proc/kallsyms (CONFIG_KALLSYMS): {0}")]
    Unreadable(#[from] io::Error),
    /// Every address reads as 0.
    #[error(
        "the kernel hides its addresses: run as root or with CAP_SYSLOG, and with sysctl kernel.kptr_restrict at 0 or 1"
    )]
    Hidden,
}

/// Bytes behind a symbol's start that are still taken to be its own: functions are smaller, gaps between modules larger.
const MAX_OFFSET: u64 = 1 << 20;

/// One line of kallsyms.
#[derive(Clone, Copy, Debug)]
struct Line {
    addr: u64,
    name_start: u32,
    name_len: u16,
    /// Index into `modules`.
    module: u16,
    /// Of the names of one address the lowest rank is shown.
    rank: u8,
    is_text: bool,
}

/// The kernel's symbols.
#[derive(Debug, Default)]
pub struct Symbols {
    /// Sorted by address, then rank, then order of appearance.
    lines: Vec<Line>,
    names: String,
    /// Module 0 is the kernel itself.
    modules: Vec<String>,
    /// Of `lines`, those that are code, by index; of one address only the first.
    text: Vec<u32>,
}

impl Symbols {
    /// The running kernel's. Whether their addresses may be seen is [`Symbols::check_addresses`].
    pub fn read(root: &Root) -> Result<Self, SymbolsError> {
        Ok(Self::from_lines(File::open(root.path("proc/kallsyms"))?)?)
    }

    /// From the text of kallsyms: `address type name [module]` on each line. Other lines are passed over.
    pub fn parse(text: &str) -> Self {
        Self::from_lines(text.as_bytes()).unwrap_or_default()
    }

    /// The same, line by line: the text of a large kernel takes 15 MB.
    pub(crate) fn from_lines(text: impl Read) -> io::Result<Self> {
        let mut symbols = Self { modules: vec![String::new()], ..Self::default() };
        let mut modules = HashMap::new();
        // The kernel hands out a page at a time.
        let (mut text, mut line) = (BufReader::with_capacity(4096, text), Vec::new());
        while text.read_until(b'\n', &mut line)? > 0 {
            symbols.add(&String::from_utf8_lossy(&line), &mut modules);
            line.clear();
        }
        symbols.lines.sort_by_key(|line| (line.addr, line.rank));
        symbols.find_text();
        Ok(symbols)
    }

    fn find_text(&mut self) {
        let mut last = None;
        self.text.clear();
        for (index, line) in self.lines.iter().enumerate() {
            if line.is_text && line.addr != 0 && last != Some(line.addr) {
                last = Some(line.addr);
                self.text.push(index as u32);
            }
        }
    }

    /// Only what [`Self::resolve`] and [`Self::ranges_of`] need: of each address in the code, the name that is shown.
    pub(crate) fn only_shown(self) -> Self {
        let mut shown = Self { modules: self.modules.clone(), ..Self::default() };
        shown.lines.reserve_exact(self.text.len());
        shown.text.reserve_exact(self.text.len());
        for &index in &self.text {
            let line = &self.lines[index as usize];
            let name_start = shown.names.len() as u32;
            shown.names.push_str(self.name(line));
            shown.lines.push(Line { name_start, ..*line });
        }
        shown.names.shrink_to_fit();
        shown.find_text();
        shown
    }

    fn add(&mut self, line: &str, modules: &mut HashMap<String, u16>) -> Option<()> {
        let mut words = line.split_ascii_whitespace();
        let addr = u64::from_str_radix(words.next()?, 16).ok()?;
        let kind = words.next()?.chars().next()?;
        let name = words.next()?;
        // Mapping symbols of arm64 and riscv ($x, $d.12) and compilers' local labels name no function.
        if name.starts_with('$') || name.starts_with(".L") {
            return None;
        }
        let module = match words.next().map(|word| word.trim_matches(['[', ']'])) {
            None => 0,
            Some(module) => {
                let next = u16::try_from(self.modules.len()).ok()?;
                if let Some(known) = modules.get(module) {
                    *known
                } else {
                    self.modules.push(module.to_owned());
                    modules.insert(module.to_owned(), next);
                    next
                }
            }
        };
        // Several names of one address: the exported one says most, and what the system-call macros add least.
        let visibility = match kind {
            'T' | 'D' | 'B' | 'R' => 0,
            'W' | 'V' | 'w' | 'v' => 1,
            _ => 2,
        };
        let rank = visibility * 2 + u8::from(name.starts_with('_'));
        let name_start = u32::try_from(self.names.len()).ok()?;
        let name_len = u16::try_from(name.len()).ok()?;
        self.names.push_str(name);
        let is_text = matches!(kind, 't' | 'T' | 'w' | 'W');
        self.lines.push(Line { addr, name_start, name_len, module, rank, is_text });
        Some(())
    }

    fn name(&self, line: &Line) -> &str {
        let start = line.name_start as usize;
        self.names.get(start..start + usize::from(line.name_len)).unwrap_or_default()
    }

    /// An error when the kernel shows names without addresses; [`Symbols::exists`] works even then.
    pub fn check_addresses(&self) -> Result<(), SymbolsError> {
        if self.text.is_empty() { Err(SymbolsError::Hidden) } else { Ok(()) }
    }

    /// How many symbols there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The function that an address lies in, as `function+0xoffset`; `None` for what is not in the kernel's code.
    pub fn resolve(&self, addr: u64) -> Option<Symbol> {
        let next = self.text.partition_point(|&index| self.lines[index as usize].addr <= addr);
        let line = &self.lines[*self.text.get(next.checked_sub(1)?)? as usize];
        let offset = addr - line.addr;
        let name = self.name(line);
        // These mark ends; nothing lies behind them.
        if offset > MAX_OFFSET || matches!(name, "_etext" | "_einittext" | "__end_rodata") {
            return None;
        }
        let module = self.modules.get(usize::from(line.module)).cloned().unwrap_or_default();
        Some(Symbol { addr, name: format!("{name}+{offset:#x}"), module })
    }

    /// The address of a symbol, the kernel's own before a module's; `None` when it is hidden or not there.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        self.named(name).min_by_key(|line| line.module != 0).map(|line| line.addr).filter(|&addr| addr != 0)
    }

    /// Whether the kernel or a module has a symbol of this name, be its address hidden or not.
    pub fn exists(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// Which of these the kernel or a module has, found in one pass.
    pub fn existing<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> HashSet<&'a str> {
        let wanted: HashSet<&str> = names.into_iter().collect();
        self.lines.iter().filter_map(|line| wanted.get(self.name(line)).copied()).collect()
    }

    /// The addresses of a function and of the parts that a compiler split off it, as `function.isra.0`.
    pub fn ranges_of(&self, function: &str) -> Vec<Range<u64>> {
        let is_part = |line: &Line| {
            let rest = self.name(line).strip_prefix(function);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let starts = self.text.iter().map(|&index| &self.lines[index as usize]);
        let ends = starts.clone().skip(1).map(|line| line.addr).chain([u64::MAX]);
        let parts = starts.zip(ends).filter(|(line, _)| line.module == 0 && is_part(line));
        parts.map(|(line, end)| line.addr..end.min(line.addr + MAX_OFFSET)).collect()
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| self.name(line) == name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
0000000000000000 A fixed_percpu_data
ffff800080010000 T _text
ffff800080010000 t $x
ffff800080010000 t __pi_memcpy
ffff800080010000 W memcpy
ffff800080010100 t __kmalloc_impl
ffff800080010100 T kmalloc_noprof
ffff800080010180 t $d.7
ffff800080010200 T usb_control_msg
ffff800080020000 T _etext
ffff800080030000 d iommu_dma_ops
ffff80007a000000 t usb_start\t[usbcore]
ffff80007a000040 t iommu_dma_ops\t[weird_module]
ffff80007a000080 t bpf_prog_6deef7357e7b4530_kfree\t[bpf]
no address here
ffff800080010300 T
";

    #[test]
    fn an_address_is_in_the_function_before_it() {
        let symbols = Symbols::parse(TEXT);
        let name = |addr| symbols.resolve(addr).map(|s| s.name);
        assert_eq!(name(0xffff_8000_8001_021c).as_deref(), Some("usb_control_msg+0x1c"));
        assert_eq!(name(0xffff_8000_8001_0200).as_deref(), Some("usb_control_msg+0x0"));
        assert_eq!(name(0xffff_8000_8001_01ff).as_deref(), Some("kmalloc_noprof+0xff"), "mapping symbols do not count");
    }

    #[test]
    fn addresses_outside_code_have_no_name() {
        let symbols = Symbols::parse(TEXT);
        assert_eq!(symbols.resolve(0x1000), None);
        assert_eq!(symbols.resolve(0xffff_8000_8003_0000), None, "data behind _etext");
        assert_eq!(symbols.resolve(0xffff_8000_7b00_0000), None, "far behind a module");
        assert_eq!(symbols.resolve(u64::MAX), None);
    }

    #[test]
    fn modules_are_named_without_brackets() {
        let symbol = Symbols::parse(TEXT).resolve(0xffff_8000_7a00_0008).unwrap();
        assert_eq!((symbol.name.as_str(), symbol.module.as_str()), ("usb_start+0x8", "usbcore"));
    }

    #[test]
    fn of_several_names_the_global_one_without_underscore_is_shown() {
        let symbols = Symbols::parse(TEXT);
        assert_eq!(symbols.resolve(0xffff_8000_8001_0104).unwrap().name, "kmalloc_noprof+0x4");
    }

    #[test]
    fn the_kernels_own_symbol_comes_before_a_modules() {
        let symbols = Symbols::parse(TEXT);
        assert_eq!(symbols.address_of("iommu_dma_ops"), Some(0xffff_8000_8003_0000));
        assert_eq!(symbols.address_of("nothing"), None);
        assert!(symbols.exists("usb_start") && !symbols.exists("$x"));
    }

    #[test]
    fn a_function_ends_where_the_next_begins() {
        let symbols = Symbols::parse(
            "0000000000001000 T dma_map_sg_attrs\n0000000000001040 t dma_map_sg_attrs.part.0\n0000000000001080 T dma_map_sgtable\n",
        );
        assert_eq!(symbols.ranges_of("dma_map_sg_attrs"), [0x1000..0x1040, 0x1040..0x1080]);
        assert_eq!(symbols.ranges_of("dma_map_sg"), []);
    }

    #[test]
    fn hidden_addresses_are_told_and_names_still_exist() {
        let symbols = Symbols::parse("0000000000000000 T kfree\n0000000000000000 d iommu_dma_ops\n");
        assert!(matches!(symbols.check_addresses(), Err(SymbolsError::Hidden)));
        assert!(symbols.exists("kfree"));
        assert_eq!(symbols.address_of("iommu_dma_ops"), None);
        assert_eq!(symbols.resolve(0x10), None);
        assert!(Symbols::parse(TEXT).check_addresses().is_ok());
    }

    #[test]
    fn what_is_kept_for_names_resolves_every_address_as_before() {
        let all = Symbols::parse(TEXT);
        let shown = Symbols::parse(TEXT).only_shown();
        assert!(shown.len() < all.len());
        for addr in all.lines.iter().flat_map(|line| [line.addr.wrapping_sub(1), line.addr, line.addr + 4]) {
            assert_eq!(shown.resolve(addr), all.resolve(addr), "{addr:#x}");
        }
        assert_eq!(shown.ranges_of("kmalloc_noprof"), all.ranges_of("kmalloc_noprof"));
    }

    proptest! {
        #[test]
        fn any_text_parses(text in "([0-9a-f]{0,18}[ \\[\\]tT$xé\n]{0,6}){0,40}", addr: u64) {
            let symbols = Symbols::parse(&text);
            symbols.resolve(addr);
            symbols.address_of("t");
        }
    }
}
