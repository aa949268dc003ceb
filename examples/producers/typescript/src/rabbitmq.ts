// Puts LLM calls on aftercheck's RabbitMQ queue from TypeScript, with amqplib.
import { crc32 } from "node:zlib";
import { connect, type ConfirmChannel } from "amqplib";
import { messagesOfCommandLine } from "./call.js";

const USAGE = `usage: node dist/rabbitmq.js [--print | FILE]    FILE: JSON lines, one call each, or - for stdin
environment: RABBITMQ_URL [amqp://127.0.0.1:5672/%2f], AFTERCHECK_QUEUE [aftercheck.calls], AFTERCHECK_LANES [1]`;
const URL = process.env.RABBITMQ_URL ?? "amqp://127.0.0.1:5672/%2f";
const QUEUE = process.env.AFTERCHECK_QUEUE ?? "aftercheck.calls";
// As `[source.rabbitmq] lanes` of the workers says.
const LANES = Number(process.env.AFTERCHECK_LANES ?? "1");
// A broker short of memory or disk stops taking messages: no wait without an end.
const DEADLINE_MS = 30_000;

/** The queue of a tenant's calls: with lanes, one tenant's flood does not make the others wait. */
function queueOf(tenantId: string): string {
  return LANES <= 1 ? QUEUE : `${QUEUE}.${crc32(tenantId) % LANES}`;
}

/** Publishes messages; resolves once the broker keeps all of them. After an error, publish them again. */
export async function publish(channel: ConfirmChannel, messages: string[]): Promise<void> {
  // A message for a queue that is not there is confirmed all the same: `mandatory` has it sent back before that.
  let unroutable = 0;
  const returned = () => unroutable++;
  channel.on("return", returned);
  try {
    const confirmed = messages.map((message) => {
      const call = JSON.parse(message);
      const options = {
        mandatory: true,
        persistent: true,
        contentType: "application/json",
        messageId: String(call.request_id ?? ""),
        timestamp: Math.floor(Date.now() / 1000),
      };
      const queue = queueOf(String(call.tenant_id ?? ""));
      return new Promise<void>((resolve, reject) => {
        channel.publish("", queue, Buffer.from(message), options, (error) => (error ? reject(error) : resolve()));
      });
    });
    await within(DEADLINE_MS, Promise.all(confirmed));
  } finally {
    channel.off("return", returned);
  }
  if (unroutable > 0) throw new Error("no such queue: start aftercheck first, it declares its own");
}

/** Ends a wait that takes too long. */
async function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer of the broker in ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

const messages = messagesOfCommandLine(USAGE);
const connection = await connect(URL, { timeout: 10_000 });
try {
  const channel = await connection.createConfirmChannel();
  // So many may wait for their confirmation at a time.
  for (let at = 0; at < messages.length; at += 256) await publish(channel, messages.slice(at, at + 256));
  await channel.close();
} finally {
  await connection.close();
}
console.log(`${messages.length} calls are on the queue`);
