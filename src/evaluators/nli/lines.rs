//! What each line of a text is in markdown, and which lines belong to one paragraph.

use std::ops::Range;

use crate::evaluators::nli::boundaries::{is_terminator, trim};

/// Shortest line, in bytes, that is taken as wrapped, so that the next one goes on with it.
const MIN_WRAPPED_BYTES: usize = 50;
/// Longest line, in bytes, that an underline turns into a heading.
const MAX_UNDERLINED_BYTES: usize = 80;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineKind {
    /// Nothing but white space.
    Blank,
    /// A markdown heading.
    Heading,
    /// A horizontal rule, an underline or the separator below a table's header.
    Rule,
    /// A line of a code block, fences included.
    Code,
    /// The header of a table.
    TableHeader,
    /// A row of a table.
    TableRow,
    /// The first line of a list item.
    Item,
    /// Anything else.
    Text,
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// What it is.
    pub(super) kind: LineKind,
    /// Its content: no white space around it and no list or quote marker.
    pub(super) content: Range<usize>,
}

/// A run of lines that is split into sentences as one text.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// What its first line is.
    pub(super) kind: LineKind,
    /// Its content.
    pub(super) bytes: Range<usize>,
    /// Whether a blank line, or nothing, stands before it.
    pub(super) opens: bool,
}

/// Splits a text into blocks: wrapped lines are joined, blank lines are left out.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut blank = true;
    for line in lines(text) {
        if line.kind == LineKind::Blank {
            blank = true;
            continue;
        }
        match blocks.last_mut() {
            Some(last) if !blank && goes_on(text, last, &line) => last.bytes.end = line.content.end,
            _ => blocks.push(Block { kind: line.kind, bytes: line.content, opens: blank }),
        }
        blank = false;
    }
    blocks
}

/// Tells whether `line` goes on with the sentence that `block` leaves open.
fn goes_on(text: &str, block: &Block, line: &Line) -> bool {
    if line.kind != LineKind::Text || !matches!(block.kind, LineKind::Text | LineKind::Item) {
        return false;
    }
    let before = &text[block.bytes.clone()];
    let last = before.rsplit('\n').next().unwrap_or(before).trim();
    let next = &text[line.content.clone()];
    let wrapped = last.len() >= MIN_WRAPPED_BYTES && !last.ends_with(':');
    let closed = last.trim_end_matches(['"', '”', ')', '*', '_']).ends_with(is_terminator);
    // Below this length a capital is likelier a new statement than a wrapped line.
    wrapped && !closed && (last.len() >= MIN_WRAPPED_BYTES + 10 || !next.starts_with(char::is_uppercase))
}

/// Reads the lines of a text.
fn lines(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut fence: Option<&str> = None;
    let (mut in_table, mut framed) = (false, false);
    let mut at = 0;
    for raw in text.split_inclusive('\n') {
        let span = trim(text, at..at + raw.len());
        at += raw.len();
        let line = &text[span.clone()];
        if let Some(mark) = fence {
            if line.starts_with(mark) && line.trim_start_matches(['`', '~']).is_empty() {
                fence = None;
            }
            lines.push(Line { kind: LineKind::Code, content: span });
            continue;
        }
        if let Some(mark) = opening_fence(line) {
            let closes = framed && line == mark;
            // A fence around prose is only a frame: what is in it is read like any text.
            let opens =
                matches!(line.trim_start_matches(['`', '~']).trim(), "markdown" | "md" | "text" | "txt");
            framed = opens;
            let kind = if opens || closes { LineKind::Rule } else { LineKind::Code };
            fence = (kind == LineKind::Code).then_some(mark);
            lines.push(Line { kind, content: span });
            continue;
        }
        let mut read = read(text, span);
        if is_separator(&text[read.content.clone()]) {
            mark_above(text, &mut lines);
            in_table = true;
            read.kind = LineKind::Rule;
        } else if in_table && read.kind != LineKind::Blank && text[read.content.clone()].contains('|') {
            read.kind = LineKind::TableRow;
        } else {
            in_table = false;
        }
        if read.kind == LineKind::Rule && is_underline(&text[read.content.clone()]) {
            mark_underlined(text, &mut lines);
        }
        lines.push(read);
    }
    lines
}

/// Gives the fence that a line opens; a line that also closes it is no fence.
fn opening_fence(line: &str) -> Option<&'static str> {
    let mark = ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark))?;
    (!line[mark.len()..].contains(mark)).then_some(mark)
}

/// Reads one line by itself; `span` is trimmed.
fn read(text: &str, span: Range<usize>) -> Line {
    let line = &text[span.clone()];
    let kind = if line.is_empty() {
        LineKind::Blank
    } else if is_heading(line) {
        LineKind::Heading
    } else if is_underline(line) || is_rule(line) {
        LineKind::Rule
    } else if line.len() > 1 && line.starts_with('|') && line[1..].contains('|') {
        LineKind::TableRow
    } else if let Some(marker) = item_marker(line) {
        return Line { kind: LineKind::Item, content: trim(text, span.start + marker..span.end) };
    } else if let Some(quoted) = line.strip_prefix('>') {
        // One level only: deeper quotes keep their marks, and hostile ones no recursion.
        let inner = trim(text, span.end - quoted.len()..span.end);
        let marker = item_marker(&text[inner.clone()]).unwrap_or(0);
        let kind = if inner.is_empty() { LineKind::Blank } else { LineKind::Text };
        return Line { kind, content: trim(text, inner.start + marker..inner.end) };
    } else {
        LineKind::Text
    };
    Line { kind, content: span }
}

