//! What a store promises of accounts, sessions, keys and tries to sign in.

use aftercheck::{
    access::{AccessError, Gate},
    domain::{Person, Role},
    store::accounts::{ApiKey, Change, Entry, Granted, Lasting, MAX_SESSIONS, SEEN_MS},
};

use super::{on_both, place::Place};

on_both! {
    an_account_is_added_once_and_changed
    a_session_ends_by_age_by_silence_and_with_its_account
    what_somebody_may_see_is_changed_and_ends_their_sessions
    what_cannot_be_a_name_is_a_wrong_one
    a_person_has_so_many_sessions
    a_key_is_used_until_it_is_revoked
    tries_are_counted_within_a_window
}

const HOUR_MS: i64 = 3_600_000;
const LASTING: Lasting = Lasting { whole_ms: 12 * HOUR_MS, idle_ms: HOUR_MS };

/// Somebody who reviews one tenant.
fn ana() -> Person {
    let tenants = Some(vec!["acme".to_owned()]);
    Person { name: "ana".into(), role: Role::Review, tenants, features: Some(vec!["f".into()]) }
}

/// An entry of this moment.
fn entry(what: &'static str, at_ms: i64) -> Entry<'static> {
    Entry { who: "test", what, about: "ana", at_ms }
}

async fn an_account_is_added_once_and_changed(Place { store, .. }: Place) {
    assert!(store.add_account(&ana(), "hash", &entry("person_added", 1)).await.unwrap());
    let other = Person { role: Role::Admin, ..ana() };
    assert!(!store.add_account(&other, "other", &entry("person_added", 2)).await.unwrap());
    let (account, hash) = store.account("ana").await.unwrap().unwrap();
    assert_eq!((account.person, account.created_ms, hash.as_str()), (ana(), 1, "hash"));
    assert!(store.change_account("ana", &[Change::Role(Role::Read)], "eve", 3).await.unwrap());
    assert!(!store.change_account("eve", &[Change::Role(Role::Read)], "eve", 4).await.unwrap());
    assert!(store.change_account("ana", &[Change::Password("new".into())], "eve", 5).await.unwrap());
    assert!(store.change_account("ana", &[Change::Disable], "eve", 6).await.unwrap());
    let (account, hash) = store.account("ana").await.unwrap().unwrap();
    assert_eq!((account.person.role, account.disabled_ms, hash.as_str()), (Role::Read, Some(6), "new"));
    assert!(store.change_account("ana", &[Change::Enable], "eve", 7).await.unwrap());
    assert_eq!(store.accounts().await.unwrap()[0].disabled_ms, None);
    // What was refused left no entry.
    let log = store.audit_log(None, 10).await.unwrap();
    let words: Vec<&str> = log.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(words, ["enabled", "disabled", "password_set", "role_set", "person_added"]);
    assert_eq!(store.audit_log(None, 1).await.unwrap(), log[..1]);
    assert_eq!(store.audit_log(Some(log[0].entry_id), 10).await.unwrap(), log[1..]);
}

async fn a_session_ends_by_age_by_silence_and_with_its_account(Place { store, .. }: Place) {
    assert!(store.add_account(&ana(), "hash", &entry("person_added", 0)).await.unwrap());
    store.begin_session("one", ("ana", "hash"), &entry("signed_in", 0)).await.unwrap();
    let whose = async |token, now_ms| store.session(token, LASTING, now_ms).await.unwrap();
    assert_eq!(whose("other", 1).await, None);
    assert_eq!(whose("one", HOUR_MS - 1).await, Some(ana()));
    // It was seen since, so that its silence began later; its age did not.
    assert_eq!(whose("one", 2 * HOUR_MS - 2).await, Some(ana()));
    assert_eq!(whose("one", 3 * HOUR_MS - 2).await, None, "an hour of silence");
    store.begin_session("two", ("ana", "hash"), &entry("signed_in", 0)).await.unwrap();
    for half in 1..24 {
        assert_eq!(whose("two", half * HOUR_MS / 2).await, Some(ana()), "half hour {half}");
    }
    assert_eq!(whose("two", 12 * HOUR_MS - 1 - SEEN_MS).await, Some(ana()));
    assert_eq!(whose("two", 12 * HOUR_MS).await, None, "its age");
    store.begin_session("three", ("ana", "hash"), &entry("signed_in", 0)).await.unwrap();
    store.end_session("three").await.unwrap();
    store.end_session("three").await.unwrap();
    assert_eq!(whose("three", 1).await, None);
    store.begin_session("four", ("ana", "hash"), &entry("signed_in", 0)).await.unwrap();
    assert!(store.change_account("ana", &[Change::Password("new".into())], "eve", 1).await.unwrap());
    assert_eq!(whose("four", 1).await, None, "another password");
    // Their old password was found to be right before they had the new one.
    assert!(!store.begin_session("late", ("ana", "hash"), &entry("signed_in", 2)).await.unwrap());
    assert_eq!(whose("late", 2).await, None);
    store.begin_session("five", ("ana", "new"), &entry("signed_in", 2)).await.unwrap();
    assert!(store.change_account("ana", &[Change::Disable], "eve", 3).await.unwrap());
    assert_eq!(whose("five", 3).await, None, "disabled");
    assert!(!store.begin_session("six", ("ana", "new"), &entry("signed_in", 4)).await.unwrap(), "disabled");
}

async fn what_somebody_may_see_is_changed_and_ends_their_sessions(Place { store, .. }: Place) {
    assert!(store.add_account(&ana(), "hash", &entry("person_added", 0)).await.unwrap());
    assert!(store.begin_session("one", ("ana", "hash"), &entry("signed_in", 0)).await.unwrap());
    let gate = Gate::new(store.clone());
    let two = || vec!["acme".to_owned(), "globex".to_owned()];
    let seen = async || {
        let (account, _) = store.account("ana").await.unwrap().unwrap();
        (account.person.tenants, account.person.features)
    };
    let features = Some(vec!["f".to_owned()]);
    assert!(gate.grant("ana", Granted::Only(two()), Granted::Same, "test").await.unwrap());
    assert_eq!(seen().await, (Some(two()), features.clone()));
    assert_eq!(store.session("one", LASTING, 1).await.unwrap(), None);
    assert!(gate.grant("ana", Granted::All, Granted::Same, "test").await.unwrap());
    assert_eq!(seen().await, (None, features));
    assert!(gate.grant("ana", Granted::Same, Granted::All, "test").await.unwrap());
    assert_eq!(seen().await, (None, None));
    assert!(!gate.grant("eve", Granted::All, Granted::All, "test").await.unwrap());
    assert_eq!(
        store.audit_log(None, 10).await.unwrap().iter().filter(|entry| entry.what == "granted").count(),
        3
    );
}

async fn what_cannot_be_a_name_is_a_wrong_one(Place { store, .. }: Place) {
    let gate = Gate::new(store.clone());
    for name in ["a\0b", " ana", ""] {
        let refused = gate.sign_in(name, "a password of somebody".into(), [127, 0, 0, 1].into()).await;
        assert!(matches!(refused, Err(AccessError::Wrong)), "{name:?}: {refused:?}");
    }
    assert!(gate.named("a\0b").await.unwrap().is_none());
}

async fn a_person_has_so_many_sessions(Place { store, .. }: Place) {
    assert!(store.add_account(&ana(), "hash", &entry("person_added", 0)).await.unwrap());
    for number in 0..=MAX_SESSIONS {
        store
            .begin_session(&format!("{number}"), ("ana", "hash"), &entry("signed_in", number))
            .await
            .unwrap();
    }
    assert_eq!(store.session("0", LASTING, MAX_SESSIONS).await.unwrap(), None, "the oldest is over");
    assert!(store.session("1", LASTING, MAX_SESSIONS).await.unwrap().is_some());
}

async fn a_key_is_used_until_it_is_revoked(Place { store, .. }: Place) {
    let person = Person { role: Role::Ingest, features: None, ..ana() };
    let key = ApiKey {
        prefix: "ack_1".into(),
        person: person.clone(),
        made_ms: 1,
        used_day: None,
        revoked_ms: None,
    };
    assert!(store.add_key(&key, "digest", &entry("key_added", 1)).await.unwrap());
    assert!(!store.add_key(&key, "another", &entry("key_added", 1)).await.unwrap(), "its prefix is taken");
    assert_eq!(store.keys().await.unwrap(), std::slice::from_ref(&key));
    assert_eq!(store.use_key("another", 2).await.unwrap(), None);
    assert_eq!(store.use_key("digest", 2 * 24 * HOUR_MS + 1).await.unwrap(), Some(person));
    assert_eq!(store.keys().await.unwrap()[0].used_day, Some(2));
    assert!(store.revoke_key("ack_1", &entry("key_revoked", 9)).await.unwrap());
    assert!(!store.revoke_key("ack_1", &entry("key_revoked", 10)).await.unwrap());
    assert_eq!(store.use_key("digest", 11).await.unwrap(), None);
    assert_eq!(store.keys().await.unwrap()[0].revoked_ms, Some(9));
}

async fn tries_are_counted_within_a_window(Place { store, .. }: Place) {
    assert_eq!(store.count_try("a", 100, 50).await.unwrap(), (1, 100));
    assert_eq!(store.count_try("a", 149, 50).await.unwrap(), (2, 100));
    assert_eq!(store.count_try("b", 149, 50).await.unwrap(), (1, 149));
    assert_eq!(store.count_try("a", 150, 50).await.unwrap(), (1, 150), "the window is over");
    store.forgive("a").await.unwrap();
    assert_eq!(store.count_try("a", 151, 50).await.unwrap(), (1, 151));
}
