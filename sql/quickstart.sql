-- The first minute. From the root of the repository:
--
--   sqlite3 app.db -cmd '.load build/stratakv' <sql/quickstart.sql
--
-- The table's entries live in the directory app.strata beside app.db.

CREATE VIRTUAL TABLE IF NOT EXISTS kv USING stratakv('app.strata');

-- Keys are text, values keep their type.
INSERT OR REPLACE INTO kv VALUES('user:1', 'ada'), ('user:2', 'grace');
INSERT OR REPLACE INTO kv VALUES('visits', 41), ('pi', 3.14), ('icon', x'89504e47');
SELECT key, typeof(value) FROM kv ORDER BY key;

-- By key, by prefix, by range, in both orders: all of these seek.
SELECT value FROM kv WHERE key = 'user:1';
SELECT * FROM kv WHERE key GLOB 'user:*' ORDER BY key DESC LIMIT 1;
SELECT key FROM kv WHERE key >= 'p' AND key < 'v';

UPDATE kv SET value = value + 1 WHERE key = 'visits';
SELECT value FROM kv WHERE key = 'visits';

-- A transaction is one durable step, or nothing.
BEGIN;
DELETE FROM kv WHERE key GLOB 'user:*';
ROLLBACK;
SELECT count(*) FROM kv;
