#!/usr/bin/env python3
"""Puts LLM calls on aftercheck's RabbitMQ queue from Python, with pika.

    python3 python_rabbitmq.py --print        shows the example call and sends nothing
    python3 python_rabbitmq.py                sends it
    python3 python_rabbitmq.py calls.jsonl    sends a file of JSON lines, - for stdin

Copy `publish` into the service that talks to the model; `python_producer.as_call` makes the message.
"""

import json
import os
import time
import zlib

import pika

from python_producer import messages_of_command_line

URL = os.environ.get("RABBITMQ_URL", "amqp://127.0.0.1:5672/%2f")
QUEUE = os.environ.get("AFTERCHECK_QUEUE", "aftercheck.calls")
# As `[source.rabbitmq] lanes` of the workers says.
LANES = int(os.environ.get("AFTERCHECK_LANES", "1"))


def queue_of(tenant_id):
    """The queue of a tenant's calls: with lanes, one tenant's flood does not make the others wait."""
    return QUEUE if LANES <= 1 else f"{QUEUE}.{zlib.crc32(tenant_id.encode()) % LANES}"


def publish(channel, message):
    """Publishes one message (bytes) and returns once the broker keeps it. After an error, publish it again."""
    call = json.loads(message)
    properties = pika.BasicProperties(
        delivery_mode=pika.DeliveryMode.Persistent,
        content_type="application/json",
        message_id=str(call.get("request_id", "")),
        timestamp=int(time.time()),
    )
    # With confirms on, this waits for the broker: NackError when it refuses. Without `mandatory` a message for a
    # queue that is not there is confirmed, and gone; with it, UnroutableError.
    channel.basic_publish("", queue_of(str(call.get("tenant_id", ""))), message, properties, mandatory=True)


def main():
    """Sends what the command line names."""
    messages = messages_of_command_line(__doc__)
    parameters = pika.URLParameters(URL)
    # A broker short of memory or disk stops taking messages: no wait without an end.
    parameters.blocked_connection_timeout = 30
    parameters.socket_timeout = 10
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for message in messages:
            publish(channel, message)
    print(f"{len(messages)} calls are on the queue")


if __name__ == "__main__":
    main()
