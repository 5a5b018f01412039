//! What a log says of the machine, boot by boot: release, architecture, command line, memory, the pool, bus windows.

use serde::Serialize;

use super::words::hex;
use bouncescope_capture::reach::Span;
use bouncescope_model::pool::SLOT;

/// Bus windows, memory ranges and restricted pools that are kept of a boot; real machines have a handful.
const MOST: usize = 256;

/// `major.minor.patch`.
pub(super) type Release = (u32, u32, u32);

/// The architecture, where a line gives it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// arm64.
    Arm64,
    /// x86, 32 or 64 bits.
    X86,
    /// riscv.
    Riscv,
}

/// Memory as a bus sees it: a range of the CPU's addresses, and where it begins on the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BusWindow {
    /// The host bridge or bus.
    pub bus: String,
    /// Physical addresses.
    pub memory: Span,
    /// The first one's address on the bus.
    pub at: u64,
}

/// A `restricted-dma-pool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Restricted {
    /// Physical address.
    pub start: u64,
    /// Size, MiB, rounded down as the kernel prints it.
    pub mib: u64,
}

/// One boot.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(clippy::struct_excessive_bools, reason = "each is a line that was seen or not")]
pub struct Machine {
    /// `major.minor.patch`, from `Linux version`, an oops line or `uname`.
    pub release: Option<Release>,
    /// The architecture.
    pub architecture: Option<Architecture>,
    /// The command line, its pieces joined; `None` where it was not seen.
    pub command_line: Option<String>,
    /// RAM, as zones, nodes or the firmware's map list it.
    pub memory: Vec<Span>,
    /// "DMA32 empty".
    pub no_dma32: bool,
    /// The pool that was made last.
    pub pool: Option<Span>,
    /// The pool was given up after boot.
    pub pool_given_up: bool,
    /// An attempt to make the pool failed.
    pub pool_failed: bool,
    /// `area num`.
    pub areas: Option<u64>,
    /// Restricted pools.
    pub restricted: Vec<Restricted>,
    /// Bus windows.
    pub windows: Vec<BusWindow>,
    /// Version line was seen in this boot.
    #[serde(skip)]
    pub(super) has_version: bool,
    /// "Booting Linux on physical CPU" was seen in this boot.
    #[serde(skip)]
    pub(super) has_booting: bool,
    /// The ranges of memory are those of nodes.
    #[serde(skip)]
    pub(super) has_nodes: bool,
    /// Nodes of reserved memory that devices were given, with the device.
    #[serde(skip)]
    pub(super) assigned: Vec<(String, String)>,
    /// The guest's memory is encrypted, so that everything bounces.
    #[serde(skip)]
    pub(super) is_encrypted_guest: bool,
    /// The pool grows while the kernel runs: it tried to.
    #[serde(skip)]
    pub(super) pool_grows: bool,
    /// The smallest pool that could not be made, bytes.
    #[serde(skip)]
    pub(super) smallest_failed: Option<u64>,
    /// The record before was a `uname -r` that someone typed.
    #[serde(skip)]
    pub(super) after_uname: bool,
    /// The time of the last record that had one, seconds.
    #[serde(skip)]
    pub(super) last_time: Option<f64>,
}

impl Machine {
    /// Whether a record begins another boot.
    pub(super) fn ends_before(&self, text: &str, time: Option<f64>) -> bool {
        if text.starts_with("-- Boot ") || text.starts_with("-- Reboot --") {
            return true;
        }
        let version = text.starts_with("Linux version ");
        let booting = text.starts_with("Booting Linux on physical CPU");
        let went_back = matches!((self.last_time, time), (Some(last), Some(now)) if now < 1.0 && last >= now + 2.0);
        version && self.has_version || booting && (self.has_booting || self.has_version) || went_back
    }

