//! Who may come in: people, keys of programs, and the log of who did what. For admins who see all tenants and features: who is held
//! to some could else let somebody see more than they do.

use aide::axum::{
    ApiRouter,
    routing::{delete_with, get_with, patch_with},
};
use axum::{extract::State, http::StatusCode, response::NoContent};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    asked::{Administers, At, Limit, Sent, Text, WITHOUT_NUL, Who, Wish},
    report::whole_view,
    told::{Told, described, failed, missing},
};
use crate::{
    access::{AccessError, Changes, password::PasswordError, secret},
    domain::{Person, Role},
    http::{
        House,
        refusal::{Away, plain},
    },
    store::accounts::{Account, ApiKey, AuditEntry, Granted},
};

/// Somebody with an account.
#[derive(Debug, Deserialize, JsonSchema)]
struct Named {
    /// Their name.
    #[schemars(length(min = 1), regex(pattern = WITHOUT_NUL))]
    person: String,
}

/// A key.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfKey {
    /// Its prefix.
    #[schemars(length(min = 1), regex(pattern = WITHOUT_NUL))]
    prefix: String,
}

/// What a name is: characters that are no control characters, without spaces around them.
const NAME: &str = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$";

/// Everybody.
#[derive(Debug, Serialize, JsonSchema)]
struct People {
    /// By name.
    people: Vec<Account>,
}

/// Somebody new.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewPerson")]
struct Newcomer {
    /// Their name: at most 200 bytes.
    #[schemars(regex(pattern = NAME))]
    name: String,
    /// What they may do.
    role: Role,
    /// Tenants that they may see, as producers write them; null or absent: all.
    #[serde(default)]
    tenants: Option<Vec<Text>>,
    /// Features that they review; null or absent: all.
    #[serde(default)]
    features: Option<Vec<Text>>,
    /// Their password: at least 15 characters, at most 1024 bytes. Without one it is made, and told once.
    #[serde(default)]
    #[schemars(with = "Option<String>", length(min = 15))]
    password: Option<SecretString>,
}

/// Somebody who was added.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AddedPerson")]
struct Added {
    /// Their name.
    name: String,
    /// The password, where we made it; nobody is told it again.
    password: Option<String>,
}

/// What is changed of somebody, all or nothing: what is absent stays. Their sessions are over.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PersonChanges")]
struct Wanted {
    /// What they may do.
    #[serde(default)]
    role: Option<Role>,
    /// Tenants that they may see, as producers write them; null: all.
    #[serde(default, deserialize_with = "given")]
    tenants: Option<Option<Vec<Text>>>,
    /// Features that they review; null: all.
    #[serde(default, deserialize_with = "given")]
    features: Option<Option<Vec<Text>>>,
    /// Their password: at least 15 characters, at most 1024 bytes.
    #[serde(default)]
    #[schemars(with = "Option<String>", length(min = 15))]
    password: Option<SecretString>,
    /// Whether they are let in no more.
    #[serde(default)]
    disabled: Option<bool>,
}

/// Reads a field that is there, be it null.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// All keys.
#[derive(Debug, Serialize, JsonSchema)]
struct Keys {
    /// Those that are revoked included, oldest first.
    keys: Vec<ApiKey>,
}

/// A program that is to have a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewKey")]
struct Program {
    /// Its name: at most 200 bytes.
    #[schemars(regex(pattern = NAME))]
    name: String,
    /// What it may do.
    role: Role,
    /// Tenants that it may see or hand in calls of, as producers write them; null or absent: all.
    #[serde(default)]
    tenants: Option<Vec<Text>>,
}

/// A key that was made.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MadeKey")]
struct Made {
    /// The key; nobody is told it again.
    key: String,
    /// By which it is listed and revoked.
    prefix: String,
}

/// How much of the log is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Newest {
    /// Older than the entry with this `entry_id`.
    #[serde(default)]
    before: Option<i64>,
    /// At most so many entries.
    #[serde(default)]
    limit: Limit,
}

/// Who did what.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditLog")]
struct Log {
    /// Newest first.
    entries: Vec<AuditEntry>,
}

/// The routes.
pub(super) fn routes() -> ApiRouter<House> {
    let people =
        get_with(people, |operation| described(operation, "people", "Everybody with an account", &[]))
            .post_with(add, |operation| described(operation, "addPerson", "Adds somebody", &[409]));
    let person = patch_with(change, |operation| {
        described(
            operation,
            "changePerson",
            "Changes what somebody may do or see, and ends their sessions",
            &[404],
        )
    });
    let keys =
        get_with(keys, |operation| described(operation, "keys", "All keys, without their secrets", &[]))
            .post_with(make, |operation| described(operation, "addKey", "Makes a key for a program", &[]));
    let key = delete_with(revoke, |operation| {
        described(operation, "revokeKey", "Revokes a key: it is refused from the next request on", &[404])
    });
    let audit = get_with(audit, |operation| {
        described(operation, "audit", "Who signed in, labelled, promoted and let others in", &[])
    });
    ApiRouter::new()
        .api_route("/v1/people", people)
        .api_route("/v1/people/{person}", person)
        .api_route("/v1/keys", keys)
        .api_route("/v1/keys/{prefix}", key)
        .api_route("/v1/audit", audit)
}

