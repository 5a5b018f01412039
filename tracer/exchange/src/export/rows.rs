//! A stream as rows of the tables.

use std::io;

use super::{
    follow::Follow,
    table::{Rows, Table, Value, WIDEST},
};
use bouncescope_capture::event::{DeviceId, Event, What};
use bouncescope_capture::facts::Device;
use bouncescope_capture::stream::{Item, Start};
use bouncescope_replay::{
    devices::Devices,
    mapping::{Handle, Mapping},
    step::Unseen,
};

/// Makes rows, and gives them to `R`.
#[derive(Debug)]
pub struct ToRows<R> {
    /// What takes them.
    pub rows: R,
    /// The first column of every row: the capture's identity.
    pub capture: String,
}

impl<R: Rows> ToRows<R> {
    /// Takes rows without the first column.
    fn of_capture(&mut self) -> OfCapture<'_, R> {
        OfCapture { rows: &mut self.rows, capture: &self.capture }
    }
}

struct OfCapture<'a, R> {
    rows: &'a mut R,
    capture: &'a str,
}

impl<R: Rows> Rows for OfCapture<'_, R> {
    fn row(&mut self, table: Table, values: &[Value<'_>]) -> io::Result<()> {
        let mut all = [Value::Null; WIDEST];
        all[0] = Value::Text(self.capture);
        let row = &mut all[..=values.len()];
        row[1..].copy_from_slice(values);
        self.rows.row(table, row)
    }
}

impl<R: Rows> Follow for ToRows<R> {
    fn item(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::Start(start) => self::start(start, &mut self.of_capture()),
            Item::Device(described) => device(described, &mut self.of_capture()),
            Item::Events(batch) => batch.events.iter().try_for_each(|event| allocation(event, &mut self.of_capture())),
            Item::Symbols(symbols) => symbols.iter().try_for_each(|symbol| {
                let values = [Value::U64(symbol.addr), Value::Text(&symbol.name), Value::Text(&symbol.module)];
                self.of_capture().row(Table::Symbols, &values)
            }),
            _ => Ok(()),
        }
    }

    fn mapped(&mut self, mapping: &Mapping, _: &Devices) -> io::Result<()> {
        segments(mapping, &mut self.of_capture())
    }

    fn gone(&mut self, gone: &Mapping, unmapped_ns: Option<u64>) -> io::Result<()> {
        mapping(gone, unmapped_ns, &mut self.of_capture())
    }

    fn unseen(&mut self, without_mapping: &Unseen) -> io::Result<()> {
        unseen(without_mapping, &mut self.of_capture())
    }

    fn occupancy(&mut self, time_ns: u64, whose: &str, used_slots: u64) -> io::Result<()> {
        self.of_capture().row(Table::Occupancy, &[Value::U64(time_ns), Value::Text(whose), Value::U64(used_slots)])
    }
}

fn start(start: &Start, rows: &mut impl Rows) -> io::Result<()> {
    let kernel = &start.kernel;
    let values = [
        Value::U64(start.wall_clock_s),
        Value::Text(&kernel.release),
        Value::Text(&kernel.version),
        Value::Text(&kernel.machine),
        Value::U64(u64::from(kernel.possible_cpus)),
        Value::U64(kernel.memory),
        Value::U64(u64::from(kernel.page_size)),
        Value::U64(u64::from(kernel.cache_line_size)),
        Value::U64(u64::from(kernel.kmalloc_minalign)),
        Value::Bool(kernel.bounce_unaligned_kmalloc),
        Value::U64(kernel.pool.slots),
        Value::Bool(kernel.pool.force),
        Value::Bool(kernel.pool.dynamic),
        Value::Text(start.streamed.name()),
        Value::U64(start.allocation_sample),
        Value::Text(&start.recorder),
    ];
    rows.row(Table::Captures, &values)?;
    let mut labels = start.labels.iter();
    labels.try_for_each(|(name, value)| rows.row(Table::Labels, &[Value::Text(name), Value::Text(value)]))
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
