//! One event, in whichever of the three ways it is encoded, as the line that tracefs would have printed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::super::print;
use super::super::protobuf::{Fields, Value};
use super::{Line, bundle};

/// Names of the fields of events that are messages of their own, by the field of `FtraceEvent`.
#[derive(Debug)]
pub(super) struct Shapes {
    by_field: HashMap<u32, Shape>,
    /// Events of lists: Perfetto records no arrays.
    lists: u64,
    /// Events that are none of ours.
    others: u64,
}

#[derive(Clone, Debug, Default)]
struct Shape {
    event: String,
    fields: HashMap<u32, String>,
}

impl Shape {
    fn of(event: &str, fields: &[(u32, &str)]) -> Self {
        Self {
            event: event.to_owned(),
            fields: fields.iter().map(|(number, name)| (*number, (*name).to_owned())).collect(),
        }
    }

    /// From a `DescriptorProto`.
    fn from_descriptor(descriptor: &[u8]) -> Self {
        let mut shape = Self::default();
        for (field, value) in Fields::of(descriptor) {
            match field {
                descriptor::NAME => shape.event = text(value),
                descriptor::FIELD => {
                    let (mut name, mut number) = (String::new(), 0);
                    for (field, value) in Fields::of(value.bytes()) {
                        match field {
                            descriptor::FIELD_NAME => name = text(value),
                            descriptor::FIELD_NUMBER => number = value.number() as u32,
                            _ => {}
                        }
                    }
                    shape.fields.insert(number, name);
                }
                _ => {}
            }
        }
        shape
    }
}

impl Default for Shapes {
    /// Those of `kmem.proto`.
    fn default() -> Self {
        let kmalloc = [(1, "bytes_alloc"), (2, "bytes_req"), (3, "call_site"), (5, "ptr")];
        let kmalloc_node = [(1, "bytes_alloc"), (2, "bytes_req"), (3, "call_site"), (6, "ptr")];
        let by_field = [
            (ftrace_event::KFREE, Shape::of("kfree", &[(1, "call_site"), (2, "ptr")])),
            (ftrace_event::KMALLOC, Shape::of("kmalloc", &kmalloc)),
            (ftrace_event::KMALLOC_NODE, Shape::of("kmalloc_node", &kmalloc_node)),
        ];
        Self { by_field: by_field.into(), lists: 0, others: 0 }
    }
}

impl Shapes {
    /// Takes in the events that a bundle describes.
    pub(super) fn learn(&mut self, bundle: &[u8]) {
        for (_, value) in Fields::of(bundle).filter(|(field, _)| *field == bundle::DESCRIPTORS) {
            let (mut id, mut shape) = (0, Shape::default());
            for (field, value) in Fields::of(value.bytes()) {
                match field {
                    descriptor::FIELD_ID => id = value.number() as u32,
                    descriptor::EVENT_DESCRIPTOR => shape = Shape::from_descriptor(value.bytes()),
                    _ => {}
                }
            }
            self.by_field.insert(id, shape);
        }
    }

    /// An event of a CPU; `None` for one that is none of ours.
    pub(super) fn line(&mut self, cpu: u64, event: &[u8]) -> Option<Line> {
        let (mut time_ns, mut task) = (0, 0);
        let mut found = None;
        for (field, value) in Fields::of(event) {
            match field {
                ftrace_event::TIMESTAMP => time_ns = value.number(),
                ftrace_event::PID => task = value.number(),
                ftrace_event::GENERIC => found = Some(generic(value.bytes())),
                _ => found = found.or_else(|| self.of_message(field, value)),
            }
        }
        let mut text = String::new();
        print::head(&mut text, task as u32, Some(cpu), time_ns);
        let address = |addr, line: &mut String| *line += &format!("{addr:#x}");
        let printed = found.as_ref().and_then(|(event, values)| print::event(&mut text, event, values, &address));
        if printed.is_none() {
            let is_list = found.is_some_and(|(event, _)| event.starts_with("dma_") && event.contains("_sg"));
            *(if is_list { &mut self.lists } else { &mut self.others }) += 1;
            return None;
        }
        Some(Line { time_ns, text })
    }

