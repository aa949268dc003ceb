//! What could not be evaluated, and what could not be delivered.

use aide::axum::{
    ApiRouter,
    routing::{get_with, post_with},
};
use axum::{extract::State, http::StatusCode, response::NoContent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    asked::{Administers, At, Limit, Reads, WITHOUT_NUL, Who, Wish},
    told::{Told, described, failed, missing},
};
use crate::{
    domain::DeadClass,
    http::{
        House,
        refusal::{Away, plain},
    },
    pipeline::dead_letters::{Dead, DeadError},
    store::{DeadDelivery, DeadLetterRow},
};

/// Which are wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Dead letters of this class only.
    #[serde(default)]
    class: Option<DeadClass>,
    /// Dead deliveries of this sink only.
    #[serde(default)]
    #[schemars(regex(pattern = WITHOUT_NUL))]
    sink: Option<String>,
    /// Of so many of the newest of each those that are to be seen.
    #[serde(default)]
    limit: Limit,
}

/// What is dead, newest first.
#[derive(Debug, Serialize, JsonSchema)]
struct Deads {
    /// Calls that could not be evaluated.
    letters: Vec<DeadLetterRow>,
    /// Scores that could not be delivered.
    deliveries: Vec<DeadDelivery>,
}

/// One of them.
#[derive(Debug, Deserialize, JsonSchema)]
struct One {
    /// Its id.
    dead_id: Uuid,
}

/// One thing that is dead.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schemars(rename = "ShownDead")]
enum Shown {
    /// A call that could not be evaluated.
    Letter {
        /// What is known of it.
        letter: DeadLetterRow,
        /// What redaction left of its bytes, as far as they are text.
        payload: String,
    },
    /// Scores that could not be delivered.
    Delivery {
        /// What is known of them.
        delivery: DeadDelivery,
    },
}

/// The routes.
pub(super) fn routes() -> ApiRouter<House> {
    let list = get_with(list, |operation| {
        described(operation, "dead", "What could not be evaluated or delivered, newest first", &[])
    });
    let one = get_with(show, |operation| {
        described(operation, "oneDead", "One of them, with what is left of its message", &[404])
    })
    .delete_with(drop, |operation| {
        described(
            operation,
            "dropDead",
            "Deletes a dead letter for good, or takes a dead delivery off the list",
            &[404, 409],
        )
    });
    let requeue = post_with(requeue, |operation| {
        let summary = "Puts a dead letter on the queue again, or has a dead delivery tried again";
        described(operation, "requeueDead", summary, &[404, 409])
    });
    ApiRouter::new()
        .api_route("/v1/dead", list)
        .api_route("/v1/dead/{dead_id}", one)
        .api_route("/v1/dead/{dead_id}/requeue", requeue)
}

/// Those that somebody may see.
async fn list(
    Who { person, .. }: Who<Reads>,
    State(house): State<House>,
    Wish(Wanted { class, sink, limit }): Wish<Wanted>,
) -> Result<Told<Deads>, Away> {
    let office = house.office(&person);
    let letters = office.letters(class.map(DeadClass::as_str), limit.0).await.map_err(refused)?;
    let deliveries = office.deliveries(sink.as_deref(), limit.0).await.map_err(refused)?;
    Ok(Told(Deads { letters, deliveries }))
}

/// One of them.
async fn show(
    Who { person, .. }: Who<Reads>,
    State(house): State<House>,
    At(One { dead_id }): At<One>,
) -> Result<Told<Shown>, Away> {
    Ok(Told(match house.office(&person).find(dead_id).await.map_err(refused)? {
        Dead::Letter(letter) => {
            Shown::Letter { payload: String::from_utf8_lossy(&letter.payload).into_owned(), letter }
        }
        Dead::Delivery(delivery) => Shown::Delivery { delivery },
    }))
}

/// Tries it again.
async fn requeue(
    Who { person, .. }: Who<Administers>,
    State(house): State<House>,
    At(One { dead_id }): At<One>,
) -> Result<NoContent, Away> {
    house.office(&person).requeue(dead_id).await.map_err(refused)?;
    Ok(NoContent)
}

/// Lets it go.
async fn drop(
    Who { person, .. }: Who<Administers>,
    State(house): State<House>,
    At(One { dead_id }): At<One>,
) -> Result<NoContent, Away> {
    house.office(&person).drop(dead_id).await.map_err(refused)?;
    Ok(NoContent)
}

/// What is told of what was not done.
fn refused(error: DeadError) -> Away {
    match error {
        DeadError::Store(error) => failed(&error),
        DeadError::Missing => missing("dead letter or delivery"),
        DeadError::Anew => plain(StatusCode::CONFLICT, &error.to_string()).into(),
        DeadError::Queue(source) => {
            tracing::error!(error = %source, "a dead letter could not be queued");
            let told = "the queue has not confirmed, the letter stays where it is: try again";
            plain(StatusCode::SERVICE_UNAVAILABLE, told).into()
        }
        DeadError::Late | DeadError::NoQueue => {
            plain(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()).into()
        }
    }
}
