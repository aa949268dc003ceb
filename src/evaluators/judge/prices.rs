//! What an answer costs, by the price table: `prices.toml`, or a file of the user's own. A price that nobody knows is unknown.

use std::{fs, path::Path};

use jiff::civil::Date;
use serde::Deserialize;

use super::model::Spent;

/// The table that comes with aftercheck.
const SHIPPED: &str = include_str!("prices.toml");
/// Tokens that prices are for.
const MILLION: f64 = 1_000_000.0;

/// Prices by model and day.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// The day up to which they were looked up.
    pub as_of: Date,
    /// Each price.
    #[serde(rename = "price", default)]
    prices: Vec<Price>,
}

/// US dollars a million tokens, from a day on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    model: String,
    from: Date,
    input: f64,
    cached: f64,
    output: f64,
    batch: f64,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPrices {
    /// It cannot be read.
    #[error("[judge] prices {0}: {1}")]
    Unread(String, #[source] std::io::Error),
    /// It is not such a table.
    #[error("[judge] prices {0}: {1}")]
    Invalid(String, #[source] Box<toml::de::Error>),
    /// A number is no price.
    #[error("[judge] prices {0}: {1}: need input, cached, output from 0 on and batch from 0 to 1")]
    Range(String, String),
}

impl Prices {
    /// The shipped table, or that of a file.
    ///
    /// # Errors
    /// [`BadPrices`].
    pub fn read(file: Option<&Path>) -> Result<Self, BadPrices> {
        let name = file.map_or_else(|| "of aftercheck".to_owned(), |file| file.display().to_string());
        let text = match file {
            Some(file) => fs::read_to_string(file).map_err(|error| BadPrices::Unread(name.clone(), error))?,
            None => SHIPPED.to_owned(),
        };
        let table: Self =
            toml::from_str(&text).map_err(|error| BadPrices::Invalid(name.clone(), Box::new(error)))?;
        let is_price = |n: f64| n.is_finite() && n >= 0.0;
        let wrong = table.prices.iter().find(|one| {
            ![one.input, one.cached, one.output].into_iter().all(is_price)
                || !(0.0..=1.0).contains(&one.batch)
        });
        match wrong {
            Some(wrong) => Err(BadPrices::Range(name, wrong.model.clone())),
            None => Ok(table),
        }
    }

    /// The price of a model on a day; none where the table does not know it.
    pub fn of(&self, model: &str, day: Date) -> Option<&Price> {
        let known = self.prices.iter().filter(|price| is_model(model, &price.model) && price.from <= day);
        // A dated version that is listed by itself is that.
        known.max_by_key(|price| (model == price.model, price.from))
    }
}

impl Price {
    /// What an answer costs, in US dollars.
    pub fn cost(&self, spent: Spent) -> f64 {
        let cached = spent.tokens_cached.min(spent.tokens_in);
        let fresh = spent.tokens_in - cached;
        (fresh as f64 * self.input + cached as f64 * self.cached + spent.tokens_out as f64 * self.output)
            / MILLION
    }

    /// What it would cost by the provider's batch API, in US dollars.
    pub fn batch_cost(&self, spent: Spent) -> f64 {
        self.cost(spent) * self.batch
    }
}

/// Whether a name is that of a listed model, or of one of its dated versions. What a gateway puts in front does not count.
fn is_model(name: &str, listed: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    let Some(rest) = name.strip_prefix(listed) else { return false };
    let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
    rest.is_empty()
        || rest == "-latest"
        || (rest.starts_with('-')
            && digits.len() == 8
            && rest.chars().all(|c| c.is_ascii_digit() || c == '-'))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_price_is_that_of_the_model_and_the_day() {
        let table = "as_of = '2026-01-01'\n\
            [[price]]\nmodel = 'm'\nfrom = '2025-01-01'\ninput = 2.0\ncached = 0.5\noutput = 8.0\nbatch = 0.5\n\
            [[price]]\nmodel = 'm'\nfrom = '2025-07-01'\ninput = 1.0\ncached = 0.1\noutput = 4.0\nbatch = 0.5\n";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prices.toml");
        fs::write(&file, table).unwrap();
        let prices = Prices::read(Some(&file)).unwrap();
        let spent = Spent { tokens_in: 1_000_000, tokens_cached: 400_000, tokens_out: 500_000 };
        // In whole cents: sums of such numbers differ in their last digit.
        let cost = |model, day| prices.of(model, day).map(|price| (100.0 * price.cost(spent)).round());
        assert_eq!(cost("m", date(2025, 3, 1)), Some(540.0));
        assert_eq!(cost("m-2025-02-03", date(2025, 7, 1)), Some(264.0));
        assert_eq!(cost("gateway/m-20250203", date(2025, 7, 1)), Some(264.0));
        assert_eq!(cost("m", date(2024, 12, 31)), None, "before it had a price");
        for unknown in ["m-mini", "mm", "m2", "", "m-2025"] {
            assert_eq!(cost(unknown, date(2026, 1, 1)), None, "{unknown}");
        }
        let price = prices.of("m", date(2026, 1, 1)).unwrap();
        assert_eq!(price.batch_cost(spent), price.cost(spent) / 2.0);
        fs::write(&file, table.replace("2.0", "-2.0")).unwrap();
        assert!(matches!(Prices::read(Some(&file)), Err(BadPrices::Range(..))));
        fs::write(&file, table.replace("cached", "cashed")).unwrap();
        assert!(Prices::read(Some(&file)).unwrap_err().to_string().contains("cashed"));
    }

    #[test]
    fn the_shipped_table_can_be_read() {
        let prices = Prices::read(None).unwrap();
        assert!(prices.of("gpt-4.1-mini-2025-04-14", prices.as_of).is_some());
        assert!(prices.of("claude-sonnet-4-5-20250929", prices.as_of).is_some());
    }
}
