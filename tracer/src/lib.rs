//! bouncescope's library.
//!
//! Everything that happens, live or recorded, is one stream of [`stream::Item`]s. [`live`] makes it from the running
//! kernel, [`capture`] keeps and returns it, [`replay`] drives it through the simulated kernel of [`model`], and
//! [`check`] holds what came out to rules, and [`report`] prints it. [`kernel`] reads facts about the running kernel.
//!
//! [`sweep`] drives many kernels at once, on all cores. [`pseudonym`] takes the kernel's addresses out of a stream.
//! [`explain`] makes sense of the kernel's own messages, and [`doctor`] says what can be told on a kernel.
//!
//! [`model`] and [`replay`] know no operating system, clock, thread, terminal or file.

pub mod capture;
pub mod check;
pub mod doctor;
pub mod event;
pub mod exchange;
pub mod explain;
pub mod facts;
#[cfg(target_os = "linux")]
pub mod kernel;
#[cfg(all(target_os = "linux", feature = "live"))]
pub mod live;
pub mod model;
pub mod pseudonym;
pub mod replay;
pub mod report;
pub mod size;
pub mod stream;
pub mod sweep;
