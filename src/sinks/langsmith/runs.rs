//! Which run a call is. LangSmith knows runs and no traces: a trace is its root run.

use uuid::Uuid;

/// Hex digits of a span's id in OpenTelemetry.
const SPAN_DIGITS: usize = 16;
/// Characters of a UUID with its hyphens. OpenTelemetry's trace ids are UUIDs without them, and no run has that id.
const UUID_CHARS: usize = 36;

/// The run that scores of a call belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Its id.
    pub id: Uuid,
    /// The root run of its trace, where the call says it.
    pub root: Option<Uuid>,
}

/// The run of a call. A span that came over OTLP has its id, with zeros before it; a producer may also give a run's own UUID, as
/// span or, for the whole trace, as trace.
///
/// # Errors
/// Why no run can be named, and what the producer can do.
pub(super) fn run(trace_id: &str, span_id: Option<&str>) -> Result<Run, &'static str> {
    let root = (trace_id.len() == UUID_CHARS).then(|| Uuid::try_parse(trace_id).ok()).flatten();
    let id = match span_id {
        Some(span) => of_span(span).ok_or("span_id is no span of OpenTelemetry (16 hex digits) and no run (UUID)")?,
        None => root.ok_or(
            "a trace is found by its root run: send that span's span_id, or as trace_id the UUID of the run, hyphens included",
        )?,
    };
    Ok(Run { id, root })
}

/// The run of a span.
fn of_span(span: &str) -> Option<Uuid> {
    let is_hex = span.bytes().all(|byte| byte.is_ascii_hexdigit());
    match span.len() {
        SPAN_DIGITS if is_hex => u64::from_str_radix(span, 16).ok().map(|low| Uuid::from_u64_pair(0, low)),
        _ => Uuid::try_parse(span).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const UUID: &str = "4bf92f35-77b3-4da6-a3ce-929d0e0e4736";

    #[test]
    fn a_run_is_found_by_its_span() {
        let id = |trace, span| run(trace, span).map(|run| run.id.to_string());
        assert_eq!(id(TRACE, Some("00f067aa0ba902b7")).unwrap(), "00000000-0000-0000-00f0-67aa0ba902b7");
        assert_eq!(id(TRACE, Some("FFF067AA0BA902B7")).unwrap(), "00000000-0000-0000-fff0-67aa0ba902b7");
        assert_eq!(id(TRACE, Some(UUID)).unwrap(), UUID);
        for wrong in ["", "00f067aa0ba902b", "+0f067aa0ba902b7", "00f067aa0ba902bg", "../../feedback"] {
            assert!(id(TRACE, Some(wrong)).unwrap_err().contains("span_id"), "{wrong}");
        }
    }

    #[test]
    fn a_trace_is_its_root_run() {
        let uuid: Uuid = UUID.parse().unwrap();
        assert_eq!(run(UUID, None), Ok(Run { id: uuid, root: Some(uuid) }));
        assert_eq!(run(UUID, Some("00f067aa0ba902b7")).unwrap().root, Some(uuid));
        // The same digits as OpenTelemetry writes them are no run.
        assert!(run(TRACE, None).unwrap_err().contains("root run"));
        assert_eq!(run(TRACE, Some("00f067aa0ba902b7")).unwrap().root, None);
    }
}
