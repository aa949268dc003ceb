//! The thread that owns a session of each model: takes rounds of requests from the queue and answers each.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};

use super::{Classifier, EncodedPair, Encoder, InferenceError, PairScore, batcher::plan, progress::Progress};
use crate::{faults::broken, metrics};

/// Batches of one round: enough to sort by length, few enough to leave work for the other sessions.
const ROUND_BATCHES: usize = 4;

/// What one thread runs, one model at a time, so that two models take no more cores than one.
pub struct Session {
    /// Reads pairs.
    pub classifier: Box<dyn Classifier>,
    /// Reads texts, where there is one.
    pub encoder: Option<Box<dyn Encoder>>,
}

/// What the models are given of one call.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// For the classifier.
    pub pairs: Vec<EncodedPair>,
    /// For the sentence encoder; empty where there is none.
    pub texts: Vec<EncodedPair>,
}

/// What they made of it, in the order of the inputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Read {
    /// Of the pairs.
    pub scores: Vec<PairScore>,
    /// Of the texts, each of length 1.
    pub vectors: Vec<Vec<f32>>,
}

/// Inputs of one call and where to send what becomes of them.
pub(super) struct Request {
    pub(super) inputs: Inputs,
    pub(super) reply: oneshot::Sender<Result<Read, InferenceError>>,
}

impl Request {
    /// Tokens of all its inputs.
    fn tokens(&self) -> usize {
        self.inputs.pairs.iter().chain(&self.inputs.texts).map(|input| input.ids.len()).sum()
    }
}

/// The thread that owns one session.
pub(super) struct Worker {
    pub(super) session: Session,
    pub(super) budget: usize,
    pub(super) max_tokens: usize,
    pub(super) progress: Arc<Progress>,
}

impl Worker {
    /// Runs rounds until every [`Batcher`](super::Batcher) is gone.
    pub(super) fn run(&mut self, requests: &Mutex<mpsc::Receiver<Request>>) {
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
            match self.refused(&request.inputs) {
                // A caller that has gone wants no answer.
                Some(error) => drop(request.reply.send(Err(error))),
                None if request.reply.is_closed() => {}
                None => open.push(request),
            }
        }
        let of = |inputs: fn(&Inputs) -> &Vec<EncodedPair>| -> Vec<&[EncodedPair]> {
            open.iter().map(|request| inputs(&request.inputs).as_slice()).collect()
        };
        let budget = self.budget;
        let scores = in_batches(&of(|inputs| &inputs.pairs), budget, |pairs| self.classify(pairs));
        let vectors = in_batches(&of(|inputs| &inputs.texts), budget, |texts| self.encode(texts));
        for ((request, scores), vectors) in open.into_iter().zip(scores).zip(vectors) {
            let read = scores.and_then(|scores| Ok(Read { scores, vectors: vectors? }));
            drop(request.reply.send(read));
        }
    }

    /// Why inputs are not read at all.
    fn refused(&self, inputs: &Inputs) -> Option<InferenceError> {
        let longest = |inputs: &[EncodedPair]| inputs.iter().map(|input| input.ids.len()).max().unwrap_or(0);
        let too_long = |tokens, max| (tokens > max).then_some(InferenceError::TooLong { tokens, max });
        let (pair, text) = (longest(&inputs.pairs), longest(&inputs.texts));
        let encoder = self.session.encoder.as_ref();
        too_long(pair, self.max_tokens)
            .or_else(|| too_long(text, encoder.map_or(usize::MAX, |encoder| encoder.max_tokens())))
            .or_else(|| (text > 0 && encoder.is_none()).then(no_encoder))
    }

    /// Scores one batch of pairs and measures it.
    fn classify(&mut self, pairs: &[&EncodedPair]) -> Result<Vec<PairScore>, InferenceError> {
        while broken("stalled_model") {
            std::thread::park();
        }
        let begun = Instant::now();
        let scores = self.session.classifier.classify(pairs).and_then(|scores| one_each(scores, pairs.len()));
        self.measure(begun, pairs);
        metrics::pairs_scored(pairs.len());
        scores
    }

    /// Turns one batch of texts into vectors and measures it.
    fn encode(&mut self, texts: &[&EncodedPair]) -> Result<Vec<Vec<f32>>, InferenceError> {
        let begun = Instant::now();
        let encoder = self.session.encoder.as_mut().ok_or_else(no_encoder)?;
        let vectors = encoder.encode(texts).and_then(|vectors| one_each(vectors, texts.len()));
        self.measure(begun, texts);
        metrics::texts_embedded(texts.len());
        vectors
    }

    /// Notes that a batch came to its end, well or not.
    fn measure(&self, begun: Instant, inputs: &[&EncodedPair]) {
        let width = inputs.iter().map(|input| input.ids.len()).max().unwrap_or(0);
        let tokens = inputs.iter().map(|input| input.ids.len()).sum();
        metrics::model_run(begun.elapsed(), tokens, width * inputs.len());
        self.progress.ran();
    }
}

/// Runs the inputs of all requests in batches within the budget; for each request its results in order, or an error
/// of one of its batches.
fn in_batches<T: Clone>(
    requests: &[&[EncodedPair]],
    budget: usize,
    mut run: impl FnMut(&[&EncodedPair]) -> Result<Vec<T>, InferenceError>,
) -> Vec<Result<Vec<T>, InferenceError>> {
    let mut found: Vec<Vec<Option<T>>> = requests.iter().map(|inputs| vec![None; inputs.len()]).collect();
    let mut errors: Vec<Option<InferenceError>> = vec![None; requests.len()];
    for batch in plan(requests, budget) {
        let inputs: Vec<&EncodedPair> =
            batch.iter().map(|&(request, input)| &requests[request][input]).collect();
        match run(&inputs) {
            Ok(results) => batch.iter().zip(results).for_each(|(&(r, i), result)| found[r][i] = Some(result)),
            Err(error) => batch.iter().for_each(|&(r, _)| errors[r] = Some(error.clone())),
        }
    }
    let whole = |(found, error): (Vec<Option<T>>, Option<InferenceError>)| match error {
        Some(error) => Err(error),
        None => found.into_iter().collect::<Option<Vec<_>>>().ok_or(InferenceError::Stopped),
    };
    found.into_iter().zip(errors).map(whole).collect()
}

/// The results, where there is one for each input.
fn one_each<T>(results: Vec<T>, inputs: usize) -> Result<Vec<T>, InferenceError> {
    match results.len() == inputs {
        true => Ok(results),
        false => Err(InferenceError::Run(format!("{} results for {inputs} inputs", results.len()))),
    }
}

/// The error of texts that nothing can read.
fn no_encoder() -> InferenceError {
    InferenceError::Run("texts, and no sentence encoder is configured".into())
}
