//! The judges of a service: asked in their order, within their limits and the budget, and never twice about the same.
//!
//! ```text
//! claims that are not sure ── answered before, by any of the judges? ─► that answer
//!     └─ for each judge that is not out: wait for its limits ─► take the question out of the budget ─► ask ─► correct the budget
//!           answer that can be used ─► keep it, before anything else: a crash after this pays nothing again
//!           later ─► wait, ask again · luck ─► ask once more · another ─► the next judge
//! ```

mod asking;
mod config;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{Timestamp, tz::Offset};
use tokio::{sync::Semaphore, time::timeout};

use self::asking::{Found, NoAnswer};
pub use self::config::{BadJudge, BudgetConfig, JudgeConfig, WhenUnavailable};
use crate::{
    domain::{Call, ClaimLabel, JudgeFailure, JudgedClaim, Judgement, id::sha256_hex},
    evaluators::{
        judge::{
            answer::ClaimVerdict,
            breaker::Breaker,
            config::BadModel,
            family::are_related,
            model::{Model, Spent},
            policy,
            prices::{Price, Prices},
            prompt_version,
            question::{Asked, Questions},
        },
        nli::score::Faithfulness,
    },
    faults::broken,
    metrics,
    store::{JudgeLimits, Store, StoreError, Until},
};

/// How long a call waits for judges that are out, in milliseconds.
const OUT_MS: i64 = 600_000;
/// How long a call waits for a place among those that wait, in milliseconds.
const BUSY_MS: i64 = 30_000;
/// Milliseconds of an hour.
const HOUR_MS: i64 = 3_600_000;
/// Bytes of an answer that cannot be used that are looked at for what is kept of it.
const MAX_FAILURE_BYTES: usize = 32 << 10;
/// Longest name of a model that is kept.
const MAX_MODEL_BYTES: usize = 200;
/// Tokens that a judge writes about a claim, about: thirty words and the fields around them.
const TOKENS_A_CLAIM: u64 = 80;

