//! Any records of the ring, with the scatterlists in them: decoded, and written as events of a capture.

#![no_main]

use bouncescope_fuzz::{frames::payloads, items::assert_survive_writing};
use libfuzzer_sys::fuzz_target;
use tracer::{live::decode_records, stream::Item};

fuzz_target!(|bytes: &[u8]| {
    let records = payloads(bytes).into_iter().map(|(_, record)| record);
    let (devices, batch, malformed) = decode_records(records);
    assert!(batch.events.len() as u64 + malformed <= payloads(bytes).len() as u64);
    let mut items: Vec<Item> = devices.into_iter().map(Item::Device).collect();
    if !batch.events.is_empty() {
        items.push(Item::Events(batch));
    }
    assert_survive_writing(&items);
});
