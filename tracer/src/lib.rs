//! bouncescope's library.
//!
//! Everything that happens, live or recorded, is one stream of [`stream::Item`]s. [`live`] makes it from the running
//! kernel, [`capture`] keeps and returns it, [`replay`] drives it through the simulated kernel of [`model`], and
//! [`check`] holds what came out to rules, and [`report`] prints it. [`kernel`] reads facts about the running kernel.
//!
//! [`pseudonym`] takes the kernel's addresses out of a stream. [`sweep`] drives many kernels at once, on all cores.
//!
//! [`model`] and [`replay`] know no operating system, clock, thread, terminal or file.

pub mod capture;
pub mod check;
pub mod event;
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
