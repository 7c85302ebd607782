-- Views over a bucket: the event log and the executors' records.
--
--   duckdb -cmd "SET VARIABLE bucket = './data'" -cmd ".read deploy/duckdb/views.sql"
--
-- The bucket is a folder, or an address such as s3://mess-exchange for which the session has a
-- secret of type s3. Other clients set the variable and run this file. Moments are UTC.
--
-- Each query reads the bucket anew. To read it once and ask much, go on with
--
--   CREATE TEMP TABLE events AS FROM events;

SET VARIABLE bucket = coalesce(getvariable('bucket'), './data');

CREATE OR REPLACE MACRO utc(moment) AS TRY_CAST(moment AS TIMESTAMPTZ) AT TIME ZONE 'UTC';

-- A thread's statuses, from open to over: it is over from 'completed' on.
CREATE OR REPLACE TYPE status AS ENUM (
    'pending', 'claimed', 'in-progress', 'waiting', 'held', 'retrying', 'needs_input',
    'needs_confirmation', 'completed', 'partial', 'failed', 'rejected', 'declined', 'cancelled',
    'expired', 'superseded', 'delegated'
);

-- A row is an event, as the log has it, with the `exchange` under which it lies. Lines that are
-- no events are left out; an event that was written twice counts once.
CREATE OR REPLACE VIEW events AS
SELECT DISTINCT ON (exchange, thread_ref, event_id)
    event_id, utc(ts) AS ts, exchange_id, thread_ref, event_type, actor_id, payload, exchange
FROM read_json(
    getvariable('bucket') || '/events/**/*.jsonl',
    format = 'newline_delimited',
    ignore_errors = true,
    hive_partitioning = true,
    hive_types = {exchange: VARCHAR},
    -- Names that differ only in case, or values of many shapes, are no matter in a payload of JSON.
    columns = {
        event_id: 'VARCHAR', ts: 'VARCHAR', exchange_id: 'VARCHAR', thread_ref: 'VARCHAR',
        event_type: 'VARCHAR', actor_id: 'VARCHAR', payload: 'JSON'
    }
)
WHERE event_id IS NOT NULL AND event_type IS NOT NULL AND utc(ts) IS NOT NULL;

-- A row is a thread as it stands. `executor` holds it, or held it when it ended. `claimed_by` was
-- the first to take it, with 'claimed' or straight with a later status, at `claimed_at`; `ended_at`
-- is null until it is over. `messages` counts its messages, each of one block or more.
CREATE OR REPLACE VIEW threads AS
WITH facts AS (
    SELECT
        exchange, thread_ref AS ref, event_type, event_id, ts, payload,
        CASE WHEN event_type = 'status_changed' THEN TRY_CAST(
            CASE payload->>'$.new_status'
                WHEN 'in_progress' THEN 'in-progress'
                WHEN 'canceled' THEN 'cancelled'
                ELSE payload->>'$.new_status'
            END AS status
        ) END AS change,
        payload->>'$.executor_id' AS holder,
        -- Several changes of one call share a moment.
        coalesce(TRY_CAST(payload->>'$.step' AS INTEGER), 0) AS step
    FROM events
    WHERE thread_ref IS NOT NULL
), folded AS (
    SELECT
        exchange, ref,
        arg_min({ts: ts, payload: payload}, (ts, event_id))
            FILTER (event_type = 'thread_created') AS created,
        coalesce(arg_max(change, (ts, step, change, event_id)), 'pending'::status) AS status,
        -- The last to be named holds it, unless it was released since.
        nullif(arg_max(if(change = 'pending', '', holder), (ts, step, change, event_id))
            FILTER (change IS NOT NULL), '') AS executor,
        min(ts) FILTER (change > 'pending'::status AND holder IS NOT NULL) AS claimed_at,
        arg_min(holder, (ts, step, change, event_id)) FILTER (change > 'pending'::status) AS claimed_by,
        min(ts) FILTER (change >= 'completed'::status) AS ended_at,
        max(ts) AS updated_at,
        count(*) FILTER (event_type = 'message_added') AS messages
    FROM facts
    GROUP BY exchange, ref
)
SELECT
    exchange, ref,
    created.payload->>'$.intent' AS intent,
    coalesce(created.payload->>'$.priority', 'normal') AS priority,
    created.payload->>'$.requestor_id' AS requestor,
    status::VARCHAR AS status,
    executor,
    created.ts AS created_at,
    claimed_at,
    claimed_by,
    if(status >= 'completed'::status, ended_at, NULL) AS ended_at,
    updated_at,
    messages
