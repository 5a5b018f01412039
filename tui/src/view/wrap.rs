//! Long lines broken into several.

/// A line in pieces, those behind the first further in.
pub(super) fn broken(line: &str, width: usize) -> Vec<String> {
    let indent = line.len() - line.trim_start().len() + 2;
    let mut lines = Vec::new();
    let (mut before, mut rest) = (0, line);
    // A line may be longer than all that fits the screen: none of it is looked at twice.
    while width > indent + 10 && rest.chars().nth(width - before).is_some() {
        let blanks = rest.char_indices().take(width - before + 1);
        let Some((at, _)) = blanks.filter(|(at, sign)| *sign == ' ' && before + at > indent).last() else { break };
        lines.push(format!("{:before$}{}", "", &rest[..at]));
        (before, rest) = (indent, rest[at..].trim_start());
    }
    lines.push(format!("{:before$}{rest}", ""));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words_and_nothing_goes_lost() {
        let line = "  slot_map  kprobe swiotlb_tbl_map_single: attached, fired 596 times, ümlaut ümlaut";
        for width in 40..90 {
            let lines = broken(line, width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width} {lines:?}");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&lines.join(" ")), words(line), "{width}");
        }
    }
}
