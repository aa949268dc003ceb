//! Connections that break, hang, or never come about.

use std::time::Duration;

use aftercheck::sources::{
    Disposition, Publisher, Source, SourceError,
    rabbitmq::{RabbitmqConfig, RabbitmqPublisher, RabbitmqSource},
};
use tokio::time::timeout;

use super::{
    PATIENCE, Queue, WAIT, failure, holds, message, on_a_queue,
    proxy::{Mode, Proxy},
    recover, take,
};

/// User, host with port, and path of the broker's URL.
fn parts() -> (String, String, String) {
    let url = std::env::var("AFTERCHECK_TEST_AMQP").unwrap();
    let (_, rest) = url.split_once("://").unwrap();
    let (user, place) = rest.rsplit_once('@').unwrap_or(("guest:guest", rest));
    let (host, vhost) = place.split_once('/').unwrap_or((place, "%2f"));
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:5672") };
    (user.to_owned(), host, vhost.to_owned())
}

/// The broker's URL through the proxy.
pub fn proxied_url(proxy: &Proxy) -> String {
    let (user, _, vhost) = parts();
    format!("amqp://{user}@{}/{vhost}", proxy.address)
}

/// A proxy in front of the broker, and the configuration that goes through it.
pub async fn proxied(queue: &Queue) -> (Proxy, RabbitmqConfig) {
    let (_, host, _) = parts();
    let proxy = Proxy::start(host).await;
    let config = RabbitmqConfig { url: Some(proxied_url(&proxy).into()), ..queue.config.clone() };
    (proxy, config)
}

#[test]
fn after_a_cut_nothing_old_can_be_settled_and_all_comes_again() {
    on_a_queue(1, async |queue| {
        queue.publish(&[b"open", b"held", b"dropped", b"acked"]).await;
        let (proxy, config) = proxied(queue).await;
        let mut source = RabbitmqSource::new(&config, WAIT, 8).unwrap();
        let mut taken = take(&mut source, 4).await.into_iter();
        let open = taken.next().unwrap();
        taken.next().unwrap().settle(Disposition::Retry(Duration::from_millis(100))).await.unwrap();
        drop(taken.next());
        taken.next().unwrap().settle(Disposition::Ack).await.unwrap();
        // The answer comes after the ack has arrived.
        source.depth().await.unwrap();
        proxy.set(Mode::Cut);
        failure(&mut source).await;
        assert!(matches!(open.extend().await, Err(SourceError::LeaseLost)));
        assert!(matches!(open.settle(Disposition::Ack).await, Err(SourceError::LeaseLost)));
        assert!(matches!(failure(&mut source).await, SourceError::Broker { .. }), "still cut");
        proxy.set(Mode::Pass);
        let again = recover(&mut source, 3).await;
        let mut payloads: Vec<_> = again.iter().map(|delivery| delivery.payload.clone()).collect();
        payloads.sort();
        assert_eq!(payloads, ["dropped", "held", "open"], "each of them once, and not the acked one");
        for delivery in again {
            delivery.settle(Disposition::Ack).await.unwrap();
        }
        assert_eq!(source.depth().await.unwrap().messages, 0);
        assert!(
            source.receive(8, WAIT * 2).await.unwrap().is_empty(),
            "what was held before the cut is forgotten"
        );
    });
}

#[test]
fn a_deleted_queue_ends_the_consumer_and_it_comes_back_with_the_queue() {
    on_a_queue(2, async |queue| {
        let mut source = queue.source(4);
        assert!(source.receive(1, WAIT / 10).await.unwrap().is_empty());
        queue.delete_queues().await;
        let error = failure(&mut source).await;
        assert!(matches!(error, SourceError::Broker { .. }), "{error}");
        queue.publish(&[b"after"]).await;
        assert_eq!(recover(&mut source, 1).await[0].payload, "after");
    });
}

#[test]
fn a_peer_that_falls_silent_is_given_up_and_left() {
    on_a_queue(1, async |queue| {
        queue.publish(&[b"1"]).await;
        let (proxy, config) = proxied(queue).await;
        let mut source = RabbitmqSource::new(&config, WAIT, 4).unwrap();
        let delivery = take(&mut source, 1).await.remove(0);
        proxy.set(Mode::Hole);
        failure(&mut source).await;
        assert!(matches!(delivery.settle(Disposition::Ack).await, Err(SourceError::LeaseLost)));
        // Nobody answers at all now: a connection cannot even be opened.
        assert!(matches!(failure(&mut source).await, SourceError::Late(_)));
        holds("connections that were given up are closed", async || proxy.open() == 0).await;
        proxy.set(Mode::Pass);
        assert_eq!(recover(&mut source, 1).await[0].payload, "1");
    });
}

#[test]
fn a_broker_that_answers_and_delivers_nothing_is_left() {
    on_a_queue(1, async |queue| {
        queue.publish(&[b"1", b"2", b"3", b"4"]).await;
        let (proxy, config) = proxied(queue).await;
        let mut source = RabbitmqSource::new(&config, WAIT, 2).unwrap();
        proxy.set(Mode::Undelivered);
        assert!(source.receive(2, WAIT).await.unwrap().is_empty());
        proxy.set(Mode::Pass);
        // As the pipeline asks: how much waits, and for something of it.
        let waits = async {
            loop {
                match source.depth().await {
                    Ok(depth) => assert!(depth.messages >= 2, "it says that there is something"),
                    Err(error) => break error,
                }
                assert!(source.receive(2, WAIT / 2).await.unwrap().is_empty());
            }
        };
        let error = timeout(PATIENCE, waits).await.expect("it does not wait for ever");
        assert!(error.to_string().contains("delivers nothing"), "{error}");
        assert_eq!(recover(&mut source, 2).await.len(), 2, "a new connection brings them");
    });
}

#[test]
fn a_publisher_that_hears_nothing_says_so_and_connects_again() {
    on_a_queue(1, async |queue| {
        let (proxy, config) = proxied(queue).await;
        let publisher = RabbitmqPublisher::new(&config).unwrap();
        publisher.publish(vec![message(b"before", None)]).await.unwrap();
        proxy.set(Mode::Hole);
        let publishing = publisher.publish(vec![message(b"lost", None)]);
        let error = timeout(PATIENCE, publishing).await.expect("it does not hang").unwrap_err();
        assert!(matches!(error, SourceError::Late(_)), "{error}");
        holds("the connection is closed", async || proxy.open() == 0).await;
        proxy.set(Mode::Cut);
        assert!(publisher.publish(vec![message(b"cut", None)]).await.is_err());
        proxy.set(Mode::Pass);
        publisher.publish(vec![message(b"after", None)]).await.unwrap();
        let payloads: Vec<_> =
            take(&mut queue.source(4), 2).await.iter().map(|it| it.payload.clone()).collect();
        assert_eq!(payloads, ["before", "after"]);
    });
}

#[test]
fn batches_side_by_side_are_each_confirmed_whole() {
    on_a_queue(1, async |queue| {
        let publisher = &*Box::leak(Box::new(RabbitmqPublisher::new(&queue.config).unwrap()));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8 {
            tasks.spawn(async move {
                for batch in 0..10 {
                    let payload = format!("{task}-{batch}");
                    publisher.publish(vec![message(payload.as_bytes(), None); 5]).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(queue.ready().await, 400);
    });
}
