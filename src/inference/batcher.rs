//! Joins the pairs of many calls into batches of bounded padded size, on the threads that own the model's sessions.
//!
//! There is no linger timer: a batch is whatever queued while the one before ran. A round takes requests from the
//! queue up to its budget, sorts their pairs by length so that little padding is computed, cuts batches by budget,
//! runs them all, and answers each request in its own order. Nobody waits longer than the round that was running
//! plus their own.
//!
//! Sessions of one thread each beat one session of many threads, and batches that stay in a core's cache beat large
//! ones: `benches/sessions` prints the grid. By default the budget is 0, which makes each pair a batch of its own:
//! dynamic quantisation scales the numbers of a whole batch together, so that a pair would score differently in other
//! company, and the same call could get another verdict.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Classifier, EncodedPair, InferenceConfig, InferenceError, ModelFolder, PairScore, PairTokenizer,
    classifier::OnnxClassifier, progress::Progress,
};
use crate::{faults::broken, metrics};

/// Batches of one round: enough to sort by length, few enough to leave work for the other sessions.
const ROUND_BATCHES: usize = 4;

/// A running model, cheap to clone.
#[derive(Clone)]
pub struct Batcher {
    /// To the sessions' threads.
    requests: mpsc::Sender<Request>,
    /// Shared with those who prepare pairs.
    tokenizer: Arc<PairTokenizer>,
    /// Shared with the sessions' threads.
    progress: Arc<Progress>,
}

/// Pairs of one call and where to send their scores.
struct Request {
    pairs: Vec<EncodedPair>,
    reply: oneshot::Sender<Result<Vec<PairScore>, InferenceError>>,
}

impl Request {
    /// Tokens of all its pairs.
    fn tokens(&self) -> usize {
        self.pairs.iter().map(|pair| pair.ids.len()).sum()
    }
}

impl Batcher {
    /// Loads the configured model, proves it on its golden pairs and starts its thread.
    ///
    /// # Errors
    /// [`InferenceError`] when library, files, graph or golden pairs are not as they should be.
    pub fn start(config: &InferenceConfig) -> Result<(Self, ModelFolder), InferenceError> {
        let folder = ModelFolder::open(config)?;
        let tokenizer = PairTokenizer::open(&folder.files)?;
        let mut first = OnnxClassifier::open(&folder, config)?;
        self_test(&folder, &tokenizer, &mut first)?;
        let mut sessions: Vec<Box<dyn Classifier>> = vec![Box::new(first)];
        while sessions.len() < config.sessions() {
            sessions.push(Box::new(OnnxClassifier::open(&folder, config)?));
        }
        let batcher = Self::with_sessions(sessions, tokenizer, folder.files.max_tokens, config)?;
        Ok((batcher, folder))
    }

    /// Starts one thread for each session of an already proven model.
    ///
    /// # Errors
    /// [`InferenceError::Run`] when the system gives no thread.
    pub fn with_sessions(
        sessions: Vec<Box<dyn Classifier>>,
        tokenizer: PairTokenizer,
        max_tokens: usize,
        config: &InferenceConfig,
    ) -> Result<Self, InferenceError> {
        let (requests, receiver) = mpsc::channel(config.queue_length.max(1));
        let receiver = Arc::new(Mutex::new(receiver));
        let progress = Arc::new(Progress::new());
        for session in sessions {
            let (receiver, progress) = (Arc::clone(&receiver), Arc::clone(&progress));
            let mut worker = Worker { session, budget: config.batch_tokens, max_tokens, progress };
            std::thread::Builder::new()
                .name("model".into())
                .spawn(move || worker.run(&receiver))
                .map_err(|error| InferenceError::Run(error.to_string()))?;
        }
        Ok(Self { requests, tokenizer: Arc::new(tokenizer), progress })
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<PairTokenizer> {
        &self.tokenizer
    }

    /// Scores of the pairs, in their order. Waits while the queue is full; dropping the future drops the work.
    ///
    /// # Errors
    /// [`InferenceError::TooLong`] before any work, or what the run ended with.
    pub async fn classify(&self, pairs: Vec<EncodedPair>) -> Result<Vec<PairScore>, InferenceError> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let _open = self.progress.open();
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { pairs, reply }).await.map_err(|_| InferenceError::Stopped)?;
        answer.await.map_err(|_| InferenceError::Stopped)?
    }

    /// How long ago a session last finished a batch.
    pub fn since_last_run(&self) -> Duration {
        self.progress.since_last_run()
    }

    /// How long requests have been waiting without any batch coming to its end; zero when none waits.
    pub fn stuck(&self) -> Duration {
        self.progress.stuck()
    }
}

/// The thread that owns one session.
struct Worker {
    session: Box<dyn Classifier>,
    budget: usize,
    max_tokens: usize,
    progress: Arc<Progress>,
}

