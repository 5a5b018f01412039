//! `doctor --json`, and a kernel's facts as every document has them.

use serde::{Serialize, Serializer};
use serde_json::json;

use super::{Document, hex};
use crate::doctor::{Answer, HookState, Page, SmallObject, Today};
use bouncescope_capture::facts::{Device, Here, KernelFacts, PoolSample};

/// A kernel's facts, with addresses as strings.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a>(pub(crate) &'a KernelFacts);

impl Serialize for Kernel<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut value = json!(self.0);
        if let Some(map) = self.0.linear_map {
            value["linear_map"] = json!({ "virt_base": hex(map.virt_base), "phys_base": hex(map.phys_base) });
        }
        value.serialize(serializer)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Kernel<'_> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Kernel".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = KernelFacts::json_schema(generator);
        generator.definitions_mut().remove("LinearMap");
        if let Some(map) = schema.get_mut("properties").and_then(|properties| properties.get_mut("linear_map")) {
            let address = json!({ "type": "string", "description": "An address in hexadecimal." });
            *map = json!({
                "description": map["description"],
                "type": ["object", "null"],
                "properties": { "virt_base": address, "phys_base": address },
                "required": ["virt_base", "phys_base"],
            });
        }
        schema
    }
}

/// `doctor --json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Doctor<'a> {
    /// Tracing works here; on a capture's page that it did.
    can_trace: bool,
    /// Why not.
    why_not: Option<&'a str>,
    /// The program and arguments that recorded, on a capture's page.
    recorder: Option<&'a str>,
    /// The kernel, its caches, pool and configuration.
    kernel: Kernel<'a>,
    /// The smallest object that kmalloc was seen to give.
    smallest_object: Option<SmallObject>,
    /// The pool's own counters, as last read.
    pool: Option<PoolSample>,
    /// Devices that were seen mapping, by name, as last described.
    devices: &'a [Device],
    /// Hooks, with what the self-test or the recording saw of them.
    hooks: &'a [HookState],
    /// What this kernel does with small buffers.
    today: &'a Today,
    /// What can be told here.
    answers: &'a [Answer],
    /// What only a look at the machine tells; `null` on a capture's page.
    here: Option<&'a Here>,
    /// What could not be read or resolved, one line each.
    notes: &'a [String],
}

impl Document for Doctor<'_> {
    const KIND: &'static str = "doctor";
}

impl<'a> Doctor<'a> {
    /// Of a page.
    pub fn new(page: &'a Page) -> Self {
        Self {
            can_trace: page.can_trace,
            why_not: page.why_not.as_deref(),
            recorder: page.recorder.as_deref(),
            kernel: Kernel(&page.kernel),
            smallest_object: page.smallest_object,
            pool: page.pool.clone(),
            devices: &page.devices,
            hooks: &page.hooks,
            today: &page.today,
            answers: &page.answers,
            here: page.here.as_ref(),
            notes: &page.notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::facts::LinearMap;

    #[test]
    fn addresses_of_the_kernel_are_strings() {
        let map = LinearMap { virt_base: 0xffff_0000_c000_0000, phys_base: 1 << 30 };
        let facts = KernelFacts { linear_map: Some(map), ..KernelFacts::default() };
        assert_eq!(json!(Kernel(&facts))["linear_map"]["virt_base"], "0xffff0000c0000000");
        assert!(json!(Kernel(&KernelFacts::default()))["linear_map"].is_null());
    }
}
