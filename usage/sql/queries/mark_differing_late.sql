-- Log every key whose total differs from its raw records as a late key, as a trigger does.
WITH %(_differing)s

INSERT INTO usage_late_key (subscription_id, day, usage_type)
SELECT
    subscription_id,
    day,
    usage_type
FROM differing
