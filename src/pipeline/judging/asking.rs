//! One judge is asked: within its limits and the budget, as often as is worth it.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{Judges, Purse, Seat, kept, keys, read};
use crate::{
    domain::{Call, ClaimLabel, Exchange, JudgeFailure},
    evaluators::judge::{
        JudgeError, Remedy,
        answer::{ClaimVerdict, Verdicts},
        breaker,
        model::{Answered, Spent},
        question::{self, Asked, Questions},
    },
    faults::broken,
    metrics,
    outbound::Unanswered,
    pipeline::retry::share,
    store::StoreError,
};

/// Attempts of one call on one judge, beyond the first.
const RETRIES: u32 = 2;
/// First wait before another attempt; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait that a call is held for; a judge that asks for more is left to others.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Why a judge gave no answer.
pub(super) enum NoAnswer {
    /// The budget is spent.
    Spent,
    /// It is left alone because it failed too often.
    LeftAlone,
    /// Its limits did not let the question in while there was time for the answer.
    Busy,
    /// It failed.
    Failed(JudgeError),
    /// The store did not answer: without a budget nobody is asked.
    Store(StoreError),
}

/// Answers of one judge, and what they took.
#[derive(Default)]
pub(super) struct Found {
    /// Place among those that were asked about, answer, and whether it was known.
    pub claims: Vec<(usize, ClaimVerdict, bool)>,
    /// Tokens, those of failed attempts left out.
    pub spent: Spent,
    /// None where all of it was known.
    pub exchange: Option<Exchange>,
    /// The model, as the server calls it; empty where nobody was asked, or it does not say.
    pub model: String,
}

/// What a judge wrote that can be used.
struct Reply {
    verdicts: Verdicts,
    text: String,
    model: String,
    spent: Spent,
}

/// What is asked: a document about so many claims.
#[derive(Clone, Copy)]
struct Question<'a> {
    document: &'a str,
    claims: usize,
}

