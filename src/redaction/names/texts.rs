//! The texts of a call in which names may stand: input, answer, contexts, and what metadata says. Ids, hashes, names of
//! models and of fields are none: they have to stay what they are.

use std::ops::Range;

use serde_json::Value;

use crate::domain::Call;

/// How a text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As sentences.
    Prose,
    /// As the value of a field: of metadata, or of JSON.
    Field,
}

/// Shows each text of a call, in the order in which placeholders are numbered.
pub(super) fn read(call: &Call, see: &mut dyn FnMut(&str, Form)) {
    let content = &call.content;
    let contexts = content.contexts.iter().map(|context| &context.text);
    for text in content.input.iter().chain([&content.answer]).chain(contexts) {
        read_text(text, Form::Prose, see);
    }
    call.metadata.values().for_each(|value| read_value(value, see));
}

/// Changes each text of a call for which there is another one, in the same order.
pub(super) fn rewrite(call: &mut Call, change: &mut dyn FnMut(&str, Form) -> Option<String>) {
    let content = &mut call.content;
    let contexts = content.contexts.iter_mut().map(|context| &mut context.text);
    for text in content.input.iter_mut().chain([&mut content.answer]).chain(contexts) {
        if let Some(changed) = rewritten(text, Form::Prose, change) {
            *text = changed;
        }
    }
    call.metadata.values_mut().for_each(|value| rewrite_value(value, change));
}

/// Whether a name may stand in a text: it has letters, and is no code such as a locale (`en-US`), of which an analyzer
/// would make a place that is then taken out everywhere.
pub(super) fn is_worth_asking(text: &str, form: Form) -> bool {
    let has_letters = text.chars().any(char::is_alphabetic);
    let is_word = !text.trim().contains(char::is_whitespace);
    let is_coded = |c: char| c.is_ascii_digit() || matches!(c, '_' | '/' | ':');
    let is_code = is_word && (text.trim().starts_with(char::is_lowercase) || text.contains(is_coded));
    has_letters && !(form == Form::Field && is_code)
}

/// Where the string values of a text that is JSON stand, quotes included; none where it is no JSON.
fn literals(text: &str) -> Option<Vec<Range<usize>>> {
    if !text.trim_start().starts_with(['{', '[']) || serde_json::from_str::<Value>(text).is_err() {
        return None;
    }
    let (bytes, mut found, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(length) = text.get(at..).and_then(|rest| rest.find('"')) {
        let start = at + length;
        let mut end = start + 1;
        // It is JSON: each string has its end, and what follows a backslash is no end.
        while !matches!(bytes.get(end), None | Some(b'"')) {
            end += if bytes.get(end) == Some(&b'\\') { 2 } else { 1 };
        }
        at = end + 1;
        let is_key = text.get(at..).is_some_and(|rest| rest.trim_start().starts_with(':'));
        if !is_key {
            found.push(start..at);
        }
    }
    Some(found)
}

/// The text of a string value.
fn unquoted(text: &str, literal: &Range<usize>) -> Option<String> {
    serde_json::from_str(text.get(literal.clone())?).ok()
}

/// Shows a text, or those in it.
fn read_text(text: &str, form: Form, see: &mut dyn FnMut(&str, Form)) {
    let Some(literals) = literals(text) else { return see(text, form) };
    for inner in literals.iter().filter_map(|literal| unquoted(text, literal)) {
        read_text(&inner, Form::Field, see);
    }
}

/// Shows the texts of a value.
fn read_value(value: &Value, see: &mut dyn FnMut(&str, Form)) {
    match value {
        Value::String(text) => read_text(text, Form::Field, see),
        Value::Array(items) => items.iter().for_each(|item| read_value(item, see)),
        Value::Object(fields) => fields.values().for_each(|value| read_value(value, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text in which something is changed. JSON stays JSON, written as it was: rules read its numbers as they stand there.
fn rewritten(text: &str, form: Form, change: &mut dyn FnMut(&str, Form) -> Option<String>) -> Option<String> {
    let Some(literals) = literals(text) else { return change(text, form) };
    let (mut changed, mut at) = (String::new(), 0);
    for literal in literals {
        let inner = unquoted(text, &literal).and_then(|inner| rewritten(&inner, Form::Field, change));
        if let (Some(inner), Some(before)) = (inner, text.get(at..literal.start)) {
            changed.push_str(before);
            changed.push_str(&Value::String(inner).to_string());
            at = literal.end;
        }
    }
    (at > 0).then(|| changed + text.get(at..).unwrap_or_default())
}

/// Changes the texts of a value.
fn rewrite_value(value: &mut Value, change: &mut dyn FnMut(&str, Form) -> Option<String>) {
    match value {
        Value::String(text) => {
            if let Some(changed) = rewritten(text, Form::Field, change) {
                *text = changed;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite_value(item, change)),
        Value::Object(fields) => fields.values_mut().for_each(|value| rewrite_value(value, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
