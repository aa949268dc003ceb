//! `kind = "slack"`: an incoming webhook of Slack. What strangers wrote is escaped, so that it calls nobody and links nowhere;
//! what is over Slack's limits is cut, because it would refuse the whole message. Slack knows no idempotency: the id of the
//! message stands in its text, so that people can tell a repeat.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE};
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    destination::{ANSWER_BYTES, Destination, Told, by_subject, cut, deadline, need},
    webhook::reach,
};
use crate::{
    domain::{Message, Notice, Severity},
    outbound::{self, Answer},
};

/// Slack posts one message a second to a channel.
const SPACING: Duration = Duration::from_millis(1100);
/// Least time between two messages, where the configuration says nothing.
const DIGEST: Duration = Duration::from_secs(600);
/// Longest header, in characters.
const HEADER: usize = 150;
/// Longest text of a section, in characters.
const SECTION: usize = 3000;
/// Lines of a digest: far below the 50 blocks that Slack takes, and what people read.
const LINES: usize = 10;
/// Longest name of a tenant, feature or call, in characters, before it is escaped.
const NAME: usize = 80;
/// Longest sentence of a notice, in characters, before it is escaped: with four names and five characters for each of theirs it
/// stays within a section.
const SENTENCE: usize = 240;

/// An incoming webhook of Slack.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SlackConfig {
    /// File with the webhook's URL and nothing else: who has it may post.
    pub url_file: Option<PathBuf>,
    /// Variable of the environment with it, in place of a file.
    pub url_env: Option<String>,
    /// Whether it may be plain http to another machine.
    pub allow_http: bool,
    /// Longest wait for an answer, in milliseconds; 15,000 where it is 0.
    pub timeout_ms: u64,
}

/// A channel of Slack.
pub struct Slack {
    url: Url,
    client: Client,
    deadline: Duration,
}

impl Slack {
    /// A channel by its configuration.
    ///
    /// # Errors
    /// The key and the remedy, never the URL.
    pub fn new(config: &SlackConfig) -> Result<Self, String> {
        let text = need("url", config.url_file.as_deref(), config.url_env.as_deref())?;
        let url = outbound::url(text.expose_secret(), config.allow_http);
        let url = url.map_err(|error| format!("url_file or url_env: {error}"))?;
        let client = outbound::client(&url, 1).map_err(|error| format!("no client: {error}"))?;
        let deadline = deadline(if config.timeout_ms == 0 { 15_000 } else { config.timeout_ms })?;
        Ok(Self { url, client, deadline })
    }
}

#[async_trait]
impl Destination for Slack {
    fn spacing(&self) -> Duration {
        SPACING
    }

    fn digest(&self) -> Duration {
        DIGEST
    }

    async fn tell(&self, message: &Message) -> Told {
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let request = request.body(body(message).to_string());
        match outbound::exchange(request, self.deadline, ANSWER_BYTES).await {
            Ok(answer) => outcome(&answer),
            Err(error) => Told::unanswered(&error),
        }
    }

    async fn check(&self) -> Result<String, String> {
        reach(&self.client, &self.url, self.deadline).await
    }
}

/// What an answer means.
fn outcome(answer: &Answer) -> Told {
    let said = String::from_utf8_lossy(&answer.body);
    // Slack's own word for it, and nothing that something else in its place may answer.
    let word: String = said.trim().chars().take(60).collect();
    let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let reason = match is_word {
        true => format!("status {}, {word}", answer.status.as_u16()),
        false => format!("status {}", answer.status.as_u16()),
    };
    match answer.status {
        StatusCode::OK if word == "ok" => Told::delivered(),
        StatusCode::OK => Told::Again { reason: "status 200 without ok: is it Slack?".into(), after: None },
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
            Told::Gone { reason: format!("{reason}: the webhook is no more; make another in Slack") }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Told::again(answer.status, &answer.headers)
        }
        status if status.is_client_error() => Told::Never { reason },
        status => Told::again(status, &answer.headers),
    }
}