impl Worker {
    /// Runs rounds until every [`Batcher`] is gone.
    fn run(&mut self, requests: &Mutex<mpsc::Receiver<Request>>) {
        while let Some(round) = self.next_round(requests) {
            // The round's callers are told by their dropped replies, and try again; the thread goes on.
            if catch_unwind(AssertUnwindSafe(|| self.answer(round))).is_err() {
                tracing::error!("a round of the model panicked, its calls will be tried again");
            }
        }
    }

    /// Waits for a request and takes those that wait behind it, up to the budget of a round. One worker waits at a
    /// time, the others wait for it.
    fn next_round(&self, requests: &Mutex<mpsc::Receiver<Request>>) -> Option<Vec<Request>> {
        // A panic while the queue is locked leaves it as it was.
        let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut round = vec![requests.blocking_recv()?];
        let mut tokens = round[0].tokens();
        while tokens < self.budget * ROUND_BATCHES {
            let Ok(next) = requests.try_recv() else { break };
            tokens += next.tokens();
            round.push(next);
        }
        Some(round)
    }

    /// Runs one round of requests and answers each of them.
    fn answer(&mut self, round: Vec<Request>) {
        let mut open = Vec::with_capacity(round.len());
        for request in round {
            let longest = request.pairs.iter().map(|pair| pair.ids.len()).max().unwrap_or(0);
            if longest > self.max_tokens {
                let error = InferenceError::TooLong { tokens: longest, max: self.max_tokens };
                // A caller that has gone wants no answer.
                drop(request.reply.send(Err(error)));
            } else if !request.reply.is_closed() {
                open.push(request);
            }
        }
        let mut scores: Vec<Vec<Option<PairScore>>> =
            open.iter().map(|request| vec![None; request.pairs.len()]).collect();
        let mut errors: Vec<Option<InferenceError>> = vec![None; open.len()];
        for batch in
            plan(&open.iter().map(|request| request.pairs.as_slice()).collect::<Vec<_>>(), self.budget)
        {
            let pairs: Vec<&EncodedPair> = batch.iter().map(|&(r, p)| &open[r].pairs[p]).collect();
            match self.classify(&pairs) {
                Ok(found) => batch.iter().zip(found).for_each(|(&(r, p), score)| scores[r][p] = Some(score)),
                Err(error) => batch.iter().for_each(|&(r, _)| errors[r] = Some(error.clone())),
            }
        }
        for ((request, scores), error) in open.into_iter().zip(scores).zip(errors) {
            let answer = match error {
                Some(error) => Err(error),
                None => scores.into_iter().collect::<Option<Vec<_>>>().ok_or(InferenceError::Stopped),
            };
            drop(request.reply.send(answer));
        }
    }

    /// Runs one batch and measures it.
    fn classify(&mut self, pairs: &[&EncodedPair]) -> Result<Vec<PairScore>, InferenceError> {
        while broken("stalled_model") {
            std::thread::park();
        }
        let begun = Instant::now();
        let outcome = self.session.classify(pairs).and_then(|scores| match scores.len() == pairs.len() {
            true => Ok(scores),
            false => Err(InferenceError::Run(format!("{} scores for {} pairs", scores.len(), pairs.len()))),
        });
        let width = pairs.iter().map(|pair| pair.ids.len()).max().unwrap_or(0);
        let tokens = pairs.iter().map(|pair| pair.ids.len()).sum();
        metrics::model_run(begun.elapsed(), pairs.len(), tokens, width * pairs.len());
        self.progress.ran();
        outcome
    }
}

/// Cuts the pairs of all requests into batches of (request, pair) whose padded size stays within the budget.
/// Longest first, so that each batch is padded to its first pair. A single pair may exceed the budget.
pub fn plan(requests: &[&[EncodedPair]], budget: usize) -> Vec<Vec<(usize, usize)>> {
    let mut order: Vec<(usize, usize)> = requests
        .iter()
        .enumerate()
        .flat_map(|(request, pairs)| (0..pairs.len()).map(move |pair| (request, pair)))
        .collect();
    let length = |&(request, pair): &(usize, usize)| requests[request][pair].ids.len();
    order.sort_by_key(|at| std::cmp::Reverse(length(at)));
    let mut batches: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut width = 0;
    for at in order {
        match batches.last_mut() {
            Some(batch) if width * (batch.len() + 1) <= budget => batch.push(at),
            _ => {
                width = length(&at);
                batches.push(vec![at]);
            }
        }
    }
    batches
}

