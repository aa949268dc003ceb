//! Kind `urls_grounded`: links and e-mail addresses of the answer stand in contexts or input, or are allowed.

use regex::Regex;
use serde::Deserialize;

use super::{Finding, Rule, spans};
use crate::domain::Call;

/// Links looked at in one answer.
const MAX_LINKS: usize = 500;

/// Options of `urls_grounded`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Domains that need no source, with their subdomains.
    #[serde(default)]
    allow: Vec<String>,
}

/// A compiled rule.
pub(super) struct Urls {
    pattern: Regex,
    allow: Vec<String>,
}

impl Urls {
    /// Compiles the pattern.
    pub fn new(options: &Options) -> Result<Self, String> {
        let pattern = Regex::new(
            r#"(?i)\b(?:https?://|www\.)[^\s<>"'\])】]{3,500}|\b[a-z0-9._%+-]{1,64}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,5}"#,
        )
        .map_err(|error| error.to_string())?;
        Ok(Self { pattern, allow: options.allow.iter().map(|domain| domain.to_lowercase()).collect() })
    }

    /// Whether the host of a link is allowed.
    fn allowed(&self, link: &str) -> bool {
        let link = link.to_lowercase();
        let rest = link.split_once("://").map_or(link.as_str(), |(_, rest)| rest);
        // Up to the path, then past any user info: "https://good.example@evil.example" is evil's.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default().split(':').next().unwrap_or_default();
        self.allow.iter().any(|domain| {
            host == domain || host.strip_suffix(domain.as_str()).is_some_and(|sub| sub.ends_with('.'))
        })
    }
}

impl Rule for Urls {
    fn check(&self, call: &Call) -> Finding {
        let answer = &call.content.answer;
        let mut links = self.pattern.find_iter(answer).take(MAX_LINKS).peekable();
        if links.peek().is_none() {
            return Finding::not_applicable();
        }
        let sources: Vec<String> = call
            .content
            .contexts
            .iter()
            .map(|context| context.text.to_lowercase())
            .chain(call.content.input.iter().map(|input| input.to_lowercase()))
            .collect();
        let ungrounded: Vec<_> = links
            .filter_map(|link| {
                let text = link.as_str().trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '/']);
                let grounded = sources.iter().any(|source| source.contains(&text.to_lowercase()));
                let range = link.start()..link.start() + text.len();
                (!grounded && !self.allowed(text) && !range.is_empty()).then(|| (range, "not in the sources".to_owned()))
            })
            .collect();
        Finding::of_spans("links that no source holds", spans(answer, &ungrounded))
    }
}