FROM folded
WHERE created IS NOT NULL;

-- A row is a thread that was taken: who took it first, and how many seconds after it was posted.
CREATE OR REPLACE VIEW time_to_claim AS
SELECT
    exchange, ref, priority, claimed_by AS executor, epoch(claimed_at - created_at) AS seconds
FROM threads
WHERE claimed_at IS NOT NULL;

-- A row is a completed thread: who completed it, and how many seconds after it was posted.
CREATE OR REPLACE VIEW time_to_complete AS
SELECT exchange, ref, priority, executor, epoch(ended_at - created_at) AS seconds
FROM threads
WHERE status = 'completed';

-- A row is a block of a message: `kind` is its one name, `content` what stands under it, `place`
-- where it stands in the message, from 1. A block with no name or several is all `content`.
CREATE OR REPLACE VIEW messages AS
WITH blocks AS (
    SELECT
        exchange, thread_ref AS ref, ts, actor_id AS "from",
        generate_subscripts(payload->'$.mess[*]', 1) AS place,
        unnest(payload->'$.mess[*]') AS block
    FROM events
    WHERE event_type = 'message_added'
)
SELECT
    exchange, ref, ts, "from", place,
    if(len(json_keys(block)) = 1, json_keys(block)[1], NULL) AS kind,
    if(len(json_keys(block)) = 1, (block->'$.*')[1], block) AS content
FROM blocks;

-- A row is an executor's record without its keys, its channels and its hooks: only how many of
-- these it has. `last_seen` may be ten minutes behind. `removed_at` is null for members. Who owns the
-- exchange is not in the records.
CREATE OR REPLACE VIEW executors AS
WITH records AS (
    SELECT
        split_part(parse_path(filename)[-2], '=', 2) AS exchange,
        parse_filename(filename, true) AS id,
        TRY(decode(content)::JSON) AS record
    FROM read_blob(getvariable('bucket') || '/executors/exchange=*/*.json')
)
SELECT
    exchange, id,
    record->>'$.display_name' AS display_name,
    to_json(record->'$.capabilities[*]') AS capabilities,
    utc(record->>'$.created_at') AS created_at,
    utc(record->>'$.last_seen') AS last_seen,
    len(record->'$.notifications[*]') AS channels,
    len(record->'$.hooks.*[*]') AS hooks,
    record->>'$.access.kind' AS kind,
    coalesce(record->>'$.access.role', 'member') AS role,
    coalesce(TRY_CAST(record->>'$.access.suspended' AS BOOLEAN), false) AS suspended,
    utc(record->>'$.access.removed_at') AS removed_at
FROM records
WHERE record->>'$.id' = id;

-- A row is an entry of the audit: who let whom in, who was removed, who got or lost a key or a role.
-- `by` is null if it was the operator. `details` has what else the entry says.
CREATE OR REPLACE VIEW audit AS
WITH entries AS (
    SELECT
        split_part(parse_path(filename)[-2], '=', 2) AS exchange,
        TRY(decode(content)::JSON) AS entry
    -- A bucket of an older version has no audit, and DuckDB wants to find a file.
    FROM read_blob([
        getvariable('bucket') || '/executors/exchange=*/*.json',
        getvariable('bucket') || '/audit/exchange=*/*.json'
    ])
    WHERE contains(filename, '/audit/exchange=')
)
SELECT
    exchange,
    utc(entry->>'$.at') AS at,
    entry->>'$.event' AS event,
    entry->>'$.executor_id' AS executor_id,
    entry->>'$.by' AS "by",
    json_merge_patch(
        entry,
        '{"id": null, "at": null, "event": null, "executor_id": null, "by": null}'
    ) AS details
FROM entries
WHERE entry IS NOT NULL;