    fn of_message(&self, field: u32, value: Value<'_>) -> Option<(String, Values)> {
        let shape = self.by_field.get(&field)?;
        let named = |(number, value)| Some((shape.fields.get(&number)?.clone(), Content::of(value)));
        Some((shape.event.clone(), Values(Fields::of(value.bytes()).filter_map(named).collect())))
    }

    /// What was passed over.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.lists > 0 {
            notes.push(format!(
                "{} events of scatterlists were passed over: Perfetto records none of the arrays that hold their buffers, so bounces \
                 of lists have no mapping",
                self.lists
            ));
        }
        if self.others > 0 {
            notes.push(format!("{} other events were passed over", self.others));
        }
        notes
    }
}

/// What a field of an event holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Number(u64),
    Text(String),
}

impl Content {
    fn of(value: Value<'_>) -> Self {
        match value {
            Value::Number(number) => Self::Number(number),
            Value::Bytes(_) => Self::Text(text(value)),
        }
    }
}

#[derive(Debug, Default)]
struct Values(BTreeMap<String, Content>);

/// A text of one line, as a line holds it.
fn text(value: Value<'_>) -> String {
    print::one_line(value.bytes()).into_owned()
}

/// A `GenericFtraceEvent`.
fn generic(message: &[u8]) -> (String, Values) {
    let (mut event, mut values) = (String::new(), Values::default());
    for (field, value) in Fields::of(message) {
        match field {
            generic::EVENT_NAME => event = text(value),
            generic::FIELD => {
                let (mut name, mut content) = (String::new(), None);
                for (field, value) in Fields::of(value.bytes()) {
                    match field {
                        generic::NAME => name = text(value),
                        generic::STR_VALUE | generic::INT_VALUE | generic::UINT_VALUE => {
                            content = Some(Content::of(value));
                        }
                        _ => {}
                    }
                }
                values.0.extend(content.map(|content| (name, content)));
            }
            _ => {}
        }
    }
    (event, values)
}

impl print::Values for Values {
    fn number(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Content::Number(number) => Some(*number),
            Content::Text(_) => None,
        }
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.0.get(name)? {
            Content::Text(text) => Some(Cow::Borrowed(text)),
            Content::Number(_) => None,
        }
    }

    fn list(&self, _: &str, _: &mut String) -> Option<()> {
        None
    }
}

/// Fields of `FtraceEvent`.
mod ftrace_event {
    pub(super) const TIMESTAMP: u32 = 1;
    pub(super) const PID: u32 = 2;
    pub(super) const KFREE: u32 = 298;
    pub(super) const KMALLOC: u32 = 299;
    pub(super) const KMALLOC_NODE: u32 = 300;
    pub(super) const GENERIC: u32 = 327;
}

/// Fields of `GenericFtraceEvent` and of its `Field`.
mod generic {
    pub(super) const EVENT_NAME: u32 = 1;
    pub(super) const FIELD: u32 = 2;

    pub(super) const NAME: u32 = 1;
    pub(super) const STR_VALUE: u32 = 3;
    pub(super) const INT_VALUE: u32 = 4;
    pub(super) const UINT_VALUE: u32 = 5;
}

/// Fields of `FtraceEventBundle.GenericEventDescriptor`, and of `DescriptorProto` and `FieldDescriptorProto` (`descriptor.proto` of
/// Protocol Buffers).
mod descriptor {
    pub(super) const FIELD_ID: u32 = 1;
    pub(super) const EVENT_DESCRIPTOR: u32 = 2;

    pub(super) const NAME: u32 = 1;
    pub(super) const FIELD: u32 = 2;

    pub(super) const FIELD_NAME: u32 = 1;
    pub(super) const FIELD_NUMBER: u32 = 3;
}
