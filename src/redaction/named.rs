//! Secrets without a form of their own: random tokens and passwords after a word that says so.

use super::context::{Context, Topic};
use super::keys::{LOOKED_AT, MIN_DISTINCT, distinct};
use super::text::Text;
use super::urls::is_placeholder;

/// Shortest random token that a word makes a secret.
const MIN_RANDOM: usize = 16;
/// Shortest one that is assigned to such a word, as in `secret=`, and shortest password.
const MIN_ASSIGNED: (usize, usize) = (8, 6);
/// Fewest different bytes of a short one.
const MIN_SHORT_DISTINCT: u32 = 5;
/// Bytes before a token in which such a word stands.
const NAMED_WITHIN: usize = 40;
/// Most bytes of a password.
const LONGEST_PASSWORD: usize = 64;
/// What may stand between such a word and a password.
const VERBS: [&str; 10] = ["", "is", "was", "ist", "lautet", "es", "est", "è", "é", "to"];

/// Beginning and end of the secret with the token between two places, where a word before it says that it is one.
pub(super) fn named(text: &Text, start: usize, end: usize, context: &Context) -> Option<(usize, usize)> {
    let start = start + text.part(start, end).iter().take_while(|b| matches!(b, b'.' | b'-' | b'~')).count();
    let mut end = end;
    while end > start && matches!(text.back(end, 1), b'.' | b'-' | b'/') {
        end -= 1;
    }
    let length = end.checked_sub(start).filter(|length| *length > 0)?;
    let looked_at = text.part(start, end.min(start + LOOKED_AT));
    // Most numbers end here, before the words near them are read.
    if length < MIN_RANDOM && !may_be_password(text, start, looked_at) {
        return None;
    }
    let before = context.before(text, start, NAMED_WITHIN);
    if before.says(Topic::Password, &[Topic::Digest, Topic::Secret]) {
        let found = password(text, start, end, context);
        if found.is_some() {
            return found;
        }
    }
    let distance = before.distance(Topic::Secret).min(before.distance(Topic::Password));
    if distance >= before.distance(Topic::Digest) || !is_random(looked_at) || looked_at.starts_with(b"//") {
        return None;
    }
    let gap = text.part(start - distance, start);
    let assigned = gap.iter().any(|b| matches!(b, b'=' | b':')) && !gap.iter().any(u8::is_ascii_alphanumeric);
    let near = !gap.windows(2).any(|pair| pair.iter().all(u8::is_ascii_digit));
    let padding = text.run(end, 2, |b| b == b'=');
    let meant = (length >= MIN_RANDOM && near) || (length >= MIN_ASSIGNED.0 && assigned);
    (meant && !is_placeholder(looked_at)).then_some((start, padding))
}

/// Whether a short token has a letter in it, or a sign of passwords beside it.
fn may_be_password(text: &Text, start: usize, token: &[u8]) -> bool {
    let beside = [text.back(start, 1), text.at(start + token.len())];
    token.iter().any(u8::is_ascii_alphabetic) || beside.into_iter().any(is_sign)
}

/// Signs that people put into passwords, beside those of tokens.
fn is_sign(byte: u8) -> bool {
    b"!#$%^*?@&".contains(&byte)
}

/// The whole password of which this token is a part: assigned to its word, or said with a verb, and no mere word.
fn password(text: &Text, start: usize, end: usize, context: &Context) -> Option<(usize, usize)> {
    let inside = |b: u8| {
        b.is_ascii_alphanumeric() || is_sign(b) || matches!(b, b'_' | b'-' | b'+' | b'/' | b'.' | b'~')
    };
    let room = text.part(start.saturating_sub(LONGEST_PASSWORD), start);
    let start = start - room.iter().rev().take_while(|b| inside(**b)).count();
    let mut end = text.run(end, LONGEST_PASSWORD, inside);
    while end > start && matches!(text.back(end, 1), b'.' | b'?' | b'&') {
        end -= 1;
    }
    let distance = context.before(text, start, NAMED_WITHIN).distance(Topic::Password);
    let gap = text.text.get(start.checked_sub(distance)?..start)?;
    let verb = gap.trim_matches(|c: char| c.is_whitespace() || "=:\"'`(>«„“”：".contains(c)).to_lowercase();
    let value = text.part(start, end);
    let any = |class: fn(&u8) -> bool| value.iter().any(class);
    let mixed = any(u8::is_ascii_digit) || value.iter().any(|b| is_sign(*b)) || is_scrambled(value);
    let varied = any(u8::is_ascii_alphabetic) && mixed;
    let real = value.len() >= MIN_ASSIGNED.1 && distinct(value) >= MIN_SHORT_DISTINCT && varied;
    // A long random one needs no verb: "the password for the database user is".
    let long = value.len() >= MIN_RANDOM && is_random(value) && !verb.contains(|c: char| c.is_ascii_digit());
    (real && (long || VERBS.contains(&verb.as_str())) && !is_placeholder(value)).then_some((start, end))
}