/// The message as Slack wants it: a text for notifications, and blocks. Verbatim, or Slack would make links of addresses and names of
/// channels that strangers have written.
fn body(message: &Message) -> Value {
    let subjects = by_subject(message);
    let title = match &message.notices[..] {
        [one] => format!("{} {}", mark(one), one.summary),
        several => format!("{} notices about {} things", several.len(), subjects.len()),
    };
    let lines: Vec<String> =
        subjects.iter().take(LINES).map(|(notice, count)| line(notice, *count)).collect();
    let mut blocks =
        vec![json!({"type": "header", "text": {"type": "plain_text", "text": cut(&title, HEADER)}})];
    let section = |text: &String| json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}});
    blocks.extend(lines.iter().map(section));
    let left_out = subjects.len().saturating_sub(LINES);
    let id = message.message_id;
    let footer = match left_out {
        0 => format!("aftercheck · {id}"),
        more => format!("and {more} more · aftercheck · {id}"),
    };
    blocks
        .push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": footer, "verbatim": true}]}));
    let text = format!("{} ({id})", escape(&cut(&title, SECTION)));
    json!({"text": text, "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

/// A sign for how bad it is.
fn mark(notice: &Notice) -> &'static str {
    match (notice.resolved, notice.severity) {
        (true, _) => "✅",
        (_, Severity::Critical) => "🔴",
        (_, Severity::Error) => "🟠",
        (_, Severity::Warning) => "🟡",
        (_, Severity::Info) => "🔵",
    }
}

/// One thing in a few words.
fn line(notice: &Notice, count: usize) -> String {
    let mut line = format!("{} *{}*", mark(notice), escape(&cut(&notice.summary, SENTENCE)));
    if notice.resolved {
        line.push_str(" — over");
    }
    if count > 1 {
        line.push_str(&format!(" × {count}"));
    }
    let names = [("tenant", &notice.tenant_id), ("feature", &notice.feature), ("call", &notice.request_id)];
    for (name, value) in names {
        if let Some(value) = value {
            line.push_str(&format!(" · {name} {}", escape(&cut(value, NAME))));
        }
    }
    if !notice.dimensions.is_empty() {
        line.push_str(&format!(" · {}", escape(&cut(&notice.dimensions.join(", "), NAME))));
    }
    let link = notice.link.as_deref().filter(|link| !link.contains(['|', '>', '<']));
    let link = link.map(|link| format!(" · <{}|open>", escape(link))).unwrap_or_default();
    // A link that does not fit is left out: nobody can follow half of one.
    match (line.chars().count() + link.chars().count()) <= SECTION {
        true => line + &link,
        false => line,
    }
}

/// A text that calls nobody, links nowhere and formats nothing: Slack asks for three characters; those that make bold, code or
/// another line are taken for others that look like them.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '*' => out.push('∗'),
            '`' => out.push('ˋ'),
            '~' => out.push('∼'),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::destination::tests::{condition, notice, numbered};

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: Default::default(), body: body.into() }
    }

    #[test]
    fn what_strangers_wrote_calls_nobody() {
        let text = body(&Message::of("r", vec![notice()])).to_string();
        assert!(!text.contains("<!channel>") && !text.contains("<https://evil"), "{text}");
        assert!(text.contains("&lt;!channel&gt; &amp; co"), "{text}");
        assert!(text.contains("<https://aftercheck.example/calls/acme/order-1|open>"), "{text}");
        assert!(text.contains(&notice().notice_id.to_string()), "the id of the message");
    }

    #[test]
    fn nothing_is_over_a_limit() {
        let long = Notice {
            tenant_id: Some("<".repeat(5000)),
            feature: Some("&".repeat(5000)),
            request_id: Some("\u{1f600}".repeat(5000)),
            summary: "<&>".repeat(5000),
            link: Some(format!("https://a.example/{}", "x".repeat(5000))),
            ..notice()
        };
        let several = (0..200)
            .map(|number| Notice { feature: Some(format!("f{number}{}", "&".repeat(900))), ..long.clone() });
        for message in [Message::of("r", vec![long.clone()]), Message::of("r", several.collect())] {
            let body = body(&message);
            let blocks = body["blocks"].as_array().unwrap();
            assert!(blocks.len() <= 50);
            for block in blocks {
                let (text, most) = match block["type"].as_str().unwrap() {
                    "header" => (&block["text"]["text"], 150),
                    "section" => (&block["text"]["text"], 3000),
                    _ => (&block["elements"][0]["text"], 3000),
                };
                assert!(text.as_str().unwrap().chars().count() <= most, "{text}");
            }
            assert!(!body["text"].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn a_digest_sums_up() {
        let body = body(&Message::of("r", vec![numbered(1), numbered(2), condition(false)])).to_string();
        assert!(body.contains("3 notices about 2 things") && body.contains("× 2"), "{body}");
    }

    #[test]
    fn an_answer_means_what_the_contract_says() {
        assert_eq!(outcome(&answer(200, "ok")), Told::delivered());
        assert!(matches!(outcome(&answer(200, "<html>")), Told::Again { .. }));
        assert!(
            matches!(outcome(&answer(400, "invalid_payload")), Told::Never { reason } if reason.contains("invalid_payload"))
        );
        for (status, text) in [(403, "action_prohibited"), (404, "no_service"), (410, "channel_is_archived")]
        {
            assert!(matches!(outcome(&answer(status, text)), Told::Gone { .. }), "{status}");
        }
        for (status, text) in [(429, ""), (500, "rollup_error"), (503, "")] {
            assert!(matches!(outcome(&answer(status, text)), Told::Again { .. }), "{status}");
        }
    }
}
