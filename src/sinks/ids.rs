//! Ids of traces and spans as OpenTelemetry has them. What is no such id cannot be linked to a trace, now or later.

use crate::domain::{Evaluation, Label};

use super::Content;

/// The trace that scores belong to, and the span within it where the call has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Id of the trace.
    pub trace: u128,
    /// Id of the span.
    pub span: Option<u64>,
}

impl Place {
    /// Reads 32 hexadecimal digits of a trace and 16 of a span, not all of them 0.
    ///
    /// # Errors
    /// Which id is wrong, and what it should be. It is not repeated.
    pub fn read(trace: &str, span: Option<&str>) -> Result<Self, String> {
        let id = digits(trace, 32).ok_or("trace_id: not 32 hexadecimal digits (without 0x, not all 0)")?;
        let span = match span {
            Some(span) => {
                let id = digits(span, 16).and_then(|id| u64::try_from(id).ok());
                Some(id.ok_or("span_id: not 16 hexadecimal digits (without 0x, not all 0)")?)
            }
            None => None,
        };
        Ok(Self { trace: id, span })
    }

    /// Where scores of this content belong; none where it has no scores.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(content: &Content) -> Result<Option<Self>, String> {
        let (trace, span) = match content {
            Content::Evaluation(scored) => {
                let Evaluation { trace_id, span_id, .. } = &scored.evaluation;
                (trace_id, span_id)
            }
            Content::Label(said) => {
                let Label { trace_id, span_id, .. } = &said.label;
                (trace_id, span_id)
            }
            Content::Golden(_) => return Ok(None),
        };
        Self::read(trace, span.as_deref()).map(Some)
    }

    /// The trace's id in lower-case hexadecimal.
    pub fn trace_hex(self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The span's id in lower-case hexadecimal.
    pub fn span_hex(self) -> Option<String> {
        self.span.map(|span| format!("{span:016x}"))
    }
}

/// So many hexadecimal digits that are not all 0.
fn digits(text: &str, count: usize) -> Option<u128> {
    let is_id = text.len() == count && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| u128::from_str_radix(text, 16).ok())?.filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written_in_lower_case() {
        let place = Place::read("4BF92F3577B34DA6A3CE929D0E0E4736", Some("00f067aa0ba902b7")).unwrap();
        assert_eq!(place.trace_hex(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(place.span_hex().as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!(Place::read(&place.trace_hex(), None).unwrap().span, None);
    }

    #[test]
    fn other_ids_are_refused_and_not_repeated() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for wrong in [
            "",
            "t1",
            "0x4bf92f3577b34da6a3ce929d0e0e47",
            "+bf92f3577b34da6a3ce929d0e0e4736",
            &"0".repeat(32),
        ] {
            let said = Place::read(wrong, None).unwrap_err();
            assert!(said.starts_with("trace_id") && (wrong.is_empty() || !said.contains(wrong)), "{said}");
        }
        for wrong in ["", "00f067aa0ba902b", "ä0f067aa0ba902b", "0000000000000000", trace] {
            assert!(Place::read(trace, Some(wrong)).unwrap_err().starts_with("span_id"), "{wrong}");
        }
    }
}
