//! Real boards with the device trees that the kernel ships for them, unmodified: which devices are coherent, what their DMA reaches
//! and how it is offset is the board's own. They have no PCI and so no share; results come over the console.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// A board that QEMU knows.
#[derive(Debug)]
pub(super) struct Board {
    /// As QEMU calls it.
    pub(super) machine: &'static str,
    /// Device tree, below the kernel's own.
    pub(super) tree: &'static str,
    /// Its console, as the kernel calls it: the second serial port.
    pub(super) console: &'static str,
    /// CPUs, which the machine insists on.
    pub(super) cpus: &'static str,
    /// QEMU's options for what is plugged in; `DISK` is the disk's file.
    pub(super) devices: &'static [&'static str],
    /// Modules that are loaded beforehand.
    pub(super) modules: &'static [&'static str],
    /// Drivers that are loaded while recording, so that all that their devices map is seen.
    pub(super) drivers: &'static [&'static str],
}

/// Its USB controller sees memory at an offset of `0xc0000000` (`dma-ranges` of `/soc`).
pub(super) const RASPI3B: Board = Board {
    machine: "raspi3b",
    tree: "broadcom/bcm2837-rpi-3-b.dtb",
    console: "ttyS1,115200",
    cpus: "4",
    devices: &["-device", "usb-storage,drive=disk", "-drive", "if=none,id=disk,format=raw,snapshot=on,file=DISK"],
    modules: &["phy_generic", "sd_mod"],
    drivers: &["usb_storage", "dwc2"],
};

/// Its MMC host reads an SD card's registers into small objects.
pub(super) const IMX8MP: Board = Board {
    machine: "imx8mp-evk",
    tree: "freescale/imx8mp-evk.dtb",
    console: "ttymxc1",
    cpus: "4",
    devices: &[
        "-device",
        "sd-card,bus=sd-bus,drive=disk",
        "-drive",
        "if=none,id=disk,format=raw,snapshot=on,file=DISK",
    ],
    modules: &["mmc_block"],
    drivers: &["sdhci_esdhc_imx"],
};

/// Size of the disk or card, bytes; sparse.
const DISK: u64 = 64 << 20;

impl Board {
    /// The command that boots it, with the console on standard output.
    pub(super) fn command(&self, image: &Path, trees: &Path, initramfs: &Path, work: &Path) -> Result<Command> {
        let tree = trees.join(self.tree);
        ensure!(tree.is_file(), "the kernel's package has no {}", tree.display());
        let disk = work.join("disk.img");
        let created = fs::File::create(&disk).and_then(|file| file.set_len(DISK));
        created.with_context(|| format!("cannot create {}", disk.display()))?;
        let mut command = Command::new("qemu-system-aarch64");
        command.args(["-machine", self.machine, "-smp", self.cpus, "-m", "1G", "-accel", "tcg,thread=multi"]);
        command.args(["-display", "none", "-no-reboot", "-serial", "null", "-serial", "stdio"]);
        command.arg("-dtb").arg(tree).arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
        command.args(["-append", &format!("console={} panic=-1 loglevel=5", self.console)]);
        command.args(self.devices.iter().map(|option| option.replace("DISK", &disk.display().to_string())));
        command.stdin(Stdio::null());
        Ok(command)
    }
}

/// Where a kernel's package has its device trees.
pub(super) fn trees(modules: &Path, release: &str) -> PathBuf {
    let package = modules.parent().and_then(Path::parent).unwrap_or(modules);
    package.join(format!("linux-image-{release}"))
}

/// The files that a guest printed (`lab-guest`'s `carry`), written to `share`. How many.
pub(super) fn collect(console: &str, share: &Path) -> Result<usize> {
    let (mut files, mut current): (usize, Option<(String, usize, Vec<u8>)>) = (0, None);
    let mut finish = |file: Option<(String, usize, Vec<u8>)>| -> Result<()> {
        let Some((name, length, bytes)) = file else { return Ok(()) };
        ensure!(bytes.len() == length, "{name} came with {} of {length} bytes over the console", bytes.len());
        ensure!(!name.contains('/'), "a file called {name} came over the console");
        fs::write(share.join(&name), bytes).with_context(|| format!("cannot write {name}"))?;
        files += 1;
        Ok(())
    };
    for line in console.lines() {
        if let Some((_, named)) = line.split_once("LABFILE ") {
            finish(current.take())?;
            let (name, length) = named.trim().split_once(' ').context("a file without its length on the console")?;
            current = Some((name.to_owned(), length.parse()?, Vec::new()));
        } else if let (Some((_, hex)), Some((.., bytes))) = (line.split_once("LABHEX "), &mut current) {
            bytes.extend(decoded(hex.trim()).context("damaged bytes on the console")?);
        }
    }
    finish(current)?;
    Ok(files)
}

fn decoded(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(console: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let dir = std::env::temp_dir().join(format!("lab-board-{}-{:x}", std::process::id(), console.len()));
        fs::create_dir_all(&dir)?;
        let files = collect(console, &dir).map(|_| {
            let entries = fs::read_dir(&dir).unwrap().map(Result::unwrap);
            entries.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
        });
        fs::remove_dir_all(&dir)?;
        files
    }

    #[test]
    fn files_come_whole_and_in_between_is_ignored() {
        let console = "  1.0 LABFILE a 3\n  1.1 LABHEX 0001\n  1.2 [ 9.9] noise\n  1.3 LABHEX ff\n  1.4 LAB end\n";
        assert_eq!(collected(console).unwrap(), [("a".to_owned(), vec![0, 1, 0xff])]);
    }

    #[test]
    fn a_file_that_lacks_bytes_is_an_error() {
        assert!(collected("LABFILE a 3\nLABHEX 0001\n").is_err());
        assert!(collected("LABFILE a 1\nLABHEX 0g\n").is_err());
    }

    #[test]
    fn trees_lie_beside_the_modules() {
        let modules = Path::new("/k/usr/lib/modules/6.12.1-arm64");
        assert_eq!(trees(modules, "6.12.1-arm64"), Path::new("/k/usr/lib/linux-image-6.12.1-arm64"));
    }
}
