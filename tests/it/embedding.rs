//! The shipped sentence encoder against the fp32 original, on sentences of the example traffic.
//!
//! Needs ONNX Runtime (`scripts/onnxruntime`); without it these tests say so and pass. The fixture is written by
//! `models/train/train --only embedding --fixture tests/fixtures`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use aftercheck::inference::{Embedder, Embedding, InferenceConfig, InferenceError};

use crate::models::runtime;

/// What the int8 model must keep of the fp32 vectors, on a processor without VNNI too; its card has the figures of both.
const MEAN_COSINE: f64 = 0.99;
const SMALLEST_COSINE: f64 = 0.97;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> PathBuf {
    root().join("models/minilm-embedding")
}

/// The shipped encoder, where ONNX Runtime is there to run it.
fn embedder() -> Option<Embedder> {
    Some(Embedder::open(&shipped(), &runtime()?).unwrap())
}

/// The sentences and their fp32 vectors.
fn fixture(dimensions: usize) -> (Vec<String>, Vec<Vec<f64>>) {
    let fixtures = root().join("tests/fixtures");
    let text = fs::read_to_string(fixtures.join("embedding_sentences.txt")).unwrap();
    let bytes = fs::read(fixtures.join("embedding_vectors.i16")).unwrap();
    let (numbers, []) = bytes.as_chunks::<2>() else { panic!("an odd number of bytes") };
    let vectors = numbers.chunks(dimensions);
    let vectors = vectors.map(|row| row.iter().map(|two| f64::from(i16::from_le_bytes(*two))).collect());
    (text.lines().map(str::to_owned).collect(), vectors.collect())
}

/// Cosine of a vector of length 1 with one of any length.
fn cosine(one: &Embedding, other: &[f64]) -> f64 {
    assert_eq!(one.vector.len(), other.len());
    let length = other.iter().map(|value| value * value).sum::<f64>().sqrt();
    one.vector.iter().zip(other).map(|(a, b)| f64::from(*a) * b).sum::<f64>() / length
}

#[test]
fn int8_vectors_point_where_the_original_does() {
    let Some(mut embedder) = embedder() else { return };
    let (sentences, exact) = fixture(embedder.dimensions());
    assert_eq!((sentences.len(), exact.len()), (500, 500));
    let texts: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let found = embedder.embed(&texts).unwrap();
    let rate = texts.len() as f64 / begun.elapsed().as_secs_f64();
    assert!(found.iter().all(|one| one.cut == 0));
    let cosines: Vec<f64> = found.iter().zip(&exact).map(|(one, exact)| cosine(one, exact)).collect();
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    let smallest = cosines.iter().copied().fold(1.0, f64::min);
    println!("500 sentences: mean cosine {mean:.4}, smallest {smallest:.4}, {rate:.0} sentences a second");
    assert!(mean >= MEAN_COSINE, "mean cosine {mean:.4}");
    assert!(smallest >= SMALLEST_COSINE, "smallest cosine {smallest:.4}");
}

#[test]
fn vectors_have_length_one_and_meaning() {
    let Some(mut embedder) = embedder() else { return };
    let texts = [
        "Refunds are paid within 30 days.",
        "You get your money back in a month.",
        "The cat sat on the mat.",
    ];
    let [refund, money, cat] = embedder.embed(&texts).unwrap().try_into().unwrap();
    let wide = |one: &Embedding| one.vector.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
    assert!((cosine(&cat, &wide(&cat)) - 1.0).abs() < 1e-6);
    let (near, far) = (cosine(&refund, &wide(&money)), cosine(&refund, &wide(&cat)));
    assert!(near > far + 0.2, "{near} {far}");
}

#[test]
fn a_text_has_the_same_vector_in_any_company() {
    let Some(mut embedder) = embedder() else { return };
    let long = "The shop opens at nine and closes at six on every day but Sunday. ".repeat(5);
    let texts = ["No.", long.as_str(), "", "Refunds take 30 days."];
    let together = embedder.embed(&texts).unwrap();
    for (text, expected) in texts.iter().zip(together) {
        assert_eq!(embedder.embed(&[text]).unwrap(), [expected], "{text:?}");
    }
    assert_eq!(embedder.embed(&[]).unwrap(), []);
}

#[test]
fn a_long_text_is_embedded_by_its_beginning_and_what_is_cut_is_counted() {
    let Some(mut embedder) = embedder() else { return };
    // Each word is one token; two of the 256 are [CLS] and [SEP].
    let (fits, long) = ("shop ".repeat(254), "shop ".repeat(254) + &"cat ".repeat(46));
    let [fits, long] = embedder.embed(&[&fits, &long]).unwrap().try_into().unwrap();
    assert_eq!((fits.cut, long.cut), (0, 46));
    assert_eq!(fits.vector, long.vector);
}

#[test]
fn batches_change_vectors_only_a_little() {
    let Some(config) = runtime() else { return };
    let mut alone = Embedder::open(&shipped(), &config).unwrap();
    let mut joined = Embedder::open(&shipped(), &InferenceConfig { batch_tokens: 512, ..config }).unwrap();
    let (sentences, _) = fixture(alone.dimensions());
    let texts: Vec<&str> = sentences[..40].iter().map(String::as_str).collect();
    for (one, other) in alone.embed(&texts).unwrap().iter().zip(joined.embed(&texts).unwrap()) {
        let other: Vec<f64> = other.vector.iter().map(|value| f64::from(*value)).collect();
        assert!(cosine(one, &other) > 0.95, "padding or order is wrong");
    }
}

#[test]
fn a_changed_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.onnx", "tokenizer.json", "config.json", "SHA256SUMS"] {
        fs::copy(shipped().join(name), folder.path().join(name)).unwrap();
    }
    let config = folder.path().join("config.json");
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("256", "512")).unwrap();
    let error = Embedder::open(folder.path(), &InferenceConfig::default()).err().unwrap().to_string();
    assert!(error.contains("config.json does not match SHA256SUMS"), "{error}");
}

#[test]
fn a_classifier_is_no_encoder() {
    let Some(config) = runtime() else { return };
    let error = Embedder::open(&root().join("models/starter"), &config).err().unwrap();
    assert!(matches!(error, InferenceError::Model { .. }), "{error}");
}
