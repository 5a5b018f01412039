//! Lines of a kernel log: what comes before a message, numbers in it, and what the log's first lines say of the kernel.

/// What the log itself has told of its kernel so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Major and minor of the release, from `Linux version …`.
    pub release: Option<(u32, u32)>,
    /// The values of each `swiotlb=`, from `Kernel command line: …`; `None` where that line was not seen.
    pub swiotlb: Option<Vec<String>>,
}

impl Context {
    /// Takes note of a line that says something of the kernel.
    pub(super) fn learn(&mut self, line: &str) {
        if let Some((_, release)) = line.split_once("Linux version ") {
            let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
            if let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) {
                self.release = Some((major, minor));
            }
        } else if let Some((_, parameters)) = line.split_once("Kernel command line: ") {
            let values = parameters.split_whitespace().filter_map(|word| word.strip_prefix("swiotlb="));
            self.swiotlb = Some(values.map(str::to_owned).collect());
        }
    }

    /// Whether the kernel is `major.minor` or later; `None` when the log does not tell.
    pub(super) fn is_at_least(&self, major: u32, minor: u32) -> Option<bool> {
        self.release.map(|release| release >= (major, minor))
    }

    /// Whether a `swiotlb=` has this word; `false` where that line was not seen.
    pub(super) fn asks_for(&self, word: &str) -> bool {
        self.swiotlb.iter().flatten().any(|value| value.split(',').any(|one| one == word))
    }

    /// Where the missing pool went, as far as the log tells.
    pub(super) fn why_no_pool(&self) -> &'static str {
        match &self.swiotlb {
            Some(_) if self.asks_for("noforce") => "this kernel was booted with swiotlb=noforce",
            Some(_) => "the command line does not switch it off: the kernel made none, or could not",
            None => "booted with swiotlb=noforce, or the kernel made none, or could not",
        }
    }
}

/// The device of a line, from what comes before the message: `… DRIVER DEVICE: `, as `dev_printk()` writes it.
pub(super) fn device(before: &str) -> Option<&str> {
    let name = before.trim_end().strip_suffix(':')?.split_whitespace().next_back()?;
    // Syslog's own tag is no device.
    (name != "kernel" && !name.ends_with(']')).then_some(name)
}

/// The decimal number at the beginning of a text, and what follows it.
pub(super) fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The hexadecimal number at the beginning of a text, with or without 0x, and what follows it.
pub(super) fn hex(text: &str) -> Option<(u64, &str)> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    Some((u64::from_str_radix(&digits[..end], 16).ok()?, &digits[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_the_last_word_before_the_message() {
        assert_eq!(device("[   12.3] spacemit-k1xvi c0230000.vi: "), Some("c0230000.vi"));
        assert_eq!(device("Nov 23 12:00:01 box kernel: nvme 0000:01:00.0: "), Some("0000:01:00.0"));
        assert_eq!(device("<4>[    1.000000] mmc0: "), Some("mmc0"));
    }

    #[test]
    fn a_line_without_a_device_has_none() {
        for before in ["", "[    0.000000] ", "Nov 23 12:00:01 box kernel: ", "box kernel[1]: "] {
            assert_eq!(device(before), None, "{before:?}");
        }
    }

    #[test]
    fn numbers_end_where_their_digits_do() {
        assert_eq!(number("1048576 bytes"), Some((1_048_576, " bytes")));
        assert_eq!(hex("0x00ff+8"), Some((255, "+8")));
        assert_eq!(hex("ffffffff, bus"), Some((0xffff_ffff, ", bus")));
        for damaged in ["", "x", "99999999999999999999"] {
            assert_eq!(number(damaged), None, "{damaged}");
        }
        assert_eq!(hex("0x"), None);
    }

    #[test]
    fn the_first_lines_of_a_log_tell_release_and_pool() {
        let mut context = Context::default();
        context.learn("[    0.000000] Linux version 6.12.107+deb13-arm64 (debian-kernel@lists.debian.org) (gcc-14)");
        context.learn("[    0.000000] Kernel command line: console=ttyAMA0 swiotlb=512,noforce quiet");
        assert_eq!((context.is_at_least(6, 10), context.is_at_least(6, 13)), (Some(true), Some(false)));
        assert!(context.why_no_pool().contains("was booted with swiotlb=noforce"));
        assert_eq!(Context::default().is_at_least(6, 10), None);
    }
}
