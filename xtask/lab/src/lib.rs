//! The lab: boots real arm64 kernels in QEMU, lets the product record in them while workloads map and bounce, and compares
//! what it predicts with what those kernels did.

mod advised;
mod board;
mod boot;
mod build;
mod built_kernel;
mod command;
mod configuration;
mod console;
mod cpio;
mod cross;
mod default_mode;
mod device_tree;
mod docs;
mod doctor;
mod fetch;
mod flight;
mod from_boot;
mod holders;
mod initramfs;
mod judge;
mod kernel;
mod kernels;
pub mod live_dma;
mod losses;
mod machine;
mod mappings;
mod memory;
mod modules;
mod overlaps;
mod packages;
mod recording;
mod run;
mod scenario;
mod scenarios;
mod served;
mod slab;
mod table;
mod test_module;
mod text_trace;
mod tools;
mod truth;
mod verdict;
mod verify;
mod witness;

pub use self::command::{Args, run};
