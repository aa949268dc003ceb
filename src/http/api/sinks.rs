//! How sinks stand, and pausing them.

use aide::axum::{
    ApiRouter,
    routing::{get_with, post_with},
};
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    asked::{Administers, At, Reads, WITHOUT_NUL, Who},
    report::whole_view,
    told::{Told, described, failed, missing},
};
use crate::{
    http::{House, refusal::Away},
    store::SinkState,
};

/// A sink.
#[derive(Debug, Deserialize, JsonSchema)]
struct Named {
    /// Its name in the configuration.
    #[schemars(length(min = 1), regex(pattern = WITHOUT_NUL))]
    name: String,
}

/// How a sink stands.
#[derive(Debug, Serialize, JsonSchema)]
struct Standing {
    #[serde(flatten)]
    state: SinkState,
    /// Whether it is configured: of one that is not, nothing more is sent.
    configured: bool,
}

/// How all sinks stand.
#[derive(Debug, Serialize, JsonSchema)]
struct Sinks {
    /// In the order of their names.
    sinks: Vec<Standing>,
}

/// What became of a pause.
#[derive(Debug, Serialize, JsonSchema)]
struct Paused {
    /// The sink.
    sink: String,
    /// Whether it is paused now.
    paused: bool,
    /// Whether it was not so before.
    changed: bool,
}

/// The routes.
pub(super) fn routes() -> ApiRouter<House> {
    let list = get_with(list, |operation| {
        described(operation, "sinks", "How each sink stands; for those who see all tenants", &[])
    });
    let pause = post_with(pause, |operation| {
        described(
            operation,
            "pauseSink",
            "Sends a sink nothing until it is resumed; a repeat changes nothing",
            &[404],
        )
    });
    let resume = post_with(resume, |operation| {
        described(operation, "resumeSink", "Ends the pause of a sink; a repeat changes nothing", &[404])
    });
    ApiRouter::new()
        .api_route("/v1/sinks", list)
        .api_route("/v1/sinks/{name}/pause", pause)
        .api_route("/v1/sinks/{name}/resume", resume)
}

/// How each sink stands: those that are configured, and those that the store knows.
async fn list(Who { person, .. }: Who<Reads>, State(house): State<House>) -> Result<Told<Sinks>, Away> {
    whole_view(&person)?;
    let states = house.standing().await.map_err(|error| failed(&error))?;
    let standing = |state: SinkState| Standing { configured: house.sinks.contains(&state.sink), state };
    Ok(Told(Sinks { sinks: states.into_iter().map(standing).collect() }))
}

/// Pauses a sink.
async fn pause(
    Who { person, .. }: Who<Administers>,
    State(house): State<House>,
    At(Named { name }): At<Named>,
) -> Result<Told<Paused>, Away> {
    whole_view(&person)?;
    // One that is not configured any more may be resumed, but to pause it would be a mistake.
    if !house.sinks.contains(&name) {
        return Err(missing("sink"));
    }
    set(&house, name, true).await
}

/// Ends the pause of a sink.
async fn resume(
    Who { person, .. }: Who<Administers>,
    State(house): State<House>,
    At(Named { name }): At<Named>,
) -> Result<Told<Paused>, Away> {
    whole_view(&person)?;
    if !house.sinks.contains(&name) {
        let states = house.store.sink_states().await.map_err(|error| failed(&error))?;
        if states.iter().all(|state| state.sink != name) {
            return Err(missing("sink"));
        }
    }
    set(&house, name, false).await
}

/// Pauses a sink, or ends that.
async fn set(house: &House, sink: String, paused: bool) -> Result<Told<Paused>, Away> {
    let changed = house.store.pause_sink(&sink, paused).await.map_err(|error| failed(&error))?;
    Ok(Told(Paused { sink, paused, changed }))
}
