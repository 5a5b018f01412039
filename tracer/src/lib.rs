//! bouncescope's library.
//!
//! Everything that happens, live or recorded, is one stream of [`stream::Item`]s. [`live`] makes it from the running
//! kernel, [`capture`] keeps and returns it, [`replay`] drives it through the simulated kernel of [`model`],
//! [`check`] judges the outcome by rules, and [`report`] prints it.
//!
//! [`sweep`] drives many kernels at once, on all cores. [`pseudonym`] takes the kernel's addresses out of a stream.
//! [`explain`] makes sense of the kernel's own messages, and [`doctor`] says what can be answered on a kernel.
//!
//! Each part is a crate of its own; this one gathers them. `examples/` has programs that replay a capture, read its events and write one.
//!
//! ```
//! use tracer::{
//!     capture::Reader,
//!     model::policy::builtin,
//!     replay::{
//!         Wanted, replay,
//!         settings::{Settings, WhatIf},
//!     },
//! };
//!
//! let legacy = builtin("legacy").ok_or("no such policy")?;
//! let replayed = replay(&mut Reader::open("../captures/default.bounce".as_ref())?, |start| Wanted {
//!     settings: vec![Settings::what_if(&start.kernel, &legacy, &WhatIf::default())],
//!     verdict: true,
//!     ..Wanted::default()
//! })?;
//! // 596 buffers bounced when this was recorded; with caches from 128 bytes, none would have.
//! assert_eq!((replayed.verdict.bounces_kernel, replayed.outcomes[0].total.bounces), (596, 0));
//! // The model agrees with what the kernel did, buffer by buffer.
//! assert!(replayed.verdict.agrees());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// They panic where a terminal or a disk is gone.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub use bouncescope_capture as capture;
pub use bouncescope_capture::{event, facts, labels, names, output, passed, plain, pseudonym, stream};
pub use bouncescope_exchange as exchange;
#[cfg(all(target_os = "linux", feature = "live"))]
pub use bouncescope_live as live;
#[cfg(all(target_os = "linux", feature = "live"))]
pub use bouncescope_live::kernel;
pub use bouncescope_model as model;
pub use bouncescope_model::size;
pub use bouncescope_replay as replay;
pub use bouncescope_replay::check;
pub use bouncescope_report as report;
pub use bouncescope_report::{doctor, explain};

pub mod sweep;
