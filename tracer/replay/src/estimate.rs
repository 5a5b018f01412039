//! Numbers estimated from a sample, with their error.

use serde::Serialize;

/// An estimate from a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Estimate {
    /// The value.
    pub value: u64,
    /// Its standard error; 0 where everything was counted.
    pub error: u64,
}
