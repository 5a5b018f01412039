//! JSON held to its schema, as far as our own schemas go: every keyword that they use is understood, any other is an error. Fields that
//! the schema does not have are errors too, so that nothing is printed that it does not describe.

use serde_json::{Map, Value};

/// Keywords that say nothing about a value, or whose part is done by those beside them.
const REMARKS: [&str; 8] = ["$defs", "$schema", "title", "description", "format", "default", "minItems", "maxItems"];

/// Why a document is not as its schema says, with the place.
pub(crate) fn hold(document: &Value, schema: &Value) -> Result<(), String> {
    Checker { root: schema }.value(document, schema, "")
}

struct Checker<'a> {
    root: &'a Value,
}

impl Checker<'_> {
    fn value(&self, value: &Value, schema: &Value, at: &str) -> Result<(), String> {
        let Some(keywords) = schema.as_object() else {
            return if *schema == Value::Bool(true) { Ok(()) } else { Err(format!("{at}: nothing may stand here")) };
        };
        for (keyword, wanted) in keywords {
            match keyword.as_str() {
                "$ref" => self.value(value, self.named(wanted)?, at)?,
                "type" => is_of_type(value, wanted, at)?,
                "const" if value == wanted => {}
                "enum" if list(wanted).contains(value) => {}
                "const" | "enum" => return Err(format!("{at}: {value} is not {wanted}")),
                "minimum" | "maximum" => {
                    let beyond = |number: f64, end: f64| if keyword == "minimum" { number < end } else { number > end };
                    if value.as_f64().zip(wanted.as_f64()).is_some_and(|(number, end)| beyond(number, end)) {
                        return Err(format!("{at}: {value} is beyond the {keyword} of {wanted}"));
                    }
                }
                "anyOf" | "oneOf" => {
                    let fits = list(wanted).iter().filter(|one| self.value(value, one, at).is_ok()).count();
                    if fits == 0 || keyword == "oneOf" && fits > 1 {
                        return Err(format!("{at}: {fits} of the {keyword} fit {value}"));
                    }
                }
                "items" => {
                    for (n, item) in list(value).iter().enumerate() {
                        self.value(item, wanted, &format!("{at}/{n}"))?;
                    }
                }
                "prefixItems" => {
                    for (n, (item, wanted)) in list(value).iter().zip(list(wanted)).enumerate() {
                        self.value(item, wanted, &format!("{at}/{n}"))?;
                    }
                }
                "properties" | "patternProperties" | "additionalProperties" | "required" => {}
                remark if REMARKS.contains(&remark) => {}
                unknown => return Err(format!("{at}: the check does not know {unknown}")),
            }
        }
        value.as_object().map_or(Ok(()), |object| self.object(object, keywords, at))
    }

    fn object(&self, object: &Map<String, Value>, keywords: &Map<String, Value>, at: &str) -> Result<(), String> {
        let describes = ["properties", "patternProperties", "additionalProperties"];
        if !describes.iter().any(|keyword| keywords.contains_key(*keyword)) {
            return Ok(());
        }
        for name in keywords.get("required").map(list).unwrap_or_default() {
            if !object.contains_key(name.as_str().unwrap_or_default()) {
                return Err(format!("{at}: {name} is missing"));
            }
        }
        // The patterns of our schemas are all for keys that are numbers.
        let patterns = keywords.get("patternProperties").and_then(Value::as_object);
        let of_numbers = patterns.and_then(|patterns| patterns.values().next());
        for (name, value) in object {
            let property = keywords.get("properties").and_then(|properties| properties.get(name));
            let of_number = of_numbers.filter(|_| name.parse::<u64>().is_ok());
            let schema = property.or(of_number).or_else(|| keywords.get("additionalProperties"));
            let at = format!("{at}/{name}");
            self.value(value, schema.ok_or_else(|| format!("{at}: the schema has no such field"))?, &at)?;
        }
        Ok(())
    }

    fn named(&self, reference: &Value) -> Result<&Value, String> {
        let pointer = reference.as_str().and_then(|reference| reference.strip_prefix('#'));
        pointer.and_then(|pointer| self.root.pointer(pointer)).ok_or_else(|| format!("no {reference}"))
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_of_type(value: &Value, wanted: &Value, at: &str) -> Result<(), String> {
    let one = [wanted.clone()];
    let types = wanted.as_array().map_or(&one[..], Vec::as_slice);
    let is = |name: &Value| match name.as_str().unwrap_or_default() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    if types.iter().any(is) { Ok(()) } else { Err(format!("{at}: {value} is no {wanted}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wrong_types_missing_and_unknown_fields_are_found_with_their_place() {
        let schema = json!({
            "type": "object",
            "properties": { "a": { "type": "array", "items": { "$ref": "#/$defs/Row" } }, "b": { "type": ["string", "null"] } },
            "required": ["a"],
            "$defs": { "Row": { "type": "object", "properties": { "n": { "type": "integer", "minimum": 0 } }, "required": ["n"] } },
        });
        let held = |document: Value| hold(&document, &schema).err().unwrap_or_default();
        assert_eq!(held(json!({ "a": [{ "n": 1 }], "b": null })), "");
        assert_eq!(held(json!({ "b": "x" })), ": \"a\" is missing");
        assert_eq!(held(json!({ "a": [{ "n": 1 }, { "n": "1" }] })), "/a/1/n: \"1\" is no \"integer\"");
        assert_eq!(held(json!({ "a": [{ "n": -1 }] })), "/a/0/n: -1 is beyond the minimum of 0");
        assert_eq!(held(json!({ "a": [], "c": 1 })), "/c: the schema has no such field");
        assert!(hold(&json!(1), &json!({ "multipleOf": 2 })).unwrap_err().contains("does not know multipleOf"));
        assert!(hold(&json!(1), &json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] })).is_err());
    }
}
