//! A stream as a trace of Perfetto: slots in use as counter tracks, mappings as slices, on tracks of their device. Fields are those of
//! `protos/perfetto/trace/` (`trace_packet.proto`, `track_event/track_event.proto`, `track_event/track_descriptor.proto`).
//!
//! A device's mappings overlap, and slices of a track must not: each device has as many tracks as mappings at one time.

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, Write},
};

use super::{super::protobuf::Message, follow::Follow};
use bouncescope_capture::stream::Item;
use bouncescope_replay::{
    devices::{Devices, Identity},
    mapping::Mapping,
    step::Unseen,
};

/// `Trace.packet`.
const PACKET: u32 = 1;
/// The only writer.
const SEQUENCE: u64 = 1;
/// `TrackEvent.Type`.
const SLICE_BEGIN: u64 = 1;
const SLICE_END: u64 = 2;
const INSTANT: u64 = 3;
const COUNTER: u64 = 4;

/// Writes packets.
#[derive(Debug)]
pub struct Perfetto<W> {
    out: W,
    /// Tracks made so far; their numbers are from 1 on.
    tracks: u64,
    counters: HashMap<String, u64>,
    devices: HashMap<Identity, Lanes>,
    /// Where mappings that have not ended are: device, place among its lanes.
    mapped: HashMap<u64, (Identity, usize)>,
    /// The track of what has no mapping; 0 before the first.
    unseen: u64,
    last_ns: u64,
}

/// The tracks of a device.
#[derive(Debug)]
struct Lanes {
    parent: u64,
    all: Vec<u64>,
    /// Of these the ones without a mapping on them.
    free: BTreeSet<usize>,
}

impl<W: Write> Perfetto<W> {
    /// Into `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            tracks: 0,
            counters: HashMap::new(),
            devices: HashMap::new(),
            mapped: HashMap::new(),
            unseen: 0,
            last_ns: 0,
        }
    }

    /// Writes what is left, and returns what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn packet(&mut self, packet: Message) -> io::Result<()> {
        let packet = packet.number(field::SEQUENCE_ID, SEQUENCE);
        self.out.write_all(&Message::default().message(PACKET, &packet).0)
    }

    /// A new track.
    fn track(&mut self, name: &str, parent: Option<u64>, counter: Option<Message>) -> io::Result<u64> {
        self.tracks += 1;
        let mut track = Message::default().number(field::track::UUID, self.tracks).text(field::track::NAME, name);
        if let Some(parent) = parent {
            track = track.number(field::track::PARENT_UUID, parent);
        }
        if let Some(counter) = counter {
            track = track.message(field::track::COUNTER, &counter);
        }
        self.packet(Message::default().message(field::TRACK_DESCRIPTOR, &track))?;
        Ok(self.tracks)
    }

    fn event(&mut self, time_ns: u64, kind: u64, track: u64, event: Message) -> io::Result<()> {
        let event = event.number(field::event::TYPE, kind).number(field::event::TRACK_UUID, track);
        self.packet(Message::default().number(field::TIMESTAMP, time_ns).message(field::TRACK_EVENT, &event))
    }

    /// A free track of the mapping's device.
    fn lane(&mut self, mapping: &Mapping, devices: &Devices) -> io::Result<(Identity, usize)> {
        let identity = devices.identity(mapping.device);
        if !self.devices.contains_key(&identity) {
            let device = devices.get(mapping.device);
            let driver = if device.driver.is_empty() { String::new() } else { format!(" ({})", device.driver) };
            let parent = self.track(&format!("{}{driver}", device.name), None, None)?;
            self.devices.insert(identity, Lanes { parent, all: Vec::new(), free: BTreeSet::new() });
        }
        let (parent, free) = match self.devices.get(&identity) {
            Some(device) => (device.parent, device.free.first().copied()),
            None => (0, None),
        };
        if let Some(at) = free {
            return Ok((identity, at));
        }
        let lane = self.track("mappings", Some(parent), None)?;
        let Some(device) = self.devices.get_mut(&identity) else { return Ok((identity, 0)) };
        let at = device.all.len();
        device.all.push(lane);
        device.free.insert(at);
        Ok((identity, at))
    }

    /// The track of what bounced without a mapping's event.
    fn unseen_track(&mut self) -> io::Result<u64> {
        if self.unseen == 0 {
            self.unseen = self.track("bounces without a mapping", None, None)?;
        }
        Ok(self.unseen)
    }

    fn counter(&mut self, name: &str) -> io::Result<u64> {
        if let Some(track) = self.counters.get(name) {
            return Ok(*track);
        }
        let unit = Message::default().text(field::counter::UNIT_NAME, "slots");
        let track = self.track(&format!("slots used: {name}"), None, Some(unit))?;
        self.counters.insert(name.to_owned(), track);
        Ok(track)
    }
}

