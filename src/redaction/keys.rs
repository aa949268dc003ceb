//! Keys and tokens that tell themselves: by their published prefixes, as JWT, as private key.

use memchr::memmem;

use super::text::Text;

/// Most bytes of a key that are looked at to tell whether it is random.
pub(super) const LOOKED_AT: usize = 128;
/// Fewest different bytes of a key.
pub(super) const MIN_DISTINCT: u32 = 8;
/// Shortest longest part, between hyphens, of a key whose prefix is only `sk-`.
const MIN_PART: usize = 16;
/// Shortest base64 within a private key; less is a placeholder.
const MIN_KEY_BODY: usize = 32;
/// How a private key begins.
pub(super) const BEGIN: &[u8] = b"-----BEGIN";
/// Furthest that `PRIVATE KEY` stands behind `-----BEGIN`.
const LABEL: usize = 40;

/// Published prefixes with the fewest bytes after them. Longer prefixes come first.
const PREFIXES: [(&str, usize); 52] = [
    // OpenAI, Anthropic and others with their shape.
    ("sk-ant-", 20),
    ("sk-proj-", 20),
    ("sk-svcacct-", 20),
    ("sk-or-v1-", 32),
    ("sk-lf-", 20),
    ("pk-lf-", 99),
    ("sk-", 20),
    // AWS: keys of users, of sessions, of roles.
    ("AKIA", 16),
    ("ASIA", 16),
    ("AROA", 16),
    ("AIDA", 16),
    ("ABIA", 16),
    ("ACCA", 16),
    // Google Cloud.
    ("AIza", 35),
    ("GOCSPX-", 24),
    ("ya29.", 24),
    // GitHub, GitLab.
    ("github_pat_", 22),
    ("ghp_", 36),
    ("gho_", 36),
    ("ghu_", 36),
    ("ghs_", 36),
    ("ghr_", 36),
    ("glpat-", 20),
    ("gldt-", 20),
    ("glrt-", 20),
    ("glptt-", 20),
    // Slack.
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("xoxa-", 20),
    ("xoxs-", 20),
    ("xoxr-", 20),
    ("xoxe.", 20),
    ("xapp-", 20),
    // Stripe; webhooks of the Standard Webhooks form.
    ("sk_live_", 16),
    ("sk_test_", 16),
    ("rk_live_", 16),
    ("rk_test_", 16),
    ("whsec_", 24),
    // Registries and model hosts.
    ("npm_", 36),
    ("pypi-", 50),
    ("hf_", 30),
    ("gsk_", 40),
    ("xai-", 40),
    ("r8_", 36),
    ("pplx-", 40),
    ("lsv2_pt_", 32),
    // Mail, clouds, shops, vaults.
    ("SG.", 40),
    ("key-", 32),
    ("dop_v1_", 60),
    ("shpat_", 32),
    ("hvs.", 24),
    ("PMAK-", 40),
];

/// Whether a prefix begins with this byte.
const INITIALS: [bool; 256] = {
    let (mut initials, mut place) = ([false; 256], 0);
    while place < PREFIXES.len() {
        initials[PREFIXES[place].0.as_bytes()[0] as usize] = true;
        place += 1;
    }
    initials
};

/// Bytes of keys with a prefix.
fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The key that begins in the word at this place, with its end: a published prefix or a JWT.
pub(super) fn prefixed(text: &Text, at: usize) -> Option<usize> {
    // Words within a key begin no key, which keeps hostile text linear.
    if matches!(text.back(at, 1), b'-' | b'_') || !text.begins(at) {
        return None;
    }
    if text.part(at, at + 3) == b"eyJ" {
        return jwt(text, at);
    }
    let (first, rest) = text.bytes.get(at..)?.split_first()?;
    let is_prefix =
        |prefix: &[u8]| prefix.split_first().is_some_and(|(b, more)| b == first && rest.starts_with(more));
    let known = INITIALS.get(usize::from(*first)).is_some_and(|is_initial| *is_initial);
    let (prefix, fewest) = PREFIXES.iter().find(|(prefix, _)| known && is_prefix(prefix.as_bytes()))?;
    let start = at + prefix.len();
    let dotted = matches!(*prefix, "SG." | "ya29." | "hvs." | "xoxe.");
    // Nor do parts of a key that has stops.
    if dotted && text.back(at, 1) == b'.' {
        return None;
    }
    let end = text.run(start, usize::MAX, |b| is_key(b) || (dotted && b == b'.'));
    let end = end - usize::from(end > start && text.back(end, 1) == b'.');
    let fixed = prefix.len() == 4 && prefix.starts_with('A') && *fewest == 16;
    let body = text.part(start, end.min(start + LOOKED_AT));
    let longest = body.split(|b| matches!(b, b'-' | b'_')).map(<[u8]>::len).max().unwrap_or_default();
    // Hyphenated words, such as a slug that begins with "sk-", have no long part.
    let real = (*prefix != "sk-" || longest >= MIN_PART)
        && end - start >= *fewest
        && (!fixed
            || (end - start == *fewest && body.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())))
        && is_varied(body)
        && !body.ends_with(b"EXAMPLE");
    real.then_some(end)
}

