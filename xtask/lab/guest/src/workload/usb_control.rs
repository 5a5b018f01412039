//! `usb-control`: control transfers of every length 1..=512 in both directions, on one device of each host controller.
//!
//! An xHCI sends OUT data of up to 8 bytes inside the request itself, unmapped (`xhci_urb_suitable_for_idt()`), an EHCI
//! does not: together they map every length.

use super::{fact, is_input};
use crate::usbfs::{self, Device, Handle, Urb};

/// The longest transfer, bytes.
const LONGEST: u16 = 512;
/// Direction bit of bmRequestType.
const IN: u8 = 0x80;
/// bmRequestType of a vendor's request to the device, which QEMU's devices stall, after the kernel has mapped the data.
const VENDOR_OUT: u8 = 0x40;
const GET_DESCRIPTOR: u8 = 6;

pub(super) fn run() -> Result<(), String> {
    let mut controllers: Vec<Device> = Vec::new();
    for device in usbfs::devices().into_iter().filter(is_input) {
        if controllers.iter().all(|seen| seen.controller != device.controller) {
            controllers.push(device);
        }
    }
    if controllers.is_empty() {
        return Err("no USB device to talk to".into());
    }
    for device in &controllers {
        transfers(device)?;
    }
    Ok(())
}

fn transfers(device: &Device) -> Result<(), String> {
    let handle = Handle::open(device)?;
    let (mut done, mut stalled) = (0, 0);
    for length in 1..=LONGEST {
        // GET_DESCRIPTOR(device): 18 bytes come, however many were asked and mapped for.
        for (request_type, request, value) in [(IN, GET_DESCRIPTOR, 0x0100_u16), (VENDOR_OUT, 0x5a, 0)] {
            let mut buffer = vec![0; 8 + usize::from(length)];
            buffer[0] = request_type;
            buffer[1] = request;
            buffer[2..4].copy_from_slice(&value.to_le_bytes());
            buffer[6..8].copy_from_slice(&length.to_le_bytes());
            let mut urb = Urb::control(&mut buffer);
            let direction = if request_type & IN == 0 { "OUT" } else { "IN" };
            let failed = |what: &str, error: &dyn std::fmt::Display| {
                format!("{}: control {direction} of {length}: {what}: {error}", device.controller)
            };
            handle.submit(&mut urb).map_err(|error| failed("submit", &error))?;
            handle.reap().map_err(|error| failed("reap", &error))?;
            match urb.status() {
                0 => done += 1,
                status if status == -libc::EPIPE && request_type == VENDOR_OUT => stalled += 1,
                status => return Err(failed("status", &status)),
            }
        }
    }
    fact(&format!("control.{}", device.controller), format!("{done} stalled={stalled}"));
    Ok(())
}
