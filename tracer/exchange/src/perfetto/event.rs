//! One event, in whichever of the three ways it is encoded, as the line that tracefs would have printed.

use std::borrow::Cow;
use std::fmt::Write as _;

use hashbrown::HashMap;

use crate::print;
use crate::protobuf::{Fields, Value};

/// Events that are described, and fields of each. Linux 6.18 has some 3000 events.
const DESCRIBED: usize = 1 << 13;
const FIELDS: usize = 128;

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
                descriptor::NAME => shape.event = text(value).into_owned(),
                descriptor::FIELD if shape.fields.len() < FIELDS => {
                    let (mut name, mut number) = (String::new(), 0);
                    for (field, value) in Fields::of(value.bytes()) {
                        match field {
                            descriptor::FIELD_NAME => name = text(value).into_owned(),
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
    /// Takes in the description of an event.
    pub(super) fn learn(&mut self, descriptor: &[u8]) {
        let (mut id, mut shape) = (0, Shape::default());
        for (field, value) in Fields::of(descriptor) {
            match field {
                descriptor::FIELD_ID => id = value.number() as u32,
                descriptor::EVENT_DESCRIPTOR => shape = Shape::from_descriptor(value.bytes()),
                _ => {}
            }
        }
        if self.by_field.len() < DESCRIBED {
            self.by_field.insert(id, shape);
        }
    }

    /// Appends the line of an event of a CPU; whether it is one of ours. Of others a part may be appended.
    pub(super) fn line(&mut self, line: &mut String, cpu: u64, time_ns: u64, event: &[u8]) -> bool {
        let mut task = 0;
        let mut found = None;
        for (field, value) in Fields::of(event) {
            match field {
                ftrace_event::TIMESTAMP => {}
                ftrace_event::PID => task = value.number(),
                ftrace_event::GENERIC => found = Some(generic(value.bytes())),
                _ => found = found.or_else(|| self.of_message(field, value)),
            }
        }
        print::head(line, task as u32, Some(cpu), time_ns);
        let address = |addr, line: &mut String| {
            let _ = write!(line, "{addr:#x}");
        };
        let printed = found.as_ref().and_then(|(event, values)| print::event(line, event, values, &address));
        if printed.is_none() {
            let is_list = found.is_some_and(|(event, _)| event.starts_with("dma_") && event.contains("_sg"));
            *(if is_list { &mut self.lists } else { &mut self.others }) += 1;
        }
        printed.is_some()
    }

    fn of_message<'a>(&'a self, field: u32, value: Value<'a>) -> Option<(Cow<'a, str>, Values<'a>)> {
        let shape = self.by_field.get(&field)?;
        let named = |(number, value)| Some((Cow::Borrowed(shape.fields.get(&number)?.as_str()), Content::of(value)));
        Some((Cow::Borrowed(&shape.event), Values(Fields::of(value.bytes()).filter_map(named).collect())))
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

/// When an event was, ns.
pub(super) fn time_of(event: &[u8]) -> u64 {
    let times = Fields::of(event).filter(|(field, _)| *field == ftrace_event::TIMESTAMP);
    times.last().map_or(0, |(_, value)| value.number())
}

/// What a field of an event holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content<'a> {
    Number(u64),
    Text(Cow<'a, str>),
}

impl<'a> Content<'a> {
    fn of(value: Value<'a>) -> Self {
        match value {
            Value::Number(number) => Self::Number(number),
            Value::Bytes(_) => Self::Text(text(value)),
        }
    }
}

/// Values by the names of their fields. Of those of one name the last counts.
#[derive(Debug, Default)]
struct Values<'a>(Vec<(Cow<'a, str>, Content<'a>)>);

impl Values<'_> {
    fn content(&self, name: &str) -> Option<&Content<'_>> {
        self.0.iter().rfind(|(known, _)| known == name).map(|(_, content)| content)
    }
}

/// A text of one line, as a line holds it.
fn text(value: Value<'_>) -> Cow<'_, str> {
    print::one_line(value.bytes())
}

/// A `GenericFtraceEvent`.
fn generic(message: &[u8]) -> (Cow<'_, str>, Values<'_>) {
    let (mut event, mut values) = (Cow::Borrowed(""), Values::default());
    for (field, value) in Fields::of(message) {
        match field {
            generic::EVENT_NAME => event = text(value),
            generic::FIELD => {
                let (mut name, mut content) = (Cow::Borrowed(""), None);
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

impl print::Values for Values<'_> {
    fn number(&self, name: &str) -> Option<u64> {
        match self.content(name)? {
            Content::Number(number) => Some(*number),
            Content::Text(_) => None,
        }
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.content(name)? {
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
