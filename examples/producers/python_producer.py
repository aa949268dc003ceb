#!/usr/bin/env python3
"""Puts one LLM call on aftercheck's queue from Python, with nothing but the standard library:

    python3 examples/producers/python_producer.py | aftercheck enqueue -

Copy `as_call` into the service that talks to the model and write its lines to a file, a pipe or a queue.
`aftercheck schema call` prints the contract that they have to keep.
"""

import argparse
import datetime
import hashlib
import json
import sys
import time
import uuid


def as_call(question, answer, contexts, *, usage, latency_ms, requested, resolved, trace_id):
    """One call as message version 1. `contexts` are (id, text, score) in the order the model saw them."""
    messages = json.dumps([question, [text for _, text, _ in contexts]], ensure_ascii=False)
    return {
        "version": 1,
        # Unique within the tenant. Sending the same id again is safe: it is scored once.
        "request_id": str(uuid.uuid4()),
        "trace_id": trace_id,
        "occurred_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
        "feature": "support_answers",
        "tenant_id": "acme-shop",
        "prompt_version": "support-v15",
        # Both names, so that a silent swap of the model shows.
        "model_requested": requested,
        "model_resolved": resolved,
        "provider": "anthropic",
        "tokens_in": usage["input"],
        "tokens_out": usage["output"],
        "latency_ms": {"total": round(latency_ms, 1)},
        "finish_reason": "stop",
        "messages_hash": hashlib.sha256(messages.encode()).hexdigest()[:16],
        "retrieval_ids": [name for name, _, _ in contexts],
        "metadata": {"locale": "en-US"},
        "content": {
            "input": question,
            "answer": answer,
            "contexts": [{"id": name, "text": text, "score": score} for name, text, score in contexts],
        },
        # Say with which probability the call was taken, or rates cannot be weighted.
        "sampling": {"reason": "head", "probability": 0.05},
    }


def example_call():
    """A call as the service that asked the model would make it."""
    started = time.monotonic()
    contexts = [("chk_gift_cards", "Gift cards never expire and carry no fees.", 0.91)]
    answer = "No, gift cards never expire [chk_gift_cards]."  # here the model would be asked
    return as_call(
        "Do gift cards expire?",
        answer,
        contexts,
        usage={"input": 212, "output": 14},
        latency_ms=(time.monotonic() - started) * 1000,
        requested="claude-haiku-4-5",
        resolved="claude-haiku-4-5-20251001",
        trace_id=uuid.uuid4().hex,
    )


def message_of(call):
    """The bytes of a message. Never NaN: JSON has no such number and the call would be refused. Escaped to ASCII,
    because SQS refuses some characters that an answer may hold."""
    return json.dumps(call, allow_nan=False).encode()


def messages_of_command_line(usage):
    """What the programs beside this one send: `[--print | FILE]`."""
    arguments = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--print", action="store_true", help="show the example call and send nothing")
    arguments.add_argument("file", nargs="?", help="JSON lines, one call each, or - for stdin")
    arguments = arguments.parse_args()
    if arguments.print:
        print(message_of(example_call()).decode())
        sys.exit()
    if arguments.file is None:
        return [message_of(example_call())]
    with open(0 if arguments.file == "-" else arguments.file, "rb") as lines:
        return [line.strip() for line in lines if line.strip()]


def main():
    """Writes one call to stdout, one line."""
    for message in messages_of_command_line(__doc__):
        print(message.decode())


if __name__ == "__main__":
    main()