impl<W: Write> Follow for Perfetto<W> {
    fn item(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::Events(batch) => {
                self.last_ns = batch.events.iter().map(|event| event.time_ns).fold(self.last_ns, u64::max);
                Ok(())
            }
            Item::End(end) => {
                self.last_ns = self.last_ns.max(end.time_ns);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn mapped(&mut self, mapping: &Mapping, devices: &Devices) -> io::Result<()> {
        let bounced = mapping.buffers.iter().filter(|buffer| buffer.truth.is_bounced()).count();
        let what = match (mapping.failed, bounced) {
            (true, _) => "refused",
            (false, 0) => "mapped",
            (false, _) => "bounced",
        };
        let name = format!("{what} {}", mapping.direction.name());
        let bytes = mapping.buffers.iter().map(|buffer| buffer.size).sum();
        let mut event = Message::default().text(field::event::NAME, &name);
        for (name, value) in [
            ("mapping", mapping.id),
            ("bytes", bytes),
            ("buffers", mapping.buffers.len() as u64),
            ("bounced", bounced as u64),
        ] {
            event = event.message(field::event::ANNOTATION, &annotation(name, value));
        }
        let place = self.lane(mapping, devices)?;
        let Some(device) = self.devices.get_mut(&place.0) else { return Ok(()) };
        let track = device.all[place.1];
        if mapping.failed {
            return self.event(mapping.time_ns, INSTANT, track, event);
        }
        device.free.remove(&place.1);
        self.mapped.insert(mapping.id, place);
        self.event(mapping.time_ns, SLICE_BEGIN, track, event)
    }

    fn gone(&mut self, mapping: &Mapping, unmapped_ns: Option<u64>) -> io::Result<()> {
        let Some(place) = self.mapped.remove(&mapping.id) else { return Ok(()) };
        let Some(device) = self.devices.get_mut(&place.0) else { return Ok(()) };
        device.free.insert(place.1);
        let track = device.all[place.1];
        // What has no unmapping lasts to the end, as far as anybody knows.
        self.event(unmapped_ns.unwrap_or(self.last_ns), SLICE_END, track, Message::default())
    }

    fn unseen(&mut self, unseen: &Unseen) -> io::Result<()> {
        let track = self.unseen_track()?;
        let name = Message::default().text(field::event::NAME, "bounce without a mapping");
        self.event(unseen.time_ns, INSTANT, track, name)
    }

    fn occupancy(&mut self, time_ns: u64, whose: &str, used_slots: u64) -> io::Result<()> {
        let track = self.counter(whose)?;
        self.event(time_ns, COUNTER, track, Message::default().number(field::event::COUNTER_VALUE, used_slots))
    }
}

fn annotation(name: &str, value: u64) -> Message {
    Message::default().text(field::annotation::NAME, name).number(field::annotation::UINT_VALUE, value)
}

/// Numbers of fields.
mod field {
    /// `TracePacket`.
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const SEQUENCE_ID: u32 = 10;
    pub(super) const TRACK_EVENT: u32 = 11;
    pub(super) const TRACK_DESCRIPTOR: u32 = 60;

    /// `TrackDescriptor`.
    pub(super) mod track {
        pub(in super::super) const UUID: u32 = 1;
        pub(in super::super) const NAME: u32 = 2;
        pub(in super::super) const PARENT_UUID: u32 = 5;
        pub(in super::super) const COUNTER: u32 = 8;
    }

    /// `CounterDescriptor`.
    pub(super) mod counter {
        pub(in super::super) const UNIT_NAME: u32 = 6;
    }

    /// `TrackEvent`.
    pub(super) mod event {
        pub(in super::super) const ANNOTATION: u32 = 4;
        pub(in super::super) const TYPE: u32 = 9;
        pub(in super::super) const TRACK_UUID: u32 = 11;
        pub(in super::super) const NAME: u32 = 23;
        pub(in super::super) const COUNTER_VALUE: u32 = 30;
    }

    /// `DebugAnnotation`.
    pub(super) mod annotation {
        pub(in super::super) const UINT_VALUE: u32 = 3;
        pub(in super::super) const NAME: u32 = 10;
    }
}
