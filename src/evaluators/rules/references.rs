//! What a JSON schema refers to, and what it costs to run: never another document, never without bound.

use std::collections::HashMap;

use serde_json::Value;

/// Most values that a call's schema may unfold to.
const MAX_UNFOLDED: usize = 100_000;
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

/// Values of a call's schema once its references are unfolded: the most that one value of an answer is compared
/// with. None where it is not safe to run: a reference that is no pointer into the schema or leads back to where
/// it stands, or too many values.
pub(super) fn unfolded_size(schema: &Value) -> Option<usize> {
    // An inner `$id` would give the pointers below it another root than the one that is followed here.
    let members = schema.as_object().into_iter().flat_map(|members| members.values());
    if members.into_iter().any(has_id) {
        return None;
    }
    unfolded(schema, schema, &mut HashMap::new())
}

/// Values of a JSON document: itself, its members and items, and theirs.
pub(super) fn size(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(size).sum(),
        Value::Array(items) => items.iter().map(size).sum(),
        _ => 0,
    }
}

/// Whether the schema asks somewhere that items differ.
pub(super) fn asks_for_unique_items(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.iter().any(|(key, value)| {
            (key == "uniqueItems" && value == &Value::Bool(true)) || asks_for_unique_items(value)
        }),
        Value::Array(items) => items.iter().any(asks_for_unique_items),
        _ => false,
    }
}

/// Pairs of items within one array, summed over all arrays of a document.
pub(super) fn item_pairs(value: &Value) -> usize {
    match value {
        Value::Object(members) => members.values().map(item_pairs).sum(),
        Value::Array(items) => items.len() * items.len() + items.iter().map(item_pairs).sum::<usize>(),
        _ => 0,
    }
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

/// Values that a part unfolds to; each target is counted once and remembered.
fn unfolded<'a>(
    root: &'a Value,
    part: &'a Value,
    sizes: &mut HashMap<&'a str, Option<usize>>,
) -> Option<usize> {
    let mut found = Vec::new();
    references(part, &mut found);
    let mut size = size(part);
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
        let shared = json!({"$defs": {"a": {"type": "string"}}, "items": {"$ref": "#/$defs/a"}});
        assert_eq!(unfolded_size(&shared), Some(8));
        assert_eq!(unfolded_size(&json!({"allOf": [{"$ref": "#"}]})), None);
        assert_eq!(unfolded_size(&json!({"$defs": {"a": {"$id": "https://example.com/a"}}})), None);
        let mut definitions = serde_json::Map::new();
        for i in 0..30 {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            definitions.insert(format!("d{i}"), json!({"allOf": [next, next]}));
        }
        definitions.insert("d30".into(), json!({}));
        assert_eq!(unfolded_size(&json!({"$defs": definitions, "$ref": "#/$defs/d0"})), None);
        assert!(!are_local(&json!({"$ref": "https://example.com/schema.json"})));
        assert!(!are_local(&json!({"items": [{"$ref": "file:///etc/passwd"}]})));
    }
}
