//! Who mapped scatterlists, as far as they are told apart.

use hashbrown::HashSet;

use super::devices::{Devices, Identity};
use bouncescope_capture::event::{Event, What};

/// Pairs of a device and a caller that are told apart: far more than a machine has.
const MOST: usize = 1 << 12;

/// The pairs so far. Lists of later ones are counted by device alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Callers {
    kept: HashSet<(Identity, u64)>,
    /// Lists of which the caller was left out.
    pub(super) merged: u64,
}

impl Callers {
    /// Takes the caller off a list whose pair is one too many.
    pub(super) fn bound(&mut self, event: &mut Event, devices: &Devices) {
        let What::MapSg { device, caller, .. } = &mut event.what else { return };
        *caller = self.bounded(devices.identity(*device), *caller, 1);
    }

    /// The caller that so many lists of a device are to be counted by.
    pub(super) fn bounded(&mut self, device: Identity, caller: u64, lists: u64) -> u64 {
        let pair = (device, caller);
        if caller == 0 || self.kept.contains(&pair) {
            return caller;
        }
        if self.kept.len() < MOST {
            self.kept.insert(pair);
            return caller;
        }
        self.merged += lists;
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::event::{DeviceId, Direction};

    #[test]
    fn callers_beyond_those_that_are_kept_are_left_out_and_counted() {
        let mut callers = Callers::default();
        let mut bounded = |caller| {
            let (device, direction) = (DeviceId(0), Direction::ToDevice);
            let what = What::MapSg {
                device,
                list: 1,
                nents: 1,
                ents: 1,
                direction,
                attrs: 0,
                caller,
                first_segment: 0,
                segments: 0,
            };
            let mut event = Event { time_ns: 1, task: 1, cpu: 0, what };
            callers.bound(&mut event, &Devices::default());
            let What::MapSg { caller, .. } = event.what else { unreachable!() };
            caller
        };
        for caller in 1..=MOST as u64 {
            assert_eq!(bounded(caller), caller);
        }
        assert_eq!((bounded(1 << 40), bounded(7), bounded(0)), (0, 7, 0));
        assert_eq!(callers.merged, 1);
    }
}
