import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.MessageProperties;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.Date;
import java.util.HexFormat;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.zip.CRC32;

/**
 * Puts LLM calls on aftercheck's RabbitMQ queue from Java 17, with amqp-client 5 and Jackson 2.
 *
 * <p>{@code java -cp LIBRARIES RabbitMqProducer.java [--print | FILE]}; copy {@code exampleCall} and {@code publish} into
 * the service that talks to the model.
 */
public final class RabbitMqProducer {
    private static final String USAGE = """
            usage: java -cp LIBRARIES RabbitMqProducer.java [--print | FILE]    FILE: JSON lines, one call each
            environment: RABBITMQ_URL [amqp://127.0.0.1:5672/%2f], AFTERCHECK_QUEUE [aftercheck.calls], AFTERCHECK_LANES [1]
            libraries: com.rabbitmq:amqp-client, com.fasterxml.jackson.core:jackson-databind, org.slf4j:slf4j-api""";
    private static final String QUEUE = environment("AFTERCHECK_QUEUE", "aftercheck.calls");
    /** As {@code [source.rabbitmq] lanes} of the workers says. */
    private static final int LANES = Integer.parseInt(environment("AFTERCHECK_LANES", "1"));
    /** A broker short of memory or disk stops taking messages: no wait without an end. */
    private static final long DEADLINE_MS = 30_000;
    /** Messages that may wait for their confirmation at a time. */
    private static final int WINDOW = 256;

    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        String argument = arguments.length == 0 ? "" : arguments[0];
        if (argument.equals("--help") || argument.equals("-h") || argument.equals("--print")) {
            System.out.println(argument.equals("--print") ? JSON.writeValueAsString(exampleCall()) : USAGE);
            return;
        }
        List<String> messages = argument.isEmpty()
                ? List.of(JSON.writeValueAsString(exampleCall()))
                : Files.readAllLines(Path.of(argument)).stream().map(String::strip).filter(line -> !line.isEmpty()).toList();
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(environment("RABBITMQ_URL", "amqp://127.0.0.1:5672/%2f"));
        factory.setConnectionTimeout(10_000);
        try (Connection connection = factory.newConnection("producer"); Channel channel = connection.createChannel()) {
            channel.confirmSelect();
            for (int at = 0; at < messages.size(); at += WINDOW) {
                publish(channel, messages.subList(at, Math.min(at + WINDOW, messages.size())));
            }
        }
        System.out.println(messages.size() + " calls are on the queue");
    }

    /** One call as message version 1, as the service that asked the model would build it. */
    static ObjectNode exampleCall() throws Exception {
        String question = "Do gift cards expire?";
        String context = "Gift cards never expire and carry no fees.";
        byte[] hash = MessageDigest.getInstance("SHA-256").digest((question + "\n" + context).getBytes(StandardCharsets.UTF_8));
        ObjectNode call = JSON.createObjectNode()
                .put("version", 1)
                // Unique within the tenant. Sending the same id again is safe: it is scored once.
                .put("request_id", UUID.randomUUID().toString())
                .put("trace_id", UUID.randomUUID().toString().replace("-", ""))
                .put("occurred_at", Instant.now().toString())
                .put("feature", "support_answers")
                .put("tenant_id", "acme-shop")
                .put("prompt_version", "support-v15")
                // Both names, so that a silent swap of the model shows.
                .put("model_requested", "claude-haiku-4-5")
                .put("model_resolved", "claude-haiku-4-5-20251001")
                .put("provider", "anthropic")
                .put("tokens_in", 212)
                .put("tokens_out", 14)
                .put("finish_reason", "stop")
                .put("messages_hash", HexFormat.of().formatHex(hash, 0, 8));
        call.putObject("latency_ms").put("total", 950.0);
        call.putArray("retrieval_ids").add("chk_gift_cards");
        ObjectNode content = call.putObject("content")
                .put("input", question)
                .put("answer", "No, gift cards never expire [chk_gift_cards].");
        content.putArray("contexts").addObject().put("id", "chk_gift_cards").put("text", context).put("score", 0.91);
        // Say with which probability the call was taken, or rates cannot be weighted.
        call.putObject("sampling").put("reason", "head").put("probability", 0.05);
        return call;
    }

    /** Publishes messages and returns once the broker keeps all of them. After an error, publish them again. */
    static void publish(Channel channel, List<String> messages) throws Exception {
        // A message for a queue that is not there is confirmed all the same: `mandatory` has it sent back before that.
        AtomicInteger unroutable = new AtomicInteger();
        channel.clearReturnListeners();
        channel.addReturnListener((code, text, exchange, key, properties, body) -> unroutable.incrementAndGet());
        for (String message : messages) {
            JsonNode call = JSON.readTree(message);
            AMQP.BasicProperties properties = MessageProperties.PERSISTENT_BASIC.builder()
                    .contentType("application/json")
                    .messageId(call.path("request_id").asText())
                    .timestamp(new Date())
                    .build();
            channel.basicPublish("", queueOf(call.path("tenant_id").asText()), true, properties,
                    message.getBytes(StandardCharsets.UTF_8));
        }
        channel.waitForConfirmsOrDie(DEADLINE_MS);
        if (unroutable.get() > 0) {
            throw new IllegalStateException("no such queue: start aftercheck first, it declares its own");
        }
    }

    /** The queue of a tenant's calls: with lanes, one tenant's flood does not make the others wait. */
    static String queueOf(String tenantId) {
        CRC32 crc = new CRC32();
        crc.update(tenantId.getBytes(StandardCharsets.UTF_8));
        return LANES <= 1 ? QUEUE : QUEUE + "." + crc.getValue() % LANES;
    }

    private static String environment(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }
}
