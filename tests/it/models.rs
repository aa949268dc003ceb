//! Any Hugging Face NLI classifier works by configuration alone; a broken one is refused with a clear error.
//!
//! Needs ONNX Runtime (`scripts/onnxruntime`) and the tiny models (`tests/fixtures/make_tiny_models.py`), which
//! `scripts/test` makes; without them these tests say so and pass.

use std::path::{Path, PathBuf};

use aftercheck::{
    domain::id::sha256_hex,
    inference::{
        Batcher, Classifier, Embedder, InferenceConfig, InferenceError, Inputs, ModelFolder, PairTokenizer,
        classifier::OnnxClassifier,
    },
};

/// Configuration of the starter model on one thread, without a sentence encoder, where ONNX Runtime is there to run it.
pub fn runtime() -> Option<InferenceConfig> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (model, library) = (root.join("models/starter"), root.join(".runtime/onnxruntime/libonnxruntime.so"));
    if !library.exists() {
        eprintln!("skipped: run scripts/onnxruntime once, it fetches ONNX Runtime");
        return None;
    }
    let library: PathBuf = std::env::var_os("ORT_DYLIB_PATH").map_or(library, PathBuf::from);
    let embedding = PathBuf::new();
    Some(InferenceConfig {
        model,
        embedding,
        library: Some(library),
        threads: 1,
        ..InferenceConfig::default()
    })
}

/// Configuration of a tiny model, where there is one.
pub fn tiny(name: &str) -> Option<InferenceConfig> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/tiny-models").join(name);
    if !model.exists() {
        eprintln!("skipped: run scripts/test once, it makes the tiny models and fetches ONNX Runtime");
        return None;
    }
    Some(InferenceConfig { model, ..runtime()? })
}

/// Folder of the tiny sentence encoder, where there is one.
pub fn tiny_encoder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/tiny-models/encoder");
    if !folder.exists() {
        eprintln!("skipped: run scripts/test once, it makes the tiny models");
        return None;
    }
    Some(folder)
}

/// Entailment of "yes", "no" and neither.
async fn entailments(name: &str) -> Option<[f64; 3]> {
    let (batcher, _) = Batcher::start(&tiny(name)?).unwrap();
    let pairs = ["yes", "no", "the"].map(|word| batcher.tokenizer().pair("the", word).unwrap());
    let scores = batcher.classify(pairs.to_vec()).await.unwrap();
    Some([scores[0].entailment, scores[1].entailment, scores[2].entailment])
}

/// Why a model is refused.
fn refusal(name: &str) -> Option<InferenceError> {
    Some(Batcher::start(&tiny(name)?).err().unwrap_or_else(|| panic!("{name} must be refused")))
}

#[tokio::test]
async fn labels_orders_and_inputs_of_every_kind_work() {
    for name in ["three_labels", "no_token_types", "other_order", "two_labels", "short"] {
        let Some([yes, no, neither]) = entailments(name).await else { return };
        assert!(yes > 0.5 && no < 0.5 && neither < 0.5, "{name}: {yes} {no} {neither}");
    }
}

#[tokio::test]
async fn a_long_pair_is_cut_to_what_the_model_takes_and_counted() {
    let Some(config) = tiny("short") else { return };
    let (batcher, folder) = Batcher::start(&config).unwrap();
    let pair = batcher.tokenizer().pair(&"the ".repeat(40), "yes").unwrap();
    assert_eq!(pair.ids.len(), folder.files.max_tokens);
    assert!(pair.cut > 20);
    assert!(batcher.classify(vec![pair]).await.is_ok());
}

#[test]
fn swapped_labels_are_caught() {
    let Some(error) = refusal("swapped") else { return };
    assert!(error.to_string().contains("self-test"), "{error}");
}

#[test]
fn unnamed_labels_and_nan_are_refused() {
    let Some(error) = refusal("generic_labels") else { return };
    assert!(error.to_string().contains("[inference] labels"), "{error}");
    let Some(error) = refusal("nan") else { return };
    assert!(matches!(error, InferenceError::NotFinite), "{error}");
}

