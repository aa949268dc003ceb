//! What things are called, and the ids that LangSmith wants instead: asked for once, and again after a while.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{LangsmithSink, accepted, json_of};
use crate::sinks::SinkError;

/// How long an id is believed: what has a name may be deleted and made again.
const BELIEVED: Duration = Duration::from_secs(600);
/// Most data sets that are remembered.
const MAX_DATASETS: usize = 1000;

/// Ids by name.
#[derive(Default)]
pub(super) struct Names {
    project: Mutex<Option<(Instant, Uuid)>>,
    datasets: Mutex<HashMap<String, (Instant, Uuid)>>,
}

impl LangsmithSink {
    /// The project's id.
    ///
    /// # Errors
    /// [`SinkError::Denied`] where there is no project of that name.
    pub(super) async fn project(&self) -> Result<Uuid, SinkError> {
        if let Ok(id) = Uuid::try_parse(&self.project) {
            return Ok(id);
        }
        // Whoever comes second waits for the answer to the first.
        let mut project = self.names.project.lock().await;
        if let Some((_, id)) = project.filter(|(since, _)| since.elapsed() < BELIEVED) {
            return Ok(id);
        }
        let id = match self.by_name("api/v1/sessions", &self.project).await? {
            Answered::Id(id) => id,
            // The first version of this path is to go away.
            Answered::NoSuchPath => match self.by_name("api/v2/sessions", &self.project).await? {
                Answered::Id(id) => id,
                Answered::None => return Err(self.no_project()),
                Answered::NoSuchPath => {
                    return Err(SinkError::Denied(
                        "url: there is no LangSmith, leave /api/v1 out of it".into(),
                    ));
                }
            },
            Answered::None => return Err(self.no_project()),
        };
        *project = Some((Instant::now(), id));
        Ok(id)
    }

    /// What is said where no project has the name.
    fn no_project(&self) -> SinkError {
        let project = &self.project;
        SinkError::Denied(format!(
            "project {project:?}: LangSmith has none of this name; the key may be of another workspace"
        ))
    }

    /// Whether there is a project of this id. The first version of the path is to go away.
    ///
    /// # Errors
    /// Where LangSmith does not say.
    pub(super) async fn has_project(&self, id: Uuid) -> Result<bool, SinkError> {
        for version in ["v1", "v2"] {
            let request = self.wire.request(Method::GET, &format!("api/{version}/sessions/{id}"));
            let answer = self.wire.send(request).await?;
            if answer.status != StatusCode::NOT_FOUND {
                return accepted(answer).map(|_| true);
            }
        }
        Ok(false)
    }

    /// Asks for the project again next time.
    pub(super) async fn forget_project(&self) {
        *self.names.project.lock().await = None;
    }

    /// The id of a data set; none where there is none of that name.
    ///
    /// # Errors
    /// Where LangSmith does not say.
    pub(super) async fn dataset(&self, name: &str) -> Result<Option<Uuid>, SinkError> {
        let mut datasets = self.names.datasets.lock().await;
        if let Some((_, id)) = datasets.get(name).filter(|(since, _)| since.elapsed() < BELIEVED) {
            return Ok(Some(*id));
        }
        let Answered::Id(id) = self.by_name("api/v1/datasets", name).await? else { return Ok(None) };
        if datasets.len() >= MAX_DATASETS {
            datasets.clear();
        }
        datasets.insert(name.to_owned(), (Instant::now(), id));
        Ok(Some(id))
    }

    /// Asks for the data set again next time.
    pub(super) async fn forget_dataset(&self, name: &str) {
        self.names.datasets.lock().await.remove(name);
    }

    /// Looks for what has exactly this name.
    async fn by_name(&self, path: &str, name: &str) -> Result<Answered, SinkError> {
        let url = self.url(path, &[("name", name)]);
        let answer = self.wire.send(self.wire.request_to(Method::GET, url)).await?;
        if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE)
        {
            return Ok(Answered::NoSuchPath);
        }
        let found = json_of(&accepted(answer)?)?;
        let rows = found.as_array().or_else(|| found["items"].as_array());
        let of_name = |row: &&Value| row["name"] == name;
        let row = rows.and_then(|rows| rows.iter().find(of_name));
        Ok(match row.and_then(|row| Uuid::try_parse(row["id"].as_str()?).ok()) {
            Some(id) => Answered::Id(id),
            None => Answered::None,
        })
    }
}

/// What LangSmith said to a name.
enum Answered {
    Id(Uuid),
    None,
    NoSuchPath,
}
