//! What tells a capture from all others, and other labels for one that exists.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read, Write},
};

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use zstd::bulk::{Compressor, Decompressor};

use super::{
    ReadError,
    frame::{self, FILE_HEADER, FRAME_HEADER, Header, Type},
    labels::Labels,
};

/// How much is copied at once, bytes.
const CHUNK: usize = 64 << 10;
/// The member of the first frame that has the labels.
const LABELS: &str = "labels";

/// What tells a capture from all others: the first 128 bits of the SHA-256 of its content without its labels. A copy with other labels
/// has the same; a part of it has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity([u8; 16]);

/// 32 hexadecimal digits.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a capture cannot be given other labels.
#[derive(Debug, thiserror::Error)]
pub enum RelabelError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The copy cannot be written.
    #[error("cannot write the capture: {0}")]
    Write(#[source] io::Error),
    /// Its first frame is missing or damaged.
    #[error("the capture's first frame, which has the labels, is missing or damaged")]
    NoStart,
    /// The new labels do not fit.
    #[error("the labels do not fit into the capture's first frame")]
    TooLong,
}

/// The identity and the labels of a capture, of which everything is read.
pub fn identity(mut input: impl Read) -> Result<(Identity, Labels), ReadError> {
    let beginning = Beginning::read(&mut input)?;
    let mut hash = beginning.hash();
    copy(input, &mut |bytes| {
        hash.update(bytes);
        Ok(())
    })?;
    Ok((finished(hash), beginning.labels()))
}

/// Writes a capture again with other labels. Everything else is copied, damaged parts included.
pub fn relabel(
    mut input: impl Read,
    mut output: impl Write,
    change: impl FnOnce(&mut Labels),
) -> Result<(Identity, Labels), RelabelError> {
    let mut beginning = Beginning::read(&mut input)?;
    let mut hash = beginning.hash();
    let mut labels = beginning.labels();
    change(&mut labels);
    let frame = beginning.relabelled(&labels)?;
    let mut write = |bytes: &[u8]| output.write_all(bytes);
    write(&beginning.header).and_then(|()| write(&frame)).map_err(RelabelError::Write)?;
    let mut failed = None;
    let copied = copy(input, &mut |bytes| {
        hash.update(bytes);
        write(bytes).map_err(|error| {
            failed = Some(error);
            io::ErrorKind::Other.into()
        })
    });
    if let Some(error) = failed {
        return Err(RelabelError::Write(error));
    }
    copied?;
    output.flush().map_err(RelabelError::Write)?;
    Ok((finished(hash), labels))
}

/// A capture's first bytes.
struct Beginning {
    /// The file's header, whatever of it is intact.
    header: [u8; FILE_HEADER],
    /// What was read behind it.
    frame: Vec<u8>,
    /// The number of the first frame, and its members as they are written; `None` where it is no intact [`Type::Start`].
    start: Option<(u32, BTreeMap<String, Box<RawValue>>)>,
}

impl Beginning {
    fn read(input: &mut impl Read) -> Result<Self, ReadError> {
        let mut header = Vec::with_capacity(FILE_HEADER);
        input.take(FILE_HEADER as u64).read_to_end(&mut header)?;
        if header.is_empty() {
            return Err(ReadError::Empty);
        }
        let header: [u8; FILE_HEADER] = header.try_into().map_err(|_| ReadError::NotACapture)?;
        frame::check_file_header(&header)?;
        let mut frame = Vec::new();
        input.take(FRAME_HEADER as u64).read_to_end(&mut frame)?;
        let Some(of_start) = Header::parse(&frame).filter(|found| found.kind == Type::Start as u8) else {
            return Ok(Self { header, frame, start: None });
        };
        input.take(u64::from(of_start.stored)).read_to_end(&mut frame)?;
        let start = members(&of_start, &frame).map(|members| (of_start.sequence, members));
        Ok(Self { header, frame, start })
    }

    /// Of what was read, but for the labels.
    fn hash(&self) -> Sha256 {
        let mut hash = Sha256::new();
        match &self.start {
            Some((_, members)) => {
                for (name, value) in members.iter().filter(|(name, _)| *name != LABELS) {
                    for part in [name.as_bytes(), value.get().as_bytes()] {
                        hash.update((part.len() as u64).to_le_bytes());
                        hash.update(part);
                    }
                }
            }
            None => hash.update(&self.frame),
        }
        hash
    }

    /// None where they are no labels.
    fn labels(&self) -> Labels {
        let there = self.start.as_ref().and_then(|(_, members)| members.get(LABELS));
        there.and_then(|json| serde_json::from_str(json.get()).ok()).unwrap_or_default()
    }

