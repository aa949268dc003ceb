//! Accounts in either database: the statements are the same in both, only how a transaction is made differs.

/// Implements [`super::Accounts`] for a store. `$transact!(store, tx => work)` runs the work in one transaction and commits it,
/// `$look!(store, lent => work)` reads, in no transaction; where the database may lose an answer they run the work again, so each
/// work may be repeated.
macro_rules! keep_accounts {
    ($Store:ty, $Connection:ty, $transact:ident, $look:ident) => {
        /// Enters something in the audit log.
        async fn enter(tx: &mut $Connection, entry: &Entry<'_>) -> Result<(), sqlx::Error> {
            sqlx::query("INSERT INTO audit_log (who, what, about, at_ms) VALUES ($1, $2, $3, $4)")
                .bind(entry.who).bind(entry.what).bind(entry.about).bind(entry.at_ms)
                .execute(&mut *tx).await?;
            Ok(())
        }

        #[async_trait::async_trait]
        impl $crate::store::accounts::Accounts for $Store {
            async fn add_account(
                &self,
                person: &Person,
                password_hash: &str,
                entry: &Entry<'_>,
            ) -> Result<bool, StoreError> {
                let (tenants, features) = (listed(person.tenants.as_ref())?, listed(person.features.as_ref())?);
                $transact!(self, tx => {
                    let added = sqlx::query(
                        "INSERT INTO people (name, role, tenants, features, password_hash, created_ms)
                         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING",
                    )
                    .bind(&person.name).bind(person.role.as_str()).bind(&tenants).bind(&features)
                    .bind(password_hash).bind(entry.at_ms)
                    .execute(&mut *tx).await?.rows_affected() > 0;
                    if added {
                        enter(&mut tx, entry).await?;
                    }
                    added
                })
            }

            async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
                let rows: Result<Vec<AccountColumns>, StoreError> = $look!(self, lent => {
                    sqlx::query_as(
                        "SELECT name, role, tenants, features, disabled_ms, created_ms FROM people ORDER BY name",
                    )
                    .fetch_all(&mut *lent).await?
                });
                rows?.into_iter().map(account_of).collect()
            }

            async fn account(&self, name: &str) -> Result<Option<(Account, String)>, StoreError> {
                let row: Result<Option<(String, String, Option<String>, Option<String>, Option<i64>, i64, String)>, StoreError> =
                    $look!(self, lent => {
                        sqlx::query_as(
                            "SELECT name, role, tenants, features, disabled_ms, created_ms, password_hash
                             FROM people WHERE name = $1",
                        )
                        .bind(name).fetch_optional(&mut *lent).await?
                    });
                let read = row?.map(|(name, role, tenants, features, disabled_ms, created_ms, hash)| {
                    account_of((name, role, tenants, features, disabled_ms, created_ms)).map(|account| (account, hash))
                });
                read.transpose()
            }

            async fn change_account(
                &self,
                name: &str,
                changes: &[Change],
                who: &str,
                at_ms: i64,
            ) -> Result<bool, StoreError> {
                let mut updates = Vec::with_capacity(changes.len());
                for change in changes {
                    let lists = match change {
                        Change::Grant { tenants, features } => (tenants.kept()?, features.kept()?),
                        _ => Default::default(),
                    };
                    updates.push((change, lists));
                }
                $transact!(self, tx => {
                    let mut changed = false;
                    for (change, (tenants, features)) in &updates {
                        let update = match change {
                            Change::Grant { .. } => {
                                let update = sqlx::query(
                                    "UPDATE people SET tenants = CASE WHEN $2 THEN $3 ELSE tenants END,
                                         features = CASE WHEN $4 THEN $5 ELSE features END WHERE name = $1",
                                );
                                update.bind(name).bind(tenants.0).bind(&tenants.1).bind(features.0).bind(&features.1)
                            }
                            Change::Role(role) => {
                                sqlx::query("UPDATE people SET role = $2 WHERE name = $1").bind(name).bind(role.as_str())
                            }
                            Change::Password(hash) => {
                                sqlx::query("UPDATE people SET password_hash = $2 WHERE name = $1").bind(name).bind(hash)
                            }
                            Change::Disable => {
                                sqlx::query("UPDATE people SET disabled_ms = $2 WHERE name = $1").bind(name).bind(at_ms)
                            }
                            Change::Enable => {
                                sqlx::query("UPDATE people SET disabled_ms = NULL WHERE name = $1").bind(name)
                            }
                        };
                        changed = update.execute(&mut *tx).await?.rows_affected() > 0;
                        if !changed {
                            break;
                        }
                        enter(&mut tx, &Entry { who, what: change.what(), about: name, at_ms }).await?;
                    }
                    if changed {
                        sqlx::query("DELETE FROM sessions WHERE name = $1").bind(name).execute(&mut *tx).await?;
                    }
                    changed
                })
            }

            async fn begin_session(
                &self,
                token_digest: &str,
                (name, password_hash): (&str, &str),
                entry: &Entry<'_>,
            ) -> Result<bool, StoreError> {
                $transact!(self, tx => {
                    // It changes nothing but locks the row: whoever changes the account comes before, and is seen here, or comes
                    // after, and ends this session.
                    let still = sqlx::query(
                        "UPDATE people SET password_hash = password_hash
                         WHERE name = $1 AND password_hash = $2 AND disabled_ms IS NULL",
                    );
                    let still = still.bind(name).bind(password_hash).execute(&mut *tx).await?.rows_affected() > 0;
                    if still {
                        sqlx::query(
                            "INSERT INTO sessions (token_digest, name, begun_ms, seen_ms) VALUES ($1, $2, $3, $3)
                             ON CONFLICT (token_digest) DO NOTHING",
                        )
                        .bind(token_digest).bind(name).bind(entry.at_ms).execute(&mut *tx).await?;
                        sqlx::query(
                            "DELETE FROM sessions WHERE name = $1 AND token_digest NOT IN
                             (SELECT token_digest FROM sessions WHERE name = $1
                              ORDER BY seen_ms DESC, begun_ms DESC LIMIT $2)",
                        )
                        .bind(name).bind(MAX_SESSIONS).execute(&mut *tx).await?;
                        enter(&mut tx, entry).await?;
                    }
                    still
                })
            }

            async fn session(
                &self,
                token_digest: &str,
                lasting: Lasting,
                now_ms: i64,
            ) -> Result<Option<Person>, StoreError> {
                let row: Result<Option<(AccountColumns, i64)>, StoreError> = $look!(self, lent => {
                    let found: Option<(String, String, Option<String>, Option<String>, i64, i64)> = sqlx::query_as(
                        "SELECT p.name, role, tenants, features, created_ms, seen_ms FROM sessions s JOIN people p ON p.name = s.name
                         WHERE token_digest = $1 AND disabled_ms IS NULL AND begun_ms > $2 AND seen_ms > $3",
                    )
                    .bind(token_digest).bind(now_ms - lasting.whole_ms).bind(now_ms - lasting.idle_ms)
                    .fetch_optional(&mut *lent).await?;
                    found.map(|(name, role, tenants, features, created_ms, seen_ms)| {
                        ((name, role, tenants, features, None, created_ms), seen_ms)
                    })
                });
                let Some((columns, seen_ms)) = row? else { return Ok(None) };
                if now_ms - seen_ms >= SEEN_MS {
                    let seen: Result<(), StoreError> = $transact!(self, tx => {
                        sqlx::query("UPDATE sessions SET seen_ms = $2 WHERE token_digest = $1")
                            .bind(token_digest).bind(now_ms).execute(&mut *tx).await?;
                    });
                    seen?;
                }
                account_of(columns).map(|account| Some(account.person))
            }

            async fn end_session(&self, token_digest: &str) -> Result<(), StoreError> {
                $transact!(self, tx => {
                    sqlx::query("DELETE FROM sessions WHERE token_digest = $1")
                        .bind(token_digest).execute(&mut *tx).await?;
                })
            }

            async fn add_key(
                &self,
                key: &ApiKey,
                secret_digest: &str,
                entry: &Entry<'_>,
            ) -> Result<bool, StoreError> {
                let tenants = listed(key.person.tenants.as_ref())?;
                $transact!(self, tx => {
                    let added = sqlx::query(
                        "INSERT INTO api_keys (prefix, secret_digest, name, role, tenants, made_ms)
                         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (prefix) DO NOTHING",
                    )
                    .bind(&key.prefix).bind(secret_digest).bind(&key.person.name).bind(key.person.role.as_str())
                    .bind(&tenants).bind(key.made_ms)
                    .execute(&mut *tx).await?.rows_affected() > 0;
                    if added {
                        enter(&mut tx, entry).await?;
                    }
                    added
                })
            }

            async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
                let rows: Result<Vec<KeyColumns>, StoreError> = $look!(self, lent => {
                    sqlx::query_as(
                        "SELECT prefix, name, role, tenants, made_ms, used_day, revoked_ms FROM api_keys
                         ORDER BY made_ms, prefix",
                    )
                    .fetch_all(&mut *lent).await?
                });
                rows?.into_iter().map(key_of).collect()
            }

            async fn use_key(&self, secret_digest: &str, now_ms: i64) -> Result<Option<Person>, StoreError> {
                let row: Result<Option<KeyColumns>, StoreError> = $look!(self, lent => {
                    sqlx::query_as(
                        "SELECT prefix, name, role, tenants, made_ms, used_day, revoked_ms FROM api_keys
                         WHERE secret_digest = $1 AND revoked_ms IS NULL",
                    )
                    .bind(secret_digest).fetch_optional(&mut *lent).await?
                });
                let Some(key) = row?.map(key_of).transpose()? else { return Ok(None) };
                let day = now_ms.div_euclid(DAY_MS);
                if key.used_day != Some(day) {
                    let used: Result<(), StoreError> = $transact!(self, tx => {
                        sqlx::query("UPDATE api_keys SET used_day = $2 WHERE secret_digest = $1")
                            .bind(secret_digest).bind(day).execute(&mut *tx).await?;
                    });
                    used?;
                }
                Ok(Some(key.person))
            }

            async fn revoke_key(&self, prefix: &str, entry: &Entry<'_>) -> Result<bool, StoreError> {
                $transact!(self, tx => {
                    let revoked = sqlx::query(
                        "UPDATE api_keys SET revoked_ms = $2 WHERE prefix = $1 AND revoked_ms IS NULL",
                    )
                    .bind(prefix).bind(entry.at_ms).execute(&mut *tx).await?.rows_affected() > 0;
                    if revoked {
                        enter(&mut tx, entry).await?;
                    }
                    revoked
                })
            }

            async fn count_try(
                &self,
                subject: &str,
                now_ms: i64,
                window_ms: i64,
            ) -> Result<(i64, i64), StoreError> {
                $transact!(self, tx => {
                    sqlx::query("DELETE FROM sign_in_tries WHERE since_ms <= $1")
                        .bind(now_ms - window_ms).execute(&mut *tx).await?;
                    sqlx::query_as::<_, (i64, i64)>(
                        "INSERT INTO sign_in_tries (subject, tries, since_ms) VALUES ($1, 1, $2)
                         ON CONFLICT (subject) DO UPDATE SET tries = sign_in_tries.tries + 1
                         RETURNING tries, since_ms",
                    )
                    .bind(subject).bind(now_ms).fetch_one(&mut *tx).await?
                })
            }

            async fn forgive(&self, subject: &str) -> Result<(), StoreError> {
                $transact!(self, tx => {
                    sqlx::query("DELETE FROM sign_in_tries WHERE subject = $1")
                        .bind(subject).execute(&mut *tx).await?;
                })
            }

            async fn audit(&self, entry: &Entry<'_>) -> Result<(), StoreError> {
                $transact!(self, tx => { enter(&mut tx, entry).await? })
            }

            async fn audit_log(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
                let rows: Result<Vec<(i64, String, String, String, i64)>, StoreError> = $look!(self, lent => {
                    sqlx::query_as(
                        "SELECT entry_id, who, what, about, at_ms FROM audit_log WHERE entry_id < $1
                         ORDER BY entry_id DESC LIMIT $2",
                    )
                    .bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit)).fetch_all(&mut *lent).await?
                });
                let entry = |(entry_id, who, what, about, at_ms)| AuditEntry { entry_id, who, what, about, at_ms };
                Ok(rows?.into_iter().map(entry).collect())
            }
        }
    };
}
pub(in crate::store) use keep_accounts;
