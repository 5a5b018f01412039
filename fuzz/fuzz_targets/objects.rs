//! Any bytes as a block of objects: decoded, encoded again, and decoded as what they were.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::capture::objects::{ObjectDecoder, ObjectEncoder};
use tracer::event::Event;

/// All events, some at a time.
fn decode(block: &[u8]) -> Option<Vec<Event>> {
    let mut decoder = ObjectDecoder::default();
    let mut objects = decoder.begin(block)?;
    let mut events = Vec::new();
    while objects.left() > 0 {
        objects.decode(100, &mut events)?;
    }
    Some(events)
}

fuzz_target!(|block: &[u8]| {
    let Some(events) = decode(block) else { return };
    let mut again = Vec::new();
    ObjectEncoder::default().encode(events.iter(), 0, &mut again);
    assert_eq!(decode(&again), Some(events));
});