    /// Takes note of a record that says something of the machine.
    pub(super) fn learn(&mut self, text: &str, time: Option<f64>) {
        self.last_time = time.or(self.last_time);
        if std::mem::replace(&mut self.after_uname, text.ends_with("uname -r")) && self.release.is_none() {
            self.release = release(text);
        }
        // `print_mem_encrypt_feature_info()` and `tdx_early_init()` of x86, `arm64_rsi_init()`.
        let features =
            text.contains("Memory Encryption Features active") && (text.contains("SEV") || text.contains("TDX"));
        self.is_encrypted_guest |=
            features || text.starts_with("tdx: Guest detected") || text.starts_with("RME: Using RSI version");
        if let Some(version) = text.strip_prefix("Linux version ") {
            self.has_version = true;
            self.release = release(version).or(self.release);
            self.architecture = architecture(version).or(self.architecture);
        } else if text.starts_with("Booting Linux on physical CPU") {
            self.has_booting = true;
        } else if let Some(piece) = text.strip_prefix("Kernel command line: ") {
            self.add_to_command_line(piece);
        } else if let Some(piece) = text.strip_prefix("Command line: ") {
            // x86 prints both; the later one has what the firmware and the build added.
            if self.command_line.is_none() {
                self.add_to_command_line(piece);
            }
            self.architecture.get_or_insert(Architecture::X86);
        } else if text.starts_with("Linux ") && (text.contains("GNU/Linux") || text.contains(" #")) {
            // `uname -a`: name, host, release.
            if let Some(word) = text.split_whitespace().nth(2).filter(|_| self.release.is_none()) {
                self.release = release(word);
            }
            self.architecture = self.architecture.or(architecture(text));
        } else if text.contains("Comm: ") && text.contains(" #") {
            self.learn_oops(text);
        }
        self.learn_architecture(text);
        self.learn_memory(text);
        self.learn_window(text);
        self.learn_assigned(text);
    }

    /// `CPU: 1 PID: 5 Comm: kworker/1:0 Tainted: G        W          6.6.50-android15 #1`.
    fn learn_oops(&mut self, text: &str) {
        if self.has_version {
            return;
        }
        let before = text.rsplit_once(" #").map_or("", |(before, _)| before);
        self.release = before.split_whitespace().next_back().and_then(release).or(self.release);
    }

    fn add_to_command_line(&mut self, piece: &str) {
        let piece = piece.trim().strip_suffix(" \\").unwrap_or(piece.trim());
        match &mut self.command_line {
            Some(line) if line.as_str() == piece => {}
            Some(line) if line.len() < 1 << 16 => {
                line.push(' ');
                line.push_str(piece);
            }
            Some(_) => {}
            None => self.command_line = Some(piece.to_owned()),
        }
    }

    fn learn_architecture(&mut self, text: &str) {
        if self.architecture.is_some() {
            return;
        }
        let begins = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
        self.architecture = if begins(&["BIOS-e820:", "x86/", "RIP: ", "e820: ", "DMAR: ", "AMD-Vi: "]) {
            Some(Architecture::X86)
        } else if begins(&["SBI specification", "riscv: "]) {
            Some(Architecture::Riscv)
        } else if begins(&["psci: ", "GICv3: ", "pstate: ", "alternatives: applying "]) {
            Some(Architecture::Arm64)
        } else {
            None
        };
    }

    /// `DRIVER DEVICE: assigned reserved memory node NODE` (`of_reserved_mem_device_init_by_idx()`, `drivers/of/of_reserved_mem.c`).
    fn learn_assigned(&mut self, text: &str) {
        let Some((before, node)) = text.split_once(": assigned reserved memory node ") else { return };
        let names = before.split_whitespace().next_back().zip(node.split_whitespace().next());
        if let Some((device, node)) = names.filter(|_| self.assigned.len() < MOST) {
            self.assigned.push((node.to_owned(), device.to_owned()));
        }
    }

    /// The devices whose node of reserved memory begins at this address, as its name says.
    pub(super) fn assigned_at(&self, start: u64) -> Vec<&str> {
        let begins = |node: &str| node.rsplit_once('@').and_then(|(_, address)| Some(hex(address)?.0)) == Some(start);
        self.assigned.iter().filter(|(node, _)| begins(node)).map(|(_, device)| device.as_str()).collect()
    }

