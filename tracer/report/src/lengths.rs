//! What the kernel counted of all mappings, streamed or not.

use tracer_ebpf::streamed::Streamed;

use super::label;
use super::screen::COLUMNS;
use super::table::{Table, bytes, percent};
use bouncescope_replay::Replayed;
use bouncescope_replay::check::streamed_only;
use bouncescope_replay::lengths::LINES;

/// By device, with what the kernel's rule would bounce for each line size; empty where the recorder did not count.
pub(super) fn table(replayed: &Replayed) -> String {
    let devices = &replayed.lengths.devices;
    if devices.is_empty() {
        return String::new();
    }
    let lines = LINES.map(|line| format!("line {line}"));
    let mut headings = vec!["device", "mappings", "buffers", "bytes"];
    headings.extend(lines.iter().map(String::as_str));
    let mut table = Table::new(&headings);
    for device in devices.iter().take(label::SHOWN) {
        let total = device.total;
        let counts = [total.mappings.to_string(), total.buffers.to_string(), bytes(total.bytes)];
        let bounces = LINES.map(|line| device.bounces.get(&line).copied().unwrap_or(0).to_string());
        let name = label::device(&device.device, &device.driver, device.coherent);
        table.row([name].into_iter().chain(counts).chain(bounces));
    }
    format!(
        "\nall mappings, counted in the kernel, and how many of their buffers its rule\nbounces for their length with which line size\n{}{}",
        table.blocks(0, 1, COLUMNS),
        label::more(devices.len(), "devices")
    )
}

/// How many mappings there were besides those that were streamed; empty where all were, or none was counted.
pub(super) fn besides(replayed: &Replayed) -> String {
    let streamed = replayed.start.streamed;
    let (recorded, total) = (replayed.observed.total().mappings, replayed.lengths.total);
    if streamed == Streamed::All || total.mappings == 0 {
        return String::new();
    }
    format!(
        "{}: {} % of {} mappings ({} buffers, {}) that the kernel counted\n",
        streamed_only(streamed),
        percent(recorded, total.mappings),
        total.mappings,
        total.buffers,
        bytes(total.bytes)
    )
}
