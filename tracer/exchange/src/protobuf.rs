//! Writing and reading the wire format of Protocol Buffers, as far as traces of Perfetto need it
//! (<https://protobuf.dev/programming-guides/encoding/>).

/// A message in the making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// With a number in a field.
    pub(super) fn number(mut self, field: u32, value: u64) -> Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    /// With a text in a field.
    pub(super) fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// With another message in a field.
    pub(super) fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// What stands before so many bytes of a field.
    pub(super) fn head(field: u32, length: u64) -> Vec<u8> {
        let mut head = Self::default();
        head.key(field, 2);
        head.varint(length);
        head.0
    }

    fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.0.extend(Self::head(field, value.len() as u64));
        self.0.extend_from_slice(value);
        self
    }

    fn key(&mut self, field: u32, wire: u32) {
        self.varint(u64::from(field << 3 | wire));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A varint, or a number of fixed width as its bits.
    Number(u64),
    /// A text, bytes, or another message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number; 0 for what is none.
    pub(super) fn number(self) -> u64 {
        if let Self::Number(number) = self { number } else { 0 }
    }

    /// The bytes; none for a number.
    pub(super) fn bytes(self) -> &'a [u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }
}

/// The fields of a message one after the other, up to its end or to where it is none.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Of a message.
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// Bytes that are not read; after the last field those that are no whole field.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.0;
        let key = varint(&mut rest)?;
        let field = u32::try_from(key >> 3).ok().filter(|field| *field > 0)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => Value::Number(u64::from_le_bytes(*take(&mut rest, 8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                Value::Bytes(take(&mut rest, length)?)
            }
            5 => Value::Number(u32::from_le_bytes(*take(&mut rest, 4)?.first_chunk()?).into()),
            _ => return None,
        };
        self.0 = rest;
        Some((field, value))
    }
}

/// Bytes of the field that a message begins with, more of which there may be than are here; `None` where it is not one of bytes.
pub(super) fn length_of_first(message: &[u8]) -> Option<u64> {
    let mut rest = message;
    let key = varint(&mut rest).filter(|key| key & 7 == 2 && key >> 3 > 0)?;
    u32::try_from(key >> 3).ok()?;
    let length = varint(&mut rest)?;
    length.checked_add((message.len() - rest.len()) as u64)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (n, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            *rest = &rest[n + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_the_specification_shows_it() {
        assert_eq!(Message::default().number(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().text(2, "testing").0, *b"\x12\x07testing");
        assert_eq!(Message::default().message(3, &Message::default().number(1, 150)).0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
    }
    #[test]
    fn what_was_written_is_read() {
        let inner = Message::default().text(2, "testing");
        let message = Message::default().number(1, u64::MAX).message(65_536, &inner).number(3, 0).0;
        let fields: Vec<_> = Fields::of(&message).collect();
        assert_eq!(fields, [(1, Value::Number(u64::MAX)), (65_536, Value::Bytes(&inner.0)), (3, Value::Number(0))]);
    }

    #[test]
    fn what_is_no_whole_field_is_left() {
        let mut message = Message::default().number(1, 150).text(2, "testing").0;
        message.pop();
        let mut fields = Fields::of(&message);
        assert_eq!((fields.next(), fields.next(), fields.left()), (Some((1, Value::Number(150))), None, 8));
        for broken in [&[0x80; 12][..], &[0x0b, 0x01], &[0x00, 0x01], &[0x0d, 1, 2, 3]] {
            assert_eq!(Fields::of(broken).next(), None, "{broken:x?}");
        }
    }

    #[test]
    fn numbers_of_fixed_width_are_read() {
        let fields: Vec<_> = Fields::of(&[0x0d, 1, 0, 0, 0, 0x11, 2, 0, 0, 0, 0, 0, 0, 0]).collect();
        assert_eq!(fields, [(1, Value::Number(1)), (2, Value::Number(2))]);
    }
}
