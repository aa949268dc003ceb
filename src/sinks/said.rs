//! What a backend says of an error in its own words, as far as a log may have it.

use serde_json::Value;

use super::cut;

/// Most bytes of what is shown.
const MAX_BYTES: usize = 200;
/// So many characters in a row that were sent are no chance.
const RUN: usize = 16;

/// The `message` of a JSON body, else its `error`, on one line and cut. None where there is none, where it repeats one of these
/// secrets, or so much of what was sent that it may be a text of the call.
pub fn message(body: &[u8], secrets: &[&str], sent: &[&str]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let said = [&body["message"], &body["error"], &body["error"]["message"]];
    line(said.into_iter().find_map(Value::as_str)?, secrets, sent)
}

/// The same of a text.
pub fn line(said: &str, secrets: &[&str], sent: &[&str]) -> Option<String> {
    let words: Vec<&str> =
        said.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line = cut(&words.join(" "), MAX_BYTES).into_owned();
    let tells = secrets.iter().any(|secret| !secret.is_empty() && said.contains(secret));
    (!line.is_empty() && !tells && !repeats(&line, sent)).then_some(line)
}

/// Whether a line has a run of characters that one of these texts has, too.
fn repeats(line: &str, sent: &[&str]) -> bool {
    let starts: Vec<usize> = line.char_indices().map(|(at, _)| at).chain([line.len()]).collect();
    let runs = starts.windows(RUN + 1).map(|run| &line[run[0]..run[RUN]]);
    runs.into_iter().any(|run| sent.iter().any(|text| text.contains(run)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_short_line_without_secrets_and_texts() {
        let said = |body: &str| message(body.as_bytes(), &["sk-lf-1"], &["The refund takes five days."]);
        assert_eq!(
            said(r#"{"message":"Invalid\n request\u0007 data","error":[]}"#).unwrap(),
            "Invalid request data"
        );
        assert_eq!(said(r#"{"error":"Internal Server Error"}"#).unwrap(), "Internal Server Error");
        assert_eq!(said(r#"{"error":{"message":"no"}}"#).unwrap(), "no");
        assert_eq!(said(r#"{"message":"key sk-lf-1 is unknown"}"#), None);
        assert_eq!(said(r#"{"message":"received: e refund takes f"}"#), None);
        assert!(said(r#"{"message":"received: refund takes"}"#).is_some(), "too short to be a text");
        for nothing in ["", "<html>", "{}", r#"{"message":" \n"}"#, r#"{"message":3}"#] {
            assert_eq!(said(nothing), None, "{nothing}");
        }
        assert_eq!(line(&"ä".repeat(300), &[], &[]).unwrap().len(), 199);
    }
}
