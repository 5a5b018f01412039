//! Other people's formats as streams. What a source cannot tell is said in the stream's notes, never made up.
//!
//! [`ftrace::Survey`] looks at what is in a text trace and may keep its events, [`assume`] fills in what such a trace does not say, and
//! [`ftrace::Trace`] is the stream, from the text or from what was kept.
//!
//! ```
//! use bouncescope_capture::{
//!     facts::KernelFacts,
//!     stream::{Item, Source as _},
//! };
//! use bouncescope_exchange::{
//!     assume::assume,
//!     ftrace::{Survey, Trace},
//! };
//!
//! let trace = "usb-7 [000] ..... 1.5: dma_map_phys: 1-1 dir=FROM_DEVICE dma_addr=7ab80800 size=8 phys_addr=460a7a90 attrs=\n";
//! let survey = Survey::of(trace.as_bytes())?;
//! assert_eq!(survey.devices["1-1"].mappings, 1);
//!
//! let assumed = assume(&survey, KernelFacts::default(), &[], &[]);
//! let mut stream = Trace::new(trace.as_bytes(), &survey, assumed.kernel, assumed.devices, assumed.notes);
//! let Some(Item::Start(start)) = stream.next_item()? else { unreachable!("a stream begins with its start") };
//! assert!(!start.notes.is_empty(), "what was assumed is said");
//! # Ok::<(), std::io::Error>(())
//! ```

// They panic where a terminal or a disk is gone.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod as_text;
pub mod assume;
pub mod export;
pub mod ftrace;
pub mod given;
pub mod join;
pub mod packed;
pub mod perfdata;
pub mod perfetto;
mod print;
mod protobuf;
pub mod tracedat;
mod tracefs;
