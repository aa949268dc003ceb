//! The evaluator version names everything that can change a verdict. Rule packs, model and settings are hashed; the
//! code is not, so its revision is raised by hand, and this test says when.

use std::fs;

use aftercheck::{
    config::Config,
    domain::{Call, id::sha256_hex},
    evaluators::{
        judge,
        nli::score::{Questions, ask},
        rules::Rules,
    },
    inference::{ModelFolder, PairTokenizer},
    pipeline::{cascade::REVISION, decode::decode},
    redaction::Redactor,
};

/// What the code found in the example traffic, by its revision: rule results, and every pair of claim and window as
/// the model reads it, with its doubt and the words they share, and every text that the sentence encoder reads.
const FOUND: [(u32, &str); 1] = [(5, "32ce652b6b3e457a")];

/// The passages of the example traffic that a judge would be shown, by the judge's revision.
const SHOWN: [(u32, &str); 1] = [(3, "e490e557305139c5")];

/// The example traffic, with what the model is asked about it.
fn examples() -> Vec<(Call, Questions)> {
    let config = Config::default();
    let folder = ModelFolder::open(&config.inference).unwrap();
    let tokenizer = PairTokenizer::open(&folder.files).unwrap();
    let encoder = PairTokenizer::open(&folder.embedding.unwrap()).unwrap();
    let traffic = fs::read_to_string("examples/traffic.jsonl").unwrap();
    let decoded = traffic.lines().filter_map(|line| decode(line.as_bytes(), &Redactor::shipped()).ok());
    let asked = |call: Call| {
        let questions = ask(&call, &tokenizer, Some(&encoder), &config.nli).unwrap();
        (call, questions)
    };
    decoded.map(|decoded| asked(decoded.call)).collect()
}

#[test]
fn what_is_found_in_the_example_traffic_changes_only_with_the_revision() {
    let rules = Rules::shipped().unwrap();
    let mut found = String::new();
    for (call, questions) in examples() {
        let results = rules.check(&call);
        let pairs: Vec<_> = questions
            .asked
            .iter()
            .zip(&questions.pairs)
            .map(|(asked, pair)| (&pair.ids, asked.doubt))
            .collect();
        // Six digits: the last ones may differ from one processor to another.
        let shared: Vec<String> = questions
            .overlaps
            .iter()
            .chain([&questions.overlap])
            .map(|overlap| format!("{:.6} {:.6}", overlap.pairs, overlap.copied))
            .collect();
        let shared = shared.join(" ");
        let texts: Vec<_> = questions.encoded.texts.iter().map(|text| &text.ids).collect();
        found += &format!(
            "{shared}\n{}\n{}\n{}\n",
            serde_json::to_string(&results).unwrap(),
            serde_json::to_string(&pairs).unwrap(),
            serde_json::to_string(&texts).unwrap()
        );
    }
    let digest = sha256_hex(found.as_bytes());
    let known = FOUND.iter().find(|(revision, _)| *revision == REVISION).map(|(_, digest)| *digest);
    assert_eq!(
        known,
        Some(&digest[..16]),
        "rules, claims, windows or tokens differ: raise REVISION in src/pipeline/cascade.rs, and SIGNALS \
         in src/evaluators/nli/calibration/mod.rs, fit the shipped calibration again and add the digest here"
    );
}

#[test]
fn what_a_judge_is_shown_of_the_example_traffic_changes_only_with_its_revision() {
    let mut shown = String::new();
    for (_, Questions { windows, best, .. }) in examples() {
        for best in best {
            shown += &format!("{:?}\n", windows.passages(best.into_iter()));
        }
    }
    let digest = sha256_hex(shown.as_bytes());
    let known = SHOWN.iter().find(|(revision, _)| *revision == judge::REVISION).map(|(_, digest)| *digest);
    assert_eq!(
        known,
        Some(&digest[..16]),
        "passages differ: raise REVISION in src/evaluators/judge/mod.rs and add the digest here"
    );
}
