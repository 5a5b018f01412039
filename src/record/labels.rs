//! Labels as `record` is told them: with a value, or with that which the machine says of itself.

use anyhow::{Context as _, Result};
use tracer::{
    kernel::{
        identity::{KNOWN, Known},
        root::Root,
    },
    labels::{Label, Labels},
};

/// A label on the command line.
#[derive(Clone, Debug)]
pub(super) enum Given {
    /// `NAME=VALUE`.
    Value(Label),
    /// The name alone: the machine is asked.
    Asked(&'static Known),
}

impl Given {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.contains('=') {
            return text.parse().map(Self::Value).map_err(|error: tracer::labels::LabelError| error.to_string());
        }
        Known::of(text).map(Self::Asked).ok_or_else(|| {
            let names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
            format!("write NAME=VALUE; without a value, a label is one of {}", names.join(", "))
        })
    }
}

/// The labels of a capture of this machine. Of one name, the last counts.
pub(super) fn all(given: &[Given]) -> Result<Labels> {
    let mut labels = Labels::default();
    for one in given {
        let label = match one {
            Given::Value(label) => label.clone(),
            Given::Asked(known) => asked(known)?,
        };
        labels.set(label)?;
    }
    Ok(labels)
}

fn asked(known: &Known) -> Result<Label> {
    let Known { name, source, .. } = known;
    let value = known.value(&Root::default());
    let value = value
        .with_context(|| format!("--label {name}: this machine does not say it ({source}); write {name}=VALUE"))?;
    Label::new(name, &value).with_context(|| format!("--label {name}: this machine says {value:?}"))
}
