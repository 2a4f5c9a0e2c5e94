-- Add the sample records of one usage type with row numbers from `first` to `last`. The rows are
-- sorted, so that they find their index pages in memory and two runs never deadlock.
INSERT INTO %(_table)s (subscription_id, usage_date, %(_quantity)s, price, id)
WITH hashed AS (
    SELECT
        hashint8extended(number, %(seed)s) AS one,
        hashint8extended(number, %(other_seed)s) AS two
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS numbers (number)
    WHERE mod(number, %(all_shares)s) BETWEEN %(first_share)s AND %(last_share)s
),

-- Two hashes of the row number are 128 random bits. They are the id, and also the source of three
-- numbers from 0 up to 1 and of one from 0 to 1023 (`oddity`).
chances AS (
    SELECT
        (one & 4294967295)::float8 / 4294967296 AS who,
        ((one >> 32) & 4294967295)::float8 / 4294967296 AS moment,
        (two & 4294967295)::float8 / 4294967296 AS amount,
        (two >> 32) & 1023 AS oddity,
        encode(int8send(one) || int8send(two), 'hex')::uuid AS id
    FROM hashed
),

day_bounds AS (
    SELECT
        usage_day_start(%(day)s::date) AS day_start,
        1000 * extract(
            EPOCH FROM usage_day_start(%(day)s::date + 1) - usage_day_start(%(day)s::date)
        )::float8 AS milliseconds
),

-- The cube of the first number makes few subscriptions use much. The fourth power of the third
-- makes most records small. By `oddity` one record in two hundred is a credit and four in two
-- hundred cost nothing.
amounts AS (
    SELECT
        1 + floor(%(subscriptions)s * who * who * who)::bigint AS number,
        width_bucket(moment, %(starts)s::float8[]) AS hour,
        moment,
        floor(%(most_quantity)s * amount * amount * amount * amount)::bigint AS quantity,
        CASE WHEN oddity < 5 THEN -%(rate)s WHEN oddity < 25 THEN 0 ELSE %(rate)s END AS rate,
        id
    FROM chances
)

SELECT
    usage_generate_subscription.subscription_id,
    day_start + floor(
        milliseconds
        * (hour - 1 + (moment - (%(starts)s::float8[])[hour]) / (%(widths)s::float8[])[hour]) / 24
    ) * interval '1 millisecond' AS usage_date,
    quantity,
    quantity * rate AS price,
    amounts.id
FROM amounts
INNER JOIN pg_temp.usage_generate_subscription USING (number)
CROSS JOIN day_bounds
ORDER BY subscription_id, usage_date, id
ON CONFLICT DO NOTHING
