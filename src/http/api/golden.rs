//! The golden set: its rows, promoting calls, editing, removing, and the file of a data set.

use aide::{
    OperationOutput,
    axum::{ApiRouter, routing::get_with},
    generate::GenContext,
    openapi::{MediaType, Operation, Response as Documented, StatusCode as Code},
};
use axum::{
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, NoContent, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{
    asked::{Administers, At, Ids, Limit, Reads, Reviews, Sent, Text, WITHOUT_NUL, Who, Wish},
    told::{Told, described, failed, missing},
};
use crate::{
    golden::{GoldenError, Promoted, Wanted, Which, export::Export},
    http::{
        House, house,
        refusal::{Away, plain, refuse},
    },
    store::golden::{GoldenEntry, GoldenRow},
};

/// The header that says how many rows were not compared with others.
const NOT_COMPARED: HeaderName = HeaderName::from_static("aftercheck-not-compared");
/// The data set where none is named.
const DATASET: &str = "golden";

/// Which rows are listed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// Of this data set only.
    #[serde(default)]
    #[schemars(regex(pattern = WITHOUT_NUL))]
    dataset: Option<String>,
    /// Behind this row.
    #[serde(default)]
    after: Option<Uuid>,
    /// At most so many.
    #[serde(default)]
    limit: Limit,
}

/// A page of rows.
#[derive(Debug, Serialize, JsonSchema)]
struct Rows {
    /// In the order of their ids.
    rows: Vec<GoldenRow>,
    /// Where the next page begins, for `after`; null where there is no more.
    next: Option<Uuid>,
}

/// A row.
#[derive(Debug, Deserialize, JsonSchema)]
struct One {
    /// Its id.
    golden_id: Uuid,
}

/// A row and who changed it when.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ShownGolden")]
struct Shown {
    /// The row.
    row: GoldenRow,
    /// Every promotion and edit, newest first.
    history: Vec<GoldenEntry>,
}

/// Which call is promoted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Of {
    /// That of an evaluation.
    EvaluationId(Uuid),
    /// That of a review item.
    ReviewId(Uuid),
    /// One by its ids; where several versions evaluated it, the newest that people decided.
    Call(Ids),
}

/// A promotion.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Promotion {
    /// Which call.
    of: Of,
    /// The data set it goes to.
    #[serde(default = "dataset")]
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
    dataset: String,
    /// What the answer should have been; without it, what the row has, or what the reviewer wrote where people decided
    /// the call after the row was changed last. At most 20,000 bytes; redacted before
    /// it is kept.
    #[serde(default)]
    expected: Option<Text>,
    /// What the answer has to keep to, where no one answer is the right one. At most 20,000 bytes; redacted before
    /// it is kept.
    #[serde(default)]
    policy: Option<Text>,
}

/// What is changed of a row: what is not given stays, an empty text takes it away.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Edit {
    /// What the answer should have been. At most 20,000 bytes; redacted before
    /// it is kept.
    #[serde(default)]
    expected: Option<Text>,
    /// What the answer has to keep to. At most 20,000 bytes; redacted before
    /// it is kept.
    #[serde(default)]
    policy: Option<Text>,
    /// Digest of the row that was read: where somebody else has changed it since, the answer is 409 and nothing is changed.
    #[serde(default)]
    digest: Option<String>,
}

/// Which file is made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Exported {
    /// The data set.
    #[serde(default = "dataset")]
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
    dataset: String,
    /// Whether rows that say nearly the same may both be in it.
    #[serde(default)]
    allow_alike: bool,
}

/// The data sets that who asks sees rows of.
#[derive(Debug, Serialize, JsonSchema)]
struct Datasets {
    /// By their names.
    datasets: Vec<Dataset>,
}

/// One data set.
#[derive(Debug, Serialize, JsonSchema)]
struct Dataset {
    /// Its name.
    dataset: String,
    /// Its rows, as far as who asks sees them.
    rows: u64,
}

/// The file of a data set.
struct File(Export);

/// The data set of who names none.
fn dataset() -> String {
    DATASET.to_owned()
}

/// The routes.
pub(super) fn routes() -> ApiRouter<House> {
    let rows = get_with(list, |operation| {
        described(operation, "goldens", "Rows of the golden set, a page at a time", &[422])
    })
    .post_with(promote, |operation| {
        let summary =
            "Makes a row of a call that people decided; again, it overwrites, and of what is expected the later word counts";
        described(operation, "promoteGolden", summary, &[404, 409])
    });
    let one = get_with(show, |operation| {
        described(operation, "golden", "One row, and who changed it when", &[404])
    })
    .patch_with(edit, |operation| {
        described(operation, "editGolden", "Changes what is expected of a row", &[404, 409])
    })
    .delete_with(remove, |operation| {
        described(operation, "removeGolden", "Takes a row out; sinks that have it keep it", &[404])
    });
    let datasets = get_with(datasets, |operation| {
        described(operation, "datasets", "The data sets of the golden set, with their numbers of rows", &[])
    });
    let export = get_with(export, |operation| {
        let summary = "The file of a data set, a row a line. Refused where a text would be redacted now (422), or where rows are \
                       alike (409)";
        described(operation, "exportGolden", summary, &[404, 409, 422])
    });
    ApiRouter::new()
        .api_route("/v1/golden", rows)
        .api_route("/v1/golden/datasets", datasets)
        .api_route("/v1/golden/export", export)
        .api_route("/v1/golden/{golden_id}", one)
}

