//! Secrets in URLs: user and password before the host, values of query parameters that open something.

use memchr::{memchr2_iter, memmem};

use super::text::Text;

/// Longest user and password that are looked at, in bytes.
const LONGEST_LOGIN: usize = 256;
/// Longest name of a query parameter.
const LONGEST_NAME: usize = 32;
/// Shortest value of a query parameter that can be a secret, and of one whose name is used for other things, too.
const SHORTEST: (usize, usize) = (8, 16);
/// Names of parameters with a secret, without hyphens and underscores; those that end like `_token` are meant as well.
const NAMES: [&str; 14] = [
    "auth",
    "authorization",
    "hmac",
    "jwt",
    "passwd",
    "password",
    "pwd",
    "sas",
    "sessionid",
    "sid",
    "sig",
    "ticket",
    "xamzsignature",
    "xgoogsignature",
];
/// Ends of such names.
const ENDINGS: [&str; 6] = ["token", "apikey", "secret", "signature", "password", "accesskey"];
/// Names that are used for other things as well.
const DOUBTFUL: [&str; 5] = ["code", "key", "session", "state", "nonce"];
/// Words that stand in place of a secret, also as part of it.
const PLACEHOLDERS: [&str; 15] = [
    "password",
    "passwd",
    "passwort",
    "secret",
    "changeme",
    "your",
    "xxxx",
    "****",
    "...",
    "example",
    "redacted",
    "placeholder",
    "${",
    "{{",
    "<",
];

/// Hosts and paths behind which the path itself is the secret.
const HOOKS: [&str; 5] = [
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "api.telegram.org/bot",
];

/// Whether a value stands in place of a secret.
pub(super) fn is_placeholder(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|word| memmem::find(&value, word.as_bytes()).is_some())
        || value.iter().all(|b| value.first() == Some(b))
        || value == b"pass"
}

/// All secret parameters of URLs in the text.
pub(super) fn parameters(text: &Text, mut found: impl FnMut(usize, usize)) {
    // Parameters are of a URL where a question mark stands before them in the same word.
    let mut query_end = 0;
    for at in memchr2_iter(b'?', b'&', text.bytes) {
        if text.at(at) == b'?' && at >= query_end {
            query_end = text.run(at, usize::MAX, |b| !b.is_ascii_whitespace());
        }
        if let Some((start, end)) = (at < query_end).then(|| parameter(text, at + 1)).flatten() {
            found(start, end);
        }
    }
}

/// Beginning and end of the secret path of the webhook with its `://` here.
pub(super) fn hook(text: &Text, at: usize) -> Option<(usize, usize)> {
    let rest = text.bytes.get(at + 3..)?;
    let hook = HOOKS.iter().find(|hook| rest.starts_with(hook.as_bytes()))?;
    let start = at + 3 + hook.len();
    let end = text
        .run(start, LONGEST_LOGIN, |b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b':'));
    (end - start >= SHORTEST.1 && !is_placeholder(text.part(start, end))).then_some((start, end))
}

/// Beginning and end of the user and password of the URL with its `://` here.
pub(super) fn login(text: &Text, at: usize) -> Option<(usize, usize)> {
    let at = at + 3;
    let end =
        text.run(at, LONGEST_LOGIN, |b| !b.is_ascii_whitespace() && !b"/?#<>\"'`[]()\\|,;".contains(&b));
    let length = text.part(at, end).iter().rposition(|b| *b == b'@')?;
    let login = text.part(at, at + length);
    let host = text.at(at + length + 1);
    let colon = login.iter().position(|b| *b == b':')?;
    let password = login.get(colon + 1..).filter(|password| password.len() > 2)?;
    let real = (host.is_ascii_alphanumeric() || !host.is_ascii()) && !is_placeholder(password);
    real.then_some((at, at + length))
}

/// The secret value of the query parameter whose name begins here.
fn parameter(text: &Text, at: usize) -> Option<(usize, usize)> {
    let name_end =
        text.run(at, LONGEST_NAME, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if text.at(name_end) != b'=' {
        return None;
    }
    let letters = text.part(at, name_end).iter().filter(|b| b.is_ascii_alphanumeric());
    let name: String = letters.map(|b| char::from(b.to_ascii_lowercase())).collect();
    let shortest = if NAMES.contains(&name.as_str()) || ENDINGS.iter().any(|ending| name.ends_with(ending)) {
        SHORTEST.0
    } else if DOUBTFUL.contains(&name.as_str()) {
        SHORTEST.1
    } else {
        return None;
    };
    let start = name_end + 1;
    let mut end =
        text.run(start, usize::MAX, |b| !b.is_ascii_whitespace() && !b"&?#<>\"'`()[]{}\\,;".contains(&b));
    while end > start && matches!(text.back(end, 1), b'.' | b'!' | b'?' | b':') {
        end -= 1;
    }
    let value = text.text.get(start..end).filter(|value| value.is_ascii())?.as_bytes();
    let varied = value.iter().any(u8::is_ascii_digit) || value.len() >= 2 * shortest;
    (value.len() >= shortest && varied && !is_placeholder(value)).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is recognised in a text.
    fn found(text: &str) -> Vec<&str> {
        let mut all = Vec::new();
        let read = Text::new(text);
        let scheme = text.find("://").and_then(|at| login(&read, at));
        all.extend(scheme.and_then(|(start, end)| text.get(start..end)));
        parameters(&read, |start, end| all.extend(text.get(start..end)));
        all
    }

    #[test]
    fn logins() {
        assert_eq!(
            found("postgres://farah:cFN2MTIN7wFz%40@db.example:5432/x?sslmode=require"),
            ["farah:cFN2MTIN7wFz%40"]
        );
        assert_eq!(found("redis://:hdtHsmFKO8B3@cache.example:6379/0"), [":hdtHsmFKO8B3"]);
        for text in [
            "postgres://USER:PASSWORD@HOST:5432/DB",
            "https://example.com/a:b@c/d",
            "ssh://git@git.example.org:2222/x",
            "https://user:${PASS}@host",
            "http://example.com:80/@x",
        ] {
            assert!(found(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn webhooks() {
        let text = "https://hooks.slack.com/services/T0AB/B0CD/k3Jq9ZxW2 x";
        assert_eq!(hook(&Text::new(text), 5), Some((33, text.len() - 2)));
    }

    #[test]
    fn secret_parameters() {
        assert_eq!(
            found("https://a.example/x?q=1&api_key=6cff86b37a1b3512f2dc3, but"),
            ["6cff86b37a1b3512f2dc3"]
        );
        assert_eq!(found("GET /h?id=918&token=3297dabaff4a8f22 HTTP/1.1"), ["3297dabaff4a8f22"]);
        assert_eq!(
            found("https://b.example/s?X-Amz-Signature=873354201223b4c60e1b#top"),
            ["873354201223b4c60e1b"]
        );
        for text in [
            "https://api.example.com/?api_key=YOUR_API_KEY&q=test",
            "https://api.example.com/v1?limit=50&offset=328",
            "access_token=UOwMvQijcIQkcdUqMeBgEdu4lTuUznJStypNPPS3&token=abcdefgh12345",
            "?after=eyJpZCI6NTUxMjcsImRlc2MiOnRydWV9&limit=50",
        ] {
            assert!(found(text).is_empty(), "{text}");
        }
    }
}
