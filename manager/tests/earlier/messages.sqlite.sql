PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO _sqlx_migrations VALUES(1,'initial','2026-11-28 01:18:58',1,X'f3791ac192580a50d3f6d4317a999233981dfef2a534f849275c338e17c6761a3a7a154c525dd3bc24f501899507446c',7513846);
INSERT INTO _sqlx_migrations VALUES(2,'rebuilds and orders','2026-11-28 01:18:58',1,X'744267d9e0e0cb0e28f8d7769b38e3c247a61e95deeb34e34ca1bd84419e161404441b97cd3f27086466bb39a053c34b',16320874);
INSERT INTO _sqlx_migrations VALUES(3,'versions of sectors','2026-11-28 01:18:58',1,X'cda2ed2dfde4aa43aa433ce913f770b27d44be421292386d284e1b5d4aa0ea0ba2d4b2ffd907fccfa9779203abd377f6',14473041);
INSERT INTO _sqlx_migrations VALUES(4,'index of queued sectors','2026-11-28 01:18:58',1,X'621c56aff26e2d1d0363ba1d2b6d6a77b7409c5971f074f022ca10e0668fa9792053f94f2eaa891104ece1e430d8bda6',3244609);
INSERT INTO _sqlx_migrations VALUES(5,'withdrawn messages','2026-11-28 01:18:58',1,X'4fbc102eeb0a8243dbfb107001753b6d8918d782d7f4c5e500faea00abe441afe8faf94c4719252f257b78e5d276f20c',10494680);
INSERT INTO _sqlx_migrations VALUES(6,'waits','2026-11-28 01:18:58',1,X'ab5f1580e4f829dd399d7ff609d5fe1a148d48b81caa8b08c19f05c4b8ab380af7c8c8bd1d5425e5fcc7794eaf50fd86',6561748);
INSERT INTO _sqlx_migrations VALUES(7,'grants','2026-11-28 01:18:58',1,X'4b04037db314ad7e123972191b640fa2fd3200ed04685c1f776118b8623ce059be2d0ab40f31424a48bdcb06a4dfefd6',11590685);
INSERT INTO _sqlx_migrations VALUES(8,'identities','2026-11-28 01:18:58',1,X'1ac2d2c06bda4b0c5668971e4b23e3687c33dfd7ea553154a16bfd99a572e1b0faff91dc4e9aaa3dab3bde23a3385eb7',3232361);
INSERT INTO _sqlx_migrations VALUES(9,'pledges that can be taken back','2026-11-28 01:18:58',1,X'6971dee9e3c416833a0f17b1343c709d3591c6f95321bc24d25301a855a424cd6937be1cee10c16b681973a33e7a9b0b',7346856);
INSERT INTO _sqlx_migrations VALUES(11,'looks','2026-11-28 01:18:58',1,X'470ffc7617db00795d5068820e21dd6b7190e9c39a339d4fa7b6f7be3c4c8ca680120379416c2fd27c1fa17a8b86adb0',8602020);
INSERT INTO _sqlx_migrations VALUES(12,'jobs','2026-11-28 01:18:58',1,X'7a03f5901f156ade09d71ceffd8df73c683f8e59962cdcdaa063646c662f859adc3163408cf619bc99290bc5725b9ccf',22685996);
INSERT INTO _sqlx_migrations VALUES(13,'archived history','2026-11-28 01:18:58',1,X'9aa459e1444e52ba040765795aeb43e18ae1ea1c5cc52b8e0a7a0273fecd8e802a7184aa41482f2cf805e1533f0e47e9',7248398);
INSERT INTO _sqlx_migrations VALUES(14,'no unknown leases','2026-11-28 01:18:58',1,X'96706096f63ea21066c8f7b7c0342abfe348d598ee5ea59b35627df69cb10dba2167da7eee4c382fab02578104c57479',3236027);
CREATE TABLE fold (
    only          INTEGER PRIMARY KEY CHECK (only = 1),
    stream        TEXT    NOT NULL,
    last_sequence BIGINT  NOT NULL,
    -- Rises each time a manager takes over; whoever has an older one may not write.
    epoch         BIGINT  NOT NULL
, seen_at TEXT, seen_host TEXT);
INSERT INTO fold VALUES(1,'SEAL_SECTORS@1',0,0,NULL,NULL);
CREATE TABLE pledges (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    miner      TEXT   NOT NULL,
    remaining  BIGINT NOT NULL CHECK (remaining >= 0),
    asked_at   TEXT   NOT NULL,
    asked_by   TEXT   NOT NULL
, asked BIGINT NOT NULL DEFAULT 0, cancelled BIGINT NOT NULL DEFAULT 0, why TEXT NOT NULL DEFAULT '');
CREATE TABLE audit (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     TEXT NOT NULL,
    actor  TEXT NOT NULL,
    -- Such as `sectors resubmit`.
    verb   TEXT NOT NULL,
    -- A sector, a worker, or a worker's slot.
    target TEXT NOT NULL,
    why    TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE TABLE worker_orders (
    worker    TEXT   PRIMARY KEY,
    revision  BIGINT NOT NULL CHECK (revision >= 1),
    published BIGINT NOT NULL DEFAULT 0,
    drain     BIGINT NOT NULL CHECK (drain IN (0, 1))
);
CREATE TABLE slot_releases (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    worker TEXT NOT NULL,
    slot   TEXT NOT NULL,
    at     TEXT NOT NULL,
    -- When the worker's heartbeat said that it is carried out.
    done_at TEXT
, order_number BIGINT);
CREATE TABLE IF NOT EXISTS "history" (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    miner    TEXT   NOT NULL,
    number   BIGINT NOT NULL,
    at       TEXT   NOT NULL,
    sequence BIGINT,
    actor    TEXT   NOT NULL,
    token    BIGINT,
    kind     TEXT   NOT NULL,
    detail   TEXT   NOT NULL,
    verdict  TEXT   NOT NULL
        CHECK (verdict = 'applied' OR verdict = 'noted' OR verdict = 'illegal' OR verdict = 'fenced')
);
INSERT INTO history VALUES(1,'f01000',1,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(2,'f01000',1,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(3,'f01000',1,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(4,'f01000',1,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(5,'f01000',2,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(6,'f01000',2,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(7,'f01000',2,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(8,'f01000',2,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(9,'f01000',3,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(10,'f01000',3,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(11,'f01000',3,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(12,'f01000',3,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(13,'f01000',4,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(14,'f01000',4,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(15,'f01000',4,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(16,'f01000',4,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(17,'f01000',5,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(18,'f01000',5,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(19,'f01000',5,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(20,'f01000',5,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(21,'f01000',6,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(22,'f01000',6,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(23,'f01000',6,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(24,'f01000',6,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(25,'f01000',7,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(26,'f01000',7,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(27,'f01000',7,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(28,'f01000',7,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(29,'f01000',8,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(30,'f01000',8,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(31,'f01000',8,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(32,'f01000',8,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(33,'f01000',9,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(34,'f01000',9,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(35,'f01000',9,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(36,'f01000',9,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(37,'f01000',10,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(38,'f01000',10,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(39,'f01000',10,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(40,'f01000',10,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(41,'f01000',11,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(42,'f01000',11,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(43,'f01000',11,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(44,'f01000',11,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(45,'f01000',12,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(46,'f01000',12,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(47,'f01000',12,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(48,'f01000',12,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(49,'f01000',13,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(50,'f01000',13,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(51,'f01000',13,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(52,'f01000',13,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(53,'f01000',14,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(54,'f01000',14,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(55,'f01000',14,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(56,'f01000',14,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(57,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(58,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(59,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(60,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(61,'f01000',16,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(62,'f01000',16,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(63,'f01000',16,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(64,'f01000',16,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(65,'f01000',17,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(66,'f01000',17,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(67,'f01000',17,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(68,'f01000',17,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(69,'f01000',7,'2026-11-28T01:18:59.088684619Z',NULL,'manager',NULL,'test','{}','noted');
INSERT INTO history VALUES(70,'f01000',9,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(71,'f01000',10,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(72,'f01000',10,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(73,'f01000',10,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(74,'f01000',10,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(75,'f01000',10,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(76,'f01000',10,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(77,'f01000',13,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(78,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(79,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(80,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(81,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(82,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(83,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(84,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
INSERT INTO history VALUES(85,'f01000',15,'2026-11-28T00:00:00Z',NULL,'manager',NULL,'test','{}','applied');
CREATE TABLE IF NOT EXISTS "messages" (
    key           TEXT   PRIMARY KEY,
    kind          TEXT   NOT NULL CHECK (kind IN ('precommit', 'prove_commit', 'filler')),
    miner         TEXT   NOT NULL,
    number        BIGINT NOT NULL,
    attempt       BIGINT NOT NULL DEFAULT 1,
    turn          BIGINT NOT NULL DEFAULT 1,
    state         TEXT   NOT NULL
        CHECK (state IN ('wanted', 'signed', 'pushed', 'withdrawn', 'landed', 'failed', 'replaced')),
    sender        TEXT,
    nonce         BIGINT,
    cid           TEXT,
    signed        BLOB,
    signed_epoch  BIGINT,
    pushed_epoch  BIGINT,
    landed_epoch  BIGINT,
    exit_code     BIGINT,
    -- Why it is over without its effect, or on the way there.
    error         TEXT,
    -- How many messages for its purpose were executed in vain before this one.
    failures      BIGINT NOT NULL DEFAULT 0 CHECK (failures >= 0),
    -- The least gas limit to sign it with, after one that did not suffice.
    gas_limit_min BIGINT,
    -- The head when the node first refused to estimate it.
    refused_epoch BIGINT,
    CHECK ((nonce IS NOT NULL) = (sender IS NOT NULL)),
    CHECK ((signed IS NOT NULL) = (cid IS NOT NULL)),
    CHECK ((signed IS NOT NULL) = (nonce IS NOT NULL) OR kind = 'filler'),
    CHECK (nonce IS NOT NULL OR kind <> 'filler'),
    CHECK (signed IS NOT NULL OR state IN ('wanted', 'failed', 'replaced')),
    CHECK (signed IS NULL OR state <> 'wanted'),
    CHECK (pushed_epoch IS NOT NULL OR state NOT IN ('pushed', 'landed')),
    CHECK (landed_epoch IS NOT NULL OR state <> 'landed'),
    CHECK ((error IS NOT NULL) = (state IN ('withdrawn', 'failed', 'replaced')))
);
INSERT INTO messages VALUES('precommit/f01000/1/1','precommit','f01000',1,1,1,'wanted',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/2/1','precommit','f01000',2,1,1,'failed','t3a',2,'cid2',X'62797465732032',60,61,NULL,7,'out of gas',0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/3/1','precommit','f01000',3,1,1,'signed','t3a',3,'cid3',X'62797465732033',60,NULL,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/4/1','precommit','f01000',4,1,1,'pushed','t3a',4,'cid4',X'62797465732034',60,61,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/5/1','precommit','f01000',5,1,1,'pushed','t3a',5,'cid5c',X'6279746573203563',60,70,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/6/1','precommit','f01000',6,1,1,'withdrawn','t3a',6,'cid6',X'62797465732036',60,61,NULL,NULL,'unwanted',0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/7/1','precommit','f01000',7,1,1,'withdrawn','t3a',7,'cid7',X'62797465732037',60,NULL,NULL,NULL,'unwanted',0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/8/1','precommit','f01000',8,1,1,'replaced','t3a',8,'cid8',X'62797465732038',60,61,NULL,NULL,'its nonce is used, and not by it',0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/9/1','precommit','f01000',9,1,1,'landed','t3a',9,'cid9',X'62797465732039',60,61,64,0,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/10/1','precommit','f01000',10,1,1,'landed','t3a',10,'cid10',X'6279746573203130',60,64,64,0,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/11/1','precommit','f01000',11,1,1,'failed','t3a',11,'cid11',X'6279746573203131',60,61,NULL,16,'refused',0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/12/1','precommit','f01000',12,1,1,'failed',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'the attempt that wanted it is over',0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/13/1','precommit','f01000',13,1,1,'replaced','t3a',13,'cid13',X'6279746573203133',60,61,64,0,'gone from the chain, and its nonce is used',0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/14/1','precommit','f01000',14,1,1,'wanted',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/15/1','precommit','f01000',15,1,1,'landed','t3a',15,'cid15',X'6279746573203135',60,61,64,0,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/16/1','precommit','f01000',16,1,1,'landed','t3a',16,'cid16',X'6279746573203136',60,61,64,0,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/17/1','precommit','f01000',17,1,1,'failed',NULL,NULL,NULL,NULL,NULL,NULL,NULL,18,'refused',0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/2/1.2','precommit','f01000',2,1,2,'wanted',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,150,77);
INSERT INTO messages VALUES('filler/t3a/6','filler','f01000',6,1,1,'wanted','t3a',6,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('filler/t3a/7','filler','f01000',7,1,1,'pushed','t3a',7,'fill7',X'66696c6c65722037',62,63,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/7/1.2','precommit','f01000',7,1,2,'wanted',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('filler/t3a/8','filler','f01000',8,1,1,'landed','t3a',8,'fill8',X'66696c6c65722038',62,63,64,0,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('prove_commit/f01000/10/1','prove_commit','f01000',10,1,1,'pushed','t3a',20,'cid20',X'6279746573203230',60,61,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('precommit/f01000/13/1.2','precommit','f01000',13,1,2,'wanted',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('filler/t3a/14','filler','f01000',14,1,1,'replaced','t3a',14,NULL,NULL,NULL,NULL,NULL,NULL,'the nonce is used already',0,NULL,NULL);
INSERT INTO messages VALUES('prove_commit/f01000/15/1','prove_commit','f01000',15,1,1,'landed','t3a',21,'cid21',X'6279746573203231',60,61,90,0,NULL,0,NULL,NULL);
INSERT INTO messages VALUES('filler/t3a/16','filler','f01000',16,1,1,'replaced','t3a',16,'fill16',X'66696c6c6572203136',62,NULL,NULL,NULL,'the nonce of it was used by another message',0,NULL,NULL);
CREATE TABLE envelopes (
    message TEXT NOT NULL,
    cid     TEXT NOT NULL,
    signed  BLOB NOT NULL,
    PRIMARY KEY (message, cid)
);
INSERT INTO envelopes VALUES('precommit/f01000/5/1','cid5',X'62797465732035');
INSERT INTO envelopes VALUES('precommit/f01000/5/1','cid5b',X'6279746573203562');
CREATE TABLE waits (
    kind       TEXT   NOT NULL CHECK (kind IN ('sector', 'message', 'miner', 'store', 'node', 'bus', 'outbox', 'database')),
    -- Which one of its kind; empty where there is only one.
    name       TEXT   NOT NULL,
    -- The sector that waits, if it is one alone.
    sector     TEXT,
    class      TEXT   NOT NULL CHECK (class IN ('temp', 'crit')),
    code       TEXT   NOT NULL,
    cause      TEXT   NOT NULL,
    since      TEXT   NOT NULL,
    tried_at   TEXT   NOT NULL,
    -- After how long it is tried again, in milliseconds.
    retry_ms   BIGINT NOT NULL CHECK (retry_ms >= 0),
    tries      BIGINT NOT NULL CHECK (tries >= 1),
    PRIMARY KEY (kind, name),
    CHECK ((sector IS NOT NULL) = (kind IN ('sector', 'message', 'outbox')))
);
CREATE TABLE IF NOT EXISTS "outbox" (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    kind           TEXT   NOT NULL CHECK (kind IN ('intent', 'fact', 'release', 'reinstate', 'purge')),
    miner          TEXT   NOT NULL,
    number         BIGINT NOT NULL,
    -- Whom a fact is for.
    worker         TEXT,
    -- What a release or a fact is about: the lease's token, or the last lease record of a sector that nobody has. What the
    -- record that reinstates an owner must expect.
    lease_sequence BIGINT NOT NULL,
    payload        BLOB   NOT NULL,
    CHECK ((worker IS NOT NULL) = (kind = 'fact'))
);
INSERT INTO outbox VALUES(1,'fact','f01000',1,'w1',101,X'84a5746f6b656e65a673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(2,'fact','f01000',2,'w1',102,X'84a5746f6b656e66a673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(3,'fact','f01000',3,'w1',103,X'84a5746f6b656e67a673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(4,'fact','f01000',4,'w1',104,X'84a5746f6b656e68a673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(5,'fact','f01000',5,'w1',105,X'84a5746f6b656e69a673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(6,'fact','f01000',6,'w1',106,X'84a5746f6b656e6aa673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(7,'fact','f01000',7,'w1',107,X'84a5746f6b656e6ba673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(8,'fact','f01000',8,'w1',108,X'84a5746f6b656e6ca673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(9,'fact','f01000',9,'w1',109,X'84a5746f6b656e6da673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(10,'fact','f01000',10,'w1',110,X'84a5746f6b656e6ea673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(11,'fact','f01000',11,'w1',111,X'84a5746f6b656e6fa673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(12,'fact','f01000',12,'w1',112,X'84a5746f6b656e70a673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(13,'fact','f01000',13,'w1',113,X'84a5746f6b656e71a673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(14,'fact','f01000',14,'w1',114,X'84a5746f6b656e72a673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(15,'fact','f01000',15,'w1',115,X'84a5746f6b656e73a673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(16,'fact','f01000',16,'w1',116,X'84a5746f6b656e74a673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(17,'fact','f01000',17,'w1',117,X'84a5746f6b656e75a673657269616c00a46b696e64a67469636b6574a67469636b657486a46472617701aa72616e646f6d6e657373c4200303030303030303030303030303030303030303030303030303030303030303a565706f6368d1fc90ad657870697265735f65706f6368cd0b54aa686561645f65706f636814ac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(18,'fact','f01000',9,'w1',109,X'84a5746f6b656e6da673657269616c00a46b696e64b0707265636f6d6d69745f6c616e646564a9707265636f6d6d697484a565706f63681eae70726f76655f62795f65706f6368ce000151a8aa686561645f65706f63681fac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(19,'fact','f01000',10,'w1',110,X'84a5746f6b656e6ea673657269616c00a46b696e64b0707265636f6d6d69745f6c616e646564a9707265636f6d6d697484a565706f63681eae70726f76655f62795f65706f6368ce000151a8aa686561645f65706f63681fac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(20,'fact','f01000',10,'w1',110,X'83a5746f6b656e6ea673657269616c00a46b696e64af706572736973745f636865636b6564');
INSERT INTO outbox VALUES(21,'fact','f01000',10,'w1',110,X'84a5746f6b656e6ea673657269616c00a46b696e64a473656564a47365656483a46472617701aa72616e646f6d6e657373c4200404040404040404040404040404040404040404040404040404040404040404a565706f636828');
INSERT INTO outbox VALUES(22,'fact','f01000',13,'w1',113,X'84a5746f6b656e71a673657269616c00a46b696e64b0707265636f6d6d69745f6c616e646564a9707265636f6d6d697484a565706f63681eae70726f76655f62795f65706f6368ce000151a8aa686561645f65706f63681fac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(23,'fact','f01000',15,'w1',115,X'84a5746f6b656e73a673657269616c00a46b696e64b0707265636f6d6d69745f6c616e646564a9707265636f6d6d697484a565706f63681eae70726f76655f62795f65706f6368ce000151a8aa686561645f65706f63681fac65706f63685f6d696c6c6973cd7530');
INSERT INTO outbox VALUES(24,'fact','f01000',15,'w1',115,X'83a5746f6b656e73a673657269616c00a46b696e64af706572736973745f636865636b6564');
INSERT INTO outbox VALUES(25,'fact','f01000',15,'w1',115,X'84a5746f6b656e73a673657269616c00a46b696e64a473656564a47365656483a46472617701aa72616e646f6d6e657373c4200404040404040404040404040404040404040404040404040404040404040404a565706f636828');
INSERT INTO outbox VALUES(26,'fact','f01000',15,'w1',115,X'84a5746f6b656e73a673657269616c00a46b696e64ac70726f76655f6c616e646564b061637469766174696f6e5f65706f636832');
INSERT INTO outbox VALUES(27,'release','f01000',15,NULL,115,X'70726f76696e6720616674657220617474656d70742031');
CREATE TABLE stores (
    name    TEXT PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    made_at TEXT NOT NULL,
    made_by TEXT NOT NULL
);
CREATE TABLE slots (
    worker  TEXT NOT NULL,
    path    TEXT NOT NULL,
    id      TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    PRIMARY KEY (worker, path)
);
CREATE TABLE looks (
    miner    TEXT   NOT NULL,
    number   BIGINT NOT NULL,
    at_epoch BIGINT NOT NULL,
    PRIMARY KEY (miner, number)
) WITHOUT ROWID;
INSERT INTO looks VALUES('f01000',1,0);
INSERT INTO looks VALUES('f01000',2,0);
INSERT INTO looks VALUES('f01000',3,0);
INSERT INTO looks VALUES('f01000',4,0);
INSERT INTO looks VALUES('f01000',5,0);
INSERT INTO looks VALUES('f01000',6,0);
INSERT INTO looks VALUES('f01000',7,0);
INSERT INTO looks VALUES('f01000',8,0);
INSERT INTO looks VALUES('f01000',9,0);
INSERT INTO looks VALUES('f01000',10,0);
INSERT INTO looks VALUES('f01000',11,0);
INSERT INTO looks VALUES('f01000',12,0);
INSERT INTO looks VALUES('f01000',13,0);
INSERT INTO looks VALUES('f01000',14,0);
INSERT INTO looks VALUES('f01000',15,0);
INSERT INTO looks VALUES('f01000',16,0);
INSERT INTO looks VALUES('f01000',17,0);
CREATE TABLE sectors (
    miner            TEXT   NOT NULL,
    number           BIGINT NOT NULL,
    proof            TEXT   NOT NULL,
    created_at       TEXT   NOT NULL,
    -- Where its files are: the permanent store's name, and a `StoredSector` as JSON.
    store            TEXT,
    files            TEXT,
    -- What the chain has, once the sector is active.
    comm_r           TEXT,
    comm_d           TEXT,
    activation_epoch BIGINT,

    PRIMARY KEY (miner, number),
    CHECK ((files IS NULL) = (store IS NULL)),
    CHECK ((comm_r IS NULL) = (activation_epoch IS NULL)),
    CHECK ((comm_d IS NULL) = (activation_epoch IS NULL))
);
INSERT INTO sectors VALUES('f01000',1,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.320003559Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',2,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.342139059Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',3,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.354095052Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',4,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.381303375Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',5,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.410997579Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',6,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.440012804Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',7,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.465213955Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',8,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.485370345Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',9,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.505176279Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',10,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.528478039Z','main','{"store":"main","files":[]}',NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',11,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.581595265Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',12,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.617133239Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',13,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.651620911Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',14,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.702236143Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',15,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.765096281Z','main','{"store":"main","files":[]}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',50);
INSERT INTO sectors VALUES('f01000',16,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.806576703Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO sectors VALUES('f01000',17,'StackedDrg2KiBV1_1','2026-11-28T01:18:58.861194581Z',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY,
    miner        TEXT   NOT NULL,
    number       BIGINT NOT NULL,
    workflow     TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    -- Whether this is the sector's last job.
    is_last      BIGINT NOT NULL CHECK (is_last BETWEEN 0 AND 1),
    -- Whether the job has ended.
    ended        BIGINT NOT NULL CHECK (ended BETWEEN 0 AND 1),
    -- The kind of the intent that is in the queue or about to be; NULL if the job is not offered.
    offered      TEXT,
    -- Each attempt has its own ticket. A rebuild belongs to the attempt that it repeats.
    attempt      BIGINT NOT NULL CHECK (attempt >= 1),
    -- How often it was offered since a person last decided, and how many orders to resubmit its last owner was given.
    issues       BIGINT NOT NULL CHECK (issues >= 0),
    resubmits    BIGINT NOT NULL CHECK (resubmits >= 0),
    -- Whether a message of this attempt was sent, or may have been sent, and has not failed.
    signed       BIGINT NOT NULL CHECK (signed BETWEEN 0 AND 1),
    created_at   TEXT   NOT NULL,
    changed_at   TEXT   NOT NULL,
    -- Rises with each change, so that a reader of the job can tell whether it has changed since.
    version      BIGINT NOT NULL DEFAULT 0,

    -- Ownership, folded from lease records: the owner's token, the stream in which it was granted if that stream was
    -- lost, the sector's last lease record, and the server's time of that record.
    owner        TEXT,
    token        BIGINT,
    token_stream TEXT,
    last_lease   BIGINT NOT NULL,
    last_event   BIGINT NOT NULL,
    leased_at    TEXT,

    -- Why a person must decide, if the job is blocked. Independent of the job's state.
    blocked      TEXT,

    UNIQUE (id, state),
    FOREIGN KEY (miner, number) REFERENCES sectors (miner, number),
    CHECK (is_last = 1 OR ended = 1),
    CHECK (ended = 0 OR offered IS NULL),
    CHECK ((owner IS NULL) = (token IS NULL))
);
INSERT INTO jobs VALUES(1,'f01000',1,'seal','pre_committing',1,0,NULL,1,1,0,0,'2026-11-28T01:18:58.323532996Z','2026-11-28T00:00:00Z',4,'w1',101,NULL,101,0,NULL,NULL);
INSERT INTO jobs VALUES(2,'f01000',2,'seal','pre_committing',1,0,NULL,1,1,0,0,'2026-11-28T01:18:58.342230176Z','2026-11-28T00:00:00Z',6,'w1',102,NULL,102,0,NULL,NULL);
INSERT INTO jobs VALUES(3,'f01000',3,'seal','pre_committing',1,0,NULL,1,1,0,1,'2026-11-28T01:18:58.354174792Z','2026-11-28T00:00:00Z',5,'w1',103,NULL,103,0,NULL,NULL);
INSERT INTO jobs VALUES(4,'f01000',4,'seal','pre_committing',1,0,NULL,1,1,0,1,'2026-11-28T01:18:58.381382424Z','2026-11-28T00:00:00Z',5,'w1',104,NULL,104,0,NULL,NULL);
INSERT INTO jobs VALUES(5,'f01000',5,'seal','pre_committing',1,0,NULL,1,1,0,1,'2026-11-28T01:18:58.41108502Z','2026-11-28T00:00:00Z',5,'w1',105,NULL,105,0,NULL,NULL);
INSERT INTO jobs VALUES(6,'f01000',6,'seal','pre_committing',1,0,NULL,1,1,0,1,'2026-11-28T01:18:58.440098142Z','2026-11-28T00:00:00Z',5,'w1',106,NULL,106,0,NULL,NULL);
INSERT INTO jobs VALUES(7,'f01000',7,'seal','pre_committing',1,0,NULL,1,1,0,1,'2026-11-28T01:18:58.465349608Z','2026-11-28T00:00:00Z',6,'w1',107,NULL,107,0,NULL,NULL);
INSERT INTO jobs VALUES(8,'f01000',8,'seal','pre_committing',1,0,NULL,1,1,0,0,'2026-11-28T01:18:58.485447701Z','2026-11-28T00:00:00Z',6,'w1',108,NULL,108,0,NULL,NULL);
INSERT INTO jobs VALUES(9,'f01000',9,'seal','persisting',1,0,NULL,1,1,0,1,'2026-11-28T01:18:58.505252553Z','2026-11-28T00:00:00Z',6,'w1',109,NULL,109,0,NULL,NULL);
INSERT INTO jobs VALUES(10,'f01000',10,'seal','prove_committing',1,0,NULL,1,1,0,1,'2026-11-28T01:18:58.528567173Z','2026-11-28T00:00:00Z',11,'w1',110,NULL,110,0,NULL,NULL);
INSERT INTO jobs VALUES(11,'f01000',11,'seal','pre_committing',1,0,NULL,1,1,0,0,'2026-11-28T01:18:58.581759462Z','2026-11-28T00:00:00Z',6,'w1',111,NULL,111,0,NULL,NULL);
INSERT INTO jobs VALUES(12,'f01000',12,'seal','pre_committing',1,0,NULL,1,1,0,0,'2026-11-28T01:18:58.617487841Z','2026-11-28T00:00:00Z',5,'w1',112,NULL,112,0,NULL,NULL);
INSERT INTO jobs VALUES(13,'f01000',13,'seal','persisting',1,0,NULL,1,1,0,1,'2026-11-28T01:18:58.651770836Z','2026-11-28T00:00:00Z',6,'w1',113,NULL,113,0,NULL,NULL);
INSERT INTO jobs VALUES(14,'f01000',14,'seal','pre_committing',1,0,NULL,1,1,0,0,'2026-11-28T01:18:58.70238088Z','2026-11-28T00:00:00Z',4,'w1',114,NULL,114,0,NULL,NULL);
INSERT INTO jobs VALUES(15,'f01000',15,'seal','proving',1,1,NULL,1,1,0,1,'2026-11-28T01:18:58.767031174Z','2026-11-28T00:00:00Z',13,'w1',115,NULL,115,0,NULL,NULL);
INSERT INTO jobs VALUES(16,'f01000',16,'seal','pre_committing',1,0,NULL,1,1,0,1,'2026-11-28T01:18:58.809938227Z','2026-11-28T00:00:00Z',5,'w1',116,NULL,116,0,NULL,NULL);
INSERT INTO jobs VALUES(17,'f01000',17,'seal','pre_committing',1,0,NULL,1,1,0,0,'2026-11-28T01:18:58.861328702Z','2026-11-28T00:00:00Z',5,'w1',117,NULL,117,0,NULL,NULL);
CREATE TABLE seal_jobs (
    job              INTEGER PRIMARY KEY,
    state            TEXT    NOT NULL,
    draw             BIGINT,
    ticket           TEXT,
    comm_r           TEXT,
    comm_d           TEXT,
    precommit        TEXT,
    seeds_drawn      BIGINT,
    files            TEXT,
    seed             TEXT,
    proof_bytes      BLOB,
    activation_epoch BIGINT,
    cause            TEXT,

    FOREIGN KEY (job, state) REFERENCES jobs (id, state) DEFERRABLE INITIALLY DEFERRED,
    -- The columns of each state. A rebuild has the PreCommit's data if the PreCommit had landed.
    CHECK (
        (draw IS NOT NULL) + 2 * (ticket IS NOT NULL) + 4 * (comm_r IS NOT NULL)
            + 8 * (comm_d IS NOT NULL) + 16 * (precommit IS NOT NULL) + 32 * (seeds_drawn IS NOT NULL)
            + 64 * (files IS NOT NULL) + 128 * (seed IS NOT NULL) + 256 * (proof_bytes IS NOT NULL)
            + 512 * (activation_epoch IS NOT NULL) + 1024 * (cause IS NOT NULL)
        = CASE state
            WHEN 'queued' THEN 0
            WHEN 'packing' THEN 0
            WHEN 'drawing_ticket' THEN 1
            WHEN 'sealing' THEN 2
            WHEN 'pre_committing' THEN 2 + 4 + 8
            WHEN 'persisting' THEN 2 + 4 + 8 + 16 + 32
            WHEN 'checking_files' THEN 2 + 4 + 8 + 16 + 32 + 64
            WHEN 'awaiting_seed' THEN 2 + 4 + 8 + 16 + 32 + 64
            WHEN 'committing' THEN 2 + 4 + 8 + 16 + 32 + 64 + 128
            WHEN 'verifying_proof' THEN 2 + 4 + 8 + 16 + 32 + 64 + 128 + 256
            WHEN 'prove_committing' THEN 2 + 4 + 8 + 16 + 32 + 64 + 128 + 256
            WHEN 'cleaning' THEN 2 + 4 + 8 + 16 + 32 + 64 + 128 + 256 + 512
            WHEN 'proving' THEN 2 + 4 + 8 + 16 + 32 + 64 + 128 + 256 + 512
            WHEN 'requeued' THEN 2 + 4 + 8 + (16 + 32) * (precommit IS NOT NULL)
            WHEN 'rebuilding' THEN 2 + 4 + 8 + (16 + 32) * (precommit IS NOT NULL)
            WHEN 'aborting' THEN 1024
            WHEN 'abandoning' THEN 1024
            WHEN 'aborted' THEN 1024
            ELSE -1
        END)
);
INSERT INTO seal_jobs VALUES(1,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(2,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(3,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(4,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(5,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(6,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(7,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(8,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(9,'persisting',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202','{"epoch":30,"prove_by_epoch":86440,"head_epoch":31,"epoch_millis":30000}',0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(10,'prove_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202','{"epoch":30,"prove_by_epoch":86440,"head_epoch":31,"epoch_millis":30000}',1,'{"store":"main","files":[]}','{"draw":1,"randomness":"0404040404040404040404040404040404040404040404040404040404040404","epoch":40}',X'070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707',NULL,NULL);
INSERT INTO seal_jobs VALUES(11,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(12,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(13,'persisting',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202','{"epoch":30,"prove_by_epoch":86440,"head_epoch":31,"epoch_millis":30000}',0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(14,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(15,'proving',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202','{"epoch":30,"prove_by_epoch":86440,"head_epoch":31,"epoch_millis":30000}',1,'{"store":"main","files":[]}','{"draw":1,"randomness":"0404040404040404040404040404040404040404040404040404040404040404","epoch":40}',X'070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707',50,NULL);
INSERT INTO seal_jobs VALUES(16,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO seal_jobs VALUES(17,'pre_committing',NULL,'{"draw":1,"randomness":"0303030303030303030303030303030303030303030303030303030303030303","epoch":-880,"expires_epoch":2900,"head_epoch":20,"epoch_millis":30000}','0101010101010101010101010101010101010101010101010101010101010101','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE archived_history (
    miner   TEXT   NOT NULL,
    number  BIGINT NOT NULL,
    last_id BIGINT NOT NULL,
    lines   BLOB   NOT NULL,
    PRIMARY KEY (miner, number, last_id)
);
CREATE TABLE to_archive (
    miner      TEXT   NOT NULL,
    number     BIGINT NOT NULL,
    ended_secs BIGINT NOT NULL,
    PRIMARY KEY (miner, number)
) WITHOUT ROWID;
INSERT INTO to_archive VALUES('f01000',15,1795828739);
CREATE TABLE workers (
    name TEXT NOT NULL PRIMARY KEY
);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('history',85);
INSERT INTO sqlite_sequence VALUES('outbox',27);
CREATE INDEX history_by_sector ON history (miner, number, id);
CREATE UNIQUE INDEX messages_by_nonce ON messages (sender, nonce) WHERE nonce IS NOT NULL AND kind <> 'filler';
CREATE UNIQUE INDEX messages_by_purpose ON messages (kind, miner, number, attempt, turn) WHERE kind <> 'filler';
CREATE INDEX messages_open ON messages (state) WHERE state IN ('wanted', 'signed', 'pushed', 'withdrawn');
CREATE INDEX looks_due ON looks (at_epoch, miner, number);
CREATE INDEX messages_by_sender ON messages (sender, nonce);
CREATE UNIQUE INDEX jobs_last ON jobs (miner, number) WHERE is_last = 1;
CREATE UNIQUE INDEX jobs_unfinished ON jobs (miner, number) WHERE ended = 0;
CREATE INDEX jobs_offered ON jobs (miner, offered) WHERE offered IS NOT NULL;
CREATE INDEX jobs_by_owner ON jobs (owner) WHERE owner IS NOT NULL;
CREATE TRIGGER jobs_version BEFORE UPDATE ON jobs WHEN NEW.version <= OLD.version
BEGIN
    SELECT RAISE(ABORT, 'a change of a job must raise its version');
END;
CREATE INDEX to_archive_by_end ON to_archive (ended_secs);
CREATE INDEX jobs_by_state ON jobs (state, miner, number) WHERE is_last = 1;
CREATE INDEX jobs_blocked ON jobs (miner, number) WHERE blocked IS NOT NULL;
COMMIT;
