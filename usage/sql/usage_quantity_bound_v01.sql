-- The raw tables refuse a new quantity above 2^32, so the sum of two billion records fits a bigint.
-- Sources: usage_datausagerecord, usage_voiceusagerecord.
-- Why: a total is a bigint. With 2^40 a record, eight million records of one key overflow it, and
-- every refresh fails. NOT VALID: existing records up to 2^40 stay, and no scan holds the lock.

-- For each usage type:
ALTER TABLE usage_datausagerecord
ADD CONSTRAINT usage_quantity_bound CHECK (kilobytes_used <= 4294967296) NOT VALID;

COMMENT ON COLUMN usage_datausagerecord.kilobytes_used IS
'Quantity used, in kilobytes, from 0 to 2^32; in records of earlier releases to 2^40.';
