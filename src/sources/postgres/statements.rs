//! The queue's SQL. Times are the server's.
//!
//! Those that join are planned anew each time (not `persistent`): a plan that was kept from when the table was small
//! would read all of it once it is large.

/// Leases the next rows. `span` is the part of each lane that is looked at: from its floor to now, and, for rows that a
/// clock set back has stranded, what is due later than anything is put off. `waiting` are the parts that have rows, and
/// `heads` their first entries in the index: twice an equal share of each, so that the depth of one makes up for the
/// emptiness of others and no more is read than a few times what is taken. `share` deals them out in turn, `picked`
/// locks as many of each as fell to it, passing over those that another worker has locked at this moment.
///
/// Parameters: 1 how many, 2 the lane whose turn it is, 3 the floor of each lane, 4 the furthest that anything is put
/// off, 5 the token, 6 the length of the lease. Rows come in the order in which they are to be worked on; `due_ms` is
/// null for a stranded one.
pub(super) const LEASE: &str = "
WITH clock AS MATERIALIZED (
    SELECT aftercheck_now_ms() AS now_ms, set_config('synchronous_commit', 'off', true)),
span AS MATERIALIZED (
    SELECT (place + $2) % 64 AS lane, place, false AS stranded,
        ($3::bigint[])[(place + $2) % 64 + 1] AS since_ms, (SELECT now_ms FROM clock) AS until_ms
    FROM generate_series(0, 63) AS place
    UNION ALL
    SELECT (place + $2) % 64, place, true, (SELECT now_ms FROM clock) + $4 + 1, 9223372036854775807
    FROM generate_series(0, 63) AS place),
waiting AS MATERIALIZED (
    SELECT span.*, count(*) OVER () AS spans FROM span CROSS JOIN LATERAL (
        SELECT FROM queue
        WHERE queue.lane = span.lane AND available_ms BETWEEN since_ms AND until_ms
        ORDER BY available_ms, id LIMIT 1) AS first),
heads AS (
    SELECT waiting.*, row_number() OVER (PARTITION BY place, stranded ORDER BY available_ms, id) AS turn
    FROM waiting CROSS JOIN LATERAL (
        SELECT available_ms, id FROM queue
        WHERE queue.lane = waiting.lane AND available_ms BETWEEN since_ms AND until_ms
        ORDER BY available_ms, id LIMIT least($1, 1 + 2 * $1 / spans)) AS head),
share AS MATERIALIZED (
    SELECT lane, place, stranded, since_ms, until_ms, count(*) AS rows
    FROM (SELECT * FROM heads ORDER BY turn, place, stranded LIMIT $1) AS dealt
    GROUP BY lane, place, stranded, since_ms, until_ms),
picked AS MATERIALIZED (
    SELECT id, available_ms, place, stranded,
        row_number() OVER (PARTITION BY place, stranded ORDER BY available_ms, id) AS turn
    FROM share CROSS JOIN LATERAL (
        SELECT id, available_ms FROM queue
        WHERE queue.lane = share.lane AND available_ms BETWEEN since_ms AND until_ms
        ORDER BY available_ms, id LIMIT share.rows FOR UPDATE SKIP LOCKED) AS next),
leased AS (
    UPDATE queue SET lease_token = $5, deliveries = deliveries + 1, available_ms = (SELECT now_ms FROM clock) + $6
    FROM picked WHERE queue.id = picked.id
    RETURNING queue.id, lane, payload, CASE WHEN stranded THEN NULL ELSE picked.available_ms END AS due_ms,
        turn, place, stranded)
SELECT id, lane, payload, due_ms FROM leased ORDER BY turn, place, stranded";

/// Ends leases: those of 1 under the tokens of 2 are done, those of 3 under the tokens of 4 come again after 5. Gives the
/// rows that were still leased so. What nobody asks for is not computed: therefore `acked` asks for the clock.
pub(super) const SETTLE: &str = "
WITH clock AS MATERIALIZED (
    SELECT aftercheck_now_ms() AS now_ms, set_config('synchronous_commit', 'off', true)),
acked AS (
    DELETE FROM queue USING unnest($1::bigint[], $2::uuid[]) AS done (id, token)
    WHERE queue.id = done.id AND lease_token = token AND (SELECT now_ms FROM clock) IS NOT NULL
    RETURNING queue.id),
retried AS (
    UPDATE queue SET lease_token = NULL, available_ms = (SELECT now_ms FROM clock) + after_ms
    FROM unnest($3::bigint[], $4::uuid[], $5::bigint[]) AS again (id, token, after_ms)
    WHERE queue.id = again.id AND lease_token = token
    RETURNING queue.id)
SELECT id FROM acked UNION ALL SELECT id FROM retried";

/// Holds a row for another while.
pub(super) const EXTEND: &str = "
WITH clock AS MATERIALIZED (
    SELECT aftercheck_now_ms() AS now_ms, set_config('synchronous_commit', 'off', true))
UPDATE queue SET available_ms = (SELECT now_ms FROM clock) + $3 WHERE id = $1 AND lease_token = $2";

/// Queues messages in their order.
pub(super) const PUBLISH: &str = "
INSERT INTO queue (lane, payload)
SELECT lane, payload FROM unnest($1::smallint[], $2::bytea[]) WITH ORDINALITY AS message (lane, payload, place)
ORDER BY place";

/// Sends word of new messages.
pub(super) const NOTIFY: &str = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, '')";

/// Rows up to a number, what the server's running statistics say when there are more, and the age of the oldest. The
/// statistics follow each commit within seconds, and begin at 0 after a crash of the server.
pub(super) const DEPTH: &str = "
SELECT (SELECT count(*) FROM (SELECT id FROM queue ORDER BY id LIMIT $1) AS counted),
    pg_stat_get_live_tuples('queue'::regclass),
    coalesce((SELECT aftercheck_now_ms() - enqueued_ms FROM queue ORDER BY id LIMIT 1), 0)";