/// What came of asking.
#[derive(Debug)]
pub enum Outcome {
    /// There was nothing to ask.
    NotAsked,
    /// A judge's answer; whether it was asked about all claims that are not sure.
    Answer(Box<Judgement>, bool),
    /// The budget is spent.
    Spent,
    /// Judges cannot be asked at the moment: `out`, or `busy` with as many calls as may wait for them.
    Away(&'static str),
    /// No judge gave an answer that can be used; the class of the last failure.
    Failed(&'static str),
}

/// A judge with its breaker.
struct Seat {
    model: Model,
    breaker: Breaker,
    /// What its answers are kept under beside the question: all that may change them.
    digest: String,
}

/// The judges of a service.
pub struct Judges {
    seats: Vec<Seat>,
    prices: Prices,
    config: JudgeConfig,
    limits: JudgeLimits,
    /// Calls that may wait for judges: the others go on.
    places: Semaphore,
    store: Arc<dyn Store>,
}

/// What asking about one call has cost.
#[derive(Debug, Default)]
pub struct Paid {
    usd: f64,
    /// Whether something was asked whose price nobody knows.
    unpriced: bool,
    /// Questions that brought no verdict.
    pub failures: Vec<JudgeFailure>,
}

impl Paid {
    /// US dollars; none where nobody knows.
    pub fn usd(&self) -> Option<f64> {
        (!self.unpriced).then_some(self.usd)
    }
}

/// What is paid for one call; known, too, when its time is over.
#[derive(Default)]
struct Purse(Mutex<Paid>);

impl Purse {
    /// Pays so many US dollars; none where nobody knows.
    fn pay(&self, usd: Option<f64>) {
        let mut paid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match usd {
            Some(usd) => paid.usd += usd,
            None => paid.unpriced = true,
        }
    }

    /// Notes a question that brought no verdict, and what was written instead.
    fn fail(&self, mut failure: JudgeFailure, mut answered: String) {
        let mut paid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answered.truncate(answered.floor_char_boundary(MAX_FAILURE_BYTES));
        failure.answered = (!answered.is_empty()).then_some(answered);
        // What is asked again is kept once.
        if paid.failures.iter().any(|before| before.asked == failure.asked) {
            failure.asked = None;
        }
        paid.failures.push(failure);
    }

    /// What was paid.
    fn into_paid(self) -> Paid {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Judges {
    /// The judges of a configuration that is enabled; none otherwise. Of so many calls in flight half may wait for them: those
    /// that need no judge go on. Nobody is asked yet.
    ///
    /// # Errors
    /// [`BadJudge`] naming the key and the remedy.
    pub fn new(
        config: &JudgeConfig,
        in_flight: usize,
        store: Arc<dyn Store>,
    ) -> Result<Option<Self>, BadJudge> {
        config.check()?;
        if !config.enabled {
            return Ok(None);
        }
        let mut config = config.clone();
        if broken("patient_judge") {
            config.deadline_secs = 600;
            config.models.iter_mut().for_each(|model| model.deadline_secs = 600);
        }
        let (seats, prices) = seats(&config)?;
        let limits = config.budget.limits();
        let places = Semaphore::new((in_flight / 2).max(1));
        Ok(Some(Self { seats, prices, config, limits, places, store }))
    }

    /// Checks keys, certificates and prices of judges that are enabled, without a store and without asking anybody.
    ///
    /// # Errors
    /// As [`Judges::new`].
    pub fn verify(config: &JudgeConfig) -> Result<(), BadJudge> {
        config.check()?;
        if config.enabled { seats(config).map(drop) } else { Ok(()) }
    }

    /// What of them may change a verdict.
    pub fn policy(&self) -> serde_json::Value {
        policy(&self.config.models)
    }

    /// The price of a model today.
    fn price(&self, model: &str) -> Option<&Price> {
        price_today(&self.prices, model)
    }

    /// What asking about all claims of a call would have cost, in US dollars, by the price of the first judge and a guess at
    /// the answer; none where nobody knows the price, or where there is nothing to ask.
    pub fn avoided_usd(&self, call: &Call, found: &Faithfulness) -> Option<f64> {
        let seat = self.seats.first()?;
        let price = self.price(seat.model.model())?;
        let (claims, bytes) = Questions::size(call, found);
        let spent = Spent {
            tokens_in: seat.model.tokens_in(bytes),
            tokens_cached: 0,
            tokens_out: TOKENS_A_CLAIM * claims as u64,
        };
        (claims > 0).then(|| price.cost(spent))
    }

    /// Whether a call that has waited for so long may wait on, rather than go to review.
    pub fn may_wait(&self, waited: Duration) -> bool {
        self.config.when_unavailable == WhenUnavailable::Defer && self.left_ms(waited) > 0
    }

    /// How long a call that has waited for so long may still wait, in milliseconds.
    fn left_ms(&self, waited: Duration) -> i64 {
        let hours = i64::try_from(self.config.defer_hours).unwrap_or(i64::MAX);
        let waited = i64::try_from(waited.as_millis()).unwrap_or(i64::MAX);
        hours.saturating_mul(HOUR_MS).saturating_sub(waited)
    }

    /// Why a call that has waited for so long is to wait on, and until when; none where it has to end now.
    pub fn put_off(&self, outcome: &Outcome, waited: Duration) -> Option<(&'static str, Until)> {
        let most_ms = self.left_ms(waited);
        let (why, until) = match outcome {
            Outcome::Spent => ("budget", Until::Tomorrow { most_ms }),
            Outcome::Away("busy") => ("busy", Until::In(BUSY_MS.min(most_ms))),
            Outcome::Away(why) => (*why, Until::In(OUT_MS.min(most_ms))),
            Outcome::NotAsked | Outcome::Answer(..) | Outcome::Failed(_) => return None,
        };
        self.may_wait(waited).then_some((why, until))
    }

    /// Asks about the claims of a call that are not sure; says what it cost, too. Where as many calls wait as may, `hold` says
    /// whether this one waits for a place.
    pub async fn ask(&self, call: &Call, found: &Faithfulness, hold: bool) -> (Outcome, Paid) {
        let free = |outcome| (outcome, Paid::default());
        let questions = Questions::of(call, found);
        if questions.asked.is_empty() {
            return free(Outcome::NotAsked);
        }
        match self.answered_before(call, &questions).await {
            Ok(None) => {}
            Ok(Some(judgement)) => return free(whole(judgement, &questions)),
            Err(error) => return free(store_down(&error)),
        }
        let _place = match hold {
            true => self.places.acquire().await.ok(),
            false => match self.places.try_acquire() {
                Ok(place) => Some(place),
                Err(_) => {
                    metrics::judge_asked("any", "busy");
                    return free(Outcome::Away("busy"));
                }
            },
        };
        let purse = Purse::default();
        let deadline = Duration::from_secs(self.config.deadline_secs);
        let asked = timeout(deadline, self.ask_in_order(call, &questions, &purse)).await;
        let paid = purse.into_paid();
        // A question that takes too long would take as long again.
        let outcome = match asked.unwrap_or(Outcome::Failed("timeout")) {
            Outcome::Answer(mut judgement, whole) => {
                judgement.cost_usd = paid.usd();
                Outcome::Answer(judgement, whole)
            }
            outcome => outcome,
        };
        (outcome, paid)
    }

    /// An answer to all of it that one of the judges gave before.
    async fn answered_before(
        &self,
        call: &Call,
        questions: &Questions,
    ) -> Result<Option<Judgement>, StoreError> {
        for seat in &self.seats {
            let keys = keys(seat, call, questions);
            let known = self.store.judged(&keys).await?;
            let claims =
                keys.iter().enumerate().map(|(place, key)| Some((place, read(known.get(key)?)?, true)));
            if let Some(claims) = claims.collect::<Option<Vec<_>>>() {
                let found = Found { claims, ..Found::default() };
                return Ok(Some(self.judgement(seat, call, questions, found)));
            }
        }
        Ok(None)
    }

    /// Asks one judge after the other.
    async fn ask_in_order(&self, call: &Call, questions: &Questions, purse: &Purse) -> Outcome {
        let (mut class, mut all_out, mut busy) = ("out", true, false);
        for (place, seat) in self.seats.iter().enumerate() {
            let is_last = place + 1 == self.seats.len();
            match self.ask_one((seat, is_last), call, questions, purse).await {
                Ok(found) => return whole(self.judgement(seat, call, questions, found), questions),
                Err(NoAnswer::Spent) => return Outcome::Spent,
                Err(NoAnswer::Store(error)) => return store_down(&error),
                Err(NoAnswer::LeftAlone) => metrics::judge_asked(seat.model.name(), "out"),
                Err(NoAnswer::Busy) => {
                    metrics::judge_asked(seat.model.name(), "busy");
                    busy = true;
                }
                Err(NoAnswer::Failed(error)) => {
                    tracing::warn!(judge = seat.model.name(), request_id = call.request_id, %error, "judge failed");
                    class = error.class();
                    // One that was late may be late for this question alone.
                    all_out &= error.is_outage() && !error.is_late();
                }
            }
        }
        match (busy, all_out) {
            (true, true) => Outcome::Away("busy"),
            (false, true) => Outcome::Away("out"),
            // One that failed on this question would be asked, and paid, again while another one is waited for.
            (_, false) => Outcome::Failed(class),
        }
    }

    /// The judgement that answers come to. It is what the worst of them is: all claims have to hold.
    fn judgement(&self, seat: &Seat, call: &Call, questions: &Questions, found: Found) -> Judgement {
        let Found { claims, spent, exchange, model } = found;
        let worst =
            claims.iter().min_by(|a, b| a.1.value().total_cmp(&b.1.value())).map(|(_, verdict, _)| verdict);
        let place = |asked: usize| questions.asked.get(asked).map_or(0, |asked| asked.place);
        let asked_for = seat.model.model();
        let is_related = |model: &str| are_related(model, &call.model_resolved);
        Judgement {
            // An alias does not tell who answers.
            related: is_related(asked_for) || is_related(&model),
            model: asked_for.to_owned(),
            model_resolved: Some(model).filter(|model| is_name(model)),
            prompt_version: prompt_version(seat.model.datamark()),
            score: worst.map_or(0.5, ClaimVerdict::value),
            label: worst.map_or(ClaimLabel::Unsure, |worst| worst.label).as_str().to_owned(),
            reason: worst.map(|worst| worst.reason.clone()).unwrap_or_default(),
            tokens_in: spent.tokens_in,
            tokens_out: spent.tokens_out,
            cost_usd: Some(0.0),
            cached: exchange.is_none(),
            judge: seat.model.name().to_owned(),
            claims: claims
                .into_iter()
                .map(|(asked, verdict, cached)| JudgedClaim {
                    claim: place(asked),
                    label: verdict.label,
                    support: verdict.support,
                    reason: verdict.reason,
                    cached,
                })
                .collect(),
            exchange,
            answered_sha256: None,
        }
    }
}

/// Whether this is what models are called: what else a server says is not quoted.
fn is_name(model: &str) -> bool {
    (1..=MAX_MODEL_BYTES).contains(&model.len()) && model.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The judges of a configuration, and what they cost. A budget in dollars needs to know that of each.
fn seats(config: &JudgeConfig) -> Result<(Vec<Seat>, Prices), BadJudge> {
    let prices = Prices::read(config.prices.as_deref())?;
    let seat = |config| {
        let model = Model::new(config)?;
        let digest = sha256_hex(config.policy().to_string().as_bytes());
        Ok::<_, BadModel>(Seat { model, breaker: Breaker::default(), digest })
    };
    let seats = config.models.iter().map(seat).collect::<Result<Vec<_>, _>>()?;
    let in_dollars = config.budget.usd_per_day.max(config.budget.tenant_usd_per_day) > 0.0;
    let unknown = seats.iter().find(|seat| price_today(&prices, seat.model.model()).is_none());
    match unknown.filter(|_| in_dollars) {
        Some(seat) => Err(BadJudge::NoPrice(seat.model.model().to_owned())),
        None => Ok((seats, prices)),
    }
}

/// The price of a model today (UTC).
fn price_today<'a>(prices: &'a Prices, model: &str) -> Option<&'a Price> {
    prices.of(model, Offset::UTC.to_datetime(Timestamp::now()).date())
}

/// An answer, and whether it is about all that is not sure.
fn whole(judgement: Judgement, questions: &Questions) -> Outcome {
    Outcome::Answer(Box::new(judgement), questions.left_out == 0)
}

/// Without the store there is no budget, and nobody is asked.
fn store_down(error: &StoreError) -> Outcome {
    tracing::warn!(%error, "the judge is not asked without its budget");
    Outcome::Away("out")
}

/// Digests under which a judge's answers about claims are kept.
fn keys(seat: &Seat, call: &Call, questions: &Questions) -> Vec<String> {
    let key = |asked: &Asked| {
        let parts = [seat.model.name(), &seat.digest, &call.tenant_id, &asked.digest(&questions.input)];
        sha256_hex(serde_json::json!(parts).to_string().as_bytes())
    };
    questions.asked.iter().map(key).collect()
}

/// An answer as it is kept: without its reason, which may quote the call.
fn kept(verdict: &ClaimVerdict) -> String {
    serde_json::json!({"label": verdict.label, "support": verdict.support}).to_string()
}

/// Reads an answer that was kept.
fn read(kept: &str) -> Option<ClaimVerdict> {
    serde_json::from_str(kept).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_answer_reads_back_without_its_words() {
        let verdict = ClaimVerdict {
            label: ClaimLabel::NotFound,
            support: 0.1,
            reason: "Jane Doe is not there.".into(),
        };
        let text = kept(&verdict);
        assert!(!text.contains("Jane"), "{text}");
        assert_eq!(read(&text), Some(ClaimVerdict { reason: String::new(), ..verdict }));
        assert_eq!(read("{\"label\":\"maybe\"}"), None);
    }
}
