//! The newest evaluations of a scope, by what they say: what counts at a glance leads to its calls.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{StoreError, rows};

/// Which evaluations are looked for. A field that is none lets all through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sought<'a> {
    /// Made at this Unix time in milliseconds, or later.
    pub since_ms: i64,
    /// With this verdict, as JSON writes it.
    pub verdict: Option<&'a str>,
    /// Of this feature.
    pub feature: Option<&'a str>,
    /// Of which this rule failed, could not tell or could not run.
    pub rule: Option<&'a str>,
    /// Older than what is at this place.
    pub before: Option<Place>,
    /// At most so many.
    pub limit: u32,
}

/// Where an evaluation is among others, by time and id. As a text: `1764288000000_0195f0a1-…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// When it was made, in Unix milliseconds.
    pub evaluated_ms: i64,
    /// The evaluation.
    pub evaluation_id: Uuid,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.evaluated_ms, self.evaluation_id)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = |text: &str| {
            let (evaluated_ms, evaluation_id) = text.split_once('_')?;
            Some(Self {
                evaluated_ms: evaluated_ms.parse().ok()?,
                evaluation_id: evaluation_id.parse().ok()?,
            })
        };
        read(text).ok_or("need the place that a page before has told")
    }
}

/// What a list shows of an evaluation. Its words are read by nobody but people: one of another version hides no list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Checked {
    /// The evaluation.
    pub evaluation_id: Uuid,
    /// Tenant of its call.
    pub tenant_id: String,
    /// The producer's id of the call.
    pub request_id: String,
    /// Feature of the call.
    pub feature: String,
    /// What is concluded.
    pub verdict: String,
    /// Who decided.
    pub decided_by: String,
    /// Why.
    pub reasons: Vec<String>,
    /// How well the contexts support the answer, 0 to 1.
    pub faithfulness: Option<f64>,
    /// When it was made, in Unix milliseconds.
    pub evaluated_ms: i64,
}

impl Checked {
    /// Its place among others, for [`Sought::before`]: its time and its id.
    pub fn place(&self) -> Place {
        Place { evaluated_ms: self.evaluated_ms, evaluation_id: self.evaluation_id }
    }

    /// Reads a row.
    pub(super) fn of<R: rows::Columns>(row: &R) -> Result<Self, StoreError> {
        Ok(Self {
            evaluation_id: rows::uuid("evaluation id", &rows::text(row, "evaluation_id")?)?,
            tenant_id: rows::text(row, "tenant_id")?,
            request_id: rows::text(row, "request_id")?,
            feature: rows::text(row, "feature")?,
            verdict: rows::text(row, "verdict")?,
            decided_by: rows::text(row, "decided_by")?,
            reasons: rows::json(row, "reasons")?,
            faithfulness: row.real("faithfulness")?,
            evaluated_ms: row.number("evaluated_ms")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back() {
        let place = Place { evaluated_ms: 1_764_288_000_000, evaluation_id: Uuid::from_u128(7) };
        assert_eq!(place.to_string().parse(), Ok(place));
        for wrong in ["", "_", "1_x", "x_00000000-0000-0000-0000-000000000007"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
