//! Sizes as people write them.

/// `512`, `64K`, `4M`, `1G`, `2MiB`, `2 MiB` (powers of 1024) into bytes; else what is wrong.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "k" | "K" | "KiB" => 10,
        "m" | "M" | "MiB" => 20,
        "g" | "G" | "GiB" => 30,
        _ => return Err(format!("'{text}' is not a size such as 512, 64K, 4M or 2MiB")),
    };
    let number: u64 =
        digits.trim_end().parse().map_err(|_| format!("'{text}' is not a size such as 512, 64K, 4M or 2MiB"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("'{text}' is too large"))
}

/// Bytes as [`parse_bytes`] reads them, with the largest unit that leaves nothing over.
pub fn exact(bytes: u64) -> String {
    for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_the_suffixes_of_1024() {
        assert_eq!(["0", "512", "64K", "4m", "1G"].map(|s| parse_bytes(s).unwrap()), [0, 512, 65536, 4 << 20, 1 << 30]);
        assert_eq!(["9 B", "64KiB", "2 MiB", "1GiB"].map(|s| parse_bytes(s).unwrap()), [9, 65536, 2 << 20, 1 << 30]);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "K", "4X", "-1", "1.5M", "2MB", "2Mib", "B", "99999999999999999999", "18446744073709551615K"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_exactly_reads_as_the_same() {
        for bytes in [0, 1, 512, 1 << 10, 3 << 20, (1 << 30) + 1, 5 << 30] {
            assert_eq!(parse_bytes(&exact(bytes)), Ok(bytes));
        }
    }
}
