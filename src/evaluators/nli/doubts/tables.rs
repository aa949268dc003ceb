//! Whether a window cuts a table off from its header, so that nothing says what the cells are.

use std::ops::Range;

use crate::evaluators::nli::lines::{LineKind, blocks};

/// A row of a table.
#[derive(Debug)]
struct Row {
    /// Its bytes.
    bytes: Range<usize>,
    /// The bytes of its table's header, or of the first row of a table without one.
    header: Range<usize>,
}

/// The rows of the tables of a text, in order.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    rows: Vec<Row>,
}

impl Tables {
    /// Finds the tables of a text.
    pub(crate) fn of(text: &str) -> Self {
        let mut rows = Vec::new();
        let mut header: Option<Range<usize>> = None;
        for block in blocks(text) {
            match block.kind {
                LineKind::TableHeader => header = Some(block.bytes),
                LineKind::TableRow => {
                    let header = match &header {
                        Some(header) if !block.opens => header.clone(),
                        _ => header.insert(block.bytes.clone()).clone(),
                    };
                    rows.push(Row { bytes: block.bytes, header });
                }
                LineKind::Rule if !block.opens => {}
                _ => header = None,
            }
        }
        Self { rows }
    }

    /// Tells whether a window of the text holds a row and not its header.
    pub(crate) fn are_cut_by(&self, window: &Range<usize>) -> bool {
        let first = self.rows.partition_point(|row| row.bytes.end <= window.start);
        let held = self.rows[first..].iter().take_while(|row| row.bytes.start < window.end);
        held.into_iter().any(|row| row.header.start < window.start || row.header.end > window.end)
    }
}
