//! `report` as a user runs it, on captures of real kernels: what stands on the page, whether its figures are those of the other
//! commands, and, where a browser is at hand, whether it works in one.
#![cfg(feature = "report")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const HOLD_300: &str = "captures/6.12-full-hold-300.bounce";
const NOFORCE: &str = "captures/6.12-noforce-mixed.bounce";
const FORCE: &str = "captures/6.12-force-mixed.bounce";
const SMMU: &str = "captures/7.3-smmu-mixed.bounce";
const SECTIONS: [&str; 14] = [
    "verdict",
    "advice",
    "policies",
    "plots",
    "holders",
    "devices",
    "drivers",
    "call-sites",
    "lists",
    "hazards",
    "allocations",
    "verify",
    "kernel",
    "losses",
];

fn bouncescope(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(env!("CARGO_BIN_EXE_bouncescope")).current_dir(root).args(arguments).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = bouncescope(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The part of a page that is one section.
fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let from = page.find(&format!("<section id=\"{id}\">")).unwrap_or_else(|| panic!("no section {id}"));
    &page[from..from + page[from..].find("</section>").unwrap()]
}

#[test]
fn what_if_options_are_those_of_replay_with_the_same_words() {
    let options = ["--swiotlb", "320", "--policy", "mainline", "--cache-line-size", "128"];
    let of = |command: &[&str]| bouncescope(&[command, &[HOLD_300], &options].concat());
    let (page, replay) = (of(&["report", "--md"]), of(&["replay"]));
    assert!(page.status.success() && replay.status.success());
    let said = String::from_utf8(page.stderr).unwrap();
    assert!(said.contains("swiotlb=320 makes 512 slots"), "{said}");
    assert_eq!(said, String::from_utf8(replay.stderr).unwrap());
    assert!(String::from_utf8(page.stdout).unwrap().contains("| 128 |"), "the line size is in the table of policies");
    let unknown = bouncescope(&["report", HOLD_300, "--coherent", "gone"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no device gone in this capture"));
}

#[test]
fn a_page_says_that_a_pool_had_grown_at_its_fullest_moment() {
    let page = |pool: &str| printed(&["report", HOLD_300, "--policy", "mainline", "--swiotlb", pool, "-o", "-"]);
    let grown = page("dynamic");
    assert!(grown.contains("257 of 256, grown") && grown.contains("at the beginning: 256 slots"));
    let fixed = page("128");
    assert!(fixed.contains("256 of 256") && fixed.contains("limit: 256 slots") && !fixed.contains("grown"));
}

#[test]
fn a_page_has_every_section_and_a_link_to_each() {
    for capture in [HOLD_300, NOFORCE, FORCE, SMMU] {
        let page = printed(&["report", capture]);
        for id in SECTIONS {
            assert!(section(&page, id).contains("<h2>"), "{capture}: {id}");
            assert!(page.contains(&format!("<a href=\"#{id}\">")), "{capture}: {id}");
        }
        assert_eq!(page.matches("<section ").count(), SECTIONS.len(), "{capture}");
    }
}

#[test]
fn every_plot_is_drawn_with_values_and_words_for_who_cannot_see_it() {
    let page = printed(&["report", HOLD_300]);
    // The first stands with the verdict.
    let plots = [section(&page, "verdict"), section(&page, "plots")].concat();
    assert_eq!(plots.matches("<svg role=\"img\" tabindex=\"0\" aria-label=").count(), 7);
    for svg in plots.split("<svg ").skip(1) {
        assert!(svg.contains("<title>"), "values in {}", &svg[..80]);
        assert!(svg.contains("14 records lost"), "losses in {}", &svg[..80]);
        assert!(svg.contains("6.12.107") && svg.contains("6.12-full-hold-300.bounce"), "kernel and capture");
    }
    assert!(plots.contains("limit: 256 slots") && plots.contains("the kernel itself, peak 256"));
    assert!(plots.contains(
        "<title>512 slots (1.0 MiB): 0 mappings refused, at most 300 slots in use at the fullest moment</title>"
    ));
}

#[test]
fn healthy_failing_empty_and_cut_captures_look_different_at_a_glance() {
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read(HOLD_300).unwrap();
    let cut = dir.path().join("cut.bounce");
    fs::write(&cut, &whole[..whole.len() - 100]).unwrap();
    let verdict = |capture: &str| section(&printed(&["report", capture, "-o", "-"]), "verdict").to_owned();
    let [healthy, failing] = ["captures/default.bounce", HOLD_300].map(verdict);
    assert!(
        healthy.contains("<p class=\"answer ok\">") && healthy.contains("<dt>pool</dt><dd><b>0.2 %</b>"),
        "{healthy}"
    );
    assert!(
        failing.contains("<p class=\"answer fails doubtful\">") && failing.contains("512 slots (advised)"),
        "{failing}"
    );
    let empty = verdict("tests/coherent.bounce");
    assert!(empty.contains("answer ok") && !empty.contains("class=\"facts\""), "{empty}");
    let cut = verdict(cut.to_str().unwrap());
    assert!(cut.contains("All figures cover only what was recorded: the recording has no end"), "{cut}");
}

#[test]
fn all_but_the_verdict_is_folded() {
    let page = printed(&["report", HOLD_300, "-o", "-"]);
    assert!(!section(&page, "verdict").contains("<details>"));
    for id in &SECTIONS[1..] {
        assert!(section(&page, id).contains("<details>\n<summary><h2>"), "{id}");
    }
}

#[test]
fn a_plot_of_which_there_is_nothing_to_draw_is_named_and_left_out() {
    let page = printed(&["report", NOFORCE]);
    assert!(section(&page, "plots").contains("Nothing to draw in: Slots in use over time"));
}

#[test]
fn the_figures_are_those_of_replay_and_verify() {
    let page = printed(&["report", SMMU, "--policy", "mainline,always-small"]);
    let replayed: Value =
        serde_json::from_str(&printed(&["replay", SMMU, "--policy", "mainline,always-small", "--json"])).unwrap();
    let table = section(&page, "policies");
    for policy in replayed["policies"].as_array().unwrap() {
        let name = policy["name"].as_str().unwrap();
        let row = table.split("<tr>").find(|row| row.contains(&format!(">{name}</th>"))).unwrap();
        for figure in ["bounces", "peak_slots", "failed", "hazards_foreign", "hazards_unknown"] {
            assert!(row.contains(&format!("data-v=\"{}\"", policy[figure])), "{name} {figure}: {row}");
        }
        let seconds = policy["span_ns"].as_f64().unwrap() / 1e9;
        let copied = policy["bytes_copied"].as_f64().unwrap() / seconds;
        assert!(row.contains(&format!("data-v=\"{copied}\"")), "{name} {copied}: {row}");
    }
    let verified = printed(&["verify", SMMU]);
    let escaped =
        verified.trim_end().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;");
    assert!(section(&page, "verify").contains(&escaped), "{escaped}");
}

#[test]
fn of_two_captures_what_changed_comes_first_and_then_both() {
    let page = printed(&["report", NOFORCE, FORCE]);
    let changes = section(&page, "changes");
    assert!(changes.contains("0000:00:02.0 (nvme) now bounces: 350 buffers"), "{changes}");
    assert!(changes.contains(">pool.force</th><td>false</td><td>true</td>"), "facts that differ");
    assert!(page.find("id=\"changes\"").unwrap() < page.find("<section id=\"capture\"").unwrap());
    for id in SECTIONS {
        section(&page, id);
        section(&page, &format!("{id}-2"));
    }
    let same = printed(&["report", FORCE, FORCE]);
    assert!(section(&same, "changes").contains("The kernels&#39; facts are the same."));
    assert!(!section(&same, "changes").contains("now bounces"));
}

#[test]
fn markdown_has_the_same_words_and_tables_and_no_plots() {
    let text = printed(&["report", HOLD_300, "--md"]);
    assert!(text.starts_with("# 6.12-full-hold-300.bounce: aarch64 6.12.107"), "{text}");
    assert!(text.contains("- pool: ") && text.contains("boot with swiotlb=512"), "{text}");
    assert!(text.contains("| mainline | 64 | 8 | \\>= 256 |"), "{text}");
    assert!(!text.contains("<svg") && !text.contains("## Plots"));
}

#[test]
fn nothing_is_written_when_the_capture_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let output = bouncescope(&["report", "Cargo.toml", "-o", page.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(!page.exists());
}

/// Unfolds everything, sorts, points and presses keys as a reader would, and puts what came of it into the title.
const READER: &str = r##"<script>{
const said = [];
for (const summary of document.querySelectorAll("summary")) summary.click();
said.push([...document.querySelectorAll("details")].every(one => one.open));
const table = document.querySelector("#policies table"), heads = table.querySelectorAll("th button");
const column = n => [...table.tBodies[0].rows].map(row => Number(row.cells[n].dataset.v ?? NaN)).filter(v => !isNaN(v));
heads[3].click();
said.push(column(3).every((v, n, all) => n === 0 || all[n - 1] >= v) && heads[3].parentElement.ariaSort === "descending");
heads[3].click();
said.push(column(3).every((v, n, all) => n === 0 || all[n - 1] <= v) && heads[3].parentElement.ariaSort === "ascending");
const svg = document.querySelector("#plots svg"), tip = document.getElementById("tip");
svg.querySelector(".at").dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 200, clientY: 200 }));
said.push(!tip.hidden && tip.textContent.includes("slots"));
svg.dispatchEvent(new PointerEvent("pointerleave"));
said.push(tip.hidden);
svg.focus();
svg.dispatchEvent(new KeyboardEvent("keydown", { key: "End", bubbles: true }));
said.push(!tip.hidden && document.activeElement === svg);
said.push(document.documentElement.scrollWidth <= innerWidth);
document.title = "said " + said.join(" ");
}</script></body>"##;

