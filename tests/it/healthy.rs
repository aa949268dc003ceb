//! `aftercheck healthy`, which the probes of a container run.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::{Output, Stdio},
    thread,
};

use super::service::Service;

/// Asks the process at this address.
fn healthy(service: &Service, address: &str, arguments: &[&str]) -> Output {
    let mut command = service.command(&[&["healthy"], arguments].concat());
    command.env("AFTERCHECK__HTTP__LISTEN", address).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.output().unwrap()
}

/// An address at which the first connection gets this answer, and stays open where there is none.
fn answering(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        match answer {
            Some(answer) => {
                drop(stream.read(&mut [0; 1024]));
                stream.write_all(answer.as_bytes()).unwrap();
            }
            // Until the other side gives up.
            None => drop(stream.read_to_end(&mut Vec::new())),
        }
    });
    address
}

#[test]
fn a_running_service_is_healthy_and_one_that_has_ended_is_not() {
    let service = Service::new();
    let running = service.start(&[]);
    let address = running.address.clone();
    let output = healthy(&service, &address, &[]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"ready\n".as_slice()));
    let output = healthy(&service, &address, &["--alive"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"ok\n".as_slice()));
    drop(running);
    let output = healthy(&service, &address, &["--alive"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("http://{address}/healthz")));
}

#[test]
fn whatever_is_not_a_200_of_http_is_unhealthy() {
    let service = Service::new();
    let cases = [
        (Some("HTTP/1.1 503 Service Unavailable\r\n\r\nstalled: the queue does not answer\n"), "503 stalled"),
        (Some("SSH-2.0-OpenSSH_9.2\r\n\r\n"), "not the answer of aftercheck"),
        (Some(""), "not the answer of aftercheck"),
        (None, "nothing within 1 s"),
    ];
    for (answer, told) in cases {
        let output = healthy(&service, &answering(answer), &["--deadline-secs", "1"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{answer:?}: {stderr}");
        assert!(output.stdout.is_empty() && stderr.contains(told), "{answer:?}: {stderr}");
    }
    let output = healthy(&service, "127.0.0.1:0", &[]);
    assert_eq!(output.status.code(), Some(2), "a port that is not known cannot be asked");
}