impl Judges {
    /// Asks one judge about what it has not answered before.
    pub(super) async fn ask_one(
        &self,
        (seat, is_last): (&Seat, bool),
        call: &Call,
        questions: &Questions,
        purse: &Purse,
    ) -> Result<Found, NoAnswer> {
        let keys = keys(seat, call, questions);
        let known = self.store.judged(&keys).await.map_err(NoAnswer::Store)?;
        let mut found = Found::default();
        let mut missing: Vec<usize> = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            match known.get(key).and_then(|answer| read(answer)) {
                Some(verdict) => found.claims.push((place, verdict, true)),
                None => missing.push(place),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let asked: Vec<&Asked> = missing.iter().filter_map(|place| questions.asked.get(*place)).collect();
        let document = question::document(&questions.input, &asked, seat.model.datamark());
        let question = Question { document: &document, claims: asked.len() };
        let Reply { verdicts, text, model, spent } =
            self.attempt((seat, is_last), call, question, purse).await?;
        let fresh: Vec<(usize, ClaimVerdict)> = missing.iter().copied().zip(verdicts.claims).collect();
        let answers: Vec<(String, String)> = fresh
            .iter()
            .filter_map(|(place, verdict)| Some((keys.get(*place)?.clone(), kept(verdict))))
            .collect();
        let keep_ms = i64::try_from(self.config.cache_days).unwrap_or(i64::MAX).saturating_mul(DAY_MS);
        // Before the verdict: a crash from here on pays nothing again.
        let whose = (call.tenant_id.as_str(), call.request_id.as_str());
        if let Err(error) = self.store.remember_judged(whose, &answers, keep_ms).await {
            tracing::warn!(%error, "a judge's answer could not be kept, it may be paid for again");
        }
        found.claims.extend(fresh.into_iter().map(|(place, verdict)| (place, verdict, false)));
        found.claims.sort_by_key(|(place, ..)| *place);
        let exchange = Some(Exchange { asked: document, answered: text });
        Ok(Found { spent, exchange, model, ..found })
    }

    /// Asks until there is an answer that can be used, as often as is worth it.
    async fn attempt(
        &self,
        (seat, is_last): (&Seat, bool),
        call: &Call,
        question: Question<'_>,
        purse: &Purse,
    ) -> Result<Reply, NoAnswer> {
        let (mut lucky, mut attempt) = (false, 0);
        let patience = Duration::from_secs(self.config.deadline_secs);
        loop {
            if !seat.breaker.lets_through(Instant::now(), patience) && !broken("insistent_judge") {
                return Err(NoAnswer::LeftAlone);
            }
            let error = match self.ask_once(seat, call, question, purse).await? {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let remedy = if broken("insistent_judge") { Remedy::Later(None) } else { error.remedy() };
            let wait = match remedy {
                // The time is better spent with the next one.
                Remedy::Later(_) if error.is_late() && !is_last => return Err(NoAnswer::Failed(error)),
                Remedy::Later(wait) => wait.unwrap_or_else(|| FIRST_WAIT * (1 << attempt)),
                Remedy::Again if !std::mem::replace(&mut lucky, true) => Duration::ZERO,
                Remedy::Again | Remedy::Another | Remedy::Person => return Err(NoAnswer::Failed(error)),
            };
            attempt += 1;
            if attempt > RETRIES || wait > MAX_WAIT {
                return Err(NoAnswer::Failed(error));
            }
            // What failed together does not come back together.
            sleep(wait.mul_f64(1.0 + 0.25 * share(&format!("{}:{attempt}", call.request_id)))).await;
        }
    }

    /// One question, paid out of the budget once the judge's own limits let it through.
    async fn ask_once(
        &self,
        seat: &Seat,
        call: &Call,
        question: Question<'_>,
        purse: &Purse,
    ) -> Result<Result<Reply, JudgeError>, NoAnswer> {
        let (model, price) = (&seat.model, self.price(seat.model.model()));
        let text = marked(question.document);
        // The rest of the time is for the answer.
        let patience = Duration::from_secs(self.config.deadline_secs) / 2;
        let admitted = match timeout(patience, model.admit(&text)).await {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(_) => return Err(NoAnswer::Busy),
        };
        // As much as it may take: what is left over is given back.
        let most = Spent {
            tokens_in: model.tokens_in(text.len()),
            tokens_cached: 0,
            tokens_out: model.max_output_tokens(),
        };
        let reserved_usd = price.map_or(0.0, |price| price.cost(most));
        let reserved = self.store.reserve_judging(&call.tenant_id, reserved_usd, &self.limits).await;
        let Some(reservation) = reserved.map_err(NoAnswer::Store)? else {
            metrics::judge_asked(model.name(), "budget");
            return Err(NoAnswer::Spent);
        };
        let mut asking =
            Asking { judges: self, seat, purse, question, most, begun: Instant::now(), answered: false };
        let outcome = model.ask(admitted, &text, question.claims).await;
        asking.answered = true;
        let Heard { verdicts, text, model: named, spent, is_paid } = Heard::of(outcome, most);
        let cost = if is_paid { price.map(|price| price.cost(spent)) } else { Some(0.0) };
        let verdicts = if broken("gullible_judge") { Ok(gullible(question.claims)) } else { verdicts };
        let class = verdicts.as_ref().err().map_or("ok", JudgeError::class);
        asking.ended(class, (spent, cost));
        self.note(seat, verdicts.as_ref().err());
        // Before the store is asked, which may take the rest of the time.
        let result = match verdicts {
            Ok(verdicts) => Ok(Reply { verdicts, text, model: named, spent }),
            Err(error) => {
                purse.fail(failure(seat, class, question.document, (spent, cost)), text);
                Err(error)
            }
        };
        let correction = cost.unwrap_or(0.0) - reserved_usd;
        if let Err(error) = self.store.correct_judging(&call.tenant_id, reservation, correction).await {
            tracing::warn!(%error, "the budget of judges keeps a guess");
        }
        Ok(result)
    }

    /// Tells a judge's breaker what came of a question.
    fn note(&self, seat: &Seat, error: Option<&JudgeError>) {
        let outcome = match error {
            Some(error) if error.remedy() == Remedy::Person => breaker::Outcome::Person,
            Some(error) if error.is_outage() => breaker::Outcome::Out,
            _ => breaker::Outcome::Answered,
        };
        if seat.breaker.note(outcome, Instant::now()) {
            let reason = error.map(JudgeError::class);
            tracing::error!(judge = seat.model.name(), reason, "judge is left alone for a while");
        }
        metrics::judge_out(seat.model.name(), seat.breaker.is_open());
    }
}

/// A question that waits for its answer; where it goes before that, the call's time is over.
struct Asking<'a> {
    judges: &'a Judges,
    seat: &'a Seat,
    purse: &'a Purse,
    question: Question<'a>,
    most: Spent,
    begun: Instant,
    answered: bool,
}

impl Asking<'_> {
    /// Pays, and counts what came of it.
    fn ended(&self, class: &'static str, (spent, cost): (Spent, Option<f64>)) {
        let (name, usd) = (self.seat.model.name(), cost.unwrap_or(0.0));
        self.purse.pay(cost);
        metrics::judge_asked(name, class);
        metrics::judge_answered(name, self.begun.elapsed(), (spent.tokens_in, spent.tokens_out), usd);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        // It is taken for paid, as one whose own deadline is over is.
        let Self { judges, seat, purse, question, most, .. } = &*self;
        let cost = judges.price(seat.model.model()).map(|price| price.cost(*most));
        self.ended("deadline", (*most, cost));
        purse.fail(failure(seat, "deadline", question.document, (*most, cost)), String::new());
        judges.note(seat, Some(&JudgeError::Unanswered(Unanswered::Late(Duration::ZERO))));
    }
}

