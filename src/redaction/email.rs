//! E-mail addresses, internationalised ones too (RFC 6531).

use super::text::Text;

/// Longest part of an address before the `@`, and after it (RFC 5321).
const LONGEST: (usize, usize) = (64, 255);
/// Last labels that are endings of files: `icon@2x.png` is none.
const FILES: [&str; 16] = [
    "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "css", "js", "html", "json", "yaml", "yml",
    "toml", "txt",
];

/// Whether a script is written without blanks, so that words touch the address.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Letters, digits and marks; signs of writing such as `「` are none.
fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || (!c.is_ascii() && unicode_normalization::char::is_combining_mark(c))
}

/// The address whose `@` stands here, or its form in a URL, `%40`.
pub(super) fn email(text: &Text, at: usize) -> Option<(usize, usize)> {
    let width = if text.at(at) == b'@' { 1 } else { 3 };
    if width == 3 && text.part(at, at + 3) != b"%40" {
        return None;
    }
    let start = local(text, at, if width == 1 { "._%+-'" } else { "._+-'" })?;
    let end = domain(text, at + width)?;
    let in_url = text.back(start, 1) == b'/' && text.back(start, 2) == b'/';
    // `git` is the user of every repository.
    let shared = text.part(start, at) == b"git";
    (!in_url && !shared && !is_path(text, end)).then_some((start, end))
}

/// Beginning of the part before the `@`, of letters and these signs.
fn local(text: &Text, at: usize, signs: &str) -> Option<usize> {
    let before = text.text.get(..at)?;
    let (mut start, mut unspaced) = (at, None);
    for (place, c) in before.char_indices().rev().take(LONGEST.0) {
        if is_letter(c) {
            // A letter of a script without blanks ends an address in Latin letters.
            if *unspaced.get_or_insert(is_unspaced(c)) != is_unspaced(c) && is_unspaced(c) {
                break;
            }
        } else if !signs.contains(c) {
            // The RFC has more, but in texts they stand before an address: `user=a@b.example`.
            break;
        }
        start = place;
    }
    while matches!(text.at(start), b'.' | b'\'' | b'-' | b'%' | b'+') && start < at {
        start += 1;
    }
    let escaped = text.back(start, 1) == b'\\' && matches!(text.at(start), b'n' | b'r' | b't');
    let start = start + usize::from(escaped);
    (start < at && text.back(at, 1) != b'.').then_some(start)
}

/// End of the domain that begins here: at least two labels, the last of letters.
fn domain(text: &Text, at: usize) -> Option<usize> {
    let rest = text.text.get(at..)?;
    let (mut end, mut dot, mut unspaced) = (at, None, None);
    for (place, c) in rest.char_indices().take(LONGEST.1) {
        if is_letter(c) {
            if *unspaced.get_or_insert(is_unspaced(c)) != is_unspaced(c) && is_unspaced(c) {
                break;
            }
        } else if c == '.' {
            // Two dots in a row, or none before the first label.
            if end == dot.map_or(at, |dot| dot + 1) {
                break;
            }
            dot = Some(at + place);
        } else if c != '-' {
            break;
        }
        end = at + place + c.len_utf8();
    }
    while end > at && matches!(text.back(end, 1), b'.' | b'-') {
        end -= 1;
    }
    let domain = text.text.get(at..end)?;
    let (names, last) = domain.rsplit_once('.')?;
    // What follows a dash belongs to the sentence, but for the ASCII form of other scripts.
    let last = if last.starts_with("xn--") { last } else { last.split('-').next()? };
    let letters = last.chars().filter(|c| is_letter(*c)).count();
    let real = letters >= 2
        && (last.starts_with("xn--") || !last.chars().any(char::is_numeric))
        && !FILES.iter().any(|file| file.eq_ignore_ascii_case(last));
    (real && !names.is_empty()).then(|| at + names.len() + 1 + last.len())
}

/// Whether a path follows, as in `git@host.example:team/repository`.
fn is_path(text: &Text, end: usize) -> bool {
    if text.at(end) != b':' {
        return false;
    }
    let stop =
        text.run(end + 1, LONGEST.0, |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'~'));
    // `host:/path` of scp, too.
    text.at(stop) == b'/'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is recognised around the first `@`.
    fn found(text: &str) -> Option<&str> {
        let (start, end) = email(&Text::new(text), text.find('@').or_else(|| text.find("%40"))?)?;
        text.get(start..end)
    }

    #[test]
    fn addresses() {
        for (text, address) in [
            ("Write to a.b+c@mail.example.com.", "a.b+c@mail.example.com"),
            ("'o'hara@example.org'", "o'hara@example.org"),
            ("<søren.ågård@example.com>", "søren.ågård@example.com"),
            ("メールはa-b@example.orgまで", "a-b@example.org"),
            ("山田@例え.テスト です", "山田@例え.テスト"),
            ("राम.शर्मा@example.com", "राम.शर्मा@example.com"),
            ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
            ("mailto:a@b.example?subject=x", "a@b.example"),
            ("user=a@b.example", "a@b.example"),
            ("?to=a.b%40c.example&x=1", "a.b%40c.example"),
            (r"\na@b.example\n", "a@b.example"),
            ("a@b.example-and so on", "a@b.example"),
        ] {
            assert_eq!(found(text), Some(address), "{text}");
        }
    }

    #[test]
    fn near_misses() {
        for text in [
            "@handle",
            "user@host",
            "icon@2x.png",
            "node@4.6.9",
            "git@git.example.com:team/sub.git",
            "ssh -T git@git.example.com",
            "ssh://git@git.example.org:2222/x",
            "a@.example",
            "a@b..c",
            ".@b.example",
            "puts @total.round(2)",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
