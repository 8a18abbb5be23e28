-- Sectors: a version that rises with each change, so that a process which keeps a sector in memory can tell whether it is
-- still the one in the database.
ALTER TABLE sectors ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
CREATE FUNCTION sectors_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a change of a sector must raise its version';
END
$$;
CREATE TRIGGER sectors_version BEFORE UPDATE ON sectors FOR EACH ROW WHEN (NEW.version <= OLD.version)
EXECUTE FUNCTION sectors_version();
