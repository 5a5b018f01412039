//! The machine that a kernel boots on: QEMU's command line and its device tree.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    device_tree::{XHCI_SLOT, with_cache_lines, with_restricted_pools, without_coherence},
    fetch::output,
};

/// A CPU with cache lines of 256 bytes.
pub(super) const LONG_LINES: &str = "a64fx";

/// Whether a complaint is the one that comes with lines longer than `ARCH_DMA_MINALIGN`, for each device that is not coherent
/// (`arch_setup_dma_ops()`, `arch/arm64/mm/dma-mapping.c`).
pub(super) fn warns_of_lines(lines: u32, trouble: &str) -> bool {
    lines > 128 && trouble.contains("WARNING: ") && trouble.contains("arch_setup_dma_ops")
}

/// What hangs on the PCI bus besides the share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Devices {
    /// Disks and USB, which the workloads use.
    Workloads,
    /// `pci-testdev`, which nothing but the lab's own module drives.
    Test,
}

/// What a boot needs.
#[expect(clippy::struct_excessive_bools, reason = "each is a property of the machine")]
pub(super) struct Machine<'a> {
    /// Model of the CPUs, as QEMU calls it.
    pub(super) cpu: &'a str,
    /// How many CPUs.
    pub(super) cpus: u32,
    /// USB tablets at the xHCI.
    pub(super) tablets: u32,
    /// One CPU runs at a time, and every instruction takes a nanosecond of the machine's time, whatever it takes here.
    pub(super) counts_instructions: bool,
    /// Cache lines of so many bytes in the device tree; `None` to leave it to `CTR_EL0`. For machines that are not coherent.
    pub(super) cache_line: Option<u32>,
    /// PCI devices bounce everything through a pool of their own; of two, the xHCI has one for itself. For machines that are not coherent.
    pub(super) restricted_pools: u32,
    /// Devices.
    pub(super) devices: Devices,
    /// `pci-testdev` beside them.
    pub(super) test_device: bool,
    /// PCI devices behind an `SMMUv3`.
    pub(super) smmu: bool,
    /// The machine's own device tree, in which every device is coherent; else one that says that none is.
    pub(super) coherent: bool,
    /// Kernel image.
    pub(super) image: &'a Path,
    /// Added to the kernel's command line.
    pub(super) parameters: &'a str,
    /// Initramfs.
    pub(super) initramfs: &'a Path,
    /// Directory that the guest sees as its 9p share.
    pub(super) share: &'a Path,
    /// Directory for disk images and device trees.
    pub(super) work: &'a Path,
}

/// Size of each disk, bytes; sparse.
const DISK: u64 = 64 << 20;

