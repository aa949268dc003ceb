//! Migrations as the driver wants them, from files that are compiled in; forward only, checked by checksum. Not by the
//! driver's macro, for which both drivers and SQLite itself are compiled a second time.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// The migrations of one database: what each is about, and its statements. They are numbered from 1 in this order.
pub(super) fn migrator(files: &[(&'static str, &'static str)]) -> Migrator {
    let numbered = (1..).zip(files).map(|(version, &(about, statements))| {
        Migration::new(version, about.into(), MigrationType::Simple, statements.into_sql_str(), false)
    });
    Migrator::with_migrations(numbered.collect())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use crate::database::{postgres, sqlite};

    /// The files of a folder in the order of their names, as [`super::migrator`] is given them.
    fn files(folder: &str) -> Vec<(String, String)> {
        let mut paths: Vec<_> =
            fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
        paths.sort();
        let about = |path: &Path| path.file_stem().unwrap().to_str().unwrap()[5..].replace('_', " ");
        paths.iter().map(|path| (about(path), fs::read_to_string(path).unwrap())).collect()
    }

    #[test]
    fn every_file_is_a_migration() {
        for (folder, listed) in [("sqlite", sqlite::MIGRATION_FILES), ("postgres", postgres::MIGRATION_FILES)]
        {
            let listed: Vec<_> =
                listed.iter().map(|&(about, text)| (about.to_owned(), text.to_owned())).collect();
            assert_eq!(listed, files(folder), "{folder}");
        }
    }
}
