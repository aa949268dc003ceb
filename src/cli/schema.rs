//! `aftercheck schema call|evaluation|config|openapi`

use clap::{Args, ValueEnum};
use schemars::{Schema, schema_for};

use crate::{
    config::Config,
    domain::{Call, Evaluation},
    http,
};

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Which schema.
    #[arg(value_enum)]
    which: Which,
}

/// Schemas that can be printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// What comes in.
    Call,
    /// What comes out.
    Evaluation,
    /// The configuration file.
    Config,
    /// Everything under /v1/, as an OpenAPI document.
    Openapi,
}

/// Prints a schema, generated from the Rust types.
pub fn run(args: SchemaArgs) -> anyhow::Result<bool> {
    let schema: Schema = match args.which {
        Which::Call => schema_for!(Call),
        Which::Evaluation => schema_for!(Evaluation),
        Which::Config => schema_for!(Config),
        Which::Openapi => {
            say!("{}", serde_json::to_string_pretty(http::openapi())?);
            return Ok(true);
        }
    };
    say!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(true)
}