impl Machine<'_> {
    /// The command that boots it, with the console on standard output.
    pub(super) fn command(&self) -> Result<Command> {
        let mut command = Command::new("qemu-system-aarch64");
        self.base(&mut command, "");
        if !self.coherent {
            command.arg("-dtb").arg(self.non_coherent_tree()?);
        }
        command.arg("-kernel").arg(self.image).arg("-initrd").arg(self.initramfs).arg("-append");
        command.arg(format!("console=ttyAMA0 panic=-1 loglevel=5 {}", self.parameters).trim());
        // Everything in front of virtio's DMA API switch: the share does not map through it, so its traffic is not seen.
        let share = format!("local,id=host,security_model=none,path={}", escaped(self.share));
        command.args(["-fsdev", &share, "-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]);
        match self.devices {
            Devices::Workloads => self.workload_devices(&mut command)?,
            Devices::Test => {}
        }
        if self.test_device || self.devices == Devices::Test {
            command.args(["-device", "pci-testdev"]);
        }
        command.stdin(Stdio::null());
        Ok(command)
    }

    fn workload_devices(&self, command: &mut Command) -> Result<()> {
        for (disk, device) in
            [("nvme", "nvme,serial=lab"), ("virtio", "virtio-blk-pci,iommu_platform=on,disable-legacy=on")]
        {
            self.disk(command, disk)?;
            command.args(["-device", &format!("{device},drive={disk}")]);
        }
        let xhci_slot = if self.restricted_pools > 1 { format!(",addr={XHCI_SLOT:#x}") } else { String::new() };
        // The disk takes a port as well.
        let ports = (self.tablets + 1).max(4);
        command.args(["-device", &format!("qemu-xhci,id=xhci,p2={ports},p3={ports}{xhci_slot}")]);
        self.disk(command, "usb")?;
        command.args(["-device", "usb-storage,bus=xhci.0,drive=usb"]);
        for _ in 0..self.tablets {
            command.args(["-device", "usb-tablet,bus=xhci.0"]);
        }
        command.args(["-device", "usb-ehci,id=ehci", "-device", "usb-kbd,bus=ehci.0"]);
        Ok(())
    }

    fn base(&self, command: &mut Command, dump: &str) {
        let smmu = if self.smmu { ",iommu=smmuv3" } else { "" };
        command.arg("-machine").arg(format!("virt,gic-version=3{smmu}{dump}"));
        command.args(["-cpu", self.cpu, "-smp", &self.cpus.to_string(), "-m", "1G"]);
        if self.counts_instructions {
            command.args(["-accel", "tcg,thread=single", "-icount", "shift=0"]);
        } else {
            command.args(["-accel", "tcg,thread=multi"]);
        }
        command.args(["-nographic", "-no-reboot", "-nic", "none"]);
    }

    fn disk(&self, command: &mut Command, name: &str) -> Result<()> {
        let file = self.work.join(format!("{name}.img"));
        if !file.is_file() {
            let created = fs::File::create(&file).and_then(|file| file.set_len(DISK));
            created.with_context(|| format!("cannot create {}", file.display()))?;
        }
        // Each boot sees the disk empty, and two boots can share it.
        command.args(["-drive", &format!("if=none,id={name},format=raw,snapshot=on,file={}", escaped(&file))]);
        Ok(())
    }

    /// The machine's own tree, dumped, edited and compiled again.
    fn non_coherent_tree(&self) -> Result<PathBuf> {
        let name = if self.smmu { "smmu" } else { "direct" };
        let [dumped, source, tree] =
            ["dump.dtb", "dts", "dtb"].map(|suffix| self.work.join(format!("{name}.{suffix}")));
        if tree.is_file() {
            return Ok(tree);
        }
        let mut qemu = Command::new("qemu-system-aarch64");
        self.base(&mut qemu, &format!(",dumpdtb={}", escaped(&dumped)));
        output(&mut qemu)?;
        let text = output(Command::new("dtc").args(["-q", "-I", "dtb", "-O", "dts"]).arg(&dumped))?;
        let (mut text, removed) = without_coherence(&String::from_utf8_lossy(&text));
        ensure!(removed > 0, "QEMU's device tree has no dma-coherent property to remove");
        if let Some(line) = self.cache_line {
            let (with_caches, cpus) = with_cache_lines(&text, line);
            ensure!(cpus > 0, "QEMU's device tree has no CPU to describe caches of");
            text = with_caches;
        }
        if self.restricted_pools > 0 {
            let (with_pool, given) = with_restricted_pools(&text, self.restricted_pools);
            ensure!(given, "QEMU's device tree has no PCI host bridge to give a restricted pool to");
            text = with_pool;
        }
        fs::write(&source, text)?;
        let compiled = output(Command::new("dtc").args(["-q", "-I", "dts", "-O", "dtb"]).arg(&source))?;
        fs::write(&tree, compiled)?;
        Ok(tree)
    }
}

/// A path as a value among QEMU's comma-separated options.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A command as it can be pasted into a shell.
pub(super) fn shell_words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:+".contains(c);
        if word.chars().all(plain) { word.into_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_paths_are_doubled() {
        assert_eq!(escaped(Path::new("/a,b/c")), "/a,,b/c");
    }
}
