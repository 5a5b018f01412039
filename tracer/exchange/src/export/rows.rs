//! A stream as rows of the tables.

use std::io;

use super::{
    follow::Follow,
    table::{Rows, Table, Value},
};
use bouncescope_capture::event::{DeviceId, Event, What};
use bouncescope_capture::facts::Device;
use bouncescope_capture::stream::Item;
use bouncescope_replay::{
    devices::Devices,
    mapping::{Handle, Mapping},
    step::Unseen,
};

/// Makes rows, and gives them to `R`.
#[derive(Debug)]
pub struct ToRows<R>(pub R);

impl<R: Rows> Follow for ToRows<R> {
    fn item(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::Device(described) => device(described, &mut self.0),
            Item::Events(batch) => batch.events.iter().try_for_each(|event| allocation(event, &mut self.0)),
            Item::Symbols(symbols) => symbols.iter().try_for_each(|symbol| {
                let values = [Value::U64(symbol.addr), Value::Text(&symbol.name), Value::Text(&symbol.module)];
                self.0.row(Table::Symbols, &values)
            }),
            _ => Ok(()),
        }
    }

    fn mapped(&mut self, mapping: &Mapping, _: &Devices) -> io::Result<()> {
        segments(mapping, &mut self.0)
    }

    fn gone(&mut self, gone: &Mapping, unmapped_ns: Option<u64>) -> io::Result<()> {
        mapping(gone, unmapped_ns, &mut self.0)
    }

    fn unseen(&mut self, without_mapping: &Unseen) -> io::Result<()> {
        unseen(without_mapping, &mut self.0)
    }

    fn occupancy(&mut self, time_ns: u64, whose: &str, used_slots: u64) -> io::Result<()> {
        self.0.row(Table::Occupancy, &[Value::U64(time_ns), Value::Text(whose), Value::U64(used_slots)])
    }
}

fn id(device: DeviceId) -> Value<'static> {
    Value::U64(u64::from(device.0))
}

fn device(device: &Device, rows: &mut impl Rows) -> io::Result<()> {
    let values = [
        id(device.id),
        Value::Text(&device.name),
        Value::Text(&device.driver),
        Value::Text(&device.bus),
        Value::Bool(device.coherent),
        Value::U64(device.dma_mask),
        Value::U64(device.bus_dma_limit),
        Value::U64(u64::from(device.min_align_mask)),
        device.max_segment_size.map(u64::from).into(),
        device.segment_boundary_mask.into(),
        device.iommu_granule.into(),
        Value::Bool(device.untrusted),
        Value::Bool(device.force_bounce),
        Value::Bool(device.own_pool),
    ];
    rows.row(Table::Devices, &values)
}

fn mapping(mapping: &Mapping, unmapped_ns: Option<u64>, rows: &mut impl Rows) -> io::Result<()> {
    let buffers = &mapping.buffers;
    let dma_addr = match mapping.handle {
        Handle::Single(dma_addr) | Handle::Link(dma_addr) => Some(dma_addr),
        Handle::List(_) => None,
    };
    let values = [
        Value::U64(mapping.id),
        Value::U64(mapping.time_ns),
        unmapped_ns.into(),
        id(mapping.device),
        Value::Text(mapping.direction.name()),
        Value::U64(mapping.attrs),
        Value::Bool(mapping.is_list()),
        dma_addr.into(),
        Value::U64(buffers.iter().map(|buffer| buffer.size).sum()),
        Value::U64(buffers.len() as u64),
        Value::U64(u64::from(mapping.truncated)),
        Value::U64(buffers.iter().filter(|buffer| buffer.truth.is_bounced()).count() as u64),
        Value::Bool(mapping.failed),
    ];
    rows.row(Table::Mappings, &values)
}

fn segments(mapping: &Mapping, rows: &mut impl Rows) -> io::Result<()> {
    for (n, buffer) in mapping.buffers.iter().enumerate() {
        let (time_ns, cpu) = (Value::U64(buffer.time_ns), Value::U64(u64::from(buffer.cpu)));
        let (phys, size, slot) = (Value::U64(buffer.phys), Value::U64(buffer.size), buffer.truth.slot().into());
        let (number, index) = (Value::U64(mapping.id), Value::U64(n as u64));
        let kernel = Value::Text(buffer.truth.name());
        let exact = Value::Bool(buffer.exact);
        rows.row(Table::Segments, &[number, index, time_ns, cpu, phys, exact, size, kernel, slot])?;
        if buffer.truth.is_bounced() {
            rows.row(Table::Bounces, &[time_ns, number, index, id(mapping.device), cpu, phys, size, slot])?;
        }
    }
    Ok(())
}

fn unseen(unseen: &Unseen, rows: &mut impl Rows) -> io::Result<()> {
    let values = [
        Value::U64(unseen.time_ns),
        Value::Null,
        Value::U64(0),
        id(unseen.device),
        Value::U64(u64::from(unseen.cpu)),
        Value::U64(unseen.phys),
        Value::U64(unseen.size),
        unseen.slot.into(),
    ];
    rows.row(Table::Bounces, &values)
}

fn allocation(event: &Event, rows: &mut impl Rows) -> io::Result<()> {
    let What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, gfp } = event.what else { return Ok(()) };
    let numbers =
        [event.time_ns, u64::from(event.cpu), u64::from(event.task), call_site, ptr, bytes_req, bytes_alloc, gfp];
    rows.row(Table::Allocations, &numbers.map(Value::U64))
}
