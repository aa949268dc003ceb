//! What a JSON schema refers to: never another document, and never so often that checking explodes.

use std::collections::HashMap;

use serde_json::Value;

/// Most subschemas that a call's schema may unfold to.
const MAX_UNFOLDED: usize = 10_000;
/// Keywords whose string value is a reference.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// All references of a schema part.
fn references<'a>(part: &'a Value, found: &mut Vec<&'a str>) {
    match part {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(target) if REFERENCES.contains(&key.as_str()) => found.push(target),
                    value => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Whether the schema refers to nothing but itself.
pub(super) fn are_local(schema: &Value) -> bool {
    let mut found = Vec::new();
    references(schema, &mut found);
    found.iter().all(|target| target.starts_with('#'))
}

/// Whether a schema from a call is safe to run: its references are pointers into itself, none leads back to
/// where it stands, and they unfold to a bounded number of subschemas.
pub(super) fn are_bounded(schema: &Value) -> bool {
    let mut sizes = HashMap::new();
    // An inner `$id` would give the pointers below it another root than the one that is followed here.
    let members = schema.as_object().into_iter().flat_map(|members| members.values());
    !members.into_iter().any(has_id)
        && unfolded(schema, schema, &mut sizes).is_some_and(|size| size <= MAX_UNFOLDED)
}

/// Whether a part, or a part of it, names itself.
fn has_id(part: &Value) -> bool {
    match part {
        Value::Object(members) => members
            .iter()
            .any(|(key, value)| (matches!(key.as_str(), "$id" | "id") && value.is_string()) || has_id(value)),
        Value::Array(items) => items.iter().any(has_id),
        _ => false,
    }
}

/// References that a part unfolds to; none where one is no pointer, leads back, or they are too many.
fn unfolded<'a>(
    root: &'a Value,
    part: &'a Value,
    sizes: &mut HashMap<&'a str, Option<usize>>,
) -> Option<usize> {
    let mut found = Vec::new();
    references(part, &mut found);
    let mut size = 1_usize;
    for target in found {
        let known = sizes.get(target).copied();
        let inner = match known {
            Some(known) => known?,
            None => {
                sizes.insert(target, None);
                let pointer = target.strip_prefix('#')?.replace("%25", "%");
                let inner = unfolded(root, root.pointer(&pointer)?, sizes)?;
                sizes.insert(target, Some(inner));
                inner
            }
        };
        size = size.checked_add(inner).filter(|size| *size <= MAX_UNFOLDED)?;
    }
    Some(size)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn loops_and_explosions_are_refused() {
        assert!(are_bounded(&json!({"$defs": {"a": {"type": "string"}}, "items": {"$ref": "#/$defs/a"}})));
        assert!(!are_bounded(&json!({"allOf": [{"$ref": "#"}]})));
        assert!(!are_bounded(&json!({"$defs": {"a": {"$id": "https://example.com/a"}}})));
        let mut definitions = serde_json::Map::new();
        for i in 0..30 {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            definitions.insert(format!("d{i}"), json!({"allOf": [next, next]}));
        }
        definitions.insert("d30".into(), json!({}));
        assert!(!are_bounded(&json!({"$defs": definitions, "$ref": "#/$defs/d0"})));
        assert!(!are_local(&json!({"$ref": "https://example.com/schema.json"})));
        assert!(!are_local(&json!({"items": [{"$ref": "file:///etc/passwd"}]})));
    }
}
