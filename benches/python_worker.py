#!/usr/bin/env python3
"""The work of `aftercheck run` on a queue and Postgres, model off, as a careful Python script would do it.

    .runtime/benches/bin/python benches/python_worker.py rabbitmq|sqs|kafka QUEUE COUNT PREFETCH [redacting]

Takes COUNT messages, PREFETCH ahead where the queue knows that, one at a time: reads the JSON, checks the required fields, tries five of the shipped
rules' kinds (fewer than `run` tries), and writes call, evaluation, rule outcomes, scores and outbox row, each message
in the autocommit mode of the driver; acknowledges after that (on SQS ten together). Prints one line of JSON. AMQP_URL, AFTERCHECK_TEST_SQS or KAFKA_BROKERS,
and POSTGRES_URL say where. The tables are those that `aftercheck migrate` makes.
"""

import datetime
import hashlib
import json
import os
import re
import sys
import time
import uuid

import psycopg

REQUIRED = ("version", "request_id", "trace_id", "occurred_at", "feature", "tenant_id", "prompt_version",
            "model_requested", "model_resolved", "provider", "tokens_in", "tokens_out", "latency_ms",
            "finish_reason", "messages_hash", "content")
RULES = {
    "safety.card": re.compile(r"\b(?:\d[ -]?){13,19}\b"),
    "safety.email": re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"),
    "safety.key": re.compile(r"\b(?:sk-|ghp_|AKIA)[A-Za-z0-9_-]{16,}"),
    "grounding.numbers": re.compile(r"\d+(?:[.,]\d+)*"),
    "format.refusal": re.compile(r"(?i)\bI (?:cannot|can't|am unable to)\b"),
}
SPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")


def derived(at, name):
    """Id of a name that begins with a time, as aftercheck's do."""
    ms = int(datetime.datetime.fromisoformat(at).timestamp() * 1000)
    return uuid.UUID(bytes=ms.to_bytes(6, "big") + uuid.uuid5(SPACE, name).bytes[6:])


def dead(cursor, body, why):
    """Keeps what cannot be evaluated."""
    digest = hashlib.sha256(body).hexdigest()
    cursor.execute(
        "INSERT INTO dead_letters VALUES (%s, %s, %s, NULL, 'schema', '', %s, '', NULL, NULL, 1, 'python', 0)"
        " ON CONFLICT DO NOTHING",
        (uuid.uuid5(SPACE, digest), body, digest, why),
    )


def evaluate(call):
    """Outcome of each rule, and the verdict."""
    answer = call["content"]["answer"]
    sources = " ".join(context["text"] for context in call["content"].get("contexts", []))
    outcomes = []
    for rule, pattern in RULES.items():
        found = [match for match in pattern.finditer(answer) if match.group() not in sources]
        spans = [{"start": match.start(), "end": match.end()} for match in found]
        outcomes.append((rule, "fail" if found else "pass", spans))
    return outcomes, "fail" if any(outcome == "fail" for _, outcome, _ in outcomes[:3]) else "review"


def redactor():
    """What takes personal values out of a call: Presidio's pattern recognisers of the kinds that `run` has too, each by
    itself, without tokens and without a model, which is the fastest way that it has."""
    from presidio_analyzer import RecognizerRegistry

    kinds = {"CREDIT_CARD", "US_SSN", "IBAN_CODE", "EMAIL_ADDRESS", "PHONE_NUMBER", "IP_ADDRESS"}
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    recognizers = [one for one in registry.recognizers
                   if set(one.supported_entities) & kinds and one.name != "SpacyRecognizer"]

    def redact(text):
        found = [result for one in recognizers for result in one.analyze(text, one.supported_entities, None)]
        for result in sorted(found, key=lambda result: -result.start):
            text = f"{text[:result.start]}<{result.entity_type}>{text[result.end:]}"
        return text

    return redact


