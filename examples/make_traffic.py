#!/usr/bin/env python3
"""Writes examples/traffic.jsonl: a few days of LLM calls of two made-up companies, one JSON object a line.

    python3 examples/make_traffic.py            writes examples/traffic.jsonl
    python3 examples/make_traffic.py --check    exits 1 when the file differs from what would be written

Every sentence was written by hand and lies in examples/traffic_material/*.toml; this script only deals it
out: who asked, when, what else retrieval returned, what went wrong on the way. It is seeded, so the same
material gives the same file. `metadata.kind` is the author's note on each call, for demos and for counting
what was caught; nothing in aftercheck reads it. Needs Python 3.11 and nothing else.
"""

import datetime
import hashlib
import json
import pathlib
import random
import re
import sys
import tomllib
from collections import Counter

HERE = pathlib.Path(__file__).parent
MATERIAL = HERE / "traffic_material"
OUTPUT = HERE / "traffic.jsonl"
SEED = 20261116
FIRST_DAY = datetime.datetime(2026, 11, 16, tzinfo=datetime.timezone.utc)
DAYS = 5
# Hours weigh as office hours and a quiet night do.
HOUR_WEIGHTS = [1, 1, 1, 1, 1, 2, 4, 7, 11, 13, 13, 12, 11, 12, 13, 12, 11, 10, 9, 8, 7, 5, 3, 2]
# How many of the hand-written wrong answers are used, so that right ones stay the majority.
WRONG_SHARE = 0.70
MIXED_SHARE = 0.70

ORDER_SCHEMA = {
    "type": "object",
    "required": ["customer", "po_number", "items"],
    "properties": {
        "customer": {"type": "string", "minLength": 1},
        "po_number": {"type": "string", "minLength": 1},
        "deliver_by": {"type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}$"},
        "items": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["sku", "quantity"],
                "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer", "minimum": 1}},
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}

# The shapes of well-known keys around the word EXAMPLE. Put together here, so that secret scanners have
# nothing to find in the material; the AWS one is the vendor's own published specimen.
SECRET_SHAPES = {
    "openai_like": "sk-" + "proj-" + "EXAMPLEnotAkey0EXAMPLEnotAkey0EXAMPLEnotAkey0EX",
    "aws_like": "AKIA" + "IOSFODNN7" + "EXAMPLE",
    "github_like": "ghp" + "_" + "EXAMPLEnotAtoken0EXAMPLEnotAtoken0EX",
}

MODELS = {
    "support_answers": ("claude-haiku-4-5", "claude-haiku-4-5-20251001", "anthropic"),
    "order_extraction": ("gpt-5-mini", "gpt-5-mini-2025-08-07", "openai"),
    "policy_search": ("mistral-medium-latest", "mistral-medium-2508", "mistral"),
}
# Same family, another generation: what a silent swap looks like.
SWAPPED = {
    "support_answers": "claude-3-5-haiku-20241022",
    "order_extraction": "gpt-4o-mini-2024-07-18",
    "policy_search": "open-mistral-nemo-2407",
}
# Two prompts a feature: the second went live on the third day.
PROMPTS = {
    "support_answers": ("support-v14", "support-v15"),
    "order_extraction": ("orders-v6", "orders-v7"),
    "policy_search": ("policy-v3", "policy-v4"),
}
INTENTS = {"support_answers": "question", "order_extraction": "extract", "policy_search": "lookup"}
ERRORS = [
    ("rate_limit", 380), ("provider_5xx", 2100), ("timeout", 30000), ("context_overflow", 240), ("empty", 1900),
    ("invalid_tool_args", 1500), ("timeout", 30000), ("provider_5xx", 900), ("rate_limit", 410), ("empty", 2300),
]