    /// Zones, nodes and the firmware's map.
    fn learn_memory(&mut self, text: &str) {
        let trimmed = text.trim_start();
        if trimmed.starts_with("DMA32") && trimmed.ends_with("empty") {
            self.no_dma32 = true;
            return;
        }
        let is_map = ["DMA ", "DMA32 ", "Normal ", "node "].iter().any(|zone| trimmed.starts_with(zone))
            || trimmed.starts_with("BIOS-e820:") && trimmed.ends_with("usable");
        let Some((_, range)) = trimmed.split_once("[mem ").filter(|_| is_map) else { return };
        let Some(range) = inclusive(range).filter(|range| range.size() > 1) else { return };
        // A zone spans its holes; the ranges of nodes are RAM itself, and come after the zones.
        let is_node = trimmed.starts_with("node ");
        if is_node && !self.has_nodes {
            self.has_nodes = true;
            self.memory.clear();
        }
        if is_node == self.has_nodes && self.memory.len() < MOST && !self.memory.contains(&range) {
            self.memory.push(range);
        }
    }

    /// `brcm-pcie 1000110000.pcie:   IB MEM 0x0000000000..0x0fffffffff -> 0x1000000000`
    /// (`devm_of_pci_get_host_bridge_resources()`, `drivers/pci/of.c`).
    fn learn_window(&mut self, text: &str) {
        let Some((before, rest)) = text.split_once("IB MEM ") else { return };
        let window = || {
            let (start, rest) = hex(rest.trim_start())?;
            let (last, rest) = hex(rest.strip_prefix("..")?)?;
            let (at, _) = hex(rest.trim_start().strip_prefix("->")?.trim_start())?;
            let bus = before.trim_end().strip_suffix(':')?.split_whitespace().next_back()?.to_owned();
            Some(BusWindow { bus, memory: Span { start, end: last.checked_add(1)? }, at })
        };
        if let Some(window) = window().filter(|window| self.windows.len() < MOST && !self.windows.contains(window)) {
            self.windows.push(window);
        }
    }

    /// Whether the kernel is `major.minor` or later; `None` when the log does not say.
    pub(super) fn is_at_least(&self, major: u32, minor: u32) -> Option<bool> {
        self.release.map(|(a, b, _)| (a, b) >= (major, minor))
    }

    /// The release as people write it.
    pub(super) fn release_name(&self) -> Option<String> {
        self.release.map(|(major, minor, patch)| format!("{major}.{minor}.{patch}"))
    }

    fn words(&self, parameter: &str) -> impl Iterator<Item = &str> {
        let line = self.command_line.as_deref().unwrap_or_default();
        let prefix = format!("{parameter}=");
        // Behind " -- " the command line belongs to init.
        line.split_whitespace()
            .take_while(|word| *word != "--")
            .filter_map(move |word| word.strip_prefix(prefix.as_str()))
            .flat_map(|value| value.trim_matches('"').split(','))
    }

    /// Whether the command line has this word in this parameter; `false` where it was not seen.
    pub(super) fn asks_for(&self, parameter: &str, word: &str) -> bool {
        self.words(parameter).any(|one| one == word)
    }

    /// Slots that the command line asks for: the last `swiotlb=` with a number.
    pub(super) fn asked_slots(&self) -> Option<u64> {
        let line = self.command_line.as_deref()?;
        let values =
            line.split_whitespace().take_while(|word| *word != "--").filter_map(|word| word.strip_prefix("swiotlb="));
        values.filter_map(|value| Some(super::words::number(value.trim_matches('"'))?.0)).last()
    }

    /// The pool, unless it was given up.
    pub(super) fn present_pool(&self) -> Option<Span> {
        self.pool.filter(|_| !self.pool_given_up)
    }

    /// The restricted pool that has so many slots.
    pub(super) fn restricted_of(&self, slots: u64) -> Option<Restricted> {
        self.restricted.iter().copied().find(|pool| pool.mib == slots.saturating_mul(SLOT) >> 20)
    }

    /// No RAM below 4 GiB, as far as the log lists RAM.
    pub(super) fn is_above_4_gib(&self) -> bool {
        self.no_dma32 && !self.memory.is_empty() && self.memory.iter().all(|range| range.start >= 1 << 32)
    }
}

