//! Why there is no page: said on one, in words that tell what to do.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{page, top::Top};
use crate::{
    domain::{Person, Role},
    golden::GoldenError,
    pipeline::dead_letters::DeadError,
    review::DeskError,
    store::{StoreError, reviewing::Refusal},
};

/// Why there is no page.
#[derive(Debug, Clone)]
pub(super) struct Away {
    /// How it is told to programs.
    pub status: StatusCode,
    /// Why, and what to do.
    pub message: String,
}

/// The page that says it.
#[derive(Template)]
#[template(path = "away.html")]
struct AwayPage {
    top: Top,
    message: String,
}

impl Away {
    /// Why there is no page.
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The page that says it.
    pub(super) fn page(&self, top: Top) -> Response {
        page(self.status, &AwayPage { top, message: self.message.clone() })
    }

    /// What is not there, or not for who asks.
    pub(super) fn missing(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("There is no such {what} for you."))
    }
}

impl IntoResponse for Away {
    /// A page for nobody; who knows for whom it is makes it anew of what it carries.
    fn into_response(self) -> Response {
        let mut answer = self.page(Top::default());
        answer.extensions_mut().insert(self);
        answer
    }
}

impl From<StoreError> for Away {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a page could not be made");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "The store does not answer. Try again in a moment.")
    }
}

impl From<DeskError> for Away {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Store(error) => error.into(),
            DeskError::Refused(Refusal::Missing) => Self::missing("item"),
            refused => Self::new(StatusCode::CONFLICT, sentence(&refused.to_string())),
        }
    }
}

impl From<DeadError> for Away {
    fn from(error: DeadError) -> Self {
        match error {
            DeadError::Store(error) => error.into(),
            DeadError::Missing => Self::missing("dead letter"),
            DeadError::Anew => Self::new(StatusCode::CONFLICT, sentence(&error.to_string())),
            DeadError::Queue(_) | DeadError::Late | DeadError::NoQueue => {
                tracing::error!(%error, "a dead letter could not be queued");
                let told =
                    "The queue has not confirmed: the letter stays where it is. Try again in a moment.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, told)
            }
        }
    }
}

impl From<GoldenError> for Away {
    fn from(error: GoldenError) -> Self {
        let status = match error {
            GoldenError::Store(error) => return error.into(),
            GoldenError::Missing(what) => return Self::missing(what),
            GoldenError::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            GoldenError::Unfit { .. } | GoldenError::TooLarge { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            GoldenError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        };
        Self::new(status, sentence(&error.to_string()))
    }
}

/// A message as a sentence.
fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}

/// Lets on only who has a role.
pub(super) fn needs(person: &Person, role: Role) -> Result<(), Away> {
    match person.may(role) {
        true => Ok(()),
        false => {
            let (needed, theirs) = (role.as_str(), person.role.as_str());
            let told =
                format!("This page needs the role {needed}; yours is {theirs}. An admin can change it.");
            Err(Away::new(StatusCode::FORBIDDEN, told))
        }
    }
}
