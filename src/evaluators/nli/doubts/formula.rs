//! Whether a text is mostly a formula: LaTeX, an equation, arithmetic. A price, a share, a date or a size is none.

/// Names of functions that stand in formulas.
const FUNCTIONS: &[&str] =
    &["sin", "cos", "tan", "log", "ln", "exp", "lim", "max", "min", "sqrt", "mod", "det"];
/// Longest LaTeX that is looked for, in characters.
const MAX_ENCLOSED: usize = 300;

/// A piece of a text that is read for formulas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// A number, a variable or a function.
    Operand,
    /// A sign that joins two operands.
    Operator(char),
    /// A sign that only formulas have: `\frac`, `√`, `∑`, and what LaTeX marks enclose.
    Sign,
    /// Any other word.
    Word,
}

/// Tells whether a text has more operands and operators than words, and an operator with operands.
pub(super) fn is_formula(text: &str) -> bool {
    let pieces = pieces(text);
    let words = pieces.iter().filter(|piece| **piece == Piece::Word).count();
    let operand = |at: Option<usize>| {
        at.and_then(|at| pieces.get(at)).is_some_and(|piece| matches!(piece, Piece::Operand | Piece::Sign))
    };
    let joins = |(at, piece): (usize, &Piece)| {
        let (before, after) = (operand(at.checked_sub(1)), operand(at.checked_add(1)));
        match piece {
            Piece::Sign => true,
            Piece::Operator('=') => before || after,
            // Alone it may be a date, a fraction or `24/7`, a range or a result.
            Piece::Operator('/' | '-') => false,
            Piece::Operator(_) => before && after,
            _ => false,
        }
    };
    pieces.len() > 2 * words && pieces.iter().enumerate().any(joins)
}

/// Reads the pieces of a text.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = match first {
            '\\' => {
                pieces.push(Piece::Sign);
                1 + run(&rest[1..], |c| c.is_ascii_alphabetic())
            }
            '$' => match enclosed(rest) {
                Some(length) => {
                    pieces.push(Piece::Sign);
                    // What is enclosed is no word, whatever it is.
                    pieces.extend(rest[..length].split_whitespace().map(|_| Piece::Operand));
                    length
                }
                None => 1,
            },
            c if c.is_alphanumeric() => {
                let length = run(rest, char::is_alphanumeric);
                pieces.push(word(&rest[..length], &rest[length..]));
                length
            }
            c => {
                pieces.extend(sign(c, &text[..at], rest));
                c.len_utf8()
            }
        };
        at += length;
    }
    pieces
}

/// Gives the bytes of the characters that a text begins with.
fn run(text: &str, fits: impl Fn(char) -> bool) -> usize {
    text.len() - text.trim_start_matches(fits).len()
}

/// Gives the length of the LaTeX that a text begins with, `$` on both ends; two prices enclose nothing.
fn enclosed(text: &str) -> Option<usize> {
    let mark = if text.starts_with("$$") { "$$" } else { "$" };
    let inner = &text[mark.len()..];
    let length = inner.char_indices().take(MAX_ENCLOSED).find(|(_, c)| *c == '$')?.0;
    let inner = &inner[..length];
    let tight = mark == "$$" || inner.trim() == inner;
    let formula = inner.contains(['\\', '^', '_', '=', '+', '<', '>']) || inner.chars().count() == 1;
    (tight && formula && text[mark.len() + length..].starts_with(mark)).then_some(length + 2 * mark.len())
}

/// Reads a run of letters and digits, by what follows it.
fn word(word: &str, after: &str) -> Piece {
    let mut chars = word.chars();
    let single = chars.next().is_some_and(char::is_alphabetic) && chars.all(char::is_numeric);
    // `2x` and `m²` are operands, `2nd` and `CO2` are not; `mc` in `mc^2` is one.
    let factor = word.trim_start_matches(char::is_numeric);
    let bare = factor.chars().all(char::is_numeric) || factor.chars().count() == 1;
    let raised = after.starts_with('^') || word.ends_with(['²', '³']);
    // These two are words far more often than variables.
    let article = matches!(word, "a" | "A" | "I" | "i");
    let variable = (bare || single) && !article;
    if variable || raised || FUNCTIONS.contains(&word) {
        return Piece::Operand;
    }
    Piece::Word
}

/// Reads a character that is no letter or digit; most say nothing.
fn sign(c: char, before: &str, rest: &str) -> Option<Piece> {
    match c {
        '√' | '∑' | '∫' | '∂' | '∞' => Some(Piece::Sign),
        '=' | '≈' | '≠' | '≤' | '≥' | '<' | '>' | '×' | '÷' | '+' | '^' | '±' | '−' | '/' => {
            Some(Piece::Operator(c))
        }
        // With white space on one side it is emphasis, and without a hyphen.
        '*' | '-' => {
            let blank = |c: Option<char>| c.is_none_or(char::is_whitespace);
            let (left, right) = (before.chars().next_back(), rest[1..].chars().next());
            let spaced = blank(left) && blank(right);
            let tight = c == '*' && ![left, right].iter().any(|near| blank(*near) || *near == Some('*'));
            (spaced || tight).then_some(Piece::Operator(c))
        }
        _ => None,
    }
}