/// What came of one question.
struct Heard {
    verdicts: Result<Verdicts, JudgeError>,
    text: String,
    model: String,
    spent: Spent,
    /// Whether it costs that, be it of use or not.
    is_paid: bool,
}

impl Heard {
    /// Of an answer, or of none; `most` is what it may have taken where nobody says.
    fn of(asked: Result<Answered, JudgeError>, most: Spent) -> Self {
        match asked {
            Ok(Answered { verdicts, text, spent, model }) => {
                Self { verdicts, text, model, spent: spent.unwrap_or(most), is_paid: true }
            }
            Err(error) => {
                let is_paid = error.may_be_paid();
                let spent = if is_paid { most } else { Spent::default() };
                Self { verdicts: Err(error), text: String::new(), model: String::new(), spent, is_paid }
            }
        }
    }
}

/// A question that brought no verdict.
fn failure(seat: &Seat, class: &str, asked: &str, (spent, cost_usd): (Spent, Option<f64>)) -> JudgeFailure {
    JudgeFailure {
        judge: seat.model.name().to_owned(),
        class: class.to_owned(),
        tokens_in: spent.tokens_in,
        tokens_out: spent.tokens_out,
        cost_usd,
        asked: Some(asked.to_owned()),
        answered: None,
        answered_sha256: None,
    }
}

/// What the deliberately broken build makes of any answer.
fn gullible(claims: usize) -> Verdicts {
    let verdict = ClaimVerdict { label: ClaimLabel::Supported, support: 0.6, reason: "broken".into() };
    Verdicts { claims: vec![verdict; claims], score: 0.6 }
}

/// A document within a marker that nobody could have guessed and that stands nowhere in it.
fn marked(document: &str) -> String {
    loop {
        let marker = Uuid::new_v4().simple().to_string();
        if !document.contains(&marker) {
            return question::between(document, &marker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_another_each_time_and_stands_alone_around_the_document() {
        let marker = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!((lines.len(), lines[1], lines[0]), (3, "{}", lines[2]));
            assert_eq!(lines[0].len(), 32);
            lines[0].to_owned()
        };
        assert_ne!(marker(&marked("{}")), marker(&marked("{}")));
    }
}