    /// The first frame with these labels.
    fn relabelled(&mut self, labels: &Labels) -> Result<Vec<u8>, RelabelError> {
        let (sequence, members) = self.start.as_mut().ok_or(RelabelError::NoStart)?;
        members.remove(LABELS);
        if !labels.is_empty() {
            let json = serde_json::value::to_raw_value(labels).map_err(|_| RelabelError::TooLong)?;
            members.insert(LABELS.to_owned(), json);
        }
        let payload = serde_json::to_vec(members).map_err(|_| RelabelError::TooLong)?;
        if payload.len() > Type::Start.longest() {
            return Err(RelabelError::TooLong);
        }
        let mut frame = Vec::new();
        Compressor::new(super::writer::LEVEL)
            .and_then(|mut compressor| frame::encode(&mut compressor, Type::Start, *sequence, &payload, &mut frame))
            .map_err(RelabelError::Write)?;
        Ok(frame)
    }
}

/// The members of an intact first frame.
fn members(header: &Header, frame: &[u8]) -> Option<BTreeMap<String, Box<RawValue>>> {
    if frame.len() != header.frame_len() || !header.is_intact(frame) || header.raw as usize > Type::Start.longest() {
        return None;
    }
    let mut payload = Vec::new();
    header.payload(&mut Decompressor::new().ok()?, frame, &mut payload)?;
    serde_json::from_slice(&payload).ok()
}

/// Gives the rest of a file to `to`, piece by piece.
fn copy(mut input: impl Read, to: &mut impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), ReadError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(got) => to(&chunk[..got])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn finished(hash: Sha256) -> Identity {
    let whole: [u8; 32] = hash.finalize().into();
    let mut first = [0; 16];
    first.copy_from_slice(&whole[..16]);
    Identity(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Reader, Writer,
        facts::{End, PoolSample},
        labels::Label,
        stream::{Item, Source as _, Start},
    };

    fn label(name: &str, value: &str) -> Label {
        Label::new(name, value).unwrap()
    }

    fn capture(change: impl FnOnce(&mut Start)) -> Vec<u8> {
        let mut start = Start { time_ns: 7, recorder: "a test".to_owned(), ..Start::default() };
        start.other.insert("a later fact".to_owned(), serde_json::json!(u64::MAX));
        change(&mut start);
        let mut writer = Writer::new(Vec::new()).unwrap();
        for item in [Item::Start(start), Item::Pool(PoolSample::default()), Item::End(End::default())] {
            writer.write(&item).unwrap();
        }
        writer.into_inner().unwrap()
    }

    fn items(bytes: &[u8]) -> Vec<Item> {
        let mut reader = Reader::new(bytes).unwrap();
        let items = std::iter::from_fn(|| reader.next_item().unwrap()).collect();
        assert!(reader.gaps().is_empty());
        items
    }

    #[test]
    fn only_the_labels_become_others() {
        let before = capture(|start| start.labels.set(label("board", "one")).unwrap());
        let mut after = Vec::new();
        let (identity_of_copy, labels) = relabel(&before[..], &mut after, |labels| {
            assert_eq!(labels.get("board"), Some("one"));
            labels.set(label("board", "two")).unwrap();
            labels.set(label("build", "9")).unwrap();
        })
        .unwrap();
        let expected = capture(|start| {
            start.labels.set(label("board", "two")).unwrap();
            start.labels.set(label("build", "9")).unwrap();
        });
        assert_eq!(items(&after), items(&expected));
        assert_eq!(labels.to_string(), "board=two, build=9");
        let all = [&before, &after, &expected, &capture(|_| {})];
        assert!(all.iter().all(|bytes| identity(&bytes[..]).unwrap().0 == identity_of_copy));
        // A label that is taken off leaves nothing.
        let mut without = Vec::new();
        relabel(&after[..], &mut without, |labels| *labels = Labels::default()).unwrap();
        assert_eq!(items(&without), items(&capture(|_| {})));
    }

    #[test]
    fn other_content_is_another_capture() {
        let one = capture(|_| {});
        let known = identity(&one[..]).unwrap();
        assert_ne!(known, identity(&capture(|start| start.time_ns = 8)[..]).unwrap());
        assert_ne!(known, identity(&one[..one.len() - 1]).unwrap());
        assert_eq!(known.0.to_string().len(), 32);
    }

    #[test]
    fn a_damaged_beginning_has_an_identity_and_takes_no_labels() {
        let mut damaged = capture(|_| {});
        damaged[FILE_HEADER + FRAME_HEADER + 3] ^= 1;
        identity(&damaged[..]).unwrap();
        let mut copy = Vec::new();
        assert!(matches!(relabel(&damaged[..], &mut copy, |_| {}), Err(RelabelError::NoStart)));
        assert!(copy.is_empty());
        assert!(matches!(identity(&b""[..]), Err(ReadError::Empty)));
        assert!(matches!(identity(&b"no capture at all"[..]), Err(ReadError::NotACapture)));
    }

    #[test]
    fn a_full_disk_is_no_damaged_capture() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let bytes = capture(|_| {});
        for room in [0, bytes.len() - 10] {
            let error = relabel(&bytes[..], Full(room), |_| {}).unwrap_err();
            assert!(
                matches!(&error, RelabelError::Write(source) if source.kind() == io::ErrorKind::StorageFull),
                "{error}"
            );
        }
    }
}
