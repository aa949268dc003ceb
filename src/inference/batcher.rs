//! Joins the pairs of many calls into batches of bounded padded size, on the threads that own the models' sessions, and
//! likewise the texts for the sentence encoder.
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
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Classifier, Embedder, EncodedPair, Encoder, InferenceConfig, InferenceError, Inputs, ModelFolder,
    PairScore, PairTokenizer, Read, Session,
    classifier::OnnxClassifier,
    progress::Progress,
    worker::{Request, Worker},
};

/// A running classifier, with a sentence encoder beside it where one is configured; cheap to clone.
#[derive(Clone)]
pub struct Batcher {
    /// To the sessions' threads.
    requests: mpsc::Sender<Request>,
    /// Shared with those who prepare pairs.
    tokenizer: Arc<PairTokenizer>,
    /// Shared with those who prepare texts for the sentence encoder.
    encoder: Option<Arc<PairTokenizer>>,
    /// Shared with the sessions' threads.
    progress: Arc<Progress>,
}

impl Batcher {
    /// Loads the configured models, proves the classifier on its golden pairs and the encoder on a text, and starts
    /// their threads.
    ///
    /// # Errors
    /// [`InferenceError`] when library, files, graph or golden pairs are not as they should be.
    pub fn start(config: &InferenceConfig) -> Result<(Self, ModelFolder), InferenceError> {
        let folder = ModelFolder::open(config)?;
        let tokenizer = PairTokenizer::open(&folder.files)?;
        let mut first = OnnxClassifier::open(&folder, config)?;
        self_test(&folder, &tokenizer, &mut first)?;
        let encoder = folder.embedding.clone().map(|files| Embedder::of(files, config)).transpose()?;
        let texts = encoder.as_ref().map(|encoder| Arc::clone(encoder.tokenizer()));
        let again = |encoder: &Embedder| encoder.again(config);
        let mut others = Vec::new();
        while others.len() + 1 < config.sessions() {
            let encoder = encoder.as_ref().map(again).transpose()?;
            others.push(session(OnnxClassifier::open(&folder, config)?, encoder));
        }
        let sessions = [session(first, encoder)].into_iter().chain(others).collect();
        let batcher = Self::with_sessions(sessions, (tokenizer, texts), folder.files.max_tokens, config)?;
        Ok((batcher, folder))
    }

    /// Starts one thread for each session of already proven models, whose inputs these tokenizers prepare: pairs by the
    /// first, texts by the second.
    ///
    /// # Errors
    /// [`InferenceError::Run`] when the system gives no thread.
    pub fn with_sessions(
        sessions: Vec<Session>,
        (tokenizer, encoder): (PairTokenizer, Option<Arc<PairTokenizer>>),
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
        Ok(Self { requests, tokenizer: Arc::new(tokenizer), encoder, progress })
    }

    /// The classifier's tokenizer.
    pub fn tokenizer(&self) -> &Arc<PairTokenizer> {
        &self.tokenizer
    }

    /// The sentence encoder's tokenizer; none without an encoder, which then takes no texts.
    pub fn encoder(&self) -> Option<&Arc<PairTokenizer>> {
        self.encoder.as_ref()
    }

    /// Scores of the pairs, in their order, as [`Self::read`] gives them.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub async fn classify(&self, pairs: Vec<EncodedPair>) -> Result<Vec<PairScore>, InferenceError> {
        Ok(self.read(Inputs { pairs, texts: Vec::new() }).await?.scores)
    }

    /// What the models make of the inputs, in their order. Waits while the queue is full; dropping the future drops the
    /// work.
    ///
    /// # Errors
    /// [`InferenceError::TooLong`] before any work, or what the run ended with: one error for all inputs.
    pub async fn read(&self, inputs: Inputs) -> Result<Read, InferenceError> {
        if inputs.pairs.is_empty() && inputs.texts.is_empty() {
            return Ok(Read::default());
        }
        let _open = self.progress.open();
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { inputs, reply }).await.map_err(|_| InferenceError::Stopped)?;
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

