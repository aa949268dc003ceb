//! Rules: cheap deterministic checks, written as TOML packs under `rules/`.
