//! What fuzz targets share: captures built around a fuzzer's bytes, and everything that is done with a capture.

pub mod cost;
pub mod everything;
pub mod frames;
pub mod items;
pub mod stream;
pub mod trace;
