//! Kind `urls_grounded`: links and e-mail addresses stand in the sources or lead to allowed domains.

use std::collections::HashSet;

use serde::Deserialize;

use super::error::BadOption;
use super::{Finding, MAX_SPANS, Rule};
use crate::domain::Call;
use crate::domain::evaluation::Span;

/// Schemes of links; what follows is the host.
const SCHEMES: [&str; 3] = ["https://", "http://", "ftp://"];
/// Ends of domains that are taken for links without a scheme, where a path follows. Others, such as `.md` and
/// `.py`, name files.
const TLDS: [&str; 48] = [
    "com", "org", "net", "edu", "gov", "info", "biz", "io", "ai", "app", "dev", "co", "me", "tv", "cc",
    "xyz", "top", "shop", "store", "online", "site", "club", "live", "link", "click", "cloud", "tech", "ru",
    "cn", "uk", "de", "fr", "es", "it", "nl", "pt", "eu", "us", "ca", "au", "in", "jp", "br", "ch", "at",
    "be", "tk", "to",
];
/// Longest part of an address before the `@`, and after it (RFC 5321).
const ADDRESS: (usize, usize) = (64, 255);
/// Longest host name (RFC 1035).
const MAX_HOST: usize = 253;

/// Options and rule of kind `urls_grounded`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UrlsGrounded {
    /// Domains that are fine, with all below them.
    #[serde(default)]
    allow: Vec<String>,
}

impl UrlsGrounded {
    /// The rule, where the domains are bare.
    pub(super) fn build(mut self) -> Result<Self, BadOption> {
        for domain in &mut self.allow {
            *domain = domain.trim_start_matches("*.").to_lowercase();
            if domain.is_empty() || domain.contains(['/', ':', '@', ' ']) {
                let message = format!("{domain:?} is no domain");
                return Err(BadOption::new("allow", message, "write domains such as example.com"));
            }
        }
        Ok(self)
    }

    /// Whether a normalised address leads to an allowed domain. Browsers take a backslash for a slash, other
    /// programs for a part of the user's name: such an address leads to no domain for certain.
    fn allows(&self, address: &str) -> bool {
        if address.contains('\\') {
            return false;
        }
        let host = address.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        let below =
            |d: &String| host.strip_suffix(d.as_str()).is_some_and(|h| h.is_empty() || h.ends_with('.'));
        self.allow.iter().any(below)
    }
}

impl Rule for UrlsGrounded {
    fn check(&self, call: &Call) -> Finding {
        let content = &call.content;
        if content.contexts.is_empty() && content.input.is_none() {
            return Finding::not_applicable("no contexts and no input");
        }
        let text: Vec<char> = content.answer.chars().collect();
        let found = scan(&text);
        if found.is_empty() {
            return Finding::pass();
        }
        let sources = content.contexts.iter().map(|c| c.text.as_str()).chain(content.input.as_deref());
        let known: HashSet<String> = sources
            .flat_map(|s| s.replace("&amp;", "&").split(ends_address).map(str::to_owned).collect::<Vec<_>>())
            .filter(|word| word.contains(['.', '@']))
            .map(|word| normalised(&word))
            .collect();
        let mut spans = Vec::new();
        for (start, end, note) in found {
            let address: String = text.get(start..end).unwrap_or_default().iter().collect();
            let address = normalised(&address);
            if !address.is_empty() && !known.contains(&address) && !self.allows(&address) {
                spans.push(Span { start, end, note: note.into() });
            }
        }
        if spans.is_empty() {
            return Finding::pass();
        }
        let detail = format!("{} links or addresses stand in no source", spans.len());
        spans.truncate(MAX_SPANS);
        Finding::fail(detail, spans)
    }
}

/// Whether an address ends before this character, in answers and in sources alike.
fn ends_address(c: char) -> bool {
    c.is_whitespace() || "<>\"'`()[]{}|,;，。；、）】」“”‘’—–*\\".contains(c)
}

/// An address without scheme, `www.`, closing marks and last slash; the host in lower case.
fn normalised(address: &str) -> String {
    let address = address.replace("&amp;", "&");
    let address = address.trim_end_matches(['.', ':', '!', '?', '/', '_', '…', '\\']);
    let rest = ["mailto:"].iter().chain(&SCHEMES).find_map(|scheme| {
        let head = address.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then(|| address.get(scheme.len()..).unwrap_or_default())
    });
    let rest = rest.unwrap_or(address);
    let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(split);
    let host = host.to_lowercase();
    format!("{}{path}", host.strip_prefix("www.").unwrap_or(&host))
}

