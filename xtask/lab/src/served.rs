//! What `serve --live` said of a recording that ran beside it: the same bounces and refusals of each device as the capture, from when the
//! workload began, and no prediction that the kernel did not keep to.

use std::{collections::BTreeMap, fs, ops::Range, path::Path};

use anyhow::{Context as _, Result};

use super::{default_mode, mappings::Within};

/// Bounces and refusals by device, those that have any.
type ByDevice = BTreeMap<String, (u64, u64)>;

/// A line for each difference, in that time (`CLOCK_MONOTONIC`, ns). The metrics are beside the capture.
pub(super) fn problems(capture: &Path, time_ns: &Range<u64>) -> Result<Vec<String>> {
    let read = |suffix: &str| {
        let file = capture.with_extension(suffix);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    let (before, after) = (read("before.metrics")?, read("metrics")?);
    let served = since(&by_device(&before), by_device(&after));
    let disagreements = value(&after, "bouncescope_verified_mappings{result=\"disagree\"}");
    let recorded = default_mode::by_kernel(Within::open(capture, time_ns)?)?;
    let mut problems = Vec::new();
    if served != recorded {
        problems.push(format!("serve --live said {served:?}, the capture holds {recorded:?}"));
    }
    if disagreements != Some(0) {
        problems.push(format!("serve --live said that so many mappings disagree: {disagreements:?}"));
    }
    Ok(problems)
}

/// What came since.
fn since(before: &ByDevice, mut after: ByDevice) -> ByDevice {
    for (device, (bounces, refusals)) in before {
        let counts = after.entry(device.clone()).or_default();
        *counts = (counts.0.saturating_sub(*bounces), counts.1.saturating_sub(*refusals));
    }
    after.retain(|_, counts| *counts != (0, 0));
    after
}

fn by_device(metrics: &str) -> ByDevice {
    let mut devices = ByDevice::new();
    for line in metrics.lines() {
        let Some((name, labels)) = line.split_once("{device=\"") else { continue };
        let (Some((device, _)), Some(count)) = (labels.split_once('"'), number(line)) else { continue };
        match name {
            "bouncescope_bounces_total" => devices.entry(device.to_owned()).or_default().0 += count,
            "bouncescope_failed_mappings_total" => devices.entry(device.to_owned()).or_default().1 += count,
            _ => {}
        }
    }
    devices.retain(|_, counts| *counts != (0, 0));
    devices
}

fn value(metrics: &str, name: &str) -> Option<u64> {
    number(metrics.lines().find(|line| line.starts_with(name))?)
}

fn number(line: &str) -> Option<u64> {
    line.rsplit_once(' ')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_is_read_by_device() {
        let metrics = "# TYPE bouncescope_bounces_total counter\n\
            bouncescope_bounces_total{device=\"a\",driver=\"x\",coherent=\"0\"} 3\n\
            bouncescope_bounces_total{device=\"b\",driver=\"x\",coherent=\"0\"} 0\n\
            bouncescope_failed_mappings_total{device=\"a\",driver=\"x\",coherent=\"0\"} 2\n\
            bouncescope_verified_mappings{result=\"disagree\"} 0\n";
        assert_eq!(by_device(metrics), [("a".to_owned(), (3, 2))].into());
        let before = [("a".to_owned(), (1, 2))].into();
        assert_eq!(since(&before, by_device(metrics)), [("a".to_owned(), (2, 0))].into());
        assert_eq!(since(&by_device(metrics), by_device(metrics)), ByDevice::new());
        assert_eq!(value(metrics, "bouncescope_verified_mappings{result=\"disagree\"}"), Some(0));
        assert_eq!(value(metrics, "bouncescope_none"), None);
    }
}