/// Tells whether a line is a markdown heading.
fn is_heading(line: &str) -> bool {
    let rest = line.trim_start_matches('#');
    let level = line.len() - rest.len();
    (1..=6).contains(&level) && (rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Tells whether a line is an underline: `===` or `---`.
fn is_underline(line: &str) -> bool {
    line.len() >= 3 && (line.bytes().all(|b| b == b'=') || line.bytes().all(|b| b == b'-'))
}

/// Tells whether a line is a horizontal rule such as `***` or `* * *`.
fn is_rule(line: &str) -> bool {
    line.len() >= 3 && ['*', '_', '-'].iter().any(|mark| line.chars().all(|c| c == *mark || c == ' '))
}

/// Tells whether a line separates a table's header from its rows.
fn is_separator(line: &str) -> bool {
    line.contains('|')
        && line.contains("--")
        && line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' ' | '+'))
}

/// Marks the line above a separator as a table's header.
fn mark_above(text: &str, lines: &mut [Line]) {
    if let Some(last) = lines.last_mut()
        && text[last.content.clone()].contains('|')
    {
        last.kind = LineKind::TableHeader;
    }
}

/// Marks the line above an underline as a heading, if it looks like one.
fn mark_underlined(text: &str, lines: &mut [Line]) {
    if let Some(last) = lines.last_mut()
        && last.kind == LineKind::Text
        && last.content.len() <= MAX_UNDERLINED_BYTES
        && !text[last.content.clone()].ends_with(is_terminator)
    {
        last.kind = LineKind::Heading;
    }
}

/// Gives the length of the list marker that a line begins with, white space and check box included.
fn item_marker(line: &str) -> Option<usize> {
    let mark = bullet(line).or_else(|| number(line))?;
    let rest = &line[mark..];
    if !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let content = rest.trim_start();
    let content =
        ["[ ] ", "[x] ", "[X] "].iter().find_map(|check| content.strip_prefix(check)).unwrap_or(content);
    (!content.is_empty()).then_some(line.len() - content.len())
}

/// Gives the length of a bullet.
fn bullet(line: &str) -> Option<usize> {
    let first = line.chars().next()?;
    matches!(first, '-' | '*' | '•' | '‣' | '◦' | '▪' | '●' | '○' | '–' | '—' | '+' | '·')
        .then_some(first.len_utf8())
}

/// Gives the length of a number or letter with its mark: `1.`, `12)`, `(a)`, `b)`, `iv)`.
fn number(line: &str) -> Option<usize> {
    let open = usize::from(line.starts_with('('));
    let label = line[open..].bytes().take(4).take_while(u8::is_ascii_alphanumeric).count();
    let name = &line[open..open + label];
    let digits = label <= 3 && name.bytes().all(|b| b.is_ascii_digit());
    let roman = name.bytes().all(|b| matches!(b.to_ascii_lowercase(), b'i' | b'v' | b'x'));
    let mark = *line.as_bytes().get(open + label)?;
    let fits = match mark {
        b'.' => open == 0 && digits,
        b')' => digits || label == 1 || roman,
        _ => false,
    };
    (label > 0 && fits).then_some(open + label + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_blocks(text: &str) -> Vec<(LineKind, &str)> {
        blocks(text).into_iter().map(|block| (block.kind, &text[block.bytes])).collect()
    }

    #[test]
    fn lines_are_told_apart() {
        use LineKind::{Code, Heading, Item, Rule, TableHeader, TableRow, Text};
        for (text, expected) in [
            ("# A\nb", vec![(Heading, "# A"), (Text, "b")]),
            ("#tag\n#", vec![(Text, "#tag"), (Heading, "#")]),
            ("Title\n=====\nb", vec![(Heading, "Title"), (Rule, "====="), (Text, "b")]),
            (
                "- a\n  * b\n1. c\n2) d\n(a) e",
                vec![(Item, "a"), (Item, "b"), (Item, "c"), (Item, "d"), (Item, "e")],
            ),
            ("- [x] done\n• ok", vec![(Item, "done"), (Item, "ok")]),
            (
                "-5 degrees\n1990. It\n3.5 kg",
                vec![(Text, "-5 degrees"), (Text, "1990. It"), (Text, "3.5 kg")],
            ),
            ("|a|b|\n|--|--|\n|1|2|", vec![(TableHeader, "|a|b|"), (Rule, "|--|--|"), (TableRow, "|1|2|")]),
            (
                "a | b\n--- | ---\n1 | 2",
                vec![(TableHeader, "a | b"), (Rule, "--- | ---"), (TableRow, "1 | 2")],
            ),
            (
                "```rust\nlet a;\n```\nb",
                vec![(Code, "```rust"), (Code, "let a;"), (Code, "```"), (Text, "b")],
            ),
            ("```markdown\na\n```\nb", vec![(Rule, "```markdown"), (Text, "a"), (Rule, "```"), (Text, "b")]),
            ("> quoted\n>\n> more", vec![(Text, "quoted"), (Text, "more")]),
        ] {
            assert_eq!(read_blocks(text), expected, "{text}");
        }
    }

    #[test]
    fn wrapped_lines_are_joined() {
        let long =
            "The tower was built for the fair of that year and it\nwas the tallest of all for four decades";
        assert_eq!(blocks(long).len(), 1);
        assert_eq!(blocks("apples\noranges").len(), 2);
        assert_eq!(blocks(&long.replace('\n', "\n\n")).len(), 2);
    }
}
