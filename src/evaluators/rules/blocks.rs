//! The JSON that an answer holds, among prose and fenced blocks.

use serde_json::Value;

/// Most places of an answer that are tried: each may be read to its end.
const MAX_TRIED: usize = 20;
/// Marks of a fence.
const FENCES: [&str; 2] = ["```", "~~~"];

/// The JSON of an answer: the whole of it, else the first fenced block that is JSON, `json` ones first, else the
/// first object or array in the text.
pub(super) fn json(answer: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(answer.trim()) {
        return Some(value);
    }
    let fenced: Vec<Block> = fenced(answer).take(MAX_TRIED).collect();
    let labelled = fenced.iter().filter(|b| b.language.eq_ignore_ascii_case("json"));
    let others = fenced.iter().filter(|b| !b.language.eq_ignore_ascii_case("json"));
    labelled.chain(others).find_map(Block::json).or_else(|| in_text(answer))
}

/// The first object or array in a text; none where one is cut off, so that no inner part of it is taken.
fn in_text(answer: &str) -> Option<Value> {
    let places = answer.match_indices(['{', '[']).take(MAX_TRIED);
    for rest in places.filter_map(|(at, _)| answer.get(at..)) {
        match first_value(rest) {
            // "[1]" among words is a citation.
            Ok((Value::Array(items), _)) if matches!(items.as_slice(), [Value::Number(_)]) => {}
            Ok((value, _)) => return Some(value),
            Err(e) if e.is_eof() => return None,
            Err(_) => {}
        }
    }
    None
}

/// What follows a fence.
struct Block<'a> {
    /// The word right behind it.
    language: &'a str,
    /// All that follows, with the closing fence.
    body: &'a str,
}

impl Block<'_> {
    /// The block's JSON, where it holds nothing else. Fences within strings of it close nothing.
    fn json(&self) -> Option<Value> {
        let (value, rest) = first_value(self.body).ok()?;
        let rest = rest.trim_start();
        (rest.is_empty() || FENCES.iter().any(|fence| rest.starts_with(fence))).then_some(value)
    }
}

/// Every fence with what follows it, closing ones too: they are followed by no JSON.
fn fenced(answer: &str) -> impl Iterator<Item = Block<'_>> {
    answer.char_indices().filter_map(move |(at, _)| {
        let fence =
            FENCES.iter().find(|fence| answer.get(at..).is_some_and(|rest| rest.starts_with(**fence)))?;
        let inside = answer.get(at + fence.len()..)?.trim_start_matches(['`', '~']);
        let end =
            inside.find(|c: char| !(c.is_ascii_alphanumeric() || "_+-".contains(c))).unwrap_or(inside.len());
        let (language, body) = inside.split_at(end);
        // Digits and minus signs may be the JSON itself.
        let body = if language.starts_with(char::is_alphabetic) { body } else { inside };
        Some(Block { language, body })
    })
}

/// The JSON value that a text begins with, and what follows it.
fn first_value(text: &str) -> Result<(Value, &str), serde_json::Error> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next().unwrap_or_else(|| serde_json::from_str(""))?;
    Ok((value, text.get(values.byte_offset()..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_found_wherever_it_stands() {
        let found = |answer: &str| json(answer);
        let one = Some(json!({"a": 1}));
        for answer in [
            r#"{"a":1}"#,
            "Here:\n```json\n{\"a\":1}\n```\nDone.",
            "~~~json\n{\"a\":1}\n~~~",
            "```json {\"a\":1} ```",
            "Here: {\"a\":1}. Bye {now}.",
            "As asked [1]: {\"a\":1}",
            "```python\nprint([1])\n```\n```\n{\"a\":1}\n```",
            "```\n[2]\n```\n```JSON\n{\"a\":1}\n```",
        ] {
            assert_eq!(found(answer), one, "{answer}");
        }
        assert_eq!(found("```json\n{\"a\": \"```\"}\n```"), Some(json!({"a": "```"})));
        assert_eq!(found("Here: [1, 2] it is"), Some(json!([1, 2])));
        assert_eq!(found("No {json} here"), None);
        assert_eq!(found("Cut: {\"a\": [1], \"b"), None);
    }
}
