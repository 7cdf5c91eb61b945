-- Import a file in the format of /var/lib/dpkg/status: stanzas of "Field: value"
-- lines, separated by an empty line. Each stanza is stored under its package's
-- name. The shell's parameter :input names the file:
--
--   sqlite3 app.db -cmd '.load build/stratakv'
--   sqlite> CREATE VIRTUAL TABLE kv USING stratakv('app.strata');
--   sqlite> .parameter set :input "'/var/lib/dpkg/status'"
--   sqlite> .read sql/import_dpkg.sql
--
-- It is one transaction: all of the file, or nothing.

WITH
  -- An empty line ends a stanza; as one character it is easy to split at.
  file(text) AS (
    SELECT replace(trim(CAST(readfile(:input) AS TEXT), char(10)),
                   char(10, 10), char(30))
  ),
  -- The file as a JSON array of stanzas, which json_each takes apart in one
  -- pass (cutting the text piece by piece would copy it for every stanza).
  stanza(text) AS (
    SELECT char(10) || ltrim(value, char(10))
    FROM file, json_each('[' || replace(json_quote(file.text),
                                        '\u001e', '","') || ']')
  ),
  -- What stands behind "Package: ", to the end of the line.
  named(text, rest) AS (
    SELECT text, substr(text, instr(text, char(10) || 'Package: ') + 10)
    FROM stanza
    WHERE instr(text, char(10) || 'Package: ') > 0
  )
INSERT OR REPLACE INTO kv(key, value)
SELECT substr(rest, 1, instr(rest || char(10), char(10)) - 1),
       substr(text, 2) || char(10)
FROM named;
