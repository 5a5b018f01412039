//! Reads a capture item by item: counts its events by kind and its mappings by device, and says what is missing from it.
//!
//! `cargo run --package bouncescope-tracer --example events -- captures/default.bounce`

use std::{collections::BTreeMap, env, error::Error};

use tracer::{
    capture::Reader,
    event::What,
    stream::{Item, Source as _},
};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("name a capture")?;
    let mut reader = Reader::open(path.as_ref())?;

    let mut devices = Vec::new();
    let mut kinds = BTreeMap::<_, u64>::new();
    let mut mappings = BTreeMap::<String, u64>::new();
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Start(start) => println!("{} on {}", start.kernel.release, start.kernel.machine),
            // An event names its device by this index, in order of appearance.
            Item::Device(device) => devices.push(device.name),
            Item::Events(batch) => {
                for event in &batch.events {
                    *kinds.entry(event.what.kind().name()).or_default() += 1;
                    if let What::Map { device, .. } | What::MapSg { device, .. } = event.what {
                        let name = devices.get(device.0 as usize).map_or("unknown", String::as_str);
                        *mappings.entry(name.to_owned()).or_default() += 1;
                    }
                }
            }
            _ => {}
        }
    }

    for (kind, count) in kinds {
        println!("{count:>6} {kind}");
    }
    for (device, count) in mappings {
        println!("{count:>6} mappings of {device}");
    }
    // A damaged or cut file is no error: what is missing is counted.
    if reader.gaps().is_empty() {
        println!("the capture is whole");
    }
    Ok(())
}