/// End of three base64url parts of which the first is a JSON object.
fn jwt(text: &Text, at: usize) -> Option<usize> {
    let first = text.run(at, usize::MAX, is_key);
    let second = text.run(first + 1, usize::MAX, is_key);
    let third = text.run(second + 1, usize::MAX, is_key);
    let parted = text.at(first) == b'.' && text.at(second) == b'.';
    (parted && second - first > 8 && third - second > 8).then_some(third)
}

/// Beginning and end of the private key whose `-----BEGIN` ends here: to its END line, or as far as it goes.
pub(super) fn private(text: &Text, begun: usize) -> Option<(usize, usize)> {
    let start = begun.checked_sub(BEGIN.len()).filter(|start| text.part(*start, begun) == BEGIN)?;
    let label = text.part(begun, begun + LABEL);
    let dashes = memmem::find(label, b"-----")?;
    memmem::find(label.get(..dashes)?, b" PRIVATE KEY")?;
    Some((start, key_end(text, begun + dashes + 5)?))
}

/// End of the private key whose lines begin here.
fn key_end(text: &Text, at: usize) -> Option<usize> {
    let rest = text.bytes.get(at..)?;
    // What may stand in a key: base64, white space (`\n` in JSON), and the headers of old formats.
    let inside = |b: &u8| b.is_ascii_alphanumeric() || b.is_ascii_whitespace() || b"+/=\\:,.".contains(b);
    let mut length = rest.iter().take_while(|b| inside(b)).count();
    let mut end = at + length;
    // The DEK-Info and Proc-Type headers have single hyphens.
    while text.at(end) == b'-' && text.part(end, end + 5) != b"-----" {
        length = rest.get(end - at + 1..)?.iter().take_while(|b| inside(b)).count();
        end += 1 + length;
    }
    let body = text.part(at, end);
    let longest =
        body.split(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'+' | b'/' | b'=')).map(<[u8]>::len).max();
    if longest.is_none_or(|longest| longest < MIN_KEY_BODY) {
        return None;
    }
    if text.part(end, end + 9) == b"-----END " {
        let label = text.part(end + 9, end + 9 + LABEL);
        return memmem::find(label, b"-----").map(|dashes| end + 9 + dashes + 5);
    }
    // It was cut: sentences behind it are no part of it.
    let lines = body.iter().rposition(|b| matches!(b, b'+' | b'/' | b'=') || b.is_ascii_alphanumeric());
    lines.map(|last| at + last + 1)
}

/// Whether bytes are varied enough to be a key; placeholders such as `xxxx…` are not.
fn is_varied(bytes: &[u8]) -> bool {
    let any = |class: fn(&u8) -> bool| bytes.iter().any(class);
    let mixed = any(u8::is_ascii_digit) || (any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase));
    distinct(bytes) >= MIN_DISTINCT && mixed
}

/// How many different bytes there are.
pub(super) fn distinct(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0_u128, |seen, b| seen | 1 << (b & 127)).count_ones()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether all of the text is one key with a prefix.
    fn is_key_whole(text: &str) -> bool {
        prefixed(&Text::new(text), 0) == Some(text.len())
    }

    /// A key made of a prefix and so many varied letters, so that no scanner takes this file for a leak.
    fn key(prefix: &str, length: usize) -> String {
        prefix.chars().chain("A7bK9cQ2Zx".chars().cycle().take(length)).collect()
    }

    #[test]
    fn keys_with_a_prefix() {
        for (prefix, length) in
            [("sk-ant-api03-", 80), ("sk-proj-", 60), ("sk-", 48), ("AIza", 35), ("ghp_", 36), ("SG.", 50)]
        {
            assert!(is_key_whole(&key(prefix, length)), "{prefix}");
        }
        assert!(is_key_whole(&key("AKIA", 16).to_uppercase()));
        assert!(is_key_whole(&format!("{}.{}.{}", key("eyJ", 20), key("eyJ", 20), key("", 40))));
        for near in
            ["sk-learn-is-a-wrong-name-for-it", "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "SG.", "eyJ.eyJ.x"]
        {
            assert!(!is_key_whole(near), "{near}");
        }
        assert!(!is_key_whole(&key("AKIA", 17).to_uppercase()));
    }

    #[test]
    fn private_keys() {
        let begin = ["-----BEGIN RSA PRIVATE", "KEY-----"].join(" ");
        let end = ["-----END RSA PRIVATE", "KEY-----"].join(" ");
        let body = key("", 64);
        for whole in [
            format!("{begin}\n{body}\n{end}"),
            format!(r"{begin}\n{body}\n{end}"),
            format!("{begin}\n{body}"),
        ] {
            let text = format!("x {whole}\n");
            assert_eq!(private(&Text::new(&text), 12), Some((2, 2 + whole.len())));
        }
        assert_eq!(private(&Text::new(&format!("{begin}\n...\n{end}")), 10), None, "a placeholder");
    }
}
