-- Refuses to delete a subscription that has usage, as a foreign key would.
-- Why: a real foreign key doubles the cost of an insert. The ORM and the importer lock the
-- subscription FOR KEY SHARE, so a delete waits for them and then sees their records.

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
    IF EXISTS (SELECT FROM usage_datausagerecord WHERE subscription_id = old.id)
        OR EXISTS (SELECT FROM usage_voiceusagerecord WHERE subscription_id = old.id)
        OR EXISTS (SELECT FROM usage_daily WHERE subscription_id = old.id)
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
