//! The program, from a queue of RabbitMQ to verdicts in the file.

use std::{io::Write, process::Stdio};

use super::{
    super::service::{Service, call, ended, eventually},
    Queue,
    faults::{proxied, proxied_url},
    on_a_queue,
    proxy::Mode,
};

/// Calls that are queued; every tenth is malformed, every seventh comes twice.
const CALLS: usize = 300;

/// The environment that puts the program on this queue.
fn variables(queue: &Queue) -> [(&'static str, String); 4] {
    [
        ("AFTERCHECK__SOURCE__KIND", "rabbitmq".into()),
        ("AFTERCHECK__SOURCE__RABBITMQ__URL", std::env::var("AFTERCHECK_TEST_AMQP").unwrap()),
        ("AFTERCHECK__SOURCE__RABBITMQ__QUEUE", queue.config.queue.clone()),
        ("AFTERCHECK__SOURCE__RABBITMQ__LANES", queue.config.lanes.to_string()),
    ]
}

/// Runs what blocks. Databases are opened on a runtime of their own, so on a thread of its own too.
fn blocking<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    tokio::task::block_in_place(|| std::thread::scope(|scope| scope.spawn(work).join().unwrap()))
}

/// Queues calls with `aftercheck enqueue`.
fn enqueue(service: &mut Service, queue: &Queue) {
    let mut command = service.command(&["enqueue", "-"]);
    let mut enqueue = command.envs(variables(queue)).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = enqueue.stdin.take().unwrap();
    for number in 0..CALLS {
        for _ in 0..=usize::from(number.is_multiple_of(7)) {
            writeln!(stdin, "{}", call(number)).unwrap();
        }
    }
    drop(stdin);
    assert!(enqueue.wait().unwrap().success());
    service.accepted = CALLS;
}

#[test]
fn calls_come_out_of_the_queue_and_every_one_is_evaluated_once() {
    on_a_queue(2, async |queue| {
        let mut service = Service::new();
        enqueue(&mut service, queue);
        assert_eq!(queue.ready().await as usize, CALLS + CALLS.div_ceil(7));
        let count = blocking(|| {
            let mut drain = service.command(&["run", "--drain"]).envs(variables(queue)).spawn().unwrap();
            assert!(ended(&mut drain).is_some_and(|status| status.success()), "it drains and ends");
            service.report("rabbitmq to sqlite")
        });
        assert_eq!((count.lost, count.duplicated), (0, 0));
        assert_eq!((count.evaluations as usize, count.dead_letters as usize), (CALLS * 9 / 10, CALLS / 10));
        assert_eq!(queue.ready().await, 0, "every message is acked");
    });
}

#[test]
fn a_broker_that_is_away_makes_the_process_unready_and_its_return_ready_and_busy() {
    on_a_queue(1, async |queue| {
        let mut service = Service::new();
        let (proxy, _) = proxied(queue).await;
        let mut through: Vec<_> = variables(queue).to_vec();
        through[1].1 = proxied_url(&proxy);
        through.push(("AFTERCHECK__HTTP__STALL_SECS", "3".into()));
        let through: Vec<_> = through.iter().map(|(name, value)| (*name, value.as_str())).collect();
        blocking(|| {
            let running = service.start(&through);
            let says = |status| eventually(|| (running.get("/readyz").0 == status).then_some(()));
            says(200).expect("ready with its broker");
            proxy.set(Mode::Cut);
            says(503).expect("not ready without");
            enqueue(&mut service, queue);
            proxy.set(Mode::Pass);
            says(200).expect("ready again");
            let all = eventually(|| (service.count().lost == 0).then_some(()));
            all.expect("the calls that came meanwhile are evaluated");
            assert_eq!(service.count().duplicated, 0);
        });
    });
}