/// Everybody.
async fn people(
    Who { person, .. }: Who<Administers>,
    State(house): State<House>,
) -> Result<Told<People>, Away> {
    whole_view(&person)?;
    let people = house.store.accounts().await.map_err(|error| failed(&error))?;
    Ok(Told(People { people }))
}

/// Adds somebody.
async fn add(
    Who { person, .. }: Who<Administers>,
    State(house): State<House>,
    Sent(Newcomer { name, role, tenants, features, password }): Sent<Newcomer>,
) -> Result<Told<Added>, Away> {
    lets_in(&person)?;
    let (secret, ours) = match password {
        Some(password) => (password, None),
        None => {
            let made = secret::password().map_err(|error| refused(error.into()))?;
            let told = made.expose_secret().to_owned();
            (made, Some(told))
        }
    };
    let (tenants, features) = (kept(&house, tenants), features.map(texts));
    let newcomer = Person { name: name.clone(), role, tenants, features };
    match house.gate.add(&newcomer, secret, &person.name).await.map_err(refused)? {
        true => Ok(Told(Added { name, password: ours })),
        false => Err(plain(StatusCode::CONFLICT, "somebody has this name").into()),
    }
}

/// Changes somebody.
async fn change(
    Who { person, .. }: Who<Administers>,
    State(house): State<House>,
    At(Named { person: name }): At<Named>,
    Sent(Wanted { role, tenants, features, password, disabled }): Sent<Wanted>,
) -> Result<NoContent, Away> {
    lets_in(&person)?;
    let tenants = granted(tenants.map(|tenants| kept(&house, tenants)));
    let features = granted(features.map(|features| features.map(texts)));
    let changes = Changes { role, tenants, features, password, disabled };
    match house.gate.change(&name, changes, &person.name).await.map_err(refused)? {
        true => Ok(NoContent),
        false => Err(missing("person")),
    }
}

/// All keys.
async fn keys(Who { person, .. }: Who<Administers>, State(house): State<House>) -> Result<Told<Keys>, Away> {
    whole_view(&person)?;
    let keys = house.store.keys().await.map_err(|error| failed(&error))?;
    Ok(Told(Keys { keys }))
}

/// Makes a key.
async fn make(
    Who { person, .. }: Who<Administers>,
    State(house): State<House>,
    Sent(Program { name, role, tenants }): Sent<Program>,
) -> Result<Told<Made>, Away> {
    lets_in(&person)?;
    let program = Person { name, role, tenants: kept(&house, tenants), features: None };
    let (key, prefix) = house.gate.make_key(&program, &person.name).await.map_err(refused)?;
    Ok(Told(Made { key, prefix }))
}

/// Revokes a key.
async fn revoke(
    Who { person, .. }: Who<Administers>,
    State(house): State<House>,
    At(OfKey { prefix }): At<OfKey>,
) -> Result<NoContent, Away> {
    lets_in(&person)?;
    match house.gate.revoke_key(&prefix, &person.name).await.map_err(refused)? {
        true => Ok(NoContent),
        false => Err(missing("key")),
    }
}

/// Who did what.
async fn audit(
    Who { person, .. }: Who<Administers>,
    State(house): State<House>,
    Wish(Newest { before, limit: Limit(limit) }): Wish<Newest>,
) -> Result<Told<Log>, Away> {
    whole_view(&person)?;
    let entries = house.store.audit_log(before, limit).await.map_err(|error| failed(&error))?;
    Ok(Told(Log { entries }))
}

/// Refuses who is held to tenants or features, and everybody where nobody signs in: whoever reaches loopback then could let
/// themselves in for later.
fn lets_in(person: &Person) -> Result<(), Away> {
    whole_view(person)?;
    let remedy =
        "nobody signs in here, so nobody is let in this way: `aftercheck people` and `aftercheck keys` do it";
    match *person == Person::local() {
        true => Err(plain(StatusCode::FORBIDDEN, remedy).into()),
        false => Ok(()),
    }
}

/// Tenants under the names that redaction leaves them, under which calls are kept.
fn kept(house: &House, tenants: Option<Vec<Text>>) -> Option<Vec<String>> {
    let redactor = &house.shelf.redactor;
    tenants.map(|tenants| tenants.iter().map(|Text(name)| redactor.identity(name).into_owned()).collect())
}

/// Texts as they are kept.
fn texts(texts: Vec<Text>) -> Vec<String> {
    texts.into_iter().map(|Text(text)| text).collect()
}

/// What somebody is to see: what is not given stays.
fn granted(names: Option<Option<Vec<String>>>) -> Granted {
    match names {
        None => Granted::Same,
        Some(None) => Granted::All,
        Some(Some(names)) => Granted::Only(names),
    }
}

/// Why somebody cannot be let in.
fn refused(error: AccessError) -> Away {
    match error {
        AccessError::Store(error) => failed(&error),
        AccessError::Name | AccessError::Password(PasswordError::Unfit) => {
            plain(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()).into()
        }
        AccessError::Password(PasswordError::Busy(_)) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()).into()
        }
        error => {
            tracing::error!(%error, "nobody could be let in");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "it could not be done; the log says why").into()
        }
    }
}