#[test]
#[ignore = "needs chromium (apt-get install chromium)"]
fn in_a_browser_tables_sort_values_show_and_nothing_is_complained_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("page.html");
    for captures in [&[HOLD_300][..], &[NOFORCE, FORCE]] {
        let page = printed(&[&["report"], captures].concat());
        // Everything that a page could load from elsewhere, its own policy forbids, and the browser would complain.
        fs::write(&path, page.replace("</body>", READER)).unwrap();
        let output = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .arg(format!("file://{}", path.display()))
            .output()
            .expect("chromium is not installed");
        let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!log.contains("CONSOLE"), "{log}");
        let title = dom.split("<title>").nth(1).unwrap_or_default().split('<').next().unwrap_or_default();
        assert_eq!(title, "said true true true true true true true", "{captures:?}");
    }
}

/// A user's session in which `xdg-open` notes what it is to open; the user is nobody where the tests are root.
#[cfg(target_os = "linux")]
fn opened(environment: &[(&str, &str)], as_root: bool) -> (Output, std::path::PathBuf, tempfile::TempDir) {
    use std::os::unix::{fs::PermissionsExt as _, process::CommandExt as _};
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_bouncescope"), dir.path().join("bouncescope")).unwrap();
    fs::copy(root.join(HOLD_300), dir.path().join("a b.bounce")).unwrap();
    fs::write(dir.path().join("xdg-open"), "#!/bin/sh\nprintf '%s' \"$1\" > opened.part && mv opened.part opened\n")
        .unwrap();
    for (file, mode) in [("xdg-open", 0o755), ("bouncescope", 0o755), ("a b.bounce", 0o644)] {
        fs::set_permissions(dir.path().join(file), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new(dir.path().join("bouncescope"));
    command.current_dir(dir.path()).args(["report", "a b.bounce", "--policy", "mainline", "--open"]);
    command
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()))
        .envs(environment.iter().copied());
    if is_root() && !as_root {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    (output, dir.path().join("opened"), dir)
}

#[cfg(target_os = "linux")]
fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0
}

