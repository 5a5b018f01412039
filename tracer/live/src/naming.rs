//! Names of call sites, those in modules included that are loaded while recording: from boot on, most are.

use std::{collections::HashSet, fs::File, io::Seek as _};

use crate::kernel::{root::Root, symbols::Symbols};
use bouncescope_capture::facts::Symbol;

const KALLSYMS: &str = "proc/kallsyms";
const MODULES: &str = "proc/modules";

/// The kernel's symbols, and the addresses that have names by now.
pub(crate) struct Naming {
    root: Root,
    symbols: Symbols,
    /// Whether it shows addresses was decided when it was opened (`kallsyms_open()` in `kernel/kallsyms.c`): a recorder that has given up its
    /// capabilities reads them from here only.
    kallsyms: Option<File>,
    /// The modules that `symbols` knows.
    modules: HashSet<String>,
    /// Addresses that are done with.
    named: HashSet<u64>,
    /// Addresses outside the kernel itself: their module may be newer than `symbols`.
    waiting: Vec<u64>,
}

impl Naming {
    pub(crate) fn new(root: &Root, symbols: Symbols) -> Self {
        Self {
            root: root.clone(),
            symbols: symbols.only_shown(),
            kallsyms: File::open(root.path(KALLSYMS)).ok(),
            modules: modules(root),
            named: HashSet::new(),
            waiting: Vec::new(),
        }
    }

    /// The names of those addresses that have none yet. Those of modules wait for [`Self::waiting`].
    pub(crate) fn name(&mut self, addresses: impl Iterator<Item = u64>) -> Vec<Symbol> {
        let mut new = Vec::new();
        for addr in addresses.filter(|addr| self.named.insert(*addr)) {
            match self.symbols.resolve(addr) {
                Some(symbol) if symbol.module.is_empty() => new.push(symbol),
                _ => self.waiting.push(addr),
            }
        }
        new
    }

    /// The names of those that wait, by the modules that there are now.
    pub(crate) fn waiting(&mut self) -> Vec<Symbol> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let modules = modules(&self.root);
        if !modules.is_subset(&self.modules)
            && let Some(symbols) = self.read_again()
        {
            self.symbols = symbols;
            self.modules = modules;
        }
        self.waiting.drain(..).filter_map(|addr| self.symbols.resolve(addr)).collect()
    }

    fn read_again(&mut self) -> Option<Symbols> {
        let kallsyms = self.kallsyms.as_mut()?;
        kallsyms.rewind().ok()?;
        let symbols = Symbols::from_lines(kallsyms).ok()?;
        symbols.check_addresses().is_ok().then(|| symbols.only_shown())
    }
}

/// The names of the modules that are loaded; none where there are none.
fn modules(root: &Root) -> HashSet<String> {
    let text = root.text(MODULES).unwrap_or_default();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::root::sample::SampleRoot;

    const KERNEL: &str = "ffff800080010200 T usb_control_msg\n";

    fn names(symbols: Vec<Symbol>) -> Vec<String> {
        symbols.into_iter().map(|symbol| symbol.name).collect()
    }

    #[test]
    fn a_module_that_is_loaded_later_gives_its_call_sites_names() {
        let root = SampleRoot::new(&[(KALLSYMS, KERNEL), (MODULES, "usbcore 1 0\n")]);
        let mut naming = Naming::new(&root.root(), Symbols::parse(KERNEL));
        let named = naming.name([0xffff_8000_8001_0204, 0xffff_8000_7a00_0008].into_iter());
        assert_eq!(names(named), ["usb_control_msg+0x4"]);
        root.write(KALLSYMS, format!("{KERNEL}ffff80007a000000 t nvme_probe\t[nvme]\n").as_bytes());
        root.write(MODULES, b"usbcore 1 0\nnvme 1 0\n");
        assert_eq!(names(naming.waiting()), ["nvme_probe+0x8"]);
        assert_eq!(names(naming.waiting()), Vec::<String>::new());
        assert_eq!(names(naming.name([0xffff_8000_7a00_0008].into_iter())), Vec::<String>::new(), "once");
    }

    #[test]
    fn a_kernel_that_hides_its_addresses_later_on_takes_no_names_away() {
        let text = format!("{KERNEL}ffff80007a000000 t usb_start\t[usbcore]\n");
        let root = SampleRoot::new(&[(KALLSYMS, &text), (MODULES, "usbcore 1 0\n")]);
        let mut naming = Naming::new(&root.root(), Symbols::parse(&text));
        naming.name([0xffff_8000_7a00_0008].into_iter());
        root.write(KALLSYMS, b"0000000000000000 T usb_control_msg\n");
        root.write(MODULES, b"usbcore 1 0\nnvme 1 0\n");
        assert_eq!(names(naming.waiting()), ["usb_start+0x8"]);
    }
}
