// The calls that the pages are tested with: plain ones, and hostile ones with a string of hostile.json in every free text.

import { readFileSync } from "node:fs";

/** Strings that must never be more than text; those that are written as {text, times} are repeated. */
export const HOSTILE = JSON.parse(readFileSync(new URL("hostile.json", import.meta.url), "utf8")).map((one) =>
  typeof one === "string" ? one : one.text.repeat(one.times),
);

/** Those that can stand in JSON. A message with another is a dead letter, whatever field it stands in. */
export const WHOLE = HOSTILE.filter((text) => text.isWellFormed());

/** A call of a tenant that people have to look at: its second sentence has a number that stands in no context. */
export function plain(tenant, number) {
  return {
    version: 1,
    request_id: `order-${4700 + number}`,
    trace_id: `0af7651916cd43dd8448eb211c8031${String(number).padStart(2, "0")}`,
    tenant_id: tenant,
    occurred_at: "2026-11-02T10:00:00Z",
    feature: ["returns", "shipping", "warranty"][number % 3],
    prompt_version: "7",
    model_requested: "small-1",
    model_resolved: "small-1",
    provider: "acme",
    tokens_in: 61,
    tokens_out: 19,
    latency_ms: { total: 840 },
    finish_reason: "stop",
    messages_hash: "9f2c",
    content: {
      input: "Until when can I return the shoes, and what does it cost?",
      answer: `Shoes can be returned within 30 days. A return costs ${number + 5} euros. The shop is on the moon.`,
      contexts: [
        { id: "returns.md", text: "Shoes can be returned within 30 days of delivery. Returns are free of charge." },
        { id: "shop.md", text: "Our shop is in Vienna. It is open from Monday to Friday." },
      ],
    },
  };
}

/** So many characters of a text, none cut in two. */
function first(text, most) {
  return [...text].slice(0, most).join("");
}

/** Call number `at` of as many as there are strings: over all of them every field has had every string. */
export function hostile(at) {
  let turn = 0;
  // Neighbouring fields have strings that are far from one another.
  const next = (most) => first(WHOLE[(at + 7 * turn++) % WHOLE.length], most);
  const id = () => next(150) || "x";
  return {
    version: 1,
    request_id: `${id()} ${at}`,
    trace_id: id(),
    span_id: id(),
    tenant_id: `hostile ${id()}`,
    occurred_at: "2026-11-02T10:00:00Z",
    feature: id(),
    prompt_version: id(),
    environment: next(90),
    model_requested: id(),
    model_resolved: id(),
    provider: id(),
    provider_request_id: id(),
    tokens_in: 1,
    tokens_out: 2,
    latency_ms: { total: 3 },
    finish_reason: next(90),
    // A call that failed is not judged, and nobody is asked about it: few of them do.
    error_class: at % 20 === 19 ? next(90) : null,
    messages_hash: id(),
    response_hash: id(),
    retrieval_ids: [id()],
    tool_calls: [{ name: id(), args_hash: id(), latency_ms: 1 }],
    guardrail_decisions: [{ stage: next(90), action: next(90), dimension: next(90) }],
    // A thumb down brings it to a person, whatever the checks say.
    feedback: { thumbs: "down" },
    metadata: { [next(100)]: next(1000), locale: next(100), user_id: next(100) },
    [`extra ${next(100)}`]: next(1000),
    content: {
      input: next(20_000),
      answer: next(20_000),
      contexts: [
        { id: id(), text: next(8_000) },
        { id: id(), text: next(8_000) },
      ],
    },
  };
}

/** Messages that become dead letters with a hostile string in what is told of them. */
export function dead(at) {
  const text = first(HOSTILE[at], 150);
  return { ...plain(`dead ${text}`, 1), request_id: `dead ${text} ${at}`, tokens_in: text, [text]: text };
}
