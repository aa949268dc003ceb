//! A condition that lasts is told again before the notices that wait, or its destination forgets it meanwhile.

use std::sync::Arc;

use aftercheck::{
    domain::Addressed,
    pipeline::notify::{NotifyConfig, Routes, deliver},
    redaction::Redactor,
};
use tokio_util::sync::CancellationToken;

use super::{
    notice,
    receiver::{Receiver, Says},
};
use crate::{
    dispatch::until,
    store::place::{Place, on_sqlite},
};

/// Notices that wait.
const WAITING: u128 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn what_lasts_is_told_again_while_many_notices_wait() {
    on_sqlite(async |place: Place| {
        let receiver = Receiver::says(Says::status(200));
        let urls = receiver.url("");
        let config: NotifyConfig =
            toml::from_str(&format!("[routes.r]\nto = {{ kind = 'alertmanager', urls = ['{urls}'] }}\n"))
                .unwrap();
        let redactor = Redactor::new(&Default::default()).unwrap();
        let routes = Arc::new(Routes::new(&config, None, &redactor));
        let details = serde_json::Map::from_iter([("oldest_minutes".to_owned(), 45.into())]);
        place.store.begin_condition("sink.dead/a", &details).await.unwrap();
        for number in 1..=WAITING {
            let notice = notice(number);
            place.store.notify(&[Addressed { route: "r".into(), notice }]).await.unwrap();
        }
        let courier = deliver::couriers(&config, &place.store, &routes).unwrap().remove(0);
        let stop = CancellationToken::new();
        let running = tokio::spawn(deliver::run(courier, stop.clone(), false));
        until(&place, "SELECT count(*) FROM notices WHERE told_ms IS NULL", 0).await;
        stop.cancel();
        running.await.unwrap();
        let requests = receiver.requests();
        let renewed =
            requests.iter().position(|request| String::from_utf8_lossy(&request.body).contains("sink.dead"));
        let renewed = renewed.expect("the condition is told again");
        assert_eq!(
            requests[renewed].json()[0]["annotations"]["oldest_minutes"],
            "45",
            "with what is known of it"
        );
        assert!(renewed + 1 < requests.len(), "it came {renewed} of {}", requests.len());
    })
    .await;
}
