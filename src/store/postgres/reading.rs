//! Reading from the Postgres store. Columns are named, so that a migration that adds one breaks no statement that is
//! prepared; UUID and JSON are read as text, as the rows of SQLite hold them.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{StoreError, reviewing::history};
use crate::{
    database::postgres::{Database, bounded},
    domain::{Call, Evaluation},
    store::{
        DeadLetterRow, LedgerEntry, Page, Stored, Story,
        read::{DeliveryRow, ReviewRow},
        reviewing, rows,
    },
};

/// Evaluations by id.
const EVALUATIONS: &str = "SELECT evaluation_id::text, tenant_id, request_id, evaluator_version, trace_id, span_id,
         feature, occurred_at, evaluated_at, verdict, decided_by, reasons::text, rules::text, faithfulness, truncated, tokens_cut,
         judge::text, stages::text, cost_usd, judge_avoided_usd, probability
     FROM evaluations WHERE evaluation_id = ANY($1)";
/// Their claims.
const CLAIMS: &str =
    "SELECT evaluation_id::text, claim_start, claim_end, entailment, neutral, contradiction, chunk_id,
         chunk_start, chunk_end, label, doubt
     FROM claims WHERE evaluation_id = ANY($1) ORDER BY evaluation_id, position";
/// What a dead letter reads as.
const LETTERS: &str =
    "SELECT dead_letter_id::text, payload, octet_length(payload)::bigint AS payload_bytes, class, pointer, detail, remedy, tenant_id, request_id,
         attempts::bigint, source, created_ms
     FROM dead_letters";

/// Tenants that know a request id, of one name when given.
const TENANTS: &str = "SELECT tenant_id FROM (
         SELECT tenant_id FROM calls WHERE request_id = $1
         UNION SELECT tenant_id FROM dead_letters WHERE request_id = $1
         UNION SELECT tenant_id FROM ledger WHERE request_id = $1) known
     WHERE $2::text IS NULL OR tenant_id = $2 ORDER BY tenant_id NULLS FIRST";
/// A call as it was received.
const RECEIVED: &str = "SELECT body, received_ms, source FROM calls WHERE tenant_id = $1 AND request_id = $2";
/// Calls, in the order of their keys.
const CALLS: &str = "SELECT coalesce(body, '') AS body, coalesce(received_ms, 0) AS received_ms,
         coalesce(source, '') AS source
     FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS given (tenant_id, request_id, place)
     LEFT JOIN calls ON calls.tenant_id = given.tenant_id AND calls.request_id = given.request_id ORDER BY place";
/// Its evaluations.
const VERSIONS: &str = "SELECT evaluation_id FROM evaluations WHERE tenant_id = $1 AND request_id = $2
     ORDER BY evaluated_ms, evaluator_version";
/// Their deliveries.
const DELIVERIES: &str = "SELECT sink, attempts::bigint, delivered_ms, dead_reason, last_error
     FROM outbox JOIN unnest($1::uuid[]) WITH ORDINALITY AS given (evaluation_id, place) USING (evaluation_id)
     ORDER BY place, sink";
/// Their review items.
const REVIEWS: &str = "SELECT review_id::text AS review_id, reason, probability, state
     FROM review_items JOIN unnest($1::uuid[]) WITH ORDINALITY AS given (evaluation_id, place) USING (evaluation_id)
     ORDER BY place";
/// A call's history. A comparison that holds for NULL uses no index: the request id finds the few rows.
const LEDGER: &str = "SELECT event, detail, at_ms FROM ledger
     WHERE tenant_id IS NOT DISTINCT FROM $1 AND request_id = $2 ORDER BY entry_id";

/// A page of evaluations with their calls.
const PAGE: &str = "SELECT evaluation_id, evaluated_ms, body, received_ms, source
     FROM evaluations JOIN calls USING (tenant_id, request_id)
     WHERE evaluated_ms >= $1 AND (evaluated_ms, evaluation_id) > ($1, $2)
     ORDER BY evaluated_ms, evaluation_id LIMIT $3";

