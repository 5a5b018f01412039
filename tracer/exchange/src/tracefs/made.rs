//! Files of tracefs with two events, in any byte order, as tests need them.

use super::{MAGIC, Order};

/// Bytes in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes {
    pub(crate) order: Order,
    pub(crate) bytes: Vec<u8>,
}

impl Bytes {
    pub(crate) fn new(order: Order) -> Self {
        Self { order, bytes: Vec::new() }
    }

    /// A number of so many bytes.
    pub(crate) fn number(mut self, value: u64, length: usize) -> Self {
        match self.order {
            Order::Little => self.bytes.extend(&value.to_le_bytes()[..length]),
            Order::Big => self.bytes.extend(&value.to_be_bytes()[8 - length..]),
        }
        self
    }

    pub(crate) fn u16(self, value: u64) -> Self {
        self.number(value, 2)
    }

    pub(crate) fn u32(self, value: u64) -> Self {
        self.number(value, 4)
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.number(value, 8)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    /// With a NUL.
    pub(crate) fn text(self, text: &str) -> Self {
        self.raw(text.as_bytes()).raw(&[0])
    }

    /// Zeros up to a length.
    pub(crate) fn padded(mut self, length: usize) -> Self {
        self.bytes.resize(length, 0);
        self
    }
}

const KFREE: &str = "\
name: kfree
ID: 7
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:unsigned long call_site;\toffset:8;\tsize:8;\tsigned:0;
\tfield:const void * ptr;\toffset:16;\tsize:8;\tsigned:0;

print fmt: \"\"
";

const OTHER: &str = "\
name: sched_switch
ID: 9
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
";

/// A kfree of a task.
pub(crate) fn kfree(order: Order, task: u64, ptr: u64) -> Vec<u8> {
    Bytes::new(order).u16(7).u16(0).u32(task).u64(0x1014).u64(ptr).bytes
}

/// What all such files begin with.
pub(crate) fn begin(order: Order, version: &str) -> Bytes {
    Bytes::new(order).raw(MAGIC).text(version).raw(&[u8::from(order == Order::Big), 8]).u32(4096)
}

/// `header_page` of a kernel whose `long` has so many bytes, and `header_event`.
pub(crate) fn pages(order: Order, long: usize) -> Vec<u8> {
    let page = format!(
        "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\tfield: local_t commit;\toffset:8;\tsize:{long};\tsigned:1;\n\
         \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\tfield: char data;\toffset:{};\tsize:4080;\tsigned:0;\n",
        8 + long
    );
    let event = "# compressed entry header\n";
    let bytes = Bytes::new(order).text("header_page").u64(page.len() as u64).raw(page.as_bytes());
    bytes.text("header_event").u64(event.len() as u64).raw(event.as_bytes()).bytes
}

/// No formats of ftrace's own.
pub(crate) fn ftrace(order: Order) -> Vec<u8> {
    Bytes::new(order).u32(0).bytes
}

/// The formats of both events.
pub(crate) fn events(order: Order) -> Vec<u8> {
    let bytes = Bytes::new(order).u32(2).text("kmem").u32(1).u64(KFREE.len() as u64).raw(KFREE.as_bytes());
    bytes.text("sched").u32(1).u64(OTHER.len() as u64).raw(OTHER.as_bytes()).bytes
}

/// The names of two functions.
pub(crate) fn symbols(order: Order) -> Vec<u8> {
    let text = "1000 T put\n2000 t get\n";
    Bytes::new(order).u32(text.len() as u64).raw(text.as_bytes()).bytes
}
