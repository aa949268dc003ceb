#!/usr/bin/env python3
"""Puts LLM calls on aftercheck's SQS queue from Python, with boto3.

    python3 python_sqs.py --print        shows the example call and sends nothing
    python3 python_sqs.py                sends it
    python3 python_sqs.py calls.jsonl    sends a file of JSON lines, - for stdin

Region, credentials and endpoint come from boto3's own variables (AWS_REGION, AWS_ENDPOINT_URL_SQS, …).
Copy `publish` into the service that talks to the model; `python_producer.as_call` makes the message.
"""

import os
import time

import boto3
from botocore.config import Config

from python_producer import messages_of_command_line

QUEUE = os.environ.get("AFTERCHECK_QUEUE", "aftercheck")
# SQS's limits of one batch.
BATCH_MESSAGES = 10
BATCH_BYTES = 1024 * 1024
TRIES = 5


def batches(messages):
    """Groups messages so that each group keeps to SQS's limits."""
    batch, size = [], 0
    for message in messages:
        if batch and (len(batch) == BATCH_MESSAGES or size + len(message) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += len(message)
    if batch:
        yield batch


def publish(sqs, queue_url, batch):
    """Sends one batch (bytes each) and returns once SQS keeps all of it. After an error, send it again."""
    open_entries = [{"Id": str(number), "MessageBody": message.decode()} for number, message in enumerate(batch)]
    for attempt in range(TRIES):
        # The answer is 200 even where entries failed.
        failed = sqs.send_message_batch(QueueUrl=queue_url, Entries=open_entries).get("Failed", [])
        if not failed:
            return
        ours = [entry for entry in failed if entry["SenderFault"]]
        if ours:
            raise ValueError(f"SQS refuses message {ours[0]['Id']}: {ours[0]['Code']} {ours[0].get('Message', '')}")
        again = {entry["Id"] for entry in failed}
        open_entries = [entry for entry in open_entries if entry["Id"] in again]
        time.sleep(0.2 * 2**attempt)
    raise TimeoutError(f"SQS has not taken {len(open_entries)} messages in {TRIES} tries")


def main():
    """Sends what the command line names."""
    messages = messages_of_command_line(__doc__)
    config = Config(connect_timeout=5, read_timeout=15, retries={"mode": "standard", "max_attempts": TRIES})
    sqs = boto3.client("sqs", region_name=os.environ.get("AWS_REGION"), config=config)
    queue_url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    for batch in batches(messages):
        publish(sqs, queue_url, batch)
    print(f"{len(messages)} calls are on the queue")


if __name__ == "__main__":
    main()