/// Characters of every link and address, with what it is; ascending.
fn scan(text: &[char]) -> Vec<(usize, usize, &'static str)> {
    let mut found = Vec::new();
    let (mut at, mut free) = (0, 0);
    while at < text.len() {
        let link =
            schemed(text, at).or_else(|| bare(text, at, free)).map(|(start, end)| (start, end, "link"));
        match link.or_else(|| email(text, at, free).map(|(start, end)| (start, end, "email"))) {
            Some(place) => {
                found.push(place);
                (at, free) = (place.1, place.1);
            }
            None => at += 1,
        }
    }
    found
}

/// The e-mail address whose `@` stands here; it begins at `free` or later.
fn email(text: &[char], at: usize, free: usize) -> Option<(usize, usize)> {
    if text.get(at) != Some(&'@') {
        return None;
    }
    let local = |c: char| c.is_alphanumeric() || "._%+-'".contains(c);
    let from = at.saturating_sub(ADDRESS.0).max(free);
    let length = text.get(from..at)?.iter().rev().take_while(|c| local(**c)).count();
    let start = at - length;
    let rest = text.get(at + 1..)?.iter().take(ADDRESS.1);
    let mut end = at + 1 + rest.take_while(|c| c.is_alphanumeric() || matches!(c, '.' | '-')).count();
    while end > at + 1 && text.get(end - 1).is_some_and(|c| matches!(c, '.' | '-')) {
        end -= 1;
    }
    let domain: String = text.get(at + 1..end)?.iter().collect();
    let (name, tld) = domain.rsplit_once('.')?;
    let real = tld.chars().count() >= 2 && tld.chars().all(char::is_alphabetic) && !name.is_empty();
    (length > 0 && real && !domain.starts_with('.')).then_some((start, end))
}

/// Where the link that begins at `start` ends, without the marks of the sentence.
fn link_end(text: &[char], start: usize) -> usize {
    let mut end = start;
    while let Some(c) = text.get(end) {
        // The semicolon of `&amp;` ends nothing.
        let entity = *c == ';' && text.get(..end).is_some_and(|t| t.ends_with(&['&', 'a', 'm', 'p']));
        // Nor does a backslash that pushes the real host behind an `@`; others are escapes.
        let pushed = *c == '\\' && text.get(end + 1).is_some_and(|c| matches!(c, '@' | '/' | '\\'));
        if ends_address(*c) && !entity && !pushed {
            break;
        }
        end += 1;
    }
    while end > start && text.get(end - 1).is_some_and(|c| ".:!?_…\\".contains(*c)) {
        end -= 1;
    }
    end
}

/// The link that begins here with a scheme or `www.`.
fn schemed(text: &[char], at: usize) -> Option<(usize, usize)> {
    let stands = |word: &&str| {
        word.chars().enumerate().all(|(i, w)| text.get(at + i).is_some_and(|c| c.eq_ignore_ascii_case(&w)))
    };
    if at.checked_sub(1).and_then(|i| text.get(i)).is_some_and(|c| c.is_alphanumeric()) {
        return None;
    }
    let head = SCHEMES.into_iter().chain(["www."]).find(stands)?;
    let end = link_end(text, at);
    (end > at + head.len()).then_some((at, end))
}

/// The link without a scheme whose first slash stands here: `example.com/login`. It begins at `free` or later.
fn bare(text: &[char], at: usize, free: usize) -> Option<(usize, usize)> {
    if text.get(at) != Some(&'/') || !text.get(at + 1).is_some_and(|c| c.is_alphanumeric()) {
        return None;
    }
    let from = at.saturating_sub(MAX_HOST).max(free);
    let host = |c: &&char| c.is_alphanumeric() || matches!(c, '.' | '-');
    let length = text.get(from..at)?.iter().rev().take_while(host).count();
    let start = at - length;
    let before = start.checked_sub(1).and_then(|i| text.get(i));
    let host: String = text.get(start..at)?.iter().flat_map(|c| c.to_lowercase()).collect();
    let (name, tld) = host.rsplit_once('.')?;
    let free_standing = !before.is_some_and(|c| matches!(c, '/' | '@' | '_' | '\\'));
    let real = TLDS.contains(&tld) && name.starts_with(char::is_alphanumeric);
    (free_standing && real).then(|| (start, link_end(text, at)))
}
