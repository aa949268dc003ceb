//! What a terminal shows: bars, tables, highlighted evidence. Untrusted text is made harmless first.

use std::io::{self, BufRead, IsTerminal, Read};

use anyhow::Context;
use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{ProgressBar, ProgressStyle};

use crate::domain::{Call, Claim, ClaimLabel, Evaluation, call::MAX_MESSAGE_BYTES};

/// A bar over `length` steps, or a spinner when it is not known. Hidden when stderr is no terminal.
pub fn bar(length: Option<u64>, unit: &str) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{bar:30} {pos}/{len} UNIT · {per_sec} · {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} UNIT · {per_sec}"),
    };
    match ProgressStyle::with_template(&template.replace("UNIT", unit)) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Whether results may be coloured: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub fn is_coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|setting| setting.is_empty())
}

/// A table with these headings, as wide as the terminal at most.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings.to_vec());
    table
}

/// Lines of a file or stdin as bytes, without their ends. A line longer than a message may be is cut right after
/// the limit, so that decoding refuses it and memory stays bounded.
pub fn lines(file: &std::path::Path) -> anyhow::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
    let reader: Box<dyn Read + Send> = match file.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(std::fs::File::open(file).with_context(|| format!("{}", file.display()))?),
    };
    let mut reader = io::BufReader::new(reader);
    Ok(std::iter::from_fn(move || match bounded_line(&mut reader) {
        Ok(None) => None,
        Ok(Some(line)) => Some(Ok(line)),
        Err(error) => Some(Err(error)),
    }))
}

/// Reads one line, keeping at most one byte more than a message may have.
fn bounded_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let taken = end.unwrap_or(buffer.len());
        let room = (MAX_MESSAGE_BYTES + 2).saturating_sub(line.len());
        line.extend_from_slice(&buffer[..taken.min(room)]);
        reader.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some(line));
        }
    }
}

/// Text that cannot move the cursor, hide itself or reorder what stands around it.
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => ' ',
            c if c.is_control() => '\u{fffd}',
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                '\u{fffd}'
            }
            '\u{e0000}'..='\u{e007f}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// The answer with each claim in the colour of its label, and under it the evidence of each claim.
pub fn evidence(call: &Call, evaluation: &Evaluation, colour: bool) -> String {
    let answer: Vec<char> = call.content.answer.chars().collect();
    let slice = |text: &[char], from: usize, to: usize| {
        harmless(
            &text
                .get(from.min(text.len())..to.min(text.len()))
                .unwrap_or_default()
                .iter()
                .collect::<String>(),
        )
    };
    let mut out = String::from("  answer    ");
    let mut at = 0;
    for claim in &evaluation.claims {
        out += &slice(&answer, at, claim.start);
        out += &paint(&slice(&answer, claim.start, claim.end), claim.label, colour);
        at = claim.end;
    }
    out += &slice(&answer, at, answer.len());
    out.push('\n');
    for claim in &evaluation.claims {
        out += &format!(
            "  {} {}\n",
            mark(claim),
            paint(&slice(&answer, claim.start, claim.end), claim.label, colour)
        );
        let context = call.content.contexts.iter().find(|context| context.id == claim.chunk_id);
        let text: Vec<char> = context.map(|context| context.text.chars().collect()).unwrap_or_default();
        out += &format!(
            "      [{}] {}\n",
            harmless(&claim.chunk_id),
            slice(&text, claim.chunk_start, claim.chunk_end)
        );
    }
    out
}

/// Label, doubt and probabilities of a claim.
fn mark(claim: &Claim) -> String {
    let doubt = claim.doubt.map(|doubt| format!(" ({})", doubt.as_str())).unwrap_or_default();
    format!(
        "{:<12} entailment {:.2} · neutral {:.2} · contradiction {:.2}\n     ",
        format!("{}{doubt}", claim.label.as_str()),
        claim.entailment,
        claim.neutral,
        claim.contradiction
    )
}

/// Colours text by label: green, red, red, yellow.
fn paint(text: &str, label: ClaimLabel, colour: bool) -> String {
    let code = match label {
        ClaimLabel::Supported => 32,
        ClaimLabel::Contradicted | ClaimLabel::NotFound => 31,
        ClaimLabel::Unsure => 33,
    };
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_the_next_is_unharmed() {
        let mut long = vec![b'x'; MAX_MESSAGE_BYTES * 2];
        long.extend_from_slice(b"\nnext\r\nlast");
        let mut reader = io::Cursor::new(long);
        assert_eq!(bounded_line(&mut reader).unwrap().unwrap().len(), MAX_MESSAGE_BYTES + 2);
        assert_eq!(bounded_line(&mut reader).unwrap().unwrap(), b"next");
        assert_eq!(bounded_line(&mut reader).unwrap().unwrap(), b"last");
        assert_eq!(bounded_line(&mut reader).unwrap(), None);
    }

    #[test]
    fn escape_sequences_lose_their_power() {
        assert_eq!(harmless("a\u{1b}[31mb\u{202e}c"), "a\u{fffd}[31mb\u{fffd}c");
    }
}
