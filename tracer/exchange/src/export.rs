//! What a stream holds, as tables and as a timeline.
//!
//! | room | what is in it |
//! |---|---|
//! | [`follow`] | one pass over a stream: mappings with their ends, and slots in use of simulated kernels |
//! | [`mod@table`], [`rows`], [`csv`], `columns` | the tables, a stream as their rows, and these as files |
//! | [`perfetto`], `protobuf` | a stream as a timeline for Perfetto |

#[cfg(feature = "export")]
pub mod columns;
pub mod csv;
pub mod follow;
pub mod perfetto;
pub mod rows;
pub mod table;
