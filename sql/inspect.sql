-- Look at a table named kv from outside: how much there is, how it is kept.
--
--   sqlite3 app.db -cmd '.load build/stratakv' <sql/inspect.sql

.mode column
SELECT count(*) AS entries, min(key) AS first, max(key) AS last FROM kv;

-- What keys look like: the part before the first colon, most frequent first.
SELECT CASE instr(key, ':') WHEN 0 THEN '(no prefix)'
            ELSE substr(key, 1, instr(key, ':')) END AS prefix,
       count(*) AS entries,
       sum(length(CAST(value AS BLOB))) AS value_bytes
FROM kv GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10;

-- Which commits wrote them: `version` is the commit's place in the log.
SELECT count(DISTINCT version) AS commits, min(version) AS oldest,
       max(version) AS newest
FROM kv;

-- How a query is answered: a seek, not a scan.
EXPLAIN QUERY PLAN SELECT * FROM kv WHERE key GLOB 'user:*' ORDER BY key DESC;

-- The engine's own figures: of the segments, and of this process.
SELECT name, value, unit FROM stratakv_stats('kv');
