//! Kind `urls_grounded`: links and e-mail addresses stand in the sources or lead to allowed domains.

use std::collections::HashSet;

use serde::Deserialize;

use super::error::BadOption;
use super::personal::email;
use super::{Finding, MAX_SPANS, Rule};
use crate::domain::Call;
use crate::domain::evaluation::Span;

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

    /// Whether a normalised address leads to an allowed domain.
    fn allows(&self, address: &str) -> bool {
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
            .flat_map(|s| s.split(ends_address))
            .filter(|word| word.contains(['.', '@']))
            .map(normalised)
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
    c.is_whitespace() || "<>\"'`()[]{}|,;，。；、）】」“”‘’\\*".contains(c)
}

/// An address without scheme, `www.`, closing marks and last slash; the host in lower case.
fn normalised(address: &str) -> String {
    let address = address.trim_end_matches(['.', ':', '!', '?', '/', '_', '…']);
    let rest = ["mailto:", "https://", "http://"].iter().find_map(|scheme| {
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
        let stands = |word: &str| {
            word.chars()
                .enumerate()
                .all(|(i, w)| text.get(at + i).is_some_and(|c| c.eq_ignore_ascii_case(&w)))
        };
        let edge = at == 0 || text.get(at - 1).is_some_and(|c| !c.is_alphanumeric());
        let head = ["https://", "http://", "www."].into_iter().find(|word| edge && stands(word));
        if let Some(head) = head {
            let rest = text.get(at..).unwrap_or_default();
            let mut end = at + rest.iter().take_while(|c| !ends_address(**c)).count();
            while end > at && text.get(end - 1).is_some_and(|c| ".:!?_…".contains(*c)) {
                end -= 1;
            }
            if end > at + head.len() {
                found.push((at, end, "link"));
                (at, free) = (end, end);
                continue;
            }
        } else if let Some((start, end)) = email(text, at, free) {
            found.push((start, end, "email"));
            (at, free) = (end, end);
            continue;
        }
        at += 1;
    }
    found
}