/// Whether a line may say something of the machine, or that another boot begins.
pub(super) fn may_matter(line: &str) -> bool {
    const WORDS: [&str; 12] = [
        "Linux version ",
        "Booting Linux",
        "-- Boot ",
        "-- Reboot",
        "ommand line: ",
        "Memory Encryption Features",
        "tdx: Guest",
        "RME: Using",
        "assigned reserved memory node",
        "IB MEM",
        "[mem 0x",
        "DMA32 ",
    ];
    WORDS.iter().any(|words| line.contains(words))
}

/// "Linux version 6.12.20-arch (…)": three numbers; the third may be missing.
pub(super) fn release(text: &str) -> Option<Release> {
    let word = text.split_whitespace().next()?;
    let mut numbers = word.split('.');
    let major = numbers.next()?.parse().ok()?;
    let digits = |part: &str| part[..part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len())].parse().ok();
    let minor = numbers.next().and_then(digits)?;
    Some((major, minor, numbers.next().and_then(digits).unwrap_or(0)))
}

fn architecture(text: &str) -> Option<Architecture> {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["aarch64", "arm64"]) {
        Some(Architecture::Arm64)
    } else if has(&["x86_64", "x86-64", "amd64", "i686", "i386"]) {
        Some(Architecture::X86)
    } else if has(&["riscv64"]) {
        Some(Architecture::Riscv)
    } else {
        None
    }
}

/// "0x0000000040000000-0x000000007fffffff]", the end inclusive.
fn inclusive(text: &str) -> Option<Span> {
    let (start, rest) = hex(text.trim_start())?;
    let (last, _) = hex(rest.trim_start().strip_prefix('-')?.trim_start())?;
    Some(Span { start, end: last.checked_add(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(log: &str) -> Machine {
        let mut machine = Machine::default();
        log.lines().for_each(|line| machine.learn(line, None));
        machine
    }

    #[test]
    fn the_release_comes_from_the_version_line_an_oops_or_uname() {
        assert_eq!(machine("Linux version 6.12.107+deb13-arm64 (x@y) (gcc)").release, Some((6, 12, 107)));
        assert_eq!(machine("Linux box 5.10.0-9-amd64 #1 SMP x86_64 GNU/Linux").release, Some((5, 10, 0)));
        let oops = "CPU: 1 PID: 5 Comm: kworker/1:0 Tainted: G        W          6.6.50-android15 #1";
        assert_eq!(machine(oops).release, Some((6, 6, 50)));
        let newer = "CPU: 3 UID: 0 PID: 92 Comm: kworker/3:1 Not tainted 6.18.10 #1";
        assert_eq!(machine(newer).release, Some((6, 18, 10)));
        assert_eq!(machine("init: Welcome to Alpine Linux version 3.20").release, None);
    }

    #[test]
    fn the_release_comes_from_an_uname_that_was_typed() {
        assert_eq!(machine("$ uname -r\n6.6.31+rpt-rpi-v8").release, Some((6, 6, 31)));
        assert_eq!(machine("see uname -a\n6.6.31+rpt-rpi-v8").release, None);
    }

    #[test]
    fn pieces_of_a_command_line_are_joined() {
        let joined =
            machine("Kernel command line: console=ttyS0 \\\nKernel command line: swiotlb=512,noforce -- swiotlb=force");
        assert!(joined.asks_for("swiotlb", "noforce"), "{joined:?}");
        assert!(!joined.asks_for("swiotlb", "force"), "{joined:?}");
    }

    #[test]
    fn the_ranges_of_nodes_replace_those_of_zones() {
        let known = machine(
            "  DMA      [mem 0x0000000040000000-0x00000000ffffffff]\n  DMA32    empty\n  node   0: [mem 0x0000000040000000-0x000000007fffffff]",
        );
        assert_eq!(known.memory, [Span { start: 0x4000_0000, end: 0x8000_0000 }]);
        assert!(known.no_dma32);
    }

    #[test]
    fn windows_of_a_host_bridge_are_known_by_its_name() {
        let known = machine("brcm-pcie 1000110000.pcie:   IB MEM 0x0000000000..0x0fffffffff -> 0x1000000000");
        let window = &known.windows[0];
        assert_eq!((window.bus.as_str(), window.memory.end, window.at), ("1000110000.pcie", 1 << 36, 1 << 36));
    }
}
