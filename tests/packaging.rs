//! What `packaging/`, the metadata of packages and the workflows name, compared with the product: versions, licences, features, files, options.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn manifest() -> toml::Table {
    text("Cargo.toml").parse().unwrap()
}

/// What stands behind a key at the beginning of a line.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(key));
    found.unwrap_or_else(|| panic!("no {key}")).trim().trim_matches('"')
}

fn bouncescope(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bouncescope")).args(arguments).output().unwrap()
}

const BUILDROOT: &str = "packaging/buildroot/package/bouncescope/bouncescope.mk";
const OPENWRT: &str = "packaging/openwrt/Makefile";
const UNIT: &str = "packaging/systemd/bouncescope.service";
const FLIGHT_UNIT: &str = "packaging/systemd/bouncescope-flight.service";

fn recipe() -> PathBuf {
    let mut recipes = fs::read_dir(root().join("packaging/yocto")).unwrap().map(|entry| entry.unwrap().path());
    let recipe = recipes.next().unwrap();
    assert!(recipes.next().is_none(), "one recipe");
    recipe
}

#[test]
fn every_package_has_the_version_of_the_product() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(value(&text(BUILDROOT), "BOUNCESCOPE_VERSION ="), version);
    assert_eq!(value(&text(OPENWRT), "PKG_VERSION:="), version);
    assert_eq!(recipe().file_name().unwrap().to_str().unwrap(), format!("bouncescope_{version}.bb"));
}

#[test]
fn licences_are_named_with_their_files_and_sums() {
    for (file, key) in [(BUILDROOT, "BOUNCESCOPE_LICENSE_FILES ="), (OPENWRT, "PKG_LICENSE_FILES:=")] {
        for licence in value(&text(file), key).split_whitespace() {
            assert!(root().join(licence).is_file(), "{file}: {licence}");
        }
    }
    let recipe = fs::read_to_string(recipe()).unwrap();
    let sums: Vec<(&str, &str)> = recipe
        .lines()
        .filter_map(|line| line.trim().trim_end_matches([' ', '\\']).strip_prefix("file://")?.split_once(";md5="))
        .collect();
    assert_eq!(sums.len(), 2);
    for (file, sum) in sums {
        let output = Command::new("md5sum").arg(root().join(file)).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(sum), "{file}");
    }
    let copyright = text("packaging/deb/copyright");
    let licence = text("LICENSE-MIT");
    assert!(
        licence.lines().all(|line| copyright.contains(&format!("\n {}", if line.is_empty() { "." } else { line })))
    );
}

#[test]
fn the_features_that_are_chosen_exist() {
    let manifest = manifest();
    let known = manifest["features"].as_table().unwrap();
    let buildroot = text(BUILDROOT);
    let more = buildroot.lines().find_map(|line| line.strip_prefix("BOUNCESCOPE_FEATURES := $(BOUNCESCOPE_FEATURES),"));
    let recipe = fs::read_to_string(recipe()).unwrap();
    let openwrt = text(OPENWRT);
    let mut named =
        vec![value(&buildroot, "BOUNCESCOPE_FEATURES ="), more.unwrap(), value(&openwrt, "RUST_PKG_FEATURES:=")];
    named.extend(value(&recipe, "PACKAGECONFIG ??=").split_whitespace());
    assert_eq!(named.len(), 5);
    for feature in named {
        assert!(known.contains_key(feature), "{feature}");
    }
}

/// The arguments of `ExecStart` behind the program.
#[cfg(all(target_os = "linux", feature = "live", feature = "report"))]
fn arguments_of(unit: &str) -> Vec<String> {
    let command = value(unit, "ExecStart=");
    // What stands between quotes is one word.
    let parts = command.split('"').enumerate();
    let mut words =
        parts.flat_map(|(at, part)| if at % 2 == 1 { vec![part] } else { part.split_whitespace().collect() });
    assert_eq!(words.next(), Some("/usr/bin/bouncescope"));
    words.filter(|word| !word.starts_with('$')).map(str::to_owned).collect()
}

/// Whether the command takes these arguments. Nothing is done: help comes first.
#[cfg(all(target_os = "linux", feature = "live", feature = "report"))]
fn takes(arguments: &[String]) -> bool {
    let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    all.push("--help");
    bouncescope(&all).status.success()
}

