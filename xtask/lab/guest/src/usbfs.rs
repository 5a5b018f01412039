//! USB devices as sysfs lists them, and requests to them through usbfs (`drivers/usb/core/devio.c`): for each, the
//! kernel kmallocs a buffer of exactly the length asked for and maps it.

use std::{
    fs::{File, OpenOptions},
    io,
    marker::PhantomData,
    os::fd::AsRawFd,
    path::Path,
};

use crate::sysfs;

/// A device that is not a root hub (which answers without DMA).
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// Bus number, of which each host controller has its own.
    pub(crate) bus: u64,
    /// Number on the bus.
    pub(crate) number: u64,
    /// The string that the device calls itself by.
    pub(crate) product: String,
    /// Driver of the host controller, such as `xhci_hcd`.
    pub(crate) controller: String,
}

/// Every device on every bus, in the order of bus and number.
pub(crate) fn devices() -> Vec<Device> {
    let mut devices: Vec<_> = sysfs::entries("/sys/bus/usb/devices").iter().filter_map(|path| describe(path)).collect();
    devices.sort_by_key(|device| (device.bus, device.number));
    devices
}

fn describe(path: &Path) -> Option<Device> {
    let name = sysfs::name(path);
    // usb1 is a root hub, 1-1:1.0 an interface.
    if name.starts_with("usb") || name.contains(':') {
        return None;
    }
    let bus = sysfs::read_number(path.join("busnum"))?;
    let root_hub = Path::new("/sys/bus/usb/devices").join(format!("usb{bus}")).canonicalize().ok()?;
    let driver = root_hub.parent()?.join("driver").canonicalize().ok()?;
    Some(Device {
        bus,
        number: sysfs::read_number(path.join("devnum"))?,
        product: sysfs::read(path.join("product")).unwrap_or_default(),
        controller: sysfs::name(&driver),
    })
}

/// An open device.
pub(crate) struct Handle {
    file: File,
}

/// `struct usbdevfs_urb` of `include/uapi/linux/usbdevice_fs.h`, without isochronous packets.
#[repr(C)]
struct RawUrb {
    kind: u8,
    endpoint: u8,
    status: i32,
    flags: u32,
    buffer: *mut u8,
    buffer_length: i32,
    actual_length: i32,
    start_frame: i32,
    number_of_packets: i32,
    error_count: i32,
    signr: u32,
    usercontext: *mut libc::c_void,
}

/// A request whose buffer and description stay where they are, as the kernel has their addresses until it is reaped.
pub(crate) struct Urb<'a> {
    raw: Box<RawUrb>,
    _buffer: PhantomData<&'a mut [u8]>,
}

const INTERRUPT: u8 = 1;
const CONTROL: u8 = 2;

// _IOC(direction, 'U', number, size) of asm-generic/ioctl.h, with the sizes of 64-bit.
const SUBMITURB: u64 = 0x8038_550a;
const DISCARDURB: u64 = 0x550b;
const REAPURB: u64 = 0x4008_550c;
const CLAIMINTERFACE: u64 = 0x8004_550f;
const _: () = assert!(size_of::<RawUrb>() == 0x38, "the size is part of USBDEVFS_SUBMITURB's number");

impl<'a> Urb<'a> {
    fn new(kind: u8, endpoint: u8, buffer: &'a mut [u8]) -> Self {
        let raw = RawUrb {
            kind,
            endpoint,
            status: 0,
            flags: 0,
            buffer: buffer.as_mut_ptr(),
            buffer_length: buffer.len() as i32,
            actual_length: 0,
            start_frame: 0,
            number_of_packets: 0,
            error_count: 0,
            signr: 0,
            usercontext: std::ptr::null_mut(),
        };
        Self { raw: Box::new(raw), _buffer: PhantomData }
    }

    /// A control transfer; `buffer` holds the 8 bytes of the setup packet and then as many as its wLength says.
    pub(crate) fn control(buffer: &'a mut [u8]) -> Self {
        Self::new(CONTROL, 0, buffer)
    }

    /// An interrupt transfer from `endpoint` (bit 7 set for IN).
    pub(crate) fn interrupt(endpoint: u8, buffer: &'a mut [u8]) -> Self {
        Self::new(INTERRUPT, endpoint, buffer)
    }

    /// How it ended once reaped: 0 or a negative errno.
    pub(crate) fn status(&self) -> i32 {
        self.raw.status
    }
}

impl Handle {
    /// Opens a device's node in `/dev/bus/usb`.
    pub(crate) fn open(device: &Device) -> Result<Self, String> {
        let path = format!("/dev/bus/usb/{:03}/{:03}", device.bus, device.number);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        Ok(Self { file: file.map_err(|error| format!("cannot open {path}: {error}"))? })
    }

    /// Claims an interface, which no kernel driver may have.
    pub(crate) fn claim(&self, interface: u32) -> io::Result<()> {
        self.ioctl(CLAIMINTERFACE, (&raw const interface).cast_mut().cast())
    }

    /// Hands a request to the kernel; it maps the buffer now, or refuses.
    pub(crate) fn submit(&self, urb: &mut Urb) -> io::Result<()> {
        self.ioctl(SUBMITURB, (&raw mut *urb.raw).cast())
    }

    /// Takes a request back; it is to be reaped nevertheless.
    pub(crate) fn discard(&self, urb: &mut Urb) -> io::Result<()> {
        self.ioctl(DISCARDURB, (&raw mut *urb.raw).cast())
    }

    /// Waits until one of the submitted requests has ended.
    pub(crate) fn reap(&self) -> io::Result<()> {
        let mut ended: *mut RawUrb = std::ptr::null_mut();
        self.ioctl(REAPURB, (&raw mut ended).cast())
    }

    fn ioctl(&self, request: u64, argument: *mut libc::c_void) -> io::Result<()> {
        // SAFETY: every caller passes the structure that the request number stands for, alive for the call; a URB and
        // its buffer are boxed and borrowed until reaped.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request as _, argument) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
