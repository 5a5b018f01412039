//! `bouncescope explain`: messages and what they mean.

use crate::doctor::reach;
use crate::explain::{Explained, Explanation};
use crate::wrap::wrapped;

/// For people.
pub fn text(explained: &Explained) -> String {
    let several = explained.boots.len() > 1;
    let mut text = String::new();
    for one in &explained.explanations {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &head(one, several.then(|| boot(explained, one)));
        for sentence in &one.means {
            text += &wrapped(sentence, "  ", "  ");
        }
        for sentence in &one.helps {
            text += &wrapped(sentence, "  -> ", "     ");
        }
        for sentence in &one.unknown {
            text += &wrapped(&format!("Not known: {sentence}"), "  ? ", "    ");
        }
    }
    for one in &explained.reach {
        let boot = if several { format!(", boot {}", one.boot) } else { String::new() };
        text += &format!("\nwhat devices reach, as far as this log says{boot}\n{}", reach::text(&one.reach, &[]));
    }
    if explained.left_out > 0 {
        text += &format!("\n{} more lines with other figures were left out.\n", explained.left_out);
    }
    text
}

fn head(one: &Explanation, boot: Option<String>) -> String {
    let device = one.device.as_ref().filter(|device| !one.message.contains(device.as_str()));
    let device = device.map_or_else(String::new, |device| format!("{device}: "));
    let boot = boot.map_or_else(String::new, |boot| format!(", {boot}"));
    let times = match (one.times, one.suppressed) {
        (0 | 1, _) => String::new(),
        (times, 0) => format!(", {times} times"),
        (times, suppressed) => format!(", at least {times} times ({suppressed} of them suppressed)"),
    };
    format!("line {}{boot}{times}: {device}{}\n", one.line, one.message)
}

fn boot(explained: &Explained, one: &Explanation) -> String {
    let machine = one.boot.checked_sub(1).and_then(|index| explained.boots.get(index));
    let release =
        machine.and_then(|machine| machine.release).map(|(major, minor, patch)| format!(" of {major}.{minor}.{patch}"));
    format!("boot {}{}", one.boot, release.unwrap_or_default())
}

/// What was found in a log of which nothing could be explained, and what was looked for.
pub fn nothing(explained: &Explained) -> String {
    let mut text = format!(
        "no message about bouncing in it: {} lines, {} of them with a time or priority as the kernel's have",
        explained.records, explained.kernel_records
    );
    let releases: Vec<String> = explained
        .boots
        .iter()
        .filter_map(|machine| machine.release)
        .map(|(major, minor, patch)| format!("{major}.{minor}.{patch}"))
        .collect();
    if !releases.is_empty() {
        text += &format!(", of Linux {}", releases.join(", "));
    }
    text += ".\n";
    text += &unread(explained);
    text += &wrapped(
        "Looked for: \"swiotlb buffer is full\", \"DMA addr … overflow\", \"software IO TLB: …\", \"DMA-API: …\", restricted and atomic pools, vmalloc and stack \
         memory, IOMMUs, oopses in swiotlb functions (docs/explain.md lists all). Give the message itself, or all of dmesg.",
        "  ",
        "  ",
    );
    text
}

/// Lines about bouncing that are none of those known.
pub fn unread(explained: &Explained) -> String {
    if explained.unread_times == 0 {
        return String::new();
    }
    let mut text = wrapped(
        &format!("Not understood, though about bouncing or the DMA API ({} lines):", explained.unread_times),
        "  ",
        "  ",
    );
    for line in &explained.unread {
        text += &format!("  line {}: {}\n", line.line, line.text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::explain;
    use crate::machine::Document as _;

    const FULL: &str = "swiotlb buffer is full (sz: 65536 bytes), total 512 (slots), used 498 (slots)";

    #[test]
    fn a_message_is_followed_by_meaning_and_remedy() {
        let text = text(&explain(&format!("x\nmmc0: {FULL}\n").repeat(2)));
        assert!(text.starts_with("line 2, 2 times: mmc0: swiotlb buffer is full"), "{text}");
        assert!(text.contains("\n  -> Make the pool larger: swiotlb=1024"), "{text}");
        assert!(text.lines().skip(1).all(|line| line.chars().count() <= 100 && line.starts_with("  ")), "{text}");
    }

    #[test]
    fn several_boots_are_told_apart_by_number_and_release() {
        let boot = |release| format!("Linux version {release} (x)\nmmc0: {FULL}\n");
        let text = text(&explain(&(boot("5.15.1") + &boot("6.12.2"))));
        assert!(
            text.contains("line 2, boot 1 of 5.15.1: mmc0") && text.contains("line 4, boot 2 of 6.12.2: mmc0"),
            "{text}"
        );
    }

    #[test]
    fn programs_get_the_kind_by_name() {
        let json = explain("x y: Unsupported alignment constraint").to_json();
        assert_eq!(json["explanations"][0]["kind"], "iommu_granule");
    }

    #[test]
    fn of_a_log_without_messages_what_was_found_is_said() {
        let said = nothing(&explain("[    0.000000] Linux version 6.1.2 (x)\n[    1.0] software IO TLB: news\n"));
        assert!(said.contains("2 lines, 2 of them with a time") && said.contains("Linux 6.1.2"), "{said}");
        assert!(said.contains("line 2: software IO TLB: news"), "{said}");
    }
}