/// A page of evaluations with their calls.
pub(super) async fn page(
    database: &Database,
    page: &Page,
) -> Result<(Vec<Stored>, Option<Page>), StoreError> {
    let (after_ms, after_id) = page.begin();
    let found: Vec<PgRow> = bounded(|| async {
        let mut lent = database.connection().await?;
        let query = sqlx::query(PAGE).bind(after_ms).bind(after_id).bind(i64::from(page.limit));
        let found = query.fetch_all(&mut *lent).await?;
        lent.give_back();
        Ok(found)
    })
    .await?;
    let ids = found.iter().map(|row| row.try_get("evaluation_id")).collect::<Result<Vec<Uuid>, _>>()?;
    let mut evaluations = evaluations(database, &ids).await?;
    let (mut stored, mut next) = (Vec::with_capacity(found.len()), None);
    for (row, id) in found.iter().zip(ids) {
        let evaluated_ms: i64 = row.try_get("evaluated_ms")?;
        next = Some(page.behind(evaluated_ms, id));
        let evaluation = evaluations.remove(&id).and_then(Result::ok);
        stored.extend(rows::stored(row, evaluation)?);
    }
    Ok((stored, next))
}

/// Rows of evaluations and of their claims.
#[derive(Default)]
pub(super) struct Rows {
    evaluations: Vec<PgRow>,
    claims: HashMap<String, Vec<PgRow>>,
}

impl Rows {
    /// Reads the rows of these evaluations.
    async fn read(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Self, sqlx::Error> {
        if ids.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self {
            evaluations: sqlx::query(EVALUATIONS).bind(ids).fetch_all(&mut *connection).await?,
            claims: by_evaluation(sqlx::query(CLAIMS).bind(ids).fetch_all(&mut *connection).await?)?,
        })
    }

    /// What they read as, each for itself: one that cannot be read harms no other.
    fn told(&self) -> Result<HashMap<Uuid, Result<Evaluation, StoreError>>, StoreError> {
        let none = Vec::new();
        let mut told = HashMap::with_capacity(self.evaluations.len());
        for row in &self.evaluations {
            let id: &str = row.try_get("evaluation_id")?;
            let claims = self.claims.get(id).unwrap_or(&none);
            told.insert(rows::uuid("evaluation id", id)?, rows::evaluation(row, claims));
        }
        Ok(told)
    }
}

/// Rows by the evaluation that they belong to, in their order.
fn by_evaluation(rows: Vec<PgRow>) -> Result<HashMap<String, Vec<PgRow>>, sqlx::Error> {
    let mut sorted: HashMap<String, Vec<PgRow>> = HashMap::new();
    for row in rows {
        sorted.entry(row.try_get("evaluation_id")?).or_default().push(row);
    }
    Ok(sorted)
}

/// Evaluations with their claims, or why one cannot be read.
pub(super) async fn evaluations(
    database: &Database,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Result<Evaluation, StoreError>>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = bounded(|| async {
        let mut lent = database.connection().await?;
        let rows = Rows::read(&mut lent, ids).await?;
        lent.give_back();
        Ok(rows)
    })
    .await?;
    rows.told()
}

/// Calls by tenant and request id.
pub(super) async fn calls(
    database: &Database,
    keys: &[(String, String)],
) -> Result<Vec<Option<Call>>, StoreError> {
    let (tenants, requests): (Vec<&str>, Vec<&str>) =
        keys.iter().map(|(tenant, request)| (tenant.as_str(), request.as_str())).unzip();
    let found: Vec<PgRow> = bounded(|| async {
        let mut lent = database.connection().await?;
        let found = sqlx::query(CALLS).bind(&tenants).bind(&requests).fetch_all(&mut *lent).await?;
        lent.give_back();
        Ok(found)
    })
    .await?;
    found.iter().map(rows::call).collect()
}

/// Everything about a request id, one story per tenant.
pub(super) async fn stories(
    database: &Database,
    tenant_id: Option<&str>,
    request_id: &str,
) -> Result<Vec<Story>, StoreError> {
    let chapters = bounded(|| async {
        let mut lent = database.connection().await?;
        let tenants: Vec<Option<String>> =
            sqlx::query_scalar(TENANTS).bind(request_id).bind(tenant_id).fetch_all(&mut *lent).await?;
        let mut chapters = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            chapters.push(Chapters::read(&mut lent, tenant, request_id).await?);
        }
        lent.give_back();
        Ok(chapters)
    })
    .await?;
    chapters.into_iter().map(Chapters::told).collect()
}