#[test]
#[cfg(all(target_os = "linux", feature = "live", feature = "report"))]
fn the_units_command_line_is_one_that_the_product_takes() {
    let arguments = arguments_of(&text(UNIT));
    assert!(arguments.len() >= 2 && takes(&arguments), "{arguments:?}");
    assert!(!takes(&["serve".into(), "--lively".into()]), "an option that does not exist is refused");
    // The options that the README of the packages gives.
    let readme = text("packaging/README.md");
    let options = readme.split("BOUNCESCOPE_OPTIONS=").nth(1).unwrap().split('`').next().unwrap();
    let all = [arguments, options.split_whitespace().map(str::to_owned).collect()].concat();
    assert!(takes(&all), "{all:?}");
    let arguments = arguments_of(&text(FLIGHT_UNIT));
    assert!(arguments.contains(&"--on-message=swiotlb buffer is full".to_owned()), "{arguments:?}");
    let options = readme.split("BOUNCESCOPE_FLIGHT_OPTIONS=").nth(1).unwrap().split('`').next().unwrap();
    let all = [arguments, options.split_whitespace().map(str::to_owned).collect()].concat();
    assert!(takes(&all), "{all:?}");
}

/// Words of systemd that the unit must have to be what it says it is.
#[test]
fn the_units_are_hardened_and_keep_what_recording_needs() {
    for unit in [UNIT, FLIGHT_UNIT] {
        is_hardened(&text(unit));
    }
    let flight = text(FLIGHT_UNIT);
    // Whatever is closed, the kernel's messages are read from a device.
    assert!(flight.lines().any(|line| line == "DeviceAllow=/dev/kmsg r"));
    let directory = format!("/var/lib/{}/", value(&flight, "StateDirectory="));
    assert!(value(&flight, "ExecStart=").contains(&directory), "it writes where it may");
    assert_eq!(value(&flight, "CapabilityBoundingSet="), value(&text(UNIT), "CapabilityBoundingSet="));
}

fn is_hardened(unit: &str) {
    for line in [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "DynamicUser=yes",
        "MemoryDenyWriteExecute=yes",
        "RestrictNamespaces=yes",
    ] {
        assert!(unit.lines().any(|one| one == line), "{line}");
    }
    assert_eq!(value(unit, "AmbientCapabilities="), value(unit, "CapabilityBoundingSet="));
    for taken_away in ["PrivateDevices=yes", "ProtectKernelTunables=yes", "ProtectKernelLogs=yes"] {
        assert!(!unit.lines().any(|line| line == taken_away), "{taken_away} takes away what is read");
    }
    let privileges = text("docs/privileges.md");
    for capability in value(unit, "CapabilityBoundingSet=").split_whitespace() {
        assert!(privileges.contains(&format!("`{capability}`")), "{capability} is in docs/privileges.md");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn systemd_takes_the_units() {
    for unit in [UNIT, FLIGHT_UNIT] {
        systemd_takes(unit);
    }
}

#[cfg(target_os = "linux")]
fn systemd_takes(unit: &str) {
    let dir = tempfile::tempdir().unwrap();
    // The program is not installed here.
    let name = unit.rsplit('/').next().unwrap();
    let unit = text(unit).replace("/usr/bin/bouncescope", env!("CARGO_BIN_EXE_bouncescope"));
    let unit = unit.lines().filter(|line| !line.starts_with("Documentation=")).collect::<Vec<_>>().join("\n");
    let file = dir.path().join(name);
    fs::write(&file, unit).unwrap();
    let Ok(output) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output() else {
        eprintln!("not run: there is no systemd-analyze");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let about_it: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
    assert!(about_it.is_empty(), "{}", about_it.join("\n"));
}

#[test]
fn every_file_that_a_package_takes_exists_or_is_made() {
    let manifest = manifest();
    let assets = manifest["package"]["metadata"]["generate-rpm"]["assets"].as_array().unwrap();
    for asset in assets {
        let source = asset["source"].as_str().unwrap();
        let is_made = source.strip_prefix("target/packaging/").is_some_and(|made| {
            [
                "bouncescope",
                "man/*.1",
                "completions/bouncescope.bash",
                "completions/_bouncescope",
                "completions/bouncescope.fish",
            ]
            .contains(&made)
        });
        assert!(is_made || root().join(source).is_file(), "{source}");
    }
    let deb = text("xtask/src/dist/deb.rs");
    let named = deb.split('"').filter(|word| word.starts_with("packaging/") && *word != "packaging/");
    let mut count = 0;
    for file in named {
        assert!(root().join(file).is_file(), "{file}");
        count += 1;
    }
    assert_eq!(count, 4);
    let unit = [text(BUILDROOT), fs::read_to_string(recipe()).unwrap()].concat();
    assert_eq!(unit.matches("/packaging/systemd/bouncescope.service").count(), 2);
}

#[test]
fn the_hook_is_a_shell_script_that_asks_first() {
    use std::os::unix::fs::PermissionsExt as _;
    let hook = root().join("packaging/initramfs-tools/bouncescope");
    assert_eq!(fs::metadata(&hook).unwrap().permissions().mode() & 0o111, 0o111, "it can be run");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("hook-functions"), "copy_exec() { echo \"copied $*\"; }\n").unwrap();
    fs::create_dir(dir.path().join("conf.d")).unwrap();
    let functions = dir.path().join("hook-functions");
    let script = fs::read_to_string(&hook).unwrap();
    let ours = script.replace("/usr/share/initramfs-tools/hook-functions", functions.to_str().unwrap());
    assert_ne!(ours, script);
    let run = |config: Option<&str>, argument: &str| {
        let file = dir.path().join("conf.d/bouncescope");
        if let Some(config) = config {
            fs::write(file, config).unwrap();
        }
        // mkinitramfs exports the folder of the configuration, and not what is in it.
        let mut sh = Command::new("sh");
        sh.args(["-eu", "-c", &ours, "bouncescope", argument]).env("CONFDIR", dir.path()).env("BOUNCESCOPE", "y");
        let output = sh.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(None, ""), "");
    assert_eq!(run(Some("BOUNCESCOPE=n\n"), ""), "");
    assert_eq!(run(Some("BOUNCESCOPE=y\n"), ""), "copied /usr/bin/bouncescope\n");
    assert_eq!(run(None, "prereqs"), "\n", "asked for what comes before it, it does nothing");
}

/// The commands of the workflows and `.ci/run` that are this workspace's own.
#[test]
fn workflows_name_tests_and_tasks_that_exist() {
    let tasks = text("xtask/src/main.rs");
    for file in [".github/workflows/release.yml", ".github/workflows/portable.yml", ".ci/run"] {
        let text = text(file);
        for name in text.split("--test ").skip(1).filter_map(|rest| rest.split_whitespace().next()) {
            let places = ["tests", "tui/tests", "tracer/live/tests"];
            assert!(
                places.iter().any(|place| root().join(format!("{place}/{name}.rs")).is_file()),
                "{file}: --test {name}"
            );
        }
        for name in text.split("cargo xtask ").skip(1).filter_map(|rest| rest.split_whitespace().next()) {
            let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
            let variant = name.split('-').map(capital).collect::<String>();
            assert!(tasks.contains(&format!("\n    {variant}(")), "{file}: xtask {name}");
        }
    }
}

/// The text of the first block of a language in a document.
fn block<'a>(document: &'a str, language: &str) -> &'a str {
    document.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap()
}

