//! What stands on every page: who looks, and where.

use std::sync::LazyLock;

use jiff::Timestamp;

use crate::domain::{Person, Role, id};

/// The files that pages load.
pub(in crate::http) const FILES: [(&str, &str, &str); 3] = [
    ("pages.css", "text/css; charset=utf-8", include_str!("../static/pages.css")),
    ("pages.js", "text/javascript; charset=utf-8", include_str!("../static/pages.js")),
    ("htmx.js", "text/javascript; charset=utf-8", include_str!("../static/htmx.js")),
];

/// Digest over the files: it stands in their addresses, so that a browser keeps them for a year and never an old one.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let files: Vec<u8> = FILES.iter().flat_map(|(_, _, text)| text.bytes()).collect();
    id::sha256_hex(&files).chars().take(12).collect()
});

/// The digest over the files that pages load.
pub(in crate::http) fn version() -> &'static str {
    VERSION.as_str()
}

/// Who looks at a page, and which it is.
#[derive(Debug, Default)]
pub(in crate::http) struct Top {
    /// Their name; empty where nobody is known, as on the page for signing in.
    pub person: String,
    /// The page, as its link in the navigation leads to it.
    pub here: &'static str,
    /// Whether they can sign out.
    pub leaves: bool,
    /// Whether they may label.
    pub reviews: bool,
    /// Whether they may do everything.
    pub is_admin: bool,
}

impl Top {
    /// The top of a page for somebody.
    pub(in crate::http) fn of(person: &Person, here: &'static str) -> Self {
        let (reviews, is_admin) = (person.may(Role::Review), person.may(Role::Admin));
        Self { person: person.name.clone(), here, leaves: *person != Person::local(), reviews, is_admin }
    }

    /// Whether this is the page with this address.
    pub(in crate::http) fn is_at(&self, path: &str) -> bool {
        self.here == path
    }
}

/// A Unix time in milliseconds, to the second.
pub(in crate::http) fn moment(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms)
        .map_or_else(|_| at_ms.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// How long something has been so, in the unit that says it shortest.
pub(in crate::http) fn lasting(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A word of ours as people read it: `judge_unsure` is `judge unsure`.
pub(in crate::http) fn plain(word: &str) -> String {
    word.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_shortly() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(i64::MAX), i64::MAX.to_string());
        let told = [0, 119_999, 120_000, 7_200_000, 172_800_000, -5].map(lasting);
        assert_eq!(told, ["0 s", "119 s", "2 min", "2 h", "2 days", "0 s"]);
    }

    #[test]
    fn files_are_known_by_what_they_hold() {
        assert_eq!(version().len(), 12);
        assert!(FILES.iter().all(|(_, _, text)| !text.is_empty()));
    }
}
