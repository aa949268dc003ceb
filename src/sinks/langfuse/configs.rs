//! Score configs: what the server would drop a score for without a word is found out here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::sync::Mutex;

use super::{
    api::{Api, PAGE},
    body::{Body, DataType},
};
use crate::sinks::{
    SinkError,
    scores::{FAITHFULNESS, JUDGE, REVIEW, RULE, VERDICT},
};

/// How long the configs that were read are taken for what they are.
const FRESH: Duration = Duration::from_secs(600);
/// Most pages of configs that are read.
const MAX_PAGES: u64 = 50;

/// A score config.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScoreConfig {
    id: String,
    name: String,
    data_type: String,
    #[serde(default)]
    is_archived: bool,
    #[serde(default)]
    min_value: Option<f64>,
    #[serde(default)]
    max_value: Option<f64>,
    #[serde(default)]
    categories: Option<Vec<Category>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Category {
    label: String,
}

/// The configs that scores are sent with, as they were when they were last read.
#[derive(Debug, Default)]
pub(super) struct Configs {
    /// Config by the name of the score.
    by_name: HashMap<String, ScoreConfig>,
}

/// Reads configs, and keeps them for a while.
pub(super) struct Reader {
    wanted: BTreeMap<String, String>,
    read: Mutex<Option<(Instant, Arc<Configs>)>>,
}

impl Reader {
    /// A reader of the configs with these ids, by the name of the score.
    pub fn new(wanted: BTreeMap<String, String>) -> Self {
        Self { wanted, read: Mutex::new(None) }
    }

    /// The configs; those that were read before, where they cannot be read again.
    pub async fn current(&self, api: &Api) -> Result<Arc<Configs>, SinkError> {
        if self.wanted.is_empty() {
            return Ok(Arc::default());
        }
        let mut read = self.read.lock().await;
        if let Some((at, configs)) = &*read
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(configs));
        }
        let configs = match (self.read(api).await, &*read) {
            (Ok((configs, wrong)), _) => {
                for wrong in wrong {
                    tracing::warn!("Langfuse: scores go without their config: {wrong}");
                }
                Arc::new(configs)
            }
            (Err(_), Some((_, old))) => Arc::clone(old),
            (Err(error), None) => return Err(error),
        };
        *read = Some((Instant::now(), Arc::clone(&configs)));
        Ok(configs)
    }

    /// How many configs there are, where all of them allow what is sent with them.
    pub async fn check(&self, api: &Api) -> Result<usize, SinkError> {
        if self.wanted.is_empty() {
            return Ok(0);
        }
        let (_, wrong) = self.read(api).await?;
        if wrong.is_empty() { Ok(self.wanted.len()) } else { Err(SinkError::Denied(wrong.join("; "))) }
    }

    /// Reads them all; says what is wrong with those that do not fit.
    async fn read(&self, api: &Api) -> Result<(Configs, Vec<String>), SinkError> {
        let mut all = HashMap::new();
        for number in 1..=MAX_PAGES {
            let page = api.page::<ScoreConfig>(&["score-configs"], &[], number).await?;
            let is_last = number >= page.meta.total_pages || page.data.len() < PAGE;
            all.extend(page.data.into_iter().map(|config| (config.id.clone(), config)));
            if is_last {
                break;
            }
        }
        let (mut by_name, mut wrong) = (HashMap::new(), Vec::new());
        for (name, id) in &self.wanted {
            match all.get(id) {
                Some(config) => {
                    let why = misfit(name, config);
                    if why.is_none() {
                        by_name.insert(name.clone(), config.clone());
                    }
                    let why = why.or_else(|| narrow(name, config));
                    wrong.extend(why.map(|why| format!("score_configs.{name}: {why}")));
                }
                None => {
                    wrong.push(format!("score_configs.{name}: the project has no score config of this id"))
                }
            }
        }
        Ok((Configs { by_name }, wrong))
    }
}

impl Configs {
    /// The config that a score is sent with; none where there is none, or where it does not allow the score.
    pub fn allows(&self, body: &Body) -> Option<&str> {
        let config = self.by_name.get(&body.name).filter(|config| config.allows(body))?;
        Some(&config.id)
    }
}

impl ScoreConfig {
    /// Whether the server would keep a score that is sent with it.
    fn allows(&self, body: &Body) -> bool {
        let is_inside = |value: f64| {
            self.min_value.is_none_or(|min| value >= min) && self.max_value.is_none_or(|max| value <= max)
        };
        let allows = match body.data_type {
            DataType::Numeric => body.value.as_f64().is_some_and(is_inside),
            DataType::Categorical => body.value.as_str().is_some_and(|word| self.knows(word)),
            DataType::Boolean => true,
        };
        allows && self.data_type == body.data_type.as_str()
    }

    /// Whether a word is a category of the config; where it has none every word is.
    fn knows(&self, word: &str) -> bool {
        self.categories.as_ref().is_none_or(|all| all.iter().any(|category| category.label == word))
    }
}

/// Why no score of this name can be sent with a config; none where it can.
fn misfit(name: &str, config: &ScoreConfig) -> Option<String> {
    if config.is_archived {
        return Some("the config is archived, restore it or take another".into());
    }
    if config.name != name {
        return Some("the config has another name, and a score has to have that of its config".into());
    }
    match kind(name) {
        None => Some("there is no such score; write faithfulness, verdict, judge, review or rule.ID".into()),
        Some((data_type, _)) if config.data_type != data_type.as_str() => {
            Some(format!("the config has to be of the type {}", data_type.as_str()))
        }
        Some(_) => None,
    }
}

/// Why not each score of this name can be sent with a config; none where each can.
fn narrow(name: &str, config: &ScoreConfig) -> Option<String> {
    let (data_type, words) = kind(name)?;
    match data_type {
        DataType::Numeric => {
            let is_narrow = config.min_value.is_some_and(|min| min > 0.0)
                || config.max_value.is_some_and(|max| max < 1.0);
            is_narrow.then(|| "the config has to allow values from 0 to 1".into())
        }
        DataType::Categorical => {
            let missing = words.iter().find(|word| !config.knows(word))?;
            Some(format!("the config lacks the category {missing}"))
        }
        DataType::Boolean => None,
    }
}

/// Type and words of the scores of a name; none where we send no such score.
fn kind(name: &str) -> Option<(DataType, &'static [&'static str])> {
    match name {
        FAITHFULNESS | JUDGE => Some((DataType::Numeric, &[])),
        VERDICT => Some((DataType::Categorical, &["pass", "fail", "review", "not_applicable"])),
        REVIEW => Some((DataType::Categorical, &["pass", "fail", "unsure"])),
        name => name.starts_with(RULE).then_some((DataType::Boolean, &[])),
    }
}