def read_passages():
    """Passages by id, with tenant and feature filled in."""
    passages = {}
    for name, tenant in (("shop", "acme-shop"), ("world", "acme-shop"), ("policy", "nordbank")):
        for passage in tomllib.loads((MATERIAL / f"{name}.toml").read_text("utf-8"))["passage"]:
            passage.setdefault("tenant", tenant)
            passage.setdefault("locale", "en-GB" if name == "policy" else "en-US")
            staff = name == "policy" and not passage.get("support")
            passage["feature"] = "policy_search" if staff else "support_answers"
            passages[passage["id"]] = passage
    return passages


class Dealer:
    """Deals the material out as calls; owns the random numbers and the neighbours of each passage."""

    def __init__(self):
        self.random = random.Random(SEED)
        self.passages = read_passages()
        self.calls = []

    def neighbours(self, passage, count):
        """Other passages that retrieval could have returned beside this one: same tenant, feature, language."""
        group = [
            other for other in self.passages.values()
            if other is not passage
            and all(other[key] == passage[key] for key in ("tenant", "feature", "locale"))
        ]
        return self.random.sample(group, min(count, len(group)))

    def contexts(self, chosen):
        """Passages as the contexts of a call; the passage that answers is usually, not always, the first."""
        if len(chosen) > 1 and self.random.random() < 0.3:
            chosen = [chosen[1], chosen[0], *chosen[2:]]
        score = self.random.uniform(0.78, 0.93)
        out = []
        for passage in chosen:
            out.append({"id": passage["id"], "text": passage["text"], "score": round(score, 3)})
            score -= self.random.uniform(0.03, 0.12)
        return out

    def call(self, kind, feature, tenant, locale, ask, answer, contexts, **fields):
        """Appends one complete call; `fields` replace top-level fields, `metadata` is merged."""
        requested, resolved, provider = MODELS[feature]
        when = FIRST_DAY + datetime.timedelta(
            days=self.random.randrange(DAYS),
            hours=self.random.choices(range(24), HOUR_WEIGHTS)[0],
            seconds=self.random.randrange(3600),
            milliseconds=self.random.randrange(1000),
        )
        prompt = PROMPTS[feature][when >= FIRST_DAY + datetime.timedelta(days=2)]
        tokens_in = 180 + (len(ask) + sum(len(c["text"]) for c in contexts)) // 4
        tokens_out = max(1, len(answer) // 4)
        ttft = self.random.uniform(180, 900)
        metadata = {"locale": locale, "intent": INTENTS[feature], "retrieval_index_version": "2026-11-14", "kind": kind}
        if not contexts:
            del metadata["retrieval_index_version"]
        call = {
            "version": 1,
            "request_id": f"req_{self.random.getrandbits(64):016x}",
            "trace_id": f"{self.random.getrandbits(128):032x}",
            "span_id": f"{self.random.getrandbits(64):016x}",
            "occurred_at": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "feature": feature,
            "tenant_id": tenant,
            "prompt_version": prompt,
            "environment": "production",
            "model_requested": requested,
            "model_resolved": resolved,
            "provider": provider,
            "provider_request_id": f"prov-{self.random.getrandbits(48):012x}",
            "attempt": 1,
            "temperature": 0.0 if feature == "order_extraction" else 0.2,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "latency_ms": {"ttft": round(ttft, 1), "total": round(ttft + tokens_out * self.random.uniform(9, 16), 1)},
            "finish_reason": "stop",
            "messages_hash": hashlib.sha256(f"{prompt}\n{ask}".encode()).hexdigest()[:16],
            "retrieval_ids": [c["id"] for c in contexts],
            "metadata": metadata,
            "content": {"input": ask, "answer": answer, "contexts": contexts},
        }
        if self.random.random() < 0.6:
            call["cost_usd"] = round(tokens_in * 8e-7 + tokens_out * 4e-6, 6)
        if self.random.random() < 0.3:
            call["cached_tokens"] = 180
        if feature == "policy_search":
            call["tool_calls"] = self.tools(ask)
            call["latency_ms"]["tools"] = sum(tool["latency_ms"] for tool in call["tool_calls"])
        call["sampling"] = self.sampling(feature, locale)
        call["metadata"].update(fields.pop("metadata", {}))
        call.update(fields)
        self.calls.append(call)
        return call

    def tools(self, ask):
        """The search, and sometimes the opening of a document, that come before a policy answer."""
        names = ["search_policy"] + (["open_document"] if self.random.random() < 0.5 else [])
        return [
            {
                "name": name,
                "args_hash": hashlib.sha256(f"{name}{ask}".encode()).hexdigest()[:12],
                "latency_ms": self.random.randrange(40, 420),
            }
            for name in names
        ]

    def sampling(self, feature, locale):
        """Head sampling at one in twenty, or one in five within rare strata."""
        if locale not in ("en-US", "en-GB"):
            return {"reason": "stratified", "probability": 0.2, "stratum": f"{feature}/{locale}"}
        return {"reason": "head", "probability": 0.05}

    def answer_from(self, passage, kind, question, answer, extra=None, **fields):
        """A call about one passage, with one to three neighbours in its contexts."""
        count = self.random.choice((1, 2, 2, 3)) if extra is None else extra
        contexts = self.contexts([passage, *self.neighbours(passage, count)])
        cited = answer.replace("[c]", f"[{passage['id']}]")
        if self.random.random() < 0.4:
            fields["metadata"] = {"expected_ids": passage["id"]} | fields.get("metadata", {})
        return self.call(
            kind, passage["feature"], passage["tenant"], passage["locale"], passage["ask"][question], cited, contexts, **fields
        )


def uncited(answer):
    """The answer without its citations."""
    return re.sub(r"\s*\[c\]", "", answer)


def deal_answers(dealer):
    """All hand-written right answers, and most of the wrong ones."""
    for passage in dealer.passages.values():
        for question, answer in enumerate(passage["right"]):
            call = dealer.answer_from(passage, "right", question, answer)
            if dealer.random.random() < 0.08:
                call["feedback"] = {"thumbs": "up", "escalated": False, "csat": dealer.random.choice((4, 5))}
        for kind, question, answer in passage["wrong"]:
            if dealer.random.random() < WRONG_SHARE:
                dealer.answer_from(passage, kind, question, answer)


def deal_double_questions(dealer):
    """Two questions in one message: longer answers, some with a wrong half among right sentences."""
    for passage in dealer.passages.values():
        ask = " ".join(question if question[-1] in ".?!。" else question + "." for question in passage["ask"])
        first, second = passage["right"]
        answers = [("right", [first, second])]
        if dealer.random.random() < MIXED_SHARE:
            kind, question, wrong = dealer.random.choice(passage["wrong"])
            answers.append((kind, [wrong, second] if question == 0 else [first, wrong]))
        for kind, halves in answers:
            answer = dealer.random.choice((" ", "\n\n")).join(halves)
            if 3 <= len(re.findall(r"[.!?](?=\s|$)|。", uncited(answer))) <= 6:
                call = dealer.answer_from(passage, kind, 0, answer)
                call["content"]["input"] = ask
                call["messages_hash"] = hashlib.sha256(f"{call['prompt_version']}\n{ask}".encode()).hexdigest()[:16]


def deal_orders(dealer):
    """Order mails and the JSON that was extracted from them; half of the calls carry the mail as a context."""
    for number, order in enumerate(tomllib.loads((MATERIAL / "orders.toml").read_text("utf-8"))["order"]):
        pretty = json.dumps(json.loads(order["right"]), ensure_ascii=False, indent=2)
        answers = [("right", order["right"]), ("right", pretty), *order["wrong"]]
        for turn, (kind, answer) in enumerate(answers):
            contexts = [{"id": f"mail_{4100 + number}", "text": order["email"]}] if turn % 2 == 0 else []
            call = dealer.call(
                kind, "order_extraction", "acme-shop", order.get("locale", "en-US"),
                f"Extract the order from this mail.\n\n{order['email']}", answer, contexts,
            )
            call["content"]["output_schema"] = ORDER_SCHEMA


def deal_mishaps(dealer):
    """Right answers to which something happened: lost or invented citations, unhappy users, cut-offs, swaps."""
    chosen = dealer.random.sample(sorted(dealer.passages), 58)
    passages = iter(dealer.passages[name] for name in chosen)
    strangers = ["chk_faq_9921", "chk_terms_2019", "chk_legacy_07", "chk_internal_3"]
    for _ in range(6):
        passage = next(passages)
        dealer.answer_from(passage, "uncited", 1, uncited(passage["right"][1]))
    for turn in range(8):
        passage = next(passages)
        answer = passage["right"][1].replace("[c]", f"[{strangers[turn % 4]}]", 1)
        dealer.answer_from(passage, "wrong_citation", 1, answer)
    for thumbs in ["down"] * 8 + [None] * 5:
        passage = next(passages)
        feedback = {"thumbs": thumbs, "escalated": False, "csat": 2} if thumbs else {"escalated": True}
        kind = "thumbs_down_on_right" if thumbs else "escalated_on_right"
        dealer.answer_from(
            passage, kind, 0, passage["right"][0],
            feedback=feedback, sampling={"reason": "always_feedback", "probability": 1.0},
        )
    for _ in range(10):
        passage = next(passages)
        swapped = SWAPPED[passage["feature"]]
        dealer.answer_from(passage, "model_swap", 1, passage["right"][1], model_resolved=swapped)
    for _ in range(7):
        passage = next(passages)
        whole = passage["right"][1].replace("[c]", f"[{passage['id']}]")
        dealer.answer_from(passage, "truncated", 1, whole[: int(len(whole) * 0.6)], finish_reason="length")
    for _ in range(8):
        passage = next(passages)
        call = dealer.answer_from(passage, "empty_context", 0, uncited(passage["right"][0]))
        call["content"]["contexts"] = []
        call["retrieval_ids"] = []
    for turn in range(6):
        deal_long_context(dealer, next(passages), one_document=turn % 2 == 0)


def deal_long_context(dealer, passage, one_document):
    """A right answer that has to be found in a lot of text: twelve contexts, or one long document."""
    call = dealer.answer_from(passage, "long_context", 1, passage["right"][1], extra=11)
    if one_document:
        texts = [context["text"] for context in call["content"]["contexts"]]
        call["content"]["contexts"] = [{"id": passage["id"], "text": "\n\n".join(texts), "score": 0.81}]
        call["retrieval_ids"] = [passage["id"]]
    call["tokens_in"] = 180 + sum(len(context["text"]) for context in call["content"]["contexts"]) // 4


def deal_errors(dealer):
    """Calls that the provider did not answer, followed by the retry that it did."""
    for (error, total), name in zip(ERRORS, dealer.random.sample(sorted(dealer.passages), len(ERRORS))):
        passage = dealer.passages[name]
        dealer.answer_from(
            passage, "provider_error", 0, "",
            error_class=error, finish_reason="error", tokens_out=0, latency_ms={"total": float(total)},
            sampling={"reason": "always_error", "probability": 1.0},
        )
        if error in ("rate_limit", "timeout"):
            dealer.answer_from(passage, "right", 0, passage["right"][0], attempt=2)


def deal_oddities(dealer):
    """What has to be written in one piece: banned phrases, refusals, loops, secrets, injections."""
    for odd in tomllib.loads((MATERIAL / "oddities.toml").read_text("utf-8"))["odd"]:
        about = [dealer.passages[name] for name in odd["about"]]
        contexts = dealer.contexts(about + dealer.neighbours(about[0], 1))
        if "poison" in odd:
            contexts.append({"id": "chk_review_118", "text": odd["poison"], "score": 0.52})
        answer = odd["answer"]
        for name, secret in SECRET_SHAPES.items():
            answer = answer.replace("{" + name + "}", secret)
        call = dealer.call(
            odd["kind"], about[0]["feature"], about[0]["tenant"], about[0]["locale"], odd["ask"], answer, contexts
        )
        if "loop" in odd:
            again = {"name": odd["loop"], "args_hash": hashlib.sha256(odd["ask"].encode()).hexdigest()[:12]}
            call["tool_calls"] = [again | {"latency_ms": dealer.random.randrange(200, 900)} for _ in range(4)]
        if "blocked" in odd:
            call["guardrail_decisions"] = [{"stage": "input", "action": "block", "dimension": odd["blocked"]}]
            call["error_class"] = "guardrail_block"
            call["finish_reason"] = "content_filter"
            call["sampling"] = {"reason": "always_block", "probability": 1.0}


def season(dealer):
    """Sprinkles what is true of any traffic: staging calls, allowed guardrails, absent optional fields."""
    for call in dealer.calls:
        draw = dealer.random.random()
        if draw < 0.03:
            call["environment"] = "staging"
            call["sampling"] = {"reason": "staging", "probability": 1.0}
        elif draw < 0.12 and "guardrail_decisions" not in call:
            call["guardrail_decisions"] = [{"stage": "output", "action": "allow", "dimension": "toxicity"}]
        elif draw < 0.18:
            for optional in ("span_id", "provider_request_id", "attempt", "temperature", "environment"):
                call.pop(optional, None)
        elif draw < 0.22 and call["sampling"]["reason"] == "head":
            del call["sampling"]


def malformed(dealer):
    """Lines that producers get wrong; the last one is fine, its unknown fields are to be kept."""
    def spoilt(**changes):
        call = json.loads(json.dumps(dealer.random.choice([c for c in dealer.calls if c["metadata"]["kind"] == "right"])))
        call["request_id"] = f"req_{dealer.random.getrandbits(64):016x}"
        call.update(changes)
        call["metadata"]["kind"] = "malformed"
        return call

    no_id = spoilt()
    del no_id["request_id"]
    number_answer = spoilt()
    number_answer["content"]["answer"] = 42
    negative = spoilt(latency_ms={"total": -3.5})
    surrogate = spoilt()
    surrogate["content"]["answer"] = "SURROGATE"
    unknown = spoilt(team="checkout", experiment={"name": "short-answers", "arm": "b"})
    unknown["metadata"]["kind"] = "unknown_fields"
    lines = [line_of(call) for call in (no_id, spoilt(version=2), spoilt(tokens_in="311"), negative, number_answer)]
    lines.append(line_of(surrogate).replace('"SURROGATE"', '"The price is \\ud800 only."'))
    lines.append(line_of(spoilt())[:-40])
    # A list of calls is no call, even when it holds a single good one.
    lines.append(f"[{line_of(spoilt())}]")
    lines.append(line_of(unknown))
    return lines


def line_of(call):
    """One call as one line."""
    return json.dumps(call, ensure_ascii=False, separators=(",", ":"))


def build():
    """The whole file as text, and what is in it by kind."""
    dealer = Dealer()
    for deal in (deal_answers, deal_double_questions, deal_orders, deal_mishaps, deal_errors, deal_oddities, season):
        deal(dealer)
    lines = [line_of(call) for call in sorted(dealer.calls, key=lambda call: call["occurred_at"])]
    for line in malformed(dealer):
        lines.insert(dealer.random.randrange(len(lines)), line)
    return "\n".join(lines) + "\n", Counter(call["metadata"]["kind"] for call in dealer.calls)


def main():
    """Writes the file, or compares it."""
    text, kinds = build()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if OUTPUT.exists() and OUTPUT.read_text("utf-8") == text else f"{OUTPUT} is not what would be written")
    OUTPUT.write_text(text, "utf-8")
    for kind, count in kinds.most_common():
        print(f"{count:5}  {kind}")
    print(f"{text.count(chr(10)):5}  lines in all")


if __name__ == "__main__":
    main()
