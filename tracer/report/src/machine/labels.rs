//! `bouncescope label --json`.

use bouncescope_capture::labels::Labels;
use serde::Serialize;

use super::Document;

/// What captures say of the machines that they were made on.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Labelled {
    /// In the order of the arguments.
    pub captures: Vec<LabelledCapture>,
}

/// One of them.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LabelledCapture {
    /// The file.
    pub file: String,
    /// What tells the capture from all others, whatever its labels: 32 hexadecimal digits.
    pub identity: String,
    /// Its labels, by name.
    pub labels: Labels,
}

impl Document for Labelled {
    const KIND: &'static str = "label";
}