#[test]
#[cfg(all(target_os = "linux", feature = "live"))]
fn the_labs_job_gives_command_lines_that_the_product_takes() {
    let page = text("docs/device-lab.md");
    let steps: Vec<&str> =
        block(&page, "yaml").lines().filter_map(|line| line.trim().strip_prefix("- bouncescope ")).collect();
    assert_eq!(steps.len(), 3);
    for step in steps {
        let own = step.split(" | ").next().unwrap().split(" -- ").next().unwrap();
        let arguments: Vec<String> = own.split_whitespace().map(str::to_owned).collect();
        assert!(takes(&arguments), "{step}");
    }
}

#[test]
fn the_labs_job_makes_a_test_case_of_each_judgement() {
    use std::os::unix::fs::PermissionsExt as _;
    let page = text("docs/device-lab.md");
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file);
    fs::write(path("gate.toml"), block(&page, "toml")).unwrap();
    // One capture keeps what another breaks, and of a cut one some rules cannot be told.
    let full = root().join("captures/6.12-full-hold-300.bounce");
    let roomy = fs::read(root().join("captures/7.3-direct-hold-300.bounce")).unwrap();
    fs::write(path("cut.bounce"), &roomy[..roomy.len() - 40]).unwrap();
    let gate = path("gate.toml");
    let check = |capture: &Path| {
        let arguments = ["check", gate.to_str().unwrap(), capture.to_str().unwrap(), "--ktap", "--baseline"];
        bouncescope(&[&arguments[..], &[full.to_str().unwrap()]].concat()).stdout
    };
    fs::write(path("ktap.txt"), [check(&full), check(&path("cut.bounce"))].concat()).unwrap();
    fs::write(path("lava-test-case"), "#!/bin/sh\necho \"$@\"\n").unwrap();
    fs::set_permissions(path("lava-test-case"), fs::Permissions::from_mode(0o755)).unwrap();
    let script = block(&page, "yaml").split("- |\n").nth(1).unwrap().split("\n          - ").next().unwrap();
    let output = Command::new("sh")
        .args(["-eu", "-c", script])
        .current_dir(dir.path())
        .env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let cases: Vec<&str> = said.lines().collect();
    assert_eq!(cases.len(), 8, "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(cases[0], "no-mapping-is-refused --result fail");
    assert!(cases[2].contains("xhci_hcd") && cases[2].ends_with("--result pass"), "{said}");
    assert_eq!(cases[4], "no-mapping-is-refused --result skip", "the recording has no end");
    assert!(cases.iter().all(|case| case.split(' ').count() == 3), "{said}");
}
