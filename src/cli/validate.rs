//! `aftercheck validate`

use serde_json::json;

use super::{OutputFormat, terminal};
use crate::{config::Config, service, sinks::SinkConfig};

/// One thing that was checked.
struct Check {
    what: String,
    fault: Option<String>,
}

/// Checks rules with their examples, model with its self-test, and the database; false when something is wrong.
pub async fn run(config: &Config, format: OutputFormat) -> anyhow::Result<bool> {
    let mut checks = rule_checks(config);
    if config.inference.enabled {
        let started = crate::inference::Batcher::start(&config.inference);
        checks.push(Check {
            what: format!("model {} answers its golden pairs", config.inference.model.display()),
            fault: started.err().map(|error| error.to_string()),
        });
    }
    let opened = super::open(config).await;
    checks.push(Check {
        what: format!("database {} is there and up to date", config.sqlite.path.display()),
        fault: opened.err().map(|error| format!("{error:#}")),
    });
    for (name, SinkConfig::Jsonl { path }) in &config.sinks {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let missing = folder.filter(|folder| !folder.is_dir());
        checks.push(Check {
            what: format!("sink {name} can write {}", path.display()),
            fault: missing.map(|folder| format!("no folder {}: create it", folder.display())),
        });
    }
    let faults = checks.iter().filter(|check| check.fault.is_some()).count();
    match format {
        OutputFormat::Json => {
            let rows: Vec<_> =
                checks.iter().map(|check| json!({"check": check.what, "fault": check.fault})).collect();
            say!("{}", json!({"checks": rows, "faults": faults}));
        }
        OutputFormat::Table => {
            let mut table = terminal::table(&["check", "result"]);
            for check in &checks {
                table.add_row(vec![check.what.clone(), check.fault.clone().unwrap_or_else(|| "ok".into())]);
            }
            say!("{table}\n{} checks, {faults} faults", checks.len());
        }
    }
    Ok(faults == 0)
}

/// Runs every rule's own examples.
fn rule_checks(config: &Config) -> Vec<Check> {
    let rules = match service::rules(config) {
        Ok(rules) => rules,
        Err(error) => return vec![Check { what: "rule packs".into(), fault: Some(format!("{error:#}")) }],
    };
    if rules.iter().next().is_none() {
        let fault = "no rules: [rules] folder holds no *.toml with a [[rule]]".to_owned();
        return vec![Check { what: "rule packs".into(), fault: Some(fault) }];
    }
    let examples = rules.check_examples();
    rules
        .iter()
        .map(|(id, kind, _)| {
            let own: Vec<_> = examples.iter().filter(|example| example.rule == id).collect();
            let wrong = own.iter().find(|example| !example.ok);
            Check {
                what: format!("rule {id} ({kind}), {} examples", own.len()),
                fault: wrong.map(|example| {
                    format!(
                        "example {:?} should be {} and is {}",
                        example.example,
                        example.expected.as_str(),
                        example.got.as_str()
                    )
                }),
            }
        })
        .collect()
}
