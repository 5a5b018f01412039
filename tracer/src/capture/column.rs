//! Columns of integers: LEB128, either of the values or of their zigzagged differences.

/// A column being written.
#[derive(Default)]
pub(super) struct ColumnWriter {
    bytes: Vec<u8>,
    last: u64,
}

impl ColumnWriter {
    /// Appends a value that is mostly small.
    pub(super) fn value(&mut self, value: u64) {
        put(&mut self.bytes, value);
    }

    /// Appends a value that is mostly near the one before.
    pub(super) fn delta(&mut self, value: u64) {
        let delta = value.wrapping_sub(self.last) as i64;
        self.last = value;
        put(&mut self.bytes, ((delta << 1) ^ (delta >> 63)) as u64);
    }

    /// The column with its length in front; the writer is empty again.
    pub(super) fn finish(&mut self, into: &mut Vec<u8>) {
        put(into, self.bytes.len() as u64);
        into.append(&mut self.bytes);
        self.last = 0;
    }
}

/// A column being read. Every method returns `None` when the bytes are no such column.
#[derive(Clone, Copy)]
pub(super) struct ColumnReader<'a> {
    bytes: &'a [u8],
    last: u64,
}

impl<'a> ColumnReader<'a> {
    /// Takes the column at the beginning of `from`, with its length, off it.
    pub(super) fn take(from: &mut &'a [u8]) -> Option<Self> {
        let length = get(from)?;
        let (bytes, rest) = from.split_at_checked(usize::try_from(length).ok()?)?;
        *from = rest;
        Some(Self { bytes, last: 0 })
    }

    pub(super) const fn empty() -> Self {
        Self { bytes: &[], last: 0 }
    }

    #[inline]
    pub(super) fn value(&mut self) -> Option<u64> {
        get(&mut self.bytes)
    }

    #[inline]
    pub(super) fn delta(&mut self) -> Option<u64> {
        let zigzag = get(&mut self.bytes)?;
        let delta = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        self.last = self.last.wrapping_add(delta as u64);
        Some(self.last)
    }

    /// Whether everything has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Appends `value` as LEB128: 1 to 10 bytes.
pub(super) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes one LEB128 value off the beginning of `bytes`; `None` when there is none, or one beyond 64 bits.
#[inline]
pub(super) fn get(bytes: &mut &[u8]) -> Option<u64> {
    let &first = bytes.first()?;
    if first < 0x80 {
        *bytes = &bytes[1..];
        return Some(u64::from(first));
    }
    if let Some(&eight) = bytes.first_chunk::<8>() {
        let word = u64::from_le_bytes(eight);
        // The byte that ends the value is the first without its top bit.
        let ends = !word & 0x8080_8080_8080_8080;
        if ends != 0 {
            let bits = ends.trailing_zeros() + 1;
            *bytes = &bytes[bits as usize / 8..];
            return Some(join_sevens(word & (u64::MAX >> (64 - bits))));
        }
    }
    get_bytewise(bytes)
}

/// Eight groups of seven bits, each in a byte, joined into one number, two neighbours at a time.
#[inline]
const fn join_sevens(word: u64) -> u64 {
    let word = word & 0x7f7f_7f7f_7f7f_7f7f;
    let word = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x3fff_0000_3fff_0000) >> 2;
    (word & 0x0000_0000_0fff_ffff) | (word & 0x0fff_ffff_0000_0000) >> 4
}

/// [`get`] for long values and for the last bytes of a column.
fn get_bytewise(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (n, &byte) in bytes.iter().enumerate().take(10) {
        let part = u64::from(byte & 0x7f);
        let shift = 7 * n as u32;
        if part << shift >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            *bytes = &bytes[n + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_differences_come_back() {
        let values = [0, 1, 127, 128, u64::MAX, 0, u64::MAX / 2, u64::MAX / 2 + 1];
        let mut plain = ColumnWriter::default();
        let mut deltas = ColumnWriter::default();
        for value in values {
            plain.value(value);
            deltas.delta(value);
        }
        let mut bytes = Vec::new();
        plain.finish(&mut bytes);
        deltas.finish(&mut bytes);
        let mut rest = &bytes[..];
        let mut plain = ColumnReader::take(&mut rest).unwrap();
        let mut deltas = ColumnReader::take(&mut rest).unwrap();
        for value in values {
            assert_eq!((plain.value(), deltas.delta()), (Some(value), Some(value)));
        }
        assert!(plain.is_empty() && deltas.is_empty() && rest.is_empty());
    }

    #[test]
    fn values_of_every_length_come_back_whatever_follows() {
        for bit in 0..64 {
            for value in [1 << bit, (1_u64 << bit) - 1, u64::MAX >> bit, 0xdead_beef_cafe_f00d >> bit] {
                for tail in [&[][..], &[0; 9], &[0xff; 9]] {
                    let mut bytes = Vec::new();
                    put(&mut bytes, value);
                    assert_eq!(bytes.len(), (64 - value.leading_zeros() as usize).div_ceil(7).max(1));
                    bytes.extend(tail);
                    let mut rest = &bytes[..];
                    assert_eq!((get(&mut rest), rest), (Some(value), tail), "{value:#x}");
                }
            }
        }
    }

    #[test]
    fn more_than_64_bits_are_no_value() {
        assert_eq!(get(&mut &[0xff; 9][..]), None);
        assert_eq!(get(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..]), None);
        assert_eq!(get(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..]), Some(u64::MAX));
    }
}
