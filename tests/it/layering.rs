//! Which module may import which: every arrow of the map, and no other.

use std::{collections::BTreeSet, fs, path::Path};

/// Modules that everything may import.
const LEAVES: [&str; 6] = ["domain", "metrics", "shutdown", "faults", "growth", "outbound"];

/// What each module may import beside the leaves and itself. Top-level files not listed may import everything.
const ALLOWED: [(&str, &[&str]); 19] = [
    ("domain", &[]),
    ("metrics", &[]),
    ("shutdown", &[]),
    ("faults", &[]),
    ("outbound", &[]),
    ("database", &[]),
    ("telemetry", &[]),
    ("inference", &[]),
    ("redaction", &[]),
    ("evaluators", &["inference"]),
    ("sources", &["database"]),
    ("store", &["database"]),
    ("sinks", &[]),
    ("review", &["store"]),
    ("monitor", &["store"]),
    ("golden", &["redaction", "store"]),
    ("pipeline", &["evaluators", "inference", "redaction", "sources", "store", "sinks"]),
    ("access", &["store"]),
    ("http", &["access", "golden", "monitor", "pipeline", "review", "store"]),
];

#[test]
fn no_arrow_points_the_wrong_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (module, allowed) in ALLOWED {
        let mut files = Vec::new();
        let file = source.join(format!("{module}.rs"));
        if file.exists() {
            files.push(file);
        }
        collect(&source.join(module), &mut files);
        assert!(!files.is_empty(), "module {module} is gone: remove it here");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for import in imports(&text) {
                let leaf = LEAVES.contains(&import.as_str()) && module != "domain";
                if import != module && !leaf && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{} imports {import}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_in_every_shape() {
    let text = "use crate::{\n    a::{b, c},\n    d,\n};\nuse crate::e::f;\nlet x = crate::g::h();";
    assert_eq!(imports(text).into_iter().collect::<Vec<_>>(), ["a", "d", "e", "g"]);
}

/// Top-level modules named after `crate::`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut name) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => drop(found.insert(first(&std::mem::take(&mut name)))),
                    c if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            found.insert(first(&name));
        } else {
            found.insert(first(rest));
        }
    }
    found.remove("");
    found
}

/// The first identifier of a path.
fn first(path: &str) -> String {
    path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// All Rust files of a folder.
fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