/// A copy of a model folder.
fn copied(model: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// Opens the starter with these `aftercheck.languages`.
fn with_languages(codes: &str) -> Result<ModelFolder, InferenceError> {
    let folder = copied(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter"));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let (before, sums) = (read("config.json"), read("SHA256SUMS"));
    let mut config: serde_json::Value = serde_json::from_str(&before).unwrap();
    config["aftercheck"]["languages"] = serde_json::from_str(codes).unwrap();
    let after = config.to_string();
    let sums = sums.replace(&sha256_hex(before.as_bytes()), &sha256_hex(after.as_bytes()));
    std::fs::write(folder.path().join("config.json"), after).unwrap();
    std::fs::write(folder.path().join("SHA256SUMS"), sums).unwrap();
    ModelFolder::open(&InferenceConfig { model: folder.path().to_owned(), ..InferenceConfig::default() })
}

#[test]
fn languages_are_read_and_an_unknown_one_is_named() {
    assert_eq!(with_languages(r#"["en", "deu"]"#).unwrap().files.languages.len(), 2);
    let error = with_languages(r#"["en", "klingon"]"#).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("klingon"), "{error}");
}

#[test]
fn a_changed_file_is_caught() {
    let Some(mut config) = tiny("three_labels") else { return };
    let folder = copied(&config.model);
    let mut bytes = std::fs::read(folder.path().join("model.onnx")).unwrap();
    bytes.pop();
    std::fs::write(folder.path().join("model.onnx"), bytes).unwrap();
    config.model = folder.path().to_owned();
    let error = Batcher::start(&config).err().unwrap().to_string();
    assert!(error.contains("does not match SHA256SUMS"), "{error}");
}

#[tokio::test]
async fn a_pair_scores_the_same_in_any_company() {
    let Some(starter) = runtime() else { return };
    let (batcher, _) = Batcher::start(&starter).unwrap();
    let premises =
        ["Refunds take 30 days.", "The shop opens at nine and closes at six on every day but Sunday.", "No."];
    let pair = |premise: &&str| batcher.tokenizer().pair(premise, "Refunds take thirty days.").unwrap();
    let pairs: Vec<_> = premises.iter().map(pair).collect();
    let together = batcher.classify(pairs.clone()).await.unwrap();
    for (pair, score) in pairs.into_iter().zip(together) {
        assert_eq!(batcher.classify(vec![pair]).await.unwrap(), [score]);
    }
}

#[tokio::test]
async fn a_sentence_encoder_reads_beside_the_classifier() {
    let Some(starter) = runtime() else { return };
    let embedding = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/minilm-embedding");
    let mut alone = Embedder::open(&embedding, &starter).unwrap();
    let without = ModelFolder::open(&starter).unwrap();
    let config = InferenceConfig { embedding, sessions: 2, ..starter };
    let (batcher, folder) = Batcher::start(&config).unwrap();
    assert_ne!(folder.digest, without.digest, "the encoder is part of the evaluator version");
    let encoder = batcher.encoder().unwrap();
    let texts = ["Refunds take 30 days.", "No.", "The shop opens at nine."];
    let expected: Vec<_> = alone.embed(&texts).unwrap().into_iter().map(|one| one.vector).collect();
    let pair = batcher.tokenizer().pair("Refunds take 30 days.", "Refunds take thirty days.").unwrap();
    let texts: Vec<_> = texts.iter().map(|text| encoder.text(text).unwrap()).collect();
    let scores = batcher.classify(vec![pair.clone()]).await.unwrap();
    // More than once, so that both sessions come to read.
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (batcher, inputs) = (batcher.clone(), Inputs { pairs: vec![pair.clone()], texts: texts.clone() });
        reading.spawn(async move { batcher.read(inputs).await.unwrap() });
    }
    for read in reading.join_all().await {
        assert_eq!((&read.scores, &read.vectors), (&scores, &expected));
    }
}

#[test]
fn a_sentence_encoder_that_is_none_or_is_not_there_is_refused() {
    let Some(starter) = runtime() else { return };
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for (folder, words) in [("none", "[inference] embedding"), ("starter", "sentence encoder")] {
        let config = InferenceConfig { embedding: models.join(folder), ..starter.clone() };
        let error = Batcher::start(&config).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn every_run_is_ended_at_its_deadline() {
    let Some(starter) = runtime() else { return };
    let config = InferenceConfig { run_deadline_secs: 0, ..starter };
    let folder = ModelFolder::open(&config).unwrap();
    let pair = PairTokenizer::open(&folder.files).unwrap().pair(&"the ".repeat(600), "yes").unwrap();
    let mut session = OnnxClassifier::open(&folder, &config).unwrap();
    // Far more work than the watcher needs to wake.
    for batch in [[&pair; 16], [&pair; 16]] {
        let outcome = session.classify(&batch);
        assert!(matches!(outcome, Err(InferenceError::Deadline)), "{outcome:?}");
    }
}

#[test]
fn every_shipped_model_opens_and_every_classifier_answers_its_golden_pairs() {
    let Some(config) = runtime() else { return };
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let folders = std::fs::read_dir(models).unwrap().map(|entry| entry.unwrap().path());
    let shipped: Vec<PathBuf> = folders.filter(|folder| folder.join("model.onnx").exists()).collect();
    assert!(!shipped.is_empty());
    for model in shipped {
        let about = std::fs::read_to_string(model.join("config.json")).unwrap();
        if about.contains("id2label") {
            let config = InferenceConfig { model, ..config.clone() };
            assert!(Batcher::start(&config).is_ok(), "{}", config.model.display());
        } else {
            assert!(Embedder::open(&model, &config).is_ok(), "{}", model.display());
        }
    }
}
