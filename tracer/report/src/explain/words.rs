//! Numbers and names in a kernel message.

use bouncescope_model::pool::{SEGMENT_SLOTS, SLOT};

/// The most that a pool of any size gives in one piece, bytes.
pub(super) const LARGEST: u64 = SEGMENT_SLOTS as u64 * SLOT;

/// The device of a line, from what comes before the message: `… DRIVER DEVICE: `, as `dev_printk()` writes it.
pub(super) fn device(before: &str) -> Option<&str> {
    let name = before.trim_end().strip_suffix(':')?.split_whitespace().next_back()?;
    // A logger's own tag is no device.
    (name != "kernel" && name != "(NULL" && name != "NULL" && !name.ends_with(']')).then_some(name)
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

/// Bytes with the largest unit that leaves nothing over: `512 KiB`.
pub(super) fn amount(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

/// So many slots in bytes.
pub(super) fn slots_amount(slots: u64) -> String {
    amount(slots.saturating_mul(SLOT))
}

/// `1 slot`, `2 slots`.
pub(super) fn in_slots(slots: u64) -> String {
    if slots == 1 { "1 slot".to_owned() } else { format!("{slots} slots") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_the_last_word_before_the_message() {
        assert_eq!(device("spacemit-k1xvi c0230000.vi: "), Some("c0230000.vi"));
        assert_eq!(device("mmc0: "), Some("mmc0"));
    }

    #[test]
    fn a_line_without_a_device_has_none() {
        for before in ["", "kernel: ", "box kernel[1]: ", "words "] {
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
    fn amounts_take_the_largest_unit_that_fits() {
        assert_eq!([0, 512 << 10, 3 << 20, 4097].map(amount), ["0 bytes", "512 KiB", "3 MiB", "4097 bytes"]);
    }
}
