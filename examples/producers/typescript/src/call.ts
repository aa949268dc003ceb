// The message, and what the programs beside this file share.
import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

/** A passage that was shown to the model. */
export interface Context {
  id: string;
  text: string;
  score: number;
}

/** One call as message version 1; `aftercheck schema call` prints the whole contract. */
export function asCall(question: string, answer: string, contexts: Context[], latencyMs: number) {
  const messages = JSON.stringify([question, contexts.map((context) => context.text)]);
  return {
    version: 1,
    // Unique within the tenant. Sending the same id again is safe: it is scored once.
    request_id: randomUUID(),
    trace_id: randomUUID().replaceAll("-", ""),
    occurred_at: new Date().toISOString(),
    feature: "support_answers",
    tenant_id: "acme-shop",
    prompt_version: "support-v15",
    // Both names, so that a silent swap of the model shows.
    model_requested: "claude-haiku-4-5",
    model_resolved: "claude-haiku-4-5-20251001",
    provider: "anthropic",
    tokens_in: 212,
    tokens_out: 14,
    latency_ms: { total: latencyMs },
    finish_reason: "stop",
    messages_hash: createHash("sha256").update(messages).digest("hex").slice(0, 16),
    retrieval_ids: contexts.map((context) => context.id),
    content: { input: question, answer, contexts },
    // Say with which probability the call was taken, or rates cannot be weighted.
    sampling: { reason: "head", probability: 0.05 },
  };
}

/** A call as the service that asked the model would make it. */
function exampleCall() {
  const contexts = [{ id: "chk_gift_cards", text: "Gift cards never expire and carry no fees.", score: 0.91 }];
  return asCall("Do gift cards expire?", "No, gift cards never expire [chk_gift_cards].", contexts, 950);
}

/** What the command line `[--print | FILE]` names: messages, each a line of JSON. */
export function messagesOfCommandLine(usage: string): string[] {
  const argument = process.argv[2];
  if (argument === "--help" || argument === "-h") {
    console.log(usage);
    process.exit();
  }
  if (argument === undefined || argument === "--print") {
    const message = JSON.stringify(exampleCall());
    if (argument === undefined) return [message];
    console.log(message);
    process.exit();
  }
  // Bytes are kept as they are, line ends aside.
  const text = readFileSync(argument === "-" ? 0 : argument, "utf8");
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}
