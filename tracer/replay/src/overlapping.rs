//! Overlaps of the recorded kernel, counted while a recording goes on: nothing is simulated, and nothing else is told.

use super::bounds;
use super::devices::Devices;
use super::pairing::Pairing;
use super::statistics::Statistics;
use super::watch::Watcher;
use bouncescope_capture::event::What;
use bouncescope_capture::stream::{Item, Start, Streamed};

/// The count so far.
#[derive(Clone, Debug)]
pub struct Overlapping {
    devices: Devices,
    pairing: Pairing,
    watcher: Watcher,
    is_whole: bool,
}

impl Overlapping {
    /// Of a stream that begins so.
    pub fn new(start: &Start) -> Self {
        let mut start = start.clone();
        bounds::start(&mut start);
        Self {
            devices: Devices::default(),
            pairing: Pairing::new(&start),
            watcher: Watcher::new(&start.kernel, Statistics::new(&start, false), None),
            is_whole: start.streamed == Streamed::All,
        }
    }

    /// Takes in an item.
    pub fn item(&mut self, item: &Item) {
        match item {
            Item::Device(device) => {
                let mut device = device.clone();
                bounds::device(&mut device, &mut Vec::new());
                self.devices.add(device);
            }
            Item::Events(batch) => {
                let matters = |what: &What| !matches!(what, What::Kmalloc { .. } | What::Kfree { .. });
                for event in batch.events.iter().filter(|event| matters(&event.what)) {
                    let mut event = *event;
                    bounds::event(&mut event);
                    self.pairing.event(&event, batch.segments(&event), &mut self.devices, &mut self.watcher);
                    while self.pairing.next_step().is_some() {}
                }
            }
            _ => {}
        }
    }

    /// Buffers mapped while another mapping was in one of their cache lines, as [`crate::outcome::Tally::overlaps`].
    pub fn count(&self) -> u64 {
        self.watcher.observed.overlaps_so_far()
    }

    /// Every mapping was recorded and compared, so that there are no others.
    pub fn is_whole(&self) -> bool {
        let lines = &self.watcher.lines;
        self.is_whole && lines.not_located + lines.left_out + lines.cut == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{DEVICE, Sample};
    use super::*;

    #[test]
    fn what_is_counted_while_it_goes_on_is_what_a_replay_counts() {
        let mut sample = Sample::new();
        sample.map(DEVICE, 0x1000, 0x1000, 300).map(DEVICE, 0x112c, 0x112c, 300);
        sample.unmap(DEVICE, 0x1000, 300).unmap(DEVICE, 0x112c, 300).map(DEVICE, 0x1000, 0x1000, 300);
        let mut overlapping = Overlapping::new(&sample.start);
        sample.each_item(|item| overlapping.item(item));
        assert_eq!((overlapping.count(), overlapping.is_whole()), (1, true));
        let settings = crate::settings::Settings::captured(&sample.start.kernel);
        assert_eq!(sample.run(settings).total.overlaps, 1);
    }
}
