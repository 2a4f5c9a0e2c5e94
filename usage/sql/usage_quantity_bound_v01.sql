-- The raw tables refuse a new quantity above 2^32, so that two billion records of one key add up.
-- Sources: usage_datausagerecord, usage_voiceusagerecord.
-- Why: a total is a bigint. At 2^40 a record, eight million records of one key stop every refresh.
-- NOT VALID: records of up to 2^40 that are there stay, and nothing is read under the lock.

-- For each usage type:
ALTER TABLE usage_datausagerecord
ADD CONSTRAINT usage_quantity_bound CHECK (kilobytes_used <= 4294967296) NOT VALID;

COMMENT ON COLUMN usage_datausagerecord.kilobytes_used IS
'Quantity used, in kilobytes, from 0 to 2^32; in records of earlier releases to 2^40.';
