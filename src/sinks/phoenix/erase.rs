//! Deletes what was written. Phoenix deletes annotations by project, and says nothing of a project that they are not in: so
//! they are looked for in all projects, deleted where they are, and looked for again.

use std::collections::BTreeSet;

use reqwest::{Method, Url};
use serde_json::Value;

use super::{
    Phoenix,
    annotation::{Target, identifier},
    dataset,
    receipt::Receipt,
};
use crate::{
    domain::Retraction,
    sinks::{SinkError, scores::REVIEW, wire::accepted},
};

/// Projects or annotations of one page: so few that their explanations fit into an answer that is read.
const PAGE: &str = "30";
/// Most pages that are read: a server that always has another one is not followed for ever.
const MAX_PAGES: usize = 1000;

/// Annotations that are deleted: their identifier, and their name where not all of that identifier are meant.
type Meant = BTreeSet<(String, Option<&'static str>)>;

impl Phoenix {
    /// Deletes the annotations of deliveries.
    ///
    /// # Errors
    /// [`SinkError`] where not all of them are known to be deleted.
    pub(super) async fn erase_annotations(&self, retractions: &[&Retraction]) -> Result<(), SinkError> {
        let meant = retractions.iter().map(|retraction| {
            let only = match Receipt::of(retraction) {
                Some(Receipt::Review { .. }) => Some(REVIEW),
                _ => None,
            };
            (identifier(retraction.evaluation_id), only)
        });
        let meant: Meant = meant.collect();
        if meant.is_empty() {
            return Ok(());
        }
        for project in self.projects().await? {
            for target in Target::ALL {
                let url = self.url(&["v1", "projects", &project, target.annotations()]);
                let found = self.found(&url, &meant).await?;
                for one in &found {
                    self.delete(&url, one).await?;
                }
                // Keys of other users than administrators delete only what their user wrote, and are told nothing.
                if !found.is_empty() && !self.found(&url, &meant).await?.is_empty() {
                    return Err(SinkError::Denied(
                        "annotations that another user's key wrote are still there: use the key of an administrator".into(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Takes the texts of an example out of the newest version of its dataset. One of which nobody knows whether it arrived is
    /// there afterwards, empty: whatever comes late of it is overwritten, and somebody is told to look.
    ///
    /// # Errors
    /// [`SinkError::Refused`] where it has done so: earlier versions of the dataset still have them.
    pub(super) async fn erase_example(&self, receipt: &Receipt, has_arrived: bool) -> Result<(), SinkError> {
        let Receipt::Example { dataset, id } = receipt else { return Ok(()) };
        self.upload(&dataset::emptied(dataset, *id)).await?;
        let have = if has_arrived { "still have it" } else { "have it where it arrived, which nobody knows" };
        Err(SinkError::Refused(format!(
            "example {id}: emptied, but earlier versions of its dataset {have}; Phoenix deletes only whole datasets"
        )))
    }

    /// Ids of all projects.
    async fn projects(&self) -> Result<Vec<String>, SinkError> {
        let mut url = self.url(&["v1", "projects"]);
        url.query_pairs_mut().append_pair("limit", PAGE);
        for other in ["include_experiment_projects", "include_dataset_evaluator_projects"] {
            url.query_pairs_mut().append_pair(other, "true");
        }
        let pages = self.pages(&url).await?;
        Ok(pages.iter().filter_map(|project| Some(project["id"].as_str()?.to_owned())).collect())
    }

    /// Those of these annotations that are there.
    async fn found(&self, url: &Url, meant: &Meant) -> Result<Meant, SinkError> {
        let mut url = url.clone();
        let identifiers: BTreeSet<&str> = meant.iter().map(|(identifier, _)| identifier.as_str()).collect();
        for identifier in identifiers {
            url.query_pairs_mut().append_pair("identifier", identifier);
        }
        url.query_pairs_mut().append_pair("limit", PAGE);
        let there = self.pages(&url).await?;
        let is_there = |(identifier, only): &&(String, Option<&'static str>)| {
            there.iter().any(|one| {
                one["identifier"] == identifier.as_str() && only.is_none_or(|name| one["name"] == name)
            })
        };
        Ok(meant.iter().filter(is_there).cloned().collect())
    }

    /// Deletes annotations of a project by their identifier, and by their name where there is one.
    async fn delete(
        &self,
        url: &Url,
        (identifier, only): &(String, Option<&'static str>),
    ) -> Result<(), SinkError> {
        let mut url = url.clone();
        url.query_pairs_mut().append_pair("identifier", identifier).append_pair("delete_all", "true");
        if let Some(name) = only {
            url.query_pairs_mut().append_pair("name", name);
        }
        let answer = self.wire.send(self.wire.request_to(Method::DELETE, url)).await?;
        accepted(answer).map(|_| ())
    }

    /// What all pages of a list have.
    async fn pages(&self, url: &Url) -> Result<Vec<Value>, SinkError> {
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let mut page = url.clone();
            if let Some(cursor) = &cursor {
                page.query_pairs_mut().append_pair("cursor", cursor);
            }
            let answer = super::taken(self.wire.send(self.wire.request_to(Method::GET, page)).await?)?;
            let mut body: Value = serde_json::from_slice(&answer.body).map_err(|_| super::not_phoenix())?;
            let Some(Value::Array(data)) = body.get_mut("data").map(Value::take) else {
                return Err(super::not_phoenix());
            };
            all.extend(data);
            cursor = body["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(all);
            }
        }
        Err(SinkError::Again { reason: format!("a list of more than {MAX_PAGES} pages"), after: None })
    }
}