/// The rows that one call's story is told from.
pub(super) struct Chapters {
    tenant_id: Option<String>,
    request_id: String,
    received: Option<PgRow>,
    ids: Vec<Uuid>,
    evaluations: Rows,
    deliveries: Vec<DeliveryRow>,
    reviews: Vec<ReviewRow>,
    labels: Vec<PgRow>,
    letters: Vec<PgRow>,
    ledger: Vec<LedgerEntry>,
}

impl Chapters {
    /// Reads the rows of one call.
    pub(super) async fn read(
        connection: &mut PgConnection,
        tenant_id: Option<String>,
        request_id: &str,
    ) -> Result<Self, sqlx::Error> {
        let tenant = tenant_id.as_deref();
        let received =
            sqlx::query(RECEIVED).bind(tenant).bind(request_id).fetch_optional(&mut *connection).await?;
        let ids: Vec<Uuid> =
            sqlx::query_scalar(VERSIONS).bind(tenant).bind(request_id).fetch_all(&mut *connection).await?;
        let evaluations = Rows::read(&mut *connection, &ids).await?;
        let deliveries = sqlx::query_as(DELIVERIES).bind(&ids).fetch_all(&mut *connection).await?;
        let reviews = sqlx::query_as(REVIEWS).bind(&ids).fetch_all(&mut *connection).await?;
        let labels = history(&mut *connection, &ids).await?;
        let letters = sqlx::query(AssertSqlSafe(format!(
            "{LETTERS} WHERE tenant_id IS NOT DISTINCT FROM $1 AND request_id = $2 ORDER BY created_ms"
        )))
        .bind(tenant)
        .bind(request_id)
        .fetch_all(&mut *connection)
        .await?;
        let ledger = sqlx::query_as(LEDGER).bind(tenant).bind(request_id).fetch_all(&mut *connection).await?;
        let request_id = request_id.to_owned();
        Ok(Self {
            tenant_id,
            request_id,
            received,
            ids,
            evaluations,
            deliveries,
            reviews,
            labels,
            letters,
            ledger,
        })
    }

    /// The story.
    pub(super) fn told(self) -> Result<Story, StoreError> {
        let mut evaluations = self.evaluations.told()?;
        Ok(Story {
            received: self.received.as_ref().map(rows::received).transpose()?.flatten(),
            evaluations: self.ids.iter().filter_map(|id| evaluations.remove(id)).collect::<Result<_, _>>()?,
            deliveries: self.deliveries,
            reviews: self.reviews,
            labels: self.labels.iter().map(reviewing::rows::entry).collect::<Result<_, _>>()?,
            dead_letters: self.letters.iter().map(rows::letter).collect::<Result<_, _>>()?,
            ledger: self.ledger,
            tenant_id: self.tenant_id,
            request_id: self.request_id,
        })
    }
}

/// Dead letters, newest first.
pub(super) async fn dead_letters(
    database: &Database,
    class: Option<&str>,
    tenants: Option<&[String]>,
    limit: u32,
) -> Result<Vec<DeadLetterRow>, StoreError> {
    let letters = bounded(|| async {
        let mut lent = database.connection().await?;
        // Nobody reads a payload in a list.
        let without = LETTERS.replacen(" payload,", " ''::bytea AS payload,", 1);
        let letters = sqlx::query(AssertSqlSafe(format!(
            "{without} WHERE ($1::text IS NULL OR class = $1) AND ($2::text[] IS NULL OR tenant_id = ANY($2))
             ORDER BY dead_letters.created_ms DESC, dead_letters.dead_letter_id LIMIT $3"
        )))
        .bind(class)
        .bind(tenants)
        .bind(i64::from(limit))
        .fetch_all(&mut *lent)
        .await?;
        lent.give_back();
        Ok(letters)
    })
    .await?;
    letters.iter().map(rows::letter).collect()
}

/// One dead letter.
pub(super) async fn dead_letter(database: &Database, id: Uuid) -> Result<Option<DeadLetterRow>, StoreError> {
    let letter = bounded(|| async {
        let mut lent = database.connection().await?;
        let letter = sqlx::query(AssertSqlSafe(format!("{LETTERS} WHERE dead_letter_id = $1")))
            .bind(id)
            .fetch_optional(&mut *lent)
            .await?;
        lent.give_back();
        Ok(letter)
    })
    .await?;
    letter.as_ref().map(rows::letter).transpose()
}
