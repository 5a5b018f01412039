//! Streams that hang together better than bytes do: everything that commands do with a capture.

#![no_main]

use bouncescope_fuzz::{everything, items, stream::Stream};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: Stream| {
    let items = stream.items();
    items::assert_survive_writing(&items);
    everything::with(&items);
});
