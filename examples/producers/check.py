"""Runs the producers; started by `check`, which installs what they need and names it in the environment.

Each line is one check; the last one counts them. The exit code is 1 where one fails.
"""

import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
import uuid
import zlib

import boto3
import confluent_kafka
import jsonschema
import pika

HERE = pathlib.Path(__file__).resolve().parent
SCHEMA = json.loads((HERE.parent.parent / "schemas" / "call.v1.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
RABBITMQ = os.environ.get("AFTERCHECK_TEST_AMQP")
PYTHON = [sys.executable]
TYPESCRIPT = ["node"]
JAVA = ["java", "-cp", os.environ["JAVA_CLASSPATH"], "RabbitMqProducer"]
RUST = [str(pathlib.Path(os.environ["RUST_PRODUCER"]).absolute())]
ON_RABBITMQ = {
    "Python": [*PYTHON, str(HERE / "python_rabbitmq.py")],
    "TypeScript": [*TYPESCRIPT, str(HERE / "typescript/dist/rabbitmq.js")],
    "Java": JAVA,
    "Rust": RUST,
}
ON_SQS = {
    "Python": [*PYTHON, str(HERE / "python_sqs.py")],
    "TypeScript": [*TYPESCRIPT, str(HERE / "typescript/dist/sqs.js")],
}
ON_KAFKA = {"Python": [*PYTHON, str(HERE / "python_kafka.py")]}
# Nothing here takes long; a producer that waits for ever is a fault.
PATIENCE_SECS = 120

passed, failed = [], []


@contextlib.contextmanager
def check(name):
    """One check: it passes when nothing is raised."""
    try:
        yield
    except Exception:
        failed.append(name)
        print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
    else:
        passed.append(name)
        print(f"ok     {name}", flush=True)


def run(command, *arguments, **environment):
    """Runs a producer."""
    return subprocess.run(
        [*command, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECS,
        check=False,
    )


def sends(command, *arguments, **environment):
    """Runs a producer that has to end well."""
    done = run(command, *arguments, **environment)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def prints_a_call(command):
    """What `--print` writes keeps to the schema; `--help` tells how to use it."""
    message = json.loads(sends(command, "--print"))
    VALIDATOR.validate(message)
    assert message["occurred_at"].endswith(("Z", "+00:00")), message["occurred_at"]
    assert json.loads(sends(command, "--print"))["request_id"] != message["request_id"]
    assert "--print" in sends(command, "--help")


def a_broken_call_is_found():
    """The check of `--print` can fail."""
    message = json.loads(sends(ON_RABBITMQ["Python"], "--print"))
    for field, value in [("occurred_at", "yesterday"), ("tokens_in", "many"), ("version", 2), ("tenant_id", None)]:
        try:
            VALIDATOR.validate({**message, field: value})
        except jsonschema.ValidationError:
            continue
        raise AssertionError(f"{field} = {value!r} was not found")


def lines():
    """Messages of several tenants, more than a batch of SQS, in JSON that no serialiser would write just so."""
    call = json.loads(sends(ON_RABBITMQ["Python"], "--print"))
    messages = []
    for number in range(25):
        call |= {"request_id": f"r-{number}", "tenant_id": f"tenänt-{number % 4}", "metadata": {"note": "ä\u2028\\ €"}}
        call["content"]["answer"] = "A 😀 line\nbreak, a \x01 control character and a \"quote\"."
        message = json.dumps(call, ensure_ascii=number % 2 == 0, indent=None, separators=(" ,", ":  "))
        messages.append(message.encode())
    return messages


# --- RabbitMQ


class Queue:
    """Quorum queues of our own on a real broker."""

    def __init__(self, lanes=1):
        self.connection = pika.BlockingConnection(pika.URLParameters(RABBITMQ))
        self.channel = self.connection.channel()
        self.name = f"producers-{uuid.uuid4()}"
        self.names = [self.name] if lanes == 1 else [f"{self.name}.{lane}" for lane in range(lanes)]

    def __enter__(self):
        for name in self.names:
            self.channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
        return self

    def __exit__(self, *_):
        for name in self.names:
            self.channel.queue_delete(name)
        self.connection.close()

    def messages(self, name):
        """Takes all messages: properties and raw bytes."""
        taken = []
        while True:
            method, properties, body = self.channel.basic_get(name, auto_ack=True)
            if method is None:
                return taken
            taken.append((properties, body))


def reaches_rabbitmq(command, file, messages):
    """What lies on the queue are the bytes of the file, persistent, with an id and a time."""
    with Queue() as queue:
        assert "25 calls" in sends(command, file, RABBITMQ_URL=RABBITMQ, AFTERCHECK_QUEUE=queue.name)
        sends(command, RABBITMQ_URL=RABBITMQ, AFTERCHECK_QUEUE=queue.name)
        *taken, (_, single) = queue.messages(queue.name)
    assert [body for _, body in taken] == messages, "the bytes differ"
    VALIDATOR.validate(json.loads(single))
    for (properties, body), now in zip(taken, [time.time()] * 25, strict=True):
        assert properties.delivery_mode == 2, "not persistent"
        assert properties.message_id == json.loads(body)["request_id"]
        assert abs(properties.timestamp - now) < 3600, properties.timestamp
        assert properties.content_type == "application/json"


def keeps_to_lanes(command, file, messages):
    """With lanes, a tenant's calls are where aftercheck looks for them."""
    with Queue(lanes=3) as queue:
        sends(command, file, RABBITMQ_URL=RABBITMQ, AFTERCHECK_QUEUE=queue.name, AFTERCHECK_LANES="3")
        found = [[body for _, body in queue.messages(name)] for name in queue.names]
    lane_of = [zlib.crc32(json.loads(body)["tenant_id"].encode()) % 3 for body in messages]
    expected = [[body for body, lane in zip(messages, lane_of, strict=True) if lane == at] for at in range(3)]
    assert found == expected, [len(bodies) for bodies in found]
    assert sum(1 for bodies in expected if bodies) > 1, "the tenants of this check share one lane"


def says_that_the_queue_is_missing(command):
    """A message that no queue takes is a failure, although the broker confirms it."""
    done = run(command, RABBITMQ_URL=RABBITMQ, AFTERCHECK_QUEUE=f"missing-{uuid.uuid4()}")
    assert done.returncode != 0, done.stdout
    assert "no such queue" in done.stderr or "UnroutableError" in done.stderr, done.stderr


# --- SQS


@contextlib.contextmanager
def moto():
    """A moto server on a free port; returns its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + PATIENCE_SECS
        while True:
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < until, "moto does not start"
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(PATIENCE_SECS)


def aws(address):
    """What the AWS libraries read."""
    return {
        "AWS_ENDPOINT_URL_SQS": address,
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def reaches_sqs(command, file, messages, address):
    """What lies on the queue are the bytes of the file."""
    sqs = boto3.client(
        "sqs", endpoint_url=address, region_name="eu-central-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    name = f"producers-{uuid.uuid4()}"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    assert "25 calls" in sends(command, file, **aws(address), AFTERCHECK_QUEUE=name)
    taken = []
    while batch := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        taken += [message["Body"].encode() for message in batch]
    sqs.delete_queue(QueueUrl=url)
    # A standard queue promises no order.
    assert sorted(taken) == sorted(messages), "the bytes differ"


class Choosy(http.server.BaseHTTPRequestHandler):
    """An SQS that answers 200 and does not take every entry the first time, or never."""

    protocol_version = "HTTP/1.1"
    taken, seen, fault_of_sender = [], set(), False

    def do_POST(self):
        """Answers one call of the JSON protocol."""
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = {"QueueUrl": f"http://127.0.0.1:{self.server.server_port}/1/q"}
        if self.headers["x-amz-target"].endswith("SendMessageBatch"):
            answer = {"Successful": [], "Failed": []}
            for entry in request["Entries"]:
                body = entry["MessageBody"].encode()
                # Every third message fails when it comes for the first time.
                if body not in self.seen and len(self.seen) % 3 == 0:
                    fault = {"SenderFault": self.fault_of_sender, "Code": "InternalError", "Message": "try again"}
                    answer["Failed"].append({"Id": entry["Id"], **fault})
                else:
                    self.taken.append(body)
                    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
                    done = {"Id": entry["Id"], "MessageId": str(uuid.uuid4()), "MD5OfMessageBody": digest}
                    answer["Successful"].append(done)
                self.seen.add(body)
        payload = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/x-amz-json-1.0")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        """Says nothing."""


def looks_at_failed_entries(command, file, messages):
    """Entries that failed within a batch are sent again, each once; what SQS will never take is an error."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Choosy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        Choosy.taken, Choosy.seen, Choosy.fault_of_sender = [], set(), False
        sends(command, file, **aws(address))
        assert sorted(Choosy.taken) == sorted(messages), f"{len(Choosy.taken)} were taken"
        Choosy.seen, Choosy.fault_of_sender = set(), True
        assert run(command, file, **aws(address)).returncode != 0, "a refused message was passed over"
    finally:
        server.shutdown()
        server.server_close()


# --- Kafka


def reaches_kafka(command, file, messages):
    """What lies on the topic are the bytes of the file, with the tenant as key."""
    # librdkafka's mock cluster lives as long as this client; others find it by its metadata.
    owner = confluent_kafka.Producer({"test.mock.num.brokers": 3})
    brokers = ",".join(f"{it.host}:{it.port}" for it in owner.list_topics(timeout=30).brokers.values())
    assert "25 calls" in sends(command, file, KAFKA_BROKERS=brokers, AFTERCHECK_TOPIC="producers")
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": brokers, "group.id": "producers", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["producers"])
    taken, partitions = [], {}
    until = time.monotonic() + PATIENCE_SECS
    while len(taken) < len(messages) and time.monotonic() < until:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            taken.append(message.value())
            assert message.key().decode() == json.loads(message.value())["tenant_id"]
            partitions.setdefault(message.key(), set()).add(message.partition())
    consumer.close()
    assert sorted(taken) == sorted(messages), f"{len(taken)} of {len(messages)} messages, or other bytes"
    assert all(len(of_tenant) == 1 for of_tenant in partitions.values()), "a tenant lies in several partitions"


def says_that_kafka_is_away(command):
    """Without a broker the producer ends with an error once its delivery deadline is over."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = run(command, KAFKA_BROKERS=f"127.0.0.1:{closed.getsockname()[1]}")
    assert done.returncode != 0, done.stdout


def main():
    """Runs all checks."""
    printing = {"Python, standard library": [*PYTHON, str(HERE / "python_producer.py")]}
    families = {"RabbitMQ": ON_RABBITMQ, "SQS": ON_SQS, "Kafka": ON_KAFKA}
    for broker, producers in families.items():
        printing |= {f"{language}, {broker}": command for language, command in producers.items()}
    for name, command in printing.items():
        with check(f"{name}: --print keeps to the schema"):
            prints_a_call(command)
    with check("the schema finds broken calls"):
        a_broken_call_is_found()
    messages = lines()
    for message in messages:
        VALIDATOR.validate(json.loads(message))
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(b"\n".join(messages) + b"\n\n")
        file.flush()
        if RABBITMQ is None:
            print("skipped: all of RabbitMQ; name a server in AFTERCHECK_TEST_AMQP, as scripts/services does")
        for language, command in ON_RABBITMQ.items() if RABBITMQ else []:
            with check(f"{language}, RabbitMQ: bytes and properties"):
                reaches_rabbitmq(command, file.name, messages)
            with check(f"{language}, RabbitMQ: lanes"):
                keeps_to_lanes(command, file.name, messages)
            with check(f"{language}, RabbitMQ: a missing queue is an error"):
                says_that_the_queue_is_missing(command)
        with moto() as address:
            for language, command in ON_SQS.items():
                with check(f"{language}, SQS (moto): bytes"):
                    reaches_sqs(command, file.name, messages, address)
        for language, command in ON_SQS.items():
            with check(f"{language}, SQS: entries that failed"):
                looks_at_failed_entries(command, file.name, messages)
        for language, command in ON_KAFKA.items():
            with check(f"{language}, Kafka (mock cluster): bytes and keys"):
                reaches_kafka(command, file.name, messages)
            with check(f"{language}, Kafka: no broker is an error"):
                says_that_kafka_is_away(command)
    print(f"producers: {len(passed)} checks passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
