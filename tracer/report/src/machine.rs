//! What commands print with `--json`: a document of its own for each, with its name and version. `schemas/` has the schema of each kind, and
//! docs/machine-output.md what may change within a version. Addresses are strings in hexadecimal: JSON's readers take numbers beyond
//! 2^53 for others.

mod capture;
mod check;
mod diff;
mod kernel;
mod labels;
mod replay;

use serde::Serialize;
use serde_json::{Value, json};

pub use capture::{Packed, Stats, Verify};
pub use check::Check;
pub use diff::Diff;
pub use kernel::{Doctor, Kernel};
pub use labels::{Labelled, LabelledCapture};
pub use replay::Replay;

use crate::advice::several::Several;
use crate::explain::Explained;

/// A kind of document.
pub trait Document: Serialize {
    /// What follows `bouncescope/` in the document's field `schema`, and the name of its file in `schemas/`.
    const KIND: &'static str;
    /// Grows when a field is removed, renamed or means something else.
    const VERSION: u32 = 1;

    /// The document, with its kind and version.
    fn to_json(&self) -> Value {
        let mut document = json!(self);
        document["schema"] = json!(format!("bouncescope/{}", Self::KIND));
        document["schema_version"] = json!(Self::VERSION);
        document
    }
}

impl Document for Several {
    const KIND: &'static str = "advise";
}

impl Document for Explained {
    const KIND: &'static str = "explain";
}

/// An address.
fn hex(address: u64) -> String {
    format!("{address:#x}")
}

/// The schema of each kind, by its name.
#[cfg(feature = "schema")]
pub fn schemas() -> std::collections::BTreeMap<&'static str, Value> {
    fn one<T: Document + schemars::JsonSchema>() -> (&'static str, Value) {
        let generator = schemars::generate::SchemaSettings::draft2020_12().for_serialize().into_generator();
        let mut schema = generator.into_root_schema_for::<T>().to_value();
        schema["properties"]["schema"] = json!({ "const": format!("bouncescope/{}", T::KIND) });
        schema["properties"]["schema_version"] = json!({ "const": T::VERSION });
        if let Some(required) = schema["required"].as_array_mut() {
            required.extend([json!("schema"), json!("schema_version")]);
        }
        tidy(&mut schema);
        (T::KIND, schema)
    }
    /// Doc comments speak to readers of Rust; a schema is read by others. Defaults are for readers of captures.
    fn tidy(schema: &mut Value) {
        match schema {
            Value::Object(keywords) => {
                // A field may be called so, too.
                if keywords.get("default").is_some_and(|value| value.get("type").is_none()) {
                    keywords.remove("default");
                }
                if let Some(Value::String(text)) = keywords.get_mut("description") {
                    *text = text.replace('\n', " ").replace("`None`", "`null`").replace("[`", "`").replace("`]", "`");
                }
                keywords.values_mut().for_each(tidy);
            }
            Value::Array(values) => values.iter_mut().for_each(tidy),
            _ => {}
        }
    }
    [
        one::<Several>(),
        one::<Check>(),
        one::<Diff>(),
        one::<Doctor>(),
        one::<Explained>(),
        one::<Labelled>(),
        one::<Packed>(),
        one::<Replay>(),
        one::<Stats>(),
        one::<Verify>(),
    ]
    .into()
}
