"""The statements of generate_usage."""

from dataclasses import dataclass

from usage.models import RECORD_MODELS, UsageType


@dataclass(frozen=True)
class Sample:
    """How the sample records of a usage type look: how many of them there are beside others, their
    largest quantity and the price of a unit."""

    share: int = 1
    most_quantity: str = "10"
    rate: str = "0.05"


SAMPLES = {
    UsageType.DATA: Sample(share=3, most_quantity="200000", rate="0.00000083"),
    UsageType.VOICE: Sample(share=2, most_quantity="3600", rate="0.0025"),
}


def _targets() -> list[dict[str, str]]:
    """The formats of MAKE_RECORDS, one for each usage type: each takes its share of the numbers."""
    samples = [(model, SAMPLES.get(code, Sample())) for code, model in RECORD_MODELS.items()]
    all_shares = sum(sample.share for _, sample in samples)
    targets = []
    first = 0
    for model, sample in samples:
        last = first + sample.share - 1
        targets.append(
            {
                "table": model._meta.db_table,
                "quantity": model.quantity_column,
                "most_quantity": sample.most_quantity,
                "rate": sample.rate,
                "which": f"number %% {all_shares} BETWEEN {first} AND {last}",
            }
        )
        first = last + 1
    return targets


TARGETS = _targets()

MAKE_SUBSCRIPTIONS = """
INSERT INTO usage_subscription (external_id)
SELECT wanted.external_id
FROM generate_series(1, %(subscriptions)s) AS numbers (number)
CROSS JOIN LATERAL (
    SELECT 'sub-' || lpad(number::text, greatest(6, length(number::text)), '0') AS external_id
) AS wanted
LEFT JOIN usage_subscription ON usage_subscription.external_id = wanted.external_id
WHERE usage_subscription.id IS NULL
ORDER BY wanted.external_id
ON CONFLICT (external_id) DO NOTHING
"""

NUMBER_SUBSCRIPTIONS = """
DROP TABLE IF EXISTS pg_temp.usage_generate_subscription;
CREATE TEMP TABLE usage_generate_subscription AS
SELECT
    number,
    usage_subscription.id AS subscription_id
FROM generate_series(1, %(subscriptions)s) AS numbers (number)
INNER JOIN usage_subscription ON external_id
    = 'sub-' || lpad(number::text, greatest(6, length(number::text)), '0');
ANALYZE pg_temp.usage_generate_subscription;
"""

# During a step nobody may delete a subscription that gets usage. To lock each row, as the importer
# does, would take longer than to generate the records.
LOCK_SUBSCRIPTIONS = "LOCK TABLE usage_subscription IN SHARE MODE"

# Two hashes of the row number are 128 random bits. They are the id, and also the source of three
# numbers from 0 up to 1 and of one from 0 to 1023 (`oddity`). The cube of the first makes few
# subscriptions use much; the fourth power of the third makes most records small. By `oddity` one
# record in two hundred is a credit and four in two hundred cost nothing. The rows are sorted, so
# that they find their index pages in memory and two runs never deadlock.
MAKE_RECORDS = """
INSERT INTO {table} (subscription_id, usage_date, {quantity}, price, id)
WITH hashes AS (
    SELECT
        hashint8extended(number, %(seed)s) AS one,
        hashint8extended(number, %(other_seed)s) AS two
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS numbers (number)
    WHERE {which}
),

chances AS (
    SELECT
        (one & 4294967295)::float8 / 4294967296 AS who,
        ((one >> 32) & 4294967295)::float8 / 4294967296 AS moment,
        (two & 4294967295)::float8 / 4294967296 AS amount,
        (two >> 32) & 1023 AS oddity,
        encode(int8send(one) || int8send(two), 'hex')::uuid AS id
    FROM hashes
),

day_bounds AS (
    SELECT
        usage_day_start(%(day)s::date) AS day_start,
        1000 * extract(
            EPOCH FROM usage_day_start(%(day)s::date + 1) - usage_day_start(%(day)s::date)
        )::float8 AS milliseconds
),

amounts AS (
    SELECT
        1 + floor(%(subscriptions)s * who * who * who)::bigint AS number,
        width_bucket(moment, %(starts)s::float8[]) AS hour,
        moment,
        floor({most_quantity} * amount * amount * amount * amount)::bigint AS quantity,
        CASE WHEN oddity < 5 THEN -{rate} WHEN oddity < 25 THEN 0 ELSE {rate} END AS rate,
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
"""
