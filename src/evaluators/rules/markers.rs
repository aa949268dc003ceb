//! What numbers a list, not a claim: "1." and "2)" at the beginnings of lines, "(1)", first cells of a table.

/// Most digits of a number in a list.
const MAX_DIGITS: usize = 3;

/// Where list markers stand, ascending. A number alone is none, unless it is 1: the numbers before or behind have to
/// be next to it.
pub(super) fn of_lists(text: &[char]) -> Vec<(usize, usize)> {
    let (mut lines, mut brackets) = (Vec::new(), Vec::new());
    let mut line_start = true;
    for (at, c) in text.iter().enumerate() {
        if line_start {
            lines.extend(item(text, at));
        }
        if *c == '(' {
            brackets.extend(number(text, at + 1, |end| text.get(end) == Some(&')')));
        }
        line_start = *c == '\n' || (line_start && (c.is_whitespace() || "#*->|".contains(*c)));
    }
    let mut markers = in_series(&lines);
    markers.extend(in_series(&brackets));
    markers.sort_unstable();
    markers
}

/// A number in a list: where it begins and ends, and its value.
type Numbered = (usize, usize, u32);

/// The number that a line begins with here, with its sign.
fn item(text: &[char], at: usize) -> Option<Numbered> {
    let before = at.checked_sub(2).and_then(|i| text.get(i..at)).unwrap_or_default();
    let cell = before.contains(&'|');
    let blank = |i: usize| text.get(i).is_none_or(|c| c.is_whitespace());
    let signed = |end: usize| matches!(text.get(end), Some('.' | ')')) && blank(end + 1);
    let celled = |end: usize| cell && blank(end) && text.get(end + 1) == Some(&'|');
    number(text, at, |end| signed(end) || celled(end))
}

/// The number that begins here, where its end is right.
fn number(text: &[char], at: usize, ends: impl Fn(usize) -> bool) -> Option<Numbered> {
    let rest = text.get(at..)?.iter().take(MAX_DIGITS + 1);
    let digits: String = rest.take_while(|c| c.is_ascii_digit()).collect();
    let end = at + digits.len();
    ((1..=MAX_DIGITS).contains(&digits.len()) && ends(end)).then_some((at, end, digits.parse().ok()?))
}

/// Those with a neighbour whose number is the next, the one before or, as Markdown allows, the same.
fn in_series(items: &[Numbered]) -> Vec<(usize, usize)> {
    let near = |i: Option<usize>, value: u32| {
        i.and_then(|i| items.get(i)).is_some_and(|(_, _, other)| other.abs_diff(value) <= 1)
    };
    let all = items.iter().enumerate();
    all.filter(|(i, (_, _, value))| {
        *value == 1 || near(i.checked_sub(1), *value) || near(Some(i + 1), *value)
    })
    .map(|(_, (start, end, _))| (*start, *end))
    .collect()
}