/// Whether a token is random: letters and digits mixed within a part, no words, no numbers between hyphens.
fn is_random(token: &[u8]) -> bool {
    let fewest = if token.len() < MIN_RANDOM { MIN_SHORT_DISTINCT } else { MIN_DISTINCT };
    let mixed = |part: &[u8]| {
        let digits = part.iter().any(u8::is_ascii_digit) && part.iter().any(u8::is_ascii_alphabetic);
        part.len() >= 6 && (digits || has_mixed_case(part))
    };
    distinct(token) >= fewest && token.split(|b| !b.is_ascii_alphanumeric()).any(mixed)
}

/// How often two neighbours have this shape.
fn pairs(bytes: &[u8], shape: fn(&[u8]) -> bool) -> usize {
    bytes.windows(2).filter(|pair| shape(pair)).count()
}

/// How often a capital follows a small letter.
fn rises(bytes: &[u8]) -> usize {
    pairs(bytes, |pair| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()))
}

/// Whether letters change their case more often than in `CamelCaseWords`.
fn has_mixed_case(bytes: &[u8]) -> bool {
    rises(bytes) >= 4 && rises(bytes) * 5 >= bytes.len()
}

/// Whether capitals follow capitals, too: names of programs do that as well, so that it counts for passwords only.
fn is_scrambled(bytes: &[u8]) -> bool {
    rises(bytes) >= 2 && pairs(bytes, |pair| pair.iter().all(u8::is_ascii_uppercase)) >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is recognised, trying each token with a digit in turn.
    fn found(text: &str) -> Option<&str> {
        let (read, context) = (Text::new(text), Context::new());
        let token = |b: u8| b.is_ascii_alphanumeric() || b"_-+/.~".contains(&b);
        let starts =
            (0..text.len()).filter(|at| token(read.at(*at)) && (*at == 0 || !token(read.at(at - 1))));
        let mut all = starts.filter_map(|at| named(&read, at, read.run(at, 500, token), &context));
        all.next().and_then(|(start, end)| text.get(start..end))
    }

    #[test]
    fn a_word_makes_a_random_token_a_secret() {
        let random = "A7bK9cQ2ZxA7bK9cQ2ZxA7bK";
        for (before, secret) in [
            ("api_key=", true),
            ("the token ", true),
            ("Mein Schlüssel lautet ", true),
            ("キーは", true),
            ("", false),
            ("sha256 ", false),
            ("public key ", false),
            ("NEXT_PUBLIC_SITE_KEY=", false),
            ("commit ", false),
            ("the key of request id ", false),
        ] {
            assert_eq!(found(&format!("{before}{random}")), secret.then_some(random), "{before}");
        }
    }

    #[test]
    fn passwords_are_short() {
        for (text, password) in [
            ("password=Tr0ub4dor", Some("Tr0ub4dor")),
            ("password: hunter2", Some("hunter2")),
            ("my password is Correct-Horse99!", Some("Correct-Horse99!")),
            ("pw: Xk9#mP2$vL", Some("Xk9#mP2$vL")),
            (r#"{"passwd":"a#9xk2","b":1}"#, Some("a#9xk2")),
            ("Mein Passwort lautet Sommer2024.", Some("Sommer2024")),
            ("DB_PASSWORD=BfQbWgJWSHeW_qEJITtx", Some("BfQbWgJWSHeW_qEJITtx")),
            ("The password for the user is IUfZR0o2OE9l^Y53UJ, ok", Some("IUfZR0o2OE9l^Y53UJ")),
            ("password: ********", None),
            ("secret: changeme1", None),
            ("the password of user123456 is long", None),
            ("the password is 8 characters", None),
            ("password = ${PASSWORD1}", None),
        ] {
            assert_eq!(found(text), password, "{text}");
        }
    }
}
