#!/usr/bin/env python3
"""Puts LLM calls on aftercheck's Kafka topic from Python, with confluent-kafka.

    python3 python_kafka.py --print        shows the example call and sends nothing
    python3 python_kafka.py                sends it
    python3 python_kafka.py calls.jsonl    sends a file of JSON lines, - for stdin

Copy `publish` into the service that talks to the model; `python_producer.as_call` makes the message.
"""

import json
import os

from confluent_kafka import KafkaException, Producer

from python_producer import messages_of_command_line

BROKERS = os.environ.get("KAFKA_BROKERS", "127.0.0.1:9092")
TOPIC = os.environ.get("AFTERCHECK_TOPIC", "aftercheck.calls")
SETTINGS = {
    # Kept by all replicas in sync before it counts as sent, and written once however often it is tried.
    "acks": "all",
    "enable.idempotence": True,
    "delivery.timeout.ms": 30_000,
    "linger.ms": 10,
    "compression.type": "zstd",
}


def publish(producer, topic, messages):
    """Publishes messages (bytes) and returns once the brokers keep all of them. After an error, publish again."""
    refused = []

    def delivered(error, _message):
        if error is not None:
            refused.append(error)

    for message in messages:
        # One tenant's calls stay in one partition, in their order.
        key = str(json.loads(message).get("tenant_id", "")).encode()
        while True:
            try:
                producer.produce(topic, value=message, key=key, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.5)  # the buffer is full: let some be delivered
        producer.poll(0)
    # The delivery deadline ends each of them; the wait here only has to be longer.
    left = producer.flush(35)
    if refused:
        raise KafkaException(refused[0])
    if left:
        raise TimeoutError(f"{left} messages are not delivered")


def main():
    """Sends what the command line names."""
    messages = messages_of_command_line(__doc__)
    publish(Producer({**SETTINGS, "bootstrap.servers": BROKERS}), TOPIC, messages)
    print(f"{len(messages)} calls are on the topic")


if __name__ == "__main__":
    main()