#[test]
#[cfg(target_os = "linux")]
fn a_page_is_written_beside_its_capture_and_opened() {
    let (output, opened, dir) = opened(&[("DISPLAY", ":9")], false);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    let page = dir.path().join("a b.html").canonicalize().unwrap();
    assert!(fs::read_to_string(&page).unwrap().contains("</html>"));
    // The launcher is not waited for.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !opened.exists() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(fs::read_to_string(opened).unwrap(), page.to_str().unwrap());
}

#[test]
fn a_page_beside_a_capture_takes_the_place_of_a_page_and_of_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["before.bounce", "after.bounce"] {
        fs::write(dir.path().join(name), include_bytes!("../captures/7.3-direct-hold-300.bounce")).unwrap();
    }
    let open = |captures: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bouncescope"));
        command.current_dir(dir.path()).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("BROWSER");
        command.args(["report", "--policy", "mainline", "--open"]).args(captures).output().unwrap()
    };
    let page = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(open(&["after.bounce"]).status.success() && open(&["after.bounce"]).status.success());
    let alone = page("after.html");
    assert!(open(&["before.bounce", "after.bounce"]).status.success());
    assert!(page("before-after.html") != alone && page("after.html") == alone);
    fs::write(dir.path().join("before.html"), "mine").unwrap();
    let refused = open(&["before.bounce"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("before.html exists, and is not a report"), "{said}");
    assert_eq!(page("before.html"), "mine");
}

#[test]
#[cfg(target_os = "linux")]
fn without_a_session_or_as_root_the_page_is_written_and_not_opened() {
    let (output, opened, dir) = opened(&[], false);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(0), 1), "{said}");
    assert!(said.starts_with("warning: not opened: there is no graphical session"), "{said}");
    assert!(said.contains("a b.html") && dir.path().join("a b.html").exists() && !opened.exists());
    if !is_root() {
        eprintln!("not run: as root it is not opened (needs root)");
        return;
    }
    let (output, opened, dir) = self::opened(&[("DISPLAY", ":9")], true);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.trim_end(), "note: bouncescope runs as root and does not start a browser; the page is a b.html");
    assert!(output.status.success() && dir.path().join("a b.html").exists() && !opened.exists());
}
