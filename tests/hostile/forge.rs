//! Capture files that nobody recorded, written from `docs/capture-format.md` alone: the checksums hold, and what they protect is made up.

/// Columns of an events frame.
const COLUMNS: usize = 35;

/// A capture file in the making.
pub(crate) struct Forged {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Forged {
    /// With nothing but the file's header in it.
    pub(crate) fn empty() -> Self {
        Self { bytes: b"\x89BNC\r\n\x1a\n\x02\0\0\0\x5f\xd3\x9c\xc3".to_vec(), sequence: 0 }
    }

    /// With the beginning of an arm64 kernel: every hook attached, a pool, one device with the number 0.
    pub(crate) fn kernel() -> Self {
        let hooks = ["map", "unmap", "map_sg", "unmap_sg", "bounced", "slot_map", "slot_unmap", "kmalloc", "kfree"]
            .map(|subject| format!(r#"{{"subject":"{subject}","attached":true}}"#));
        let start = format!(
            r#"{{"kernel":{{"release":"6.12.1","machine":"aarch64","page_size":4096,"possible_cpus":4,"cache_line_size":64,
            "dma_minalign":128,"kmalloc_minalign":8,"bounce_unaligned_kmalloc":true,"pool":{{"slots":32768,"areas":4}},
            "linear_map":{{"virt_base":0,"phys_base":0}}}},"hooks":[{}],"allocation_sample":1}}"#,
            hooks.join(",")
        );
        Self::empty().frame(1, start.as_bytes()).frame(2, br#"{"id":0,"name":"usb"}"#)
    }

    /// One more frame of this type.
    pub(crate) fn frame(self, kind: u8, payload: &[u8]) -> Self {
        let stored = zstd::bulk::compress(payload, 3).unwrap();
        self.raw_frame(kind, &stored, payload.len() as u32)
    }

    /// One more frame of blocks, with this head and these blocks; nothing in an empty one. Every checksum holds.
    pub(crate) fn blocks(mut self, head: &[u8], blocks: [&[u8]; 5]) -> Self {
        let compressed = |raw: &[u8]| if raw.is_empty() { Vec::new() } else { zstd::bulk::compress(raw, 3).unwrap() };
        let stored_head = compressed(head);
        let mut checked = (stored_head.len() as u32).to_le_bytes().to_vec();
        let mut behind = Vec::new();
        for block in blocks {
            let stored = compressed(block);
            for word in [stored.len() as u32, block.len() as u32, crc32c::crc32c(&stored)] {
                checked.extend(word.to_le_bytes());
            }
            behind.extend(stored);
        }
        checked.extend(stored_head);
        let mut header = b"\xf5FRM\x0c\0\0\0".to_vec();
        for word in [self.sequence, (checked.len() + behind.len()) as u32, head.len() as u32] {
            header.extend(word.to_le_bytes());
        }
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&header), &checked);
        header.extend(checksum.to_le_bytes());
        self.bytes.extend([header, checked, behind].concat());
        self.sequence += 1;
        self
    }

    /// One more frame of this type, with the payload as it is stored, and a length that may be a lie.
    pub(crate) fn raw_frame(mut self, kind: u8, stored: &[u8], length: u32) -> Self {
        let mut header = b"\xf5FRM".to_vec();
        header.extend([kind, 0, 0, 0]);
        for word in [self.sequence, stored.len() as u32, length] {
            header.extend(word.to_le_bytes());
        }
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&header), stored);
        header.extend(checksum.to_le_bytes());
        self.bytes.extend(header);
        self.bytes.extend(stored);
        self.sequence += 1;
        self
    }

    /// The file.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The payload of an events frame in the making.
pub(crate) struct Events {
    count: u64,
    columns: [(Vec<u8>, u64); COLUMNS],
}

impl Default for Events {
    fn default() -> Self {
        Self { count: 0, columns: std::array::from_fn(|_| (Vec::new(), 0)) }
    }
}

impl Events {
    /// An event of this kind at this time, with what else it has: columns by their number in the page's table, and values.
    pub(crate) fn event(&mut self, kind: u64, time_ns: u64, cpu: u64, rest: &[(usize, u64)]) {
        self.count += 1;
        for (column, value) in [(0, kind), (1, time_ns), (2, 1), (3, cpu)].iter().chain(rest) {
            self.value(*column, *value);
        }
    }

    /// A value more in a column.
    pub(crate) fn value(&mut self, column: usize, value: u64) {
        let (bytes, last) = &mut self.columns[column];
        let is_delta = matches!(column, 1..=3 | 8..=11 | 15 | 18 | 21..=23 | 26..=29 | 33);
        if is_delta {
            let difference = value.wrapping_sub(*last) as i64;
            *last = value;
            put(bytes, ((difference << 1) ^ (difference >> 63)) as u64);
        } else {
            put(bytes, value);
        }
    }

    /// The payload.
    pub(crate) fn payload(self) -> Vec<u8> {
        let mut payload = Vec::new();
        put(&mut payload, self.count);
        for (column, _) in self.columns {
            put(&mut payload, column.len() as u64);
            payload.extend(column);
        }
        payload
    }
}

/// Adds a number as the page has it: LEB128.
pub(crate) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
