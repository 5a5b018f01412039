//! Other people's formats as streams. What a source cannot tell is said in the stream's notes, never made up.

pub mod assume;
pub mod export;
pub mod ftrace;
pub mod given;
pub mod perfetto;
mod protobuf;
