// Puts LLM calls on aftercheck's SQS queue from TypeScript, with the AWS SDK v3.
import { setTimeout as sleep } from "node:timers/promises";
import { GetQueueUrlCommand, SendMessageBatchCommand, SQSClient } from "@aws-sdk/client-sqs";
import { messagesOfCommandLine } from "./call.js";

const USAGE = `usage: node dist/sqs.js [--print | FILE]    FILE: JSON lines, one call each, or - for stdin
environment: AFTERCHECK_QUEUE [aftercheck], and the SDK's own: AWS_REGION, AWS_ENDPOINT_URL_SQS, credentials`;
const QUEUE = process.env.AFTERCHECK_QUEUE ?? "aftercheck";
// SQS's limits of one batch.
const BATCH_MESSAGES = 10;
const BATCH_BYTES = 1024 * 1024;
const TRIES = 5;

/** Groups messages so that each group keeps to SQS's limits. */
function* batches(messages: string[]): Generator<string[]> {
  let batch: string[] = [];
  let bytes = 0;
  for (const message of messages) {
    const size = Buffer.byteLength(message);
    if (batch.length > 0 && (batch.length === BATCH_MESSAGES || bytes + size > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(message);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}

/** Sends one batch; resolves once SQS keeps all of it. After an error, send it again. */
export async function publish(sqs: SQSClient, queueUrl: string, batch: string[]): Promise<void> {
  let open = batch.map((message, number) => ({ Id: String(number), MessageBody: message }));
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const abortSignal = AbortSignal.timeout(15_000);
    // The answer is 200 even where entries failed.
    const answer = await sqs.send(new SendMessageBatchCommand({ QueueUrl: queueUrl, Entries: open }), { abortSignal });
    const failed = answer.Failed ?? [];
    if (failed.length === 0) return;
    const ours = failed.find((entry) => entry.SenderFault);
    if (ours) throw new Error(`SQS refuses message ${ours.Id}: ${ours.Code} ${ours.Message ?? ""}`);
    open = open.filter((entry) => failed.some((other) => other.Id === entry.Id));
    await sleep(200 * 2 ** attempt);
  }
  throw new Error(`SQS has not taken ${open.length} messages in ${TRIES} tries`);
}

const messages = messagesOfCommandLine(USAGE);
const sqs = new SQSClient({ maxAttempts: TRIES });
const { QueueUrl } = await sqs.send(new GetQueueUrlCommand({ QueueName: QUEUE }), {
  abortSignal: AbortSignal.timeout(15_000),
});
if (QueueUrl === undefined) throw new Error(`no queue ${QUEUE}`);
for (const batch of batches(messages)) await publish(sqs, QueueUrl, batch);
console.log(`${messages.length} calls are on the queue`);
