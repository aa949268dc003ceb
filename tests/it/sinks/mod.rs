//! Sinks against backends: fakes that keep to the contract, its traps included, and the real thing where it is installed.

mod faults;
mod helicone;
mod items;
mod langfuse;
mod langsmith;
mod mlflow;
pub mod openapi;
mod otlp;
mod phoenix;
mod wire;

/// A configuration as far as it is about sinks.
#[derive(Debug, serde::Deserialize)]
struct Sinks {
    sinks: std::collections::BTreeMap<String, aftercheck::sinks::SinkConfig>,
}

/// Sinks that a text shows: its lines from `[sinks.NAME]` to an empty line or the end of a block.
fn shown(text: &str) -> Vec<Sinks> {
    let ends = |line: &&str| !line.is_empty() && !line.starts_with("```");
    let at = text.match_indices("[sinks.").filter(|(at, _)| *at == 0 || text[..*at].ends_with('\n'));
    let blocks = at.map(|(at, _)| text[at..].lines().take_while(ends).collect::<Vec<_>>().join("\n"));
    blocks.map(|block| toml::from_str(&block).unwrap_or_else(|error| panic!("{error}\n{block}"))).collect()
}

#[test]
fn sinks_of_the_documentation_and_of_the_example_can_be_read() {
    let read =
        |name: &str| std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let example: Vec<String> = read("aftercheck.example.toml")
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned())
        .collect();
    for text in [read("docs/sinks.md"), example.join("\n")] {
        let names: Vec<String> = shown(&text).into_iter().flat_map(|one| one.sinks.into_keys()).collect();
        for name in ["archive", "phoenix", "telemetry"] {
            assert!(names.iter().any(|one| one == name), "{name} is not among {names:?}");
        }
    }
}
