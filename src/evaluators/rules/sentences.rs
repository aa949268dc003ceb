//! Sentences of an answer, with the citation markers that follow their full stop.

/// Where the sentences end, ascending; the last is the length. `markers` are ranges of characters, ascending.
pub(super) fn ends(text: &[char], markers: &[(usize, usize)]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut next_marker = 0;
    let mut at = 0;
    while let Some(&c) = text.get(at) {
        while markers.get(next_marker).is_some_and(|(_, end)| *end <= at) {
            next_marker += 1;
        }
        match markers.get(next_marker) {
            Some(&(start, end)) if start <= at => at = end.max(at + 1),
            _ if c == '\n' => {
                at += 1;
                ends.push(at);
            }
            _ if is_terminator(c) => {
                at = closing(text, markers, &mut next_marker, at + 1);
                if ends_here(text, at, c) {
                    ends.push(at);
                }
            }
            _ => at += 1,
        }
    }
    if ends.last() != Some(&text.len()) {
        ends.push(text.len());
    }
    ends
}

/// The sentence around character `at`, without the white space around it.
pub(super) fn around(text: &[char], ends: &[usize], at: usize) -> (usize, usize) {
    let index = ends.partition_point(|end| *end <= at);
    let mut start = index.checked_sub(1).and_then(|i| ends.get(i)).copied().unwrap_or(0);
    let mut end = ends.get(index).copied().unwrap_or(text.len());
    while start < end && text.get(start).is_some_and(|c| c.is_whitespace()) {
        start += 1;
    }
    while start < end && text.get(end - 1).is_some_and(|c| c.is_whitespace()) {
        end -= 1;
    }
    (start, end)
}

/// Past the marks that close a sentence: more stops, quotes, brackets, and markers on the same line.
fn closing(text: &[char], markers: &[(usize, usize)], next: &mut usize, from: usize) -> usize {
    let mut at = from;
    while text.get(at).is_some_and(|c| is_terminator(*c) || "\"'”’)".contains(*c)) {
        at += 1;
    }
    loop {
        while markers.get(*next).is_some_and(|(_, end)| *end <= at) {
            *next += 1;
        }
        let Some(&(start, end)) = markers.get(*next) else { return at };
        let near = start <= at + 2;
        if !near || !text.get(at..start).unwrap_or_default().iter().all(|c| matches!(c, ' ' | '\t')) {
            return at;
        }
        at = end.max(at);
    }
}

/// Whether a stop that ended before `at` ends a sentence: "3.5" and "e.g. this" go on.
fn ends_here(text: &[char], at: usize, stop: char) -> bool {
    let mut rest = text.get(at..).unwrap_or_default().iter().skip_while(|c| matches!(c, ' ' | '\t'));
    let spaced = text.get(at).is_none_or(|c| c.is_whitespace());
    stop != '.' || (spaced && rest.next().is_none_or(|c| !c.is_lowercase()))
}

/// Marks that can end a sentence.
fn is_terminator(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '。' | '！' | '？' | '…')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_belong_to_the_sentence_before_them() {
        let text: Vec<char> = "It is 3.5 e.g. so. [1] Next one.".chars().collect();
        let ends = ends(&text, &[(19, 22)]);
        assert_eq!(around(&text, &ends, 20), (0, 22));
        assert_eq!(around(&text, &ends, 25), (23, 32));
    }
}
