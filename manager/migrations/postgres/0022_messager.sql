-- Calls that Venus' messager sends: it gives the nonce, estimates the gas and signs. Such a call has an id of ours instead of a
-- nonce. Its envelopes are what the messager has signed for it, as far as we have seen. Its state 'signed' means that it is
-- unknown whether the messager has it, and 'withdrawn' that it may still land.

-- NULL: the messager sends it.
ALTER TABLE calls ALTER COLUMN nonce DROP NOT NULL;
-- Our id at the messager.
ALTER TABLE calls ADD COLUMN uid TEXT UNIQUE;
-- The message in CBOR, without nonce and fees. The gas limit is 0 if the messager is to estimate it.
ALTER TABLE calls ADD COLUMN unsigned BYTEA;
-- The most gas fees that it may cost, in attoFIL.
ALTER TABLE calls ADD COLUMN max_fee TEXT;
ALTER TABLE calls ADD CONSTRAINT calls_uid_or_nonce CHECK ((uid IS NOT NULL) = (nonce IS NULL));
ALTER TABLE calls ADD CONSTRAINT calls_unsigned CHECK ((uid IS NOT NULL) = (unsigned IS NOT NULL));
ALTER TABLE calls ADD CONSTRAINT calls_max_fee CHECK ((uid IS NOT NULL) = (max_fee IS NOT NULL));
ALTER TABLE calls ADD CONSTRAINT calls_uid CHECK (uid IS NULL OR (kind <> 'filler' AND signed_epoch IS NOT NULL));
ALTER TABLE calls ADD CONSTRAINT calls_uid_state CHECK (uid IS NULL OR state <> 'reserved');
ALTER TABLE calls DROP CONSTRAINT calls_check1;
ALTER TABLE calls ADD CONSTRAINT calls_envelope CHECK (envelope IS NOT NULL OR uid IS NOT NULL
    OR (kind = 'filler' AND state IN ('reserved', 'failed', 'replaced')));