/// A page of rows.
async fn list(
    Who { person, .. }: Who<Reads>,
    State(house): State<House>,
    Wish(Listed { dataset, after, limit }): Wish<Listed>,
) -> Result<Told<Rows>, Away> {
    let rows = house.shelf(&person).list(dataset.as_deref(), after, limit.0).await.map_err(refused)?;
    let is_full = u32::try_from(rows.len()).is_ok_and(|count| count == limit.0);
    let next = rows.last().filter(|_| is_full).map(|row| row.golden.golden_id);
    Ok(Told(Rows { rows, next }))
}

/// The data sets.
async fn datasets(
    Who { person, .. }: Who<Reads>,
    State(house): State<House>,
) -> Result<Told<Datasets>, Away> {
    let found = house.store.datasets(&house::scope(&person)).await.map_err(|error| failed(&error))?;
    let datasets = found.into_iter().map(|(dataset, rows)| Dataset { dataset, rows }).collect();
    Ok(Told(Datasets { datasets }))
}

/// One row and its history.
async fn show(
    Who { person, .. }: Who<Reads>,
    State(house): State<House>,
    At(One { golden_id }): At<One>,
) -> Result<Told<Shown>, Away> {
    let (row, history) = house.shelf(&person).show(golden_id).await.map_err(refused)?;
    Ok(Told(Shown { row, history }))
}

/// Makes a row of a call.
async fn promote(
    Who { person, .. }: Who<Reviews>,
    State(house): State<House>,
    Sent(Promotion { of, dataset, expected, policy }): Sent<Promotion>,
) -> Result<Told<Promoted>, Away> {
    let identity = |id: &str| house.shelf.redactor.identity(id).into_owned();
    let which = match of {
        Of::EvaluationId(id) => Which::Evaluation(id),
        Of::ReviewId(id) => Which::Review(id),
        Of::Call(Ids { tenant_id, request_id }) => {
            Which::Call(Some(identity(&tenant_id.0)), identity(&request_id.0))
        }
    };
    let shelf = house.shelf(&person);
    shelf.promote(&which, &dataset, wanted(expected, policy)).await.map(Told).map_err(refused)
}

/// Changes what is expected of a row.
async fn edit(
    Who { person, .. }: Who<Reviews>,
    State(house): State<House>,
    At(One { golden_id }): At<One>,
    Sent(Edit { expected, policy, digest }): Sent<Edit>,
) -> Result<Told<Promoted>, Away> {
    let shelf = house.shelf(&person);
    shelf.edit(golden_id, wanted(expected, policy), digest).await.map(Told).map_err(refused)
}

/// What is said beside what people said in review.
fn wanted(expected: Option<Text>, policy: Option<Text>) -> Wanted {
    Wanted { expected: expected.map(|text| text.0), policy: policy.map(|text| text.0) }
}

/// Takes a row out.
async fn remove(
    Who { person, .. }: Who<Administers>,
    State(house): State<House>,
    At(One { golden_id }): At<One>,
) -> Result<NoContent, Away> {
    house.shelf(&person).remove(golden_id).await.map_err(refused)?;
    Ok(NoContent)
}

/// The file of a data set.
async fn export(
    Who { person, .. }: Who<Reads>,
    State(house): State<House>,
    Wish(Exported { dataset, allow_alike }): Wish<Exported>,
) -> Result<File, Away> {
    let export = house.export(&person, &dataset).await.map_err(refused)?;
    if export.is_clean(allow_alike) {
        return Ok(File(export));
    }
    if !export.personal.is_empty() {
        let told = "texts hold what redaction would take out now: edit or remove these rows";
        return Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, told, json!(export.personal)).into());
    }
    let told = "rows say nearly the same: remove one of each, or ask with allow_alike=true";
    Err(refuse(StatusCode::CONFLICT, told, json!(export.alike)).into())
}

impl IntoResponse for File {
    fn into_response(self) -> Response {
        let Export { dataset, content, sha256, not_compared, .. } = self.0;
        let headers = [
            (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
            (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{dataset}.jsonl\"")),
            (header::ETAG, format!("\"{sha256}\"")),
            (NOT_COMPARED, not_compared.to_string()),
        ];
        (headers, content).into_response()
    }
}

impl OperationOutput for File {
    type Inner = String;

    fn inferred_responses(_: &mut GenContext, _: &mut Operation) -> Vec<(Option<Code>, Documented)> {
        let content = [("application/x-ndjson".to_owned(), MediaType::default())].into();
        let description = "A row a line, in the order of the ids; its SHA-256 in hex is the ETag. `aftercheck-not-compared` is the \
                           number of rows behind the first 2000, which were not compared with others.";
        let answer = Documented { description: description.to_owned(), content, ..Documented::default() };
        vec![(Some(Code::Code(200)), answer)]
    }
}

/// What is told of what was not done.
fn refused(error: GoldenError) -> Away {
    let status = match &error {
        GoldenError::Store(error) => return failed(error),
        GoldenError::Missing(what) => return missing(what),
        GoldenError::Ambiguous
        | GoldenError::Unlabelled
        | GoldenError::Unsure
        | GoldenError::Cut
        | GoldenError::Stale => StatusCode::CONFLICT,
        GoldenError::Unfit { .. } | GoldenError::TooLarge { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        GoldenError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        GoldenError::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
    };
    plain(status, &error.to_string()).into()
}
