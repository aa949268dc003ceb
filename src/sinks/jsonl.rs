//! One JSON line per evaluation in a file. Repeats are possible after a crash: `delivery_id` tells them.

use std::path::PathBuf;

use async_trait::async_trait;
use tokio::{fs::OpenOptions, io::AsyncWriteExt};

use super::{Item, Sink, SinkError};

/// Rows written with one flush to disk.
const BATCH: u32 = 100;

/// Appends to a file.
pub struct JsonlSink {
    path: PathBuf,
}

impl JsonlSink {
    /// A sink that appends to `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

#[async_trait]
impl Sink for JsonlSink {
    fn batch(&self) -> u32 {
        BATCH
    }

    async fn deliver(&mut self, items: &[Item]) -> Result<(), SinkError> {
        let mut lines = Vec::new();
        for item in items {
            serde_json::to_writer(&mut lines, item).map_err(std::io::Error::from)?;
            lines.push(b'\n');
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).await?;
        file.write_all(&lines).await?;
        file.sync_data().await?;
        Ok(())
    }
}