def work(cursor, body, redact):
    """One message, up to the last statement."""
    try:
        call = json.loads(body)
        if redact:
            content = call["content"]
            for part, name in [(content, "input"), (content, "answer"), *((one, "text") for one in content.get("contexts", []))]:
                if part.get(name):
                    part[name] = redact(part[name])
            body = json.dumps(call).encode()
        missing = [key for key in REQUIRED if key not in call]
        if missing or not isinstance(call["tokens_in"], int):
            return dead(cursor, body, f"missing {missing}")
        outcomes, verdict = evaluate(call)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return dead(cursor, body, str(error))
    key = (call["tenant_id"], call["request_id"])
    at = call["occurred_at"]
    evaluation = derived(at, "/".join(key))
    now = datetime.datetime.now(datetime.timezone.utc)
    now_ms = int(now.timestamp() * 1000)
    cursor.execute(
        "INSERT INTO calls VALUES (%s, %s, %s, %s, NULL, %s, %s, %s, 'python') ON CONFLICT DO NOTHING",
        (*key, hashlib.sha256(body).hexdigest(), body.decode(), call["feature"], now_ms, now_ms),
    )
    cursor.execute(
        "INSERT INTO evaluations VALUES (%s, %s, %s, 'python', %s, %s, %s, %s, %s, %s, %s, 'rules', '[]', %s, NULL,"
        " false, 0, NULL, '[]', 0, NULL, 1) ON CONFLICT DO NOTHING",
        (evaluation, *key, call["trace_id"], call.get("span_id"), call["feature"], at,
         now.isoformat(), now_ms, verdict,
         json.dumps([{"rule": rule, "outcome": outcome, "spans": spans} for rule, outcome, spans in outcomes])),
    )
    if cursor.rowcount == 0:
        return None
    cursor.execute("INSERT INTO scores VALUES (%s, %s, 'verdict', NULL, %s)",
                   (derived(at, f"{evaluation}/verdict"), evaluation, verdict))
    cursor.execute("INSERT INTO outbox (delivery_id, sink, evaluation_id, created_ms, due_ms) VALUES (%s, 'archive', %s, %s, %s)",
                   (derived(at, f"{evaluation}/archive"), evaluation, now_ms, now_ms))
    return None


def rabbitmq(queue, prefetch):
    """Bodies, each acknowledged when the next is asked for."""
    import pika

    channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()
    channel.basic_qos(prefetch_count=prefetch)
    for method, _, body in channel.consume(queue):
        yield body
        channel.basic_ack(method.delivery_tag)


def sqs(queue, _):
    """Bodies, deleted in tens."""
    import boto3

    client = boto3.client("sqs", region_name="us-east-1", endpoint_url=os.environ["AFTERCHECK_TEST_SQS"])
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    while True:
        got = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
        for message in got:
            yield message["Body"].encode()
        if got:
            entries = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(got)]
            client.delete_message_batch(QueueUrl=url, Entries=entries)


def kafka(topic, _):
    """Bodies; offsets are stored when the next is asked for, and committed in the background."""
    import confluent_kafka

    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": os.environ["KAFKA_BROKERS"], "group.id": "python", "auto.offset.reset": "earliest",
        "enable.auto.offset.store": False, "session.timeout.ms": 4000, "heartbeat.interval.ms": 200,
    })
    consumer.subscribe([topic])
    while True:
        record = consumer.poll(30)
        yield record.value()
        consumer.store_offsets(record)


def main():
    """Works COUNT messages off."""
    source, queue, count, prefetch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    bodies = {"rabbitmq": rabbitmq, "sqs": sqs, "kafka": kafka}[source](queue, prefetch)
    redact = redactor() if sys.argv[5:] == ["redacting"] else None
    database = psycopg.connect(os.environ["POSTGRES_URL"], autocommit=True)
    # The clock starts with the first: on Kafka it waits for the group.
    body, begun = next(bodies), time.perf_counter()
    with database.cursor() as cursor:
        for _ in range(count - 1):
            work(cursor, body, redact)
            body = next(bodies)
        work(cursor, body, redact)
    print(json.dumps({"messages": count, "seconds": time.perf_counter() - begun}))


if __name__ == "__main__":
    main()