/// What one thread runs.
fn session(classifier: OnnxClassifier, encoder: Option<Embedder>) -> Session {
    let encoder = encoder.map(|encoder| Box::new(encoder) as Box<dyn Encoder>);
    Session { classifier: Box::new(classifier), encoder }
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

    impl Echo {
        /// The first id of each input.
        fn first_ids(&self, batch: &[&EncodedPair]) -> Result<Vec<u32>, InferenceError> {
            let width = batch.iter().map(|pair| pair.ids.len()).max().unwrap_or(0);
            if width * batch.len() > self.budget {
                return Err(InferenceError::Run(format!("{} x {width} tokens", batch.len())));
            }
            // Slow enough that the next requests queue up and share a round.
            std::thread::sleep(Duration::from_micros(200));
            Ok(batch.iter().map(|pair| pair.ids[0]).collect())
        }
    }

    impl Classifier for Echo {
        fn classify(&mut self, batch: &[&EncodedPair]) -> Result<Vec<PairScore>, InferenceError> {
            let score = |id| PairScore { entailment: f64::from(id), neutral: 0.0, contradiction: 0.0 };
            Ok(self.first_ids(batch)?.into_iter().map(score).collect())
        }
    }

    impl Encoder for Echo {
        fn max_tokens(&self) -> usize {
            80
        }

        fn encode(&mut self, batch: &[&EncodedPair]) -> Result<Vec<Vec<f32>>, InferenceError> {
            Ok(self.first_ids(batch)?.into_iter().map(|id| vec![id as f32]).collect())
        }
    }

    /// Answers to inputs of one session, with an encoder or without.
    fn answered(inputs: Inputs, with_encoder: bool) -> Result<Read, InferenceError> {
        let config = InferenceConfig { batch_tokens: 600, ..InferenceConfig::default() };
        let encoder = with_encoder.then(|| Box::new(Echo { budget: 600 }) as Box<dyn Encoder>);
        let session = Session { classifier: Box::new(Echo { budget: 600 }), encoder };
        let batcher = Batcher::with_sessions(vec![session], (no_tokenizer(), None), 200, &config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(batcher.read(inputs))
    }

    #[test]
    fn inputs_that_a_model_cannot_take_are_refused_for_the_call() {
        let inputs = |pair_tokens, text_tokens| Inputs {
            pairs: vec![pair(pair_tokens)],
            texts: vec![pair(text_tokens)],
        };
        assert!(answered(inputs(200, 80), true).is_ok());
        for (pair, text, length) in [(201, 80, 201), (200, 81, 81)] {
            let refused = answered(inputs(pair, text), true);
            assert!(
                matches!(refused, Err(InferenceError::TooLong { tokens, .. }) if tokens == length),
                "{refused:?}"
            );
        }
        let refused = answered(inputs(8, 8), false);
        assert!(matches!(refused, Err(InferenceError::Run(_))), "{refused:?}");
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
            (budget, queue_length, sessions, with_texts) in (80usize..600, 1usize..8, 1usize..4, any::<bool>()),
        ) {
            let mut next = 0u32;
            let requests: Vec<Vec<EncodedPair>> = lengths.iter().map(|row| row.iter().map(|&length| {
                next += 1;
                EncodedPair { ids: vec![next; length], type_ids: vec![0; length], cut: 0 }
            }).collect()).collect();
            let config = InferenceConfig { batch_tokens: budget, queue_length, ..InferenceConfig::default() };
            let session = |_| Session {
                classifier: Box::new(Echo { budget }),
                encoder: with_texts.then(|| Box::new(Echo { budget }) as Box<dyn Encoder>),
            };
            let batcher =
                Batcher::with_sessions((0..sessions).map(session).collect(), (no_tokenizer(), None), 80, &config).unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
            let answers = runtime.block_on(async {
                let asked: Vec<_> = requests.iter().cloned().map(|pairs| {
                    let batcher = batcher.clone();
                    let texts = if with_texts { pairs.clone() } else { Vec::new() };
                    tokio::spawn(async move { batcher.read(Inputs { pairs, texts }).await })
                }).collect();
                let mut answers = Vec::new();
                for one in asked {
                    let answer = tokio::time::timeout(Duration::from_secs(60), one).await;
                    answers.push(answer.expect("an answer").unwrap().unwrap());
                }
                answers
            });
            for (pairs, read) in requests.iter().zip(answers) {
                let sent: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.ids[0])).collect();
                let got: Vec<f64> = read.scores.iter().map(|score| score.entailment).collect();
                prop_assert_eq!(&sent, &got);
                let got: Vec<f64> = read.vectors.iter().map(|vector| f64::from(vector[0])).collect();
                prop_assert_eq!(if with_texts { sent } else { Vec::new() }, got);
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
