-- Refuses to delete a subscription that has usage: the part of a foreign key that is kept.
-- A real foreign key doubles the cost of an insert. Writers that lock the subscription FOR KEY
-- SHARE (ORM, importer) cannot slip past: the delete waits for them, then looks.

CREATE FUNCTION usage_subscription_keep_used() RETURNS trigger
LANGUAGE plpgsql VOLATILE
AS $body$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a subscription is deleted at READ COMMITTED only, not at %',
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state',
            HINT = 'An older snapshot could miss usage that was just written.';
    END IF;
    IF EXISTS (SELECT 1 FROM usage_record WHERE subscription_id = old.id)
        OR EXISTS (SELECT 1 FROM usage_daily WHERE subscription_id = old.id)
    THEN
        RAISE EXCEPTION 'subscription % has usage and cannot be deleted', old.id
            USING ERRCODE = 'foreign_key_violation',
            HINT = 'Delete its usage records first and refresh the totals.';
    END IF;
    RETURN old;
END
$body$;

CREATE TRIGGER usage_subscription_keep_used
BEFORE DELETE ON usage_subscription
FOR EACH ROW EXECUTE FUNCTION usage_subscription_keep_used();

COMMENT ON FUNCTION usage_subscription_keep_used() IS
'Refuses to delete a subscription that has usage records or totals.';