/// Runs the folder's golden pairs: a swapped label map or a broken export passes every smoke test but this.
fn self_test(
    folder: &ModelFolder,
    tokenizer: &PairTokenizer,
    classifier: &mut dyn Classifier,
) -> Result<(), InferenceError> {
    for golden in &folder.golden {
        let pair = tokenizer.pair(&golden.premise, &golden.hypothesis)?;
        let found = classifier.classify(&[&pair])?;
        let Some(score) = found.first() else { return Err(InferenceError::Stopped) };
        let two_labels = folder.labels.count() == 2;
        let right = match golden.label.as_str() {
            "entailment" => score.entailment > 0.5,
            "contradiction" if !two_labels => score.contradiction > score.entailment,
            _ => score.entailment < 0.5,
        };
        if !right {
            return Err(folder.files.fault(
                format!(
                    "self-test: {:?} given {:?} scored entailment {:.2}, contradiction {:.2}, expected {}",
                    golden.hypothesis, golden.premise, score.entailment, score.contradiction, golden.label
                ),
                "check id2label in config.json: swapped labels look like this",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Answers each pair with its own first id, and fails a batch that exceeds the budget it was promised.
    struct Echo {
        budget: usize,
    }

    impl Classifier for Echo {
        fn classify(&mut self, batch: &[&EncodedPair]) -> Result<Vec<PairScore>, InferenceError> {
            let width = batch.iter().map(|pair| pair.ids.len()).max().unwrap_or(0);
            if width * batch.len() > self.budget {
                return Err(InferenceError::Run(format!("{} x {width} tokens", batch.len())));
            }
            // Slow enough that the next requests queue up and share a round.
            std::thread::sleep(Duration::from_micros(200));
            let score = |pair: &&EncodedPair| PairScore {
                entailment: f64::from(pair.ids[0]),
                neutral: 0.0,
                contradiction: 0.0,
            };
            Ok(batch.iter().map(score).collect())
        }
    }

    /// A tokenizer that knows no word: the pairs of these tests are made by hand.
    fn no_tokenizer() -> PairTokenizer {
        PairTokenizer::of(tokenizers::Tokenizer::new(tokenizers::models::bpe::BPE::default()))
    }

    fn pair(length: usize) -> EncodedPair {
        EncodedPair { ids: vec![7; length], type_ids: vec![0; length], cut: 0 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_request_is_answered_in_its_own_order(
            lengths in prop::collection::vec(prop::collection::vec(1usize..80, 0..40), 1..30),
            (budget, queue_length, sessions) in (80usize..600, 1usize..8, 1usize..4),
        ) {
            let mut next = 0u32;
            let requests: Vec<Vec<EncodedPair>> = lengths.iter().map(|row| row.iter().map(|&length| {
                next += 1;
                EncodedPair { ids: vec![next; length], type_ids: vec![0; length], cut: 0 }
            }).collect()).collect();
            let config = InferenceConfig { batch_tokens: budget, queue_length, ..InferenceConfig::default() };
            let sessions: Vec<Box<dyn Classifier>> = (0..sessions).map(|_| Box::new(Echo { budget }) as _).collect();
            let batcher = Batcher::with_sessions(sessions, no_tokenizer(), 80, &config).unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
            let answers = runtime.block_on(async {
                let asked: Vec<_> = requests.iter().cloned().map(|pairs| {
                    let batcher = batcher.clone();
                    tokio::spawn(async move { batcher.classify(pairs).await })
                }).collect();
                let mut answers = Vec::new();
                for one in asked {
                    let answer = tokio::time::timeout(Duration::from_secs(60), one).await;
                    answers.push(answer.expect("an answer").unwrap().unwrap());
                }
                answers
            });
            for (pairs, scores) in requests.iter().zip(answers) {
                let sent: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.ids[0])).collect();
                let got: Vec<f64> = scores.iter().map(|score| score.entailment).collect();
                prop_assert_eq!(sent, got);
            }
        }

        #[test]
        fn every_pair_is_planned_once_within_budget(
            lengths in prop::collection::vec(prop::collection::vec(1usize..512, 0..20), 0..10),
            budget in 512usize..4096,
        ) {
            let requests: Vec<Vec<EncodedPair>> =
                lengths.iter().map(|row| row.iter().map(|&length| pair(length)).collect()).collect();
            let views: Vec<&[EncodedPair]> = requests.iter().map(Vec::as_slice).collect();
            let batches = plan(&views, budget);
            let mut seen: Vec<(usize, usize)> = batches.iter().flatten().copied().collect();
            seen.sort_unstable();
            let all: Vec<(usize, usize)> = requests.iter().enumerate()
                .flat_map(|(r, row)| (0..row.len()).map(move |p| (r, p))).collect();
            prop_assert_eq!(seen, all);
            for batch in &batches {
                let width = batch.iter().map(|&(r, p)| requests[r][p].ids.len()).max().unwrap_or(0);
                prop_assert!(width * batch.len() <= budget);
            }
        }
    }
}
