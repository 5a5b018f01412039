//! What the machine says of itself: board, `SoC`, build, serial number, host. For labels that name no value.

use super::root::Root;

/// Firmware's description of a machine (`Documentation/devicetree/usage-model.rst`).
const TREE: &str = "proc/device-tree";
/// The same on a machine with SMBIOS (`drivers/firmware/dmi-id.c`).
const DMI: &str = "sys/class/dmi/id";

/// A label whose value the machine can be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The label's name.
    pub name: &'static str,
    /// Where its value comes from.
    pub source: &'static str,
    read: fn(&Root) -> Option<String>,
}

/// All of them.
pub const KNOWN: [Known; 5] = [
    Known { name: "board", source: "the device tree's model, or the product name of SMBIOS", read: board },
    Known { name: "soc", source: "the last name in the device tree's compatible", read: soc },
    Known {
        name: "build",
        source: "Android's ro.build.fingerprint (build.prop), BUILD_ID or IMAGE_VERSION of os-release, or the kernel's version",
        read: build,
    },
    Known {
        name: "serial",
        source: "the device tree's serial-number, androidboot.serialno, or the serial number of SMBIOS",
        read: serial,
    },
    Known { name: "host", source: "the host name", read: |root| text(root, "proc/sys/kernel/hostname") },
];

impl Known {
    /// The one of this name.
    pub fn of(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.name == name)
    }

    /// What the machine says; `None` where it says nothing.
    pub fn value(&self, root: &Root) -> Option<String> {
        (self.read)(root)
    }
}

fn board(root: &Root) -> Option<String> {
    text(root, &format!("{TREE}/model")).or_else(|| text(root, &format!("{DMI}/product_name")))
}

fn soc(root: &Root) -> Option<String> {
    // From the most to the least specific: board, then SoC.
    let compatible = root.text(&format!("{TREE}/compatible")).ok()?;
    compatible.split('\0').rfind(|name| !name.is_empty()).map(str::to_owned)
}

fn build(root: &Root) -> Option<String> {
    let property = |name| assigned(root, "system/build.prop", name);
    let release = |name| assigned(root, "etc/os-release", name).or_else(|| assigned(root, "usr/lib/os-release", name));
    // Where init makes the first at boot, no file has it.
    property("ro.build.fingerprint")
        .or_else(|| assigned(root, "vendor/build.prop", "ro.vendor.build.fingerprint"))
        .or_else(|| property("ro.system.build.fingerprint"))
        .or_else(|| release("BUILD_ID"))
        .or_else(|| release("IMAGE_VERSION"))
        .or_else(|| text(root, "proc/sys/kernel/version"))
}

fn serial(root: &Root) -> Option<String> {
    let of_android = || {
        let line = root.text("proc/cmdline").ok()?;
        let given = line.split_whitespace().find_map(|word| word.strip_prefix("androidboot.serialno="));
        given.map(str::to_owned)
    };
    text(root, &format!("{TREE}/serial-number"))
        .or_else(of_android)
        .or_else(|| assigned(root, "proc/bootconfig", "androidboot.serialno"))
        .or_else(|| text(root, &format!("{DMI}/product_serial")))
}

/// A file of one text, which a NUL may end.
fn text(root: &Root, path: &str) -> Option<String> {
    let text = root.text(path).ok()?;
    let text = text.trim_end_matches('\0').trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// What a file of lines `NAME=VALUE` says, quoted or not.
fn assigned(root: &Root, path: &str, name: &str) -> Option<String> {
    let lines = root.text(path).ok()?;
    let value = lines.lines().find_map(|line| {
        let (found, value) = line.split_once('=')?;
        (found.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    });
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{super::root::sample::SampleRoot, *};

    fn says(files: &[(&str, &str)], name: &str) -> Option<String> {
        let sample = SampleRoot::new(files);
        Known::of(name).unwrap().value(&sample.root())
    }

    #[test]
    fn a_board_is_what_its_device_tree_says() {
        let files = [
            ("proc/device-tree/model", "Radxa ROCK 5B\0"),
            ("proc/device-tree/compatible", "radxa,rock-5b\0rockchip,rk3588\0"),
            ("proc/device-tree/serial-number", "0123abcd\0"),
        ];
        assert_eq!(says(&files, "board").as_deref(), Some("Radxa ROCK 5B"));
        assert_eq!(says(&files, "soc").as_deref(), Some("rockchip,rk3588"));
        assert_eq!(says(&files, "serial").as_deref(), Some("0123abcd"));
        assert_eq!(
            says(&[("sys/class/dmi/id/product_name", "Standard PC\n")], "board").as_deref(),
            Some("Standard PC")
        );
    }

    #[test]
    fn a_phone_says_its_fingerprint_and_serial_number() {
        let files = [
            (
                "system/build.prop",
                "# begin\nro.build.id=AP4A\nro.build.fingerprint=google/shiba/shiba:16/x:user/release-keys\n",
            ),
            ("proc/bootconfig", "androidboot.hardware = \"shiba\"\nandroidboot.serialno = \"3A111\"\n"),
        ];
        assert_eq!(says(&files, "build").as_deref(), Some("google/shiba/shiba:16/x:user/release-keys"));
        assert_eq!(says(&files, "serial").as_deref(), Some("3A111"));
        assert_eq!(says(&[("proc/cmdline", "quiet androidboot.serialno=9B2 ro")], "serial").as_deref(), Some("9B2"));
    }

    #[test]
    fn elsewhere_a_build_is_the_image_or_the_kernel() {
        let version = ("proc/sys/kernel/version", "#1 SMP PREEMPT Debian 6.12.107-1\n");
        assert_eq!(
            says(&[("etc/os-release", "ID=poky\nBUILD_ID=\"20261101\"\n"), version], "build").as_deref(),
            Some("20261101")
        );
        assert_eq!(
            says(&[("etc/os-release", "ID=debian\n"), version], "build").as_deref(),
            Some("#1 SMP PREEMPT Debian 6.12.107-1")
        );
    }

    #[test]
    fn a_machine_that_says_nothing_has_no_value() {
        for known in KNOWN {
            assert_eq!(says(&[("etc/os-release", "BUILD_ID=\n")], known.name), None, "{}", known.name);
        }
    }
}
