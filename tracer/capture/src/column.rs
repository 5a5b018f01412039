//! Columns of integers: LEB128, either of the values or of their zigzagged differences.

/// The top bit of each byte: set in all but the last of a value.
const TOPS: u64 = 0x8080_8080_8080_8080;
/// The top bit of every second byte.
const SECOND_TOPS: u64 = 0x8000_8000_8000_8000;

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
        let delta = value.wrapping_sub(self.last);
        self.last = value;
        put(&mut self.bytes, zigzag(delta));
    }

    /// Nothing but zeroes is written as nothing.
    pub(super) fn leave_out_zeroes(&mut self) {
        if self.bytes.iter().all(|byte| *byte == 0) {
            self.bytes.clear();
        }
    }

    /// Whether nothing has been appended.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
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
    /// Not in the frame: nothing but zeroes.
    is_left_out: bool,
}

impl<'a> ColumnReader<'a> {
    /// Takes the column at the beginning of `from`, with its length, off it.
    pub(super) fn take(from: &mut &'a [u8]) -> Option<Self> {
        let length = get(from)?;
        let (bytes, rest) = from.split_at_checked(usize::try_from(length).ok()?)?;
        *from = rest;
        Some(Self { bytes, last: 0, is_left_out: false })
    }

    pub(super) const fn empty() -> Self {
        Self { bytes: &[], last: 0, is_left_out: false }
    }

    /// One that is nothing but zeroes, however many are asked for.
    pub(super) const fn left_out() -> Self {
        Self { is_left_out: true, ..Self::empty() }
    }

    /// Decodes the next values until `values` is full.
    pub(super) fn values(&mut self, values: &mut [u64]) -> Option<()> {
        self.fill(values, |value| value)
    }

    /// Decodes the next values from their differences until `values` is full.
    pub(super) fn deltas(&mut self, values: &mut [u64]) -> Option<()> {
        let mut last = self.last;
        self.fill(values, |zigzag| {
            last = last.wrapping_add(unzigzag(zigzag));
            last
        })?;
        self.last = last;
        Some(())
    }

    /// Decodes values until `into` is full, eight bytes at a time and as many values as end in them. Most columns are the
    /// same length all along, for which the CPU then learns the way through these branches.
    #[inline]
    fn fill(&mut self, into: &mut [u64], mut each: impl FnMut(u64) -> u64) -> Option<()> {
        if self.is_left_out {
            into.fill(0);
            return Some(());
        }
        let mut bytes = self.bytes;
        let mut filled = 0;
        while let Some(&eight) = bytes.first_chunk()
            && let Some(now) = into[filled..].first_chunk_mut::<8>()
        {
            let word = u64::from_le_bytes(eight);
            // The byte that ends a value is the first without its top bit.
            let first = !word & TOPS;
            let second = first & first.wrapping_sub(1);
            let third = second & second.wrapping_sub(1);
            let end = |ends: u64| ends.trailing_zeros() + 1;
            let used = if first == TOPS {
                *now = eight.map(|byte| each(u64::from(byte)));
                filled += 8;
                64
            } else if first == SECOND_TOPS {
                let pairs = join_pairs(word & !TOPS);
                for (n, now) in (0..4).zip(now) {
                    *now = each(pairs >> (16 * n) & 0x3fff);
                }
                filled += 4;
                64
            } else if third != 0 {
                now[0] = each(join_sevens(up_to(word, end(first))));
                now[1] = each(join_sevens(up_to(word, end(second)) >> end(first)));
                now[2] = each(join_sevens(up_to(word, end(third)) >> end(second)));
                filled += 3;
                end(third)
            } else if second != 0 {
                now[0] = each(join_sevens(up_to(word, end(first))));
                now[1] = each(join_sevens(up_to(word, end(second)) >> end(first)));
                filled += 2;
                end(second)
            } else {
                now[0] = each(get(&mut bytes)?);
                filled += 1;
                0
            };
            bytes = &bytes[used as usize / 8..];
        }
        for value in &mut into[filled..] {
            *value = each(get(&mut bytes)?);
        }
        self.bytes = bytes;
        Some(())
    }

    /// Whether everything has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A difference modulo 2⁶⁴ as a number that is small where it is near 0: 0, −1, 1, −2, … as 0, 1, 2, 3, ….
pub(super) const fn zigzag(delta: u64) -> u64 {
    let delta = delta as i64;
    ((delta << 1) ^ (delta >> 63)) as u64
}

/// The difference that [`zigzag`] was given.
#[inline]
pub(super) const fn unzigzag(zigzag: u64) -> u64 {
    ((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)) as u64
}

/// Appends `value` as LEB128: 1 to 10 bytes.
#[inline]
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
        let ends = !word & TOPS;
        if ends != 0 {
            let bits = ends.trailing_zeros() + 1;
            *bytes = &bytes[bits as usize / 8..];
            return Some(join_sevens(up_to(word, bits)));
        }
    }
    get_bytewise(bytes)
}

/// The lowest `bits` of a word; at least 1 and at most 64.
#[inline]
const fn up_to(word: u64, bits: u32) -> u64 {
    word & (u64::MAX >> (64 - bits))
}

/// Eight groups of seven bits, each in a byte, joined into one number, two neighbours at a time.
#[inline]
const fn join_sevens(word: u64) -> u64 {
    let word = join_pairs(word & !TOPS);
    let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x3fff_0000_3fff_0000) >> 2;
    (word & 0x0000_0000_0fff_ffff) | (word & 0x0fff_ffff_0000_0000) >> 4
}

/// The first step: four groups of fourteen bits, each in two bytes.
#[inline]
const fn join_pairs(word: u64) -> u64 {
    (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1
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
        for part in values.chunks(3) {
            let mut read = vec![0; part.len()];
            plain.values(&mut read).unwrap();
            assert_eq!(read, part);
            deltas.deltas(&mut read).unwrap();
            assert_eq!(read, part);
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
    fn columns_of_any_mixture_of_lengths_come_back_in_parts_of_any_size() {
        // Runs of one length, and disorder, so that every way through `fill` meets every other.
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state >> 33
        };
        for longest in 1..=64 {
            let mut values = Vec::new();
            while values.len() < 300 {
                let bits = 1 + random() % longest;
                for _ in 0..=random() % 12 {
                    values.push((random() << 33 | random()) & (u64::MAX >> (64 - bits)));
                }
            }
            let mut column = ColumnWriter::default();
            for value in &values {
                column.value(*value);
            }
            let mut bytes = Vec::new();
            column.finish(&mut bytes);
            let mut column = ColumnReader::take(&mut &bytes[..]).unwrap();
            let mut read = vec![0; values.len()];
            let mut rest = &mut read[..];
            while !rest.is_empty() {
                let (part, later) = rest.split_at_mut((1 + random() as usize % 40).min(rest.len()));
                column.values(part).unwrap();
                rest = later;
            }
            assert_eq!(read, values, "up to {longest} bits");
            assert!(column.is_empty() && column.values(&mut [0]).is_none());
        }
    }

    #[test]
    fn more_than_64_bits_are_no_value() {
        assert_eq!(get(&mut &[0xff; 9][..]), None);
        assert_eq!(get(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..]), None);
        assert_eq!(get(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..]), Some(u64::MAX));
    }
}
