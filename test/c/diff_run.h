/*
 * One run of a differential script (diff_test.c): the configurations, the two
 * sides' schemas, and each operation on both, compared.
 */
#ifndef TEST_C_DIFF_RUN_H
#define TEST_C_DIFF_RUN_H

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "test/c/diff.h"
#include "test/c/diff_actor.h"
#include "test/c/diff_gen.h"
#include "test/c/files.h"
#include "test/c/harness.h"

#define KIB 1024u
static const diff_config configs[] = {
    {.name = "default", .options = "sync=off", .commands = 2, .actors = 1},
    {.name = "tiny", 64 * KIB, 512, 16 * KIB, "sync=off", 2, 1},
    {.name = "no filter, no compression",
     64 * KIB,
     512,
     16 * KIB,
     "sync=off, filter_bits=0, compression=none",
     30,
     1},
    {.name = "1 KiB segments", 64 * KIB, 512, 1 * KIB, "sync=off", 30, 1},
    {.name = "zstd",
     64 * KIB,
     512,
     16 * KIB,
     "sync=normal, compression=zstd, filter_bits=20",
     10,
     1},
    {.name = "no mmap", 64 * KIB, 512, 16 * KIB, "sync=off, mmap=off", 5, 1},
    {.name = "no background",
     64 * KIB,
     512,
     16 * KIB,
     "sync=off, background=off",
     15,
     1},
    {.name = "no background, no mmap, 1 KiB segments",
     64 * KIB,
     512,
     1 * KIB,
     "sync=off, background=off, mmap=off, compression=none, filter_bits=0",
     15,
     1},
    {.name = "long values",
     256 * KIB,
     4096,
     64 * KIB,
     "sync=off, memory='4M'",
     5,
     1,
     .large = true},
    {.name = "in memory", 64 * KIB, 512, 1 * KIB, "", 20, 1, .memory = true},
    {.name = "2 connections", 64 * KIB, 512, 16 * KIB, "sync=off", 10, 2},
    {.name = "3 connections, no background",
     64 * KIB,
     512,
     1 * KIB,
     "sync=off, background=off, compression=none",
     20,
     3},
    {.name = "1 process that is killed",
     64 * KIB,
     512,
     16 * KIB,
     "sync=normal, busy_timeout=60000",
     5,
     1,
     .processes = true},
    {.name = "2 processes",
     .options = "sync=full, busy_timeout=60000",
     .commands = 2,
     .actors = 2,
     .processes = true},
    {.name = "3 processes, 1 KiB segments",
     64 * KIB,
     512,
     1 * KIB,
     "sync=off, compression=zstd, busy_timeout=60000",
     20,
     3,
     .processes = true},
    {.name = "4 processes, no background, no mmap",
     64 * KIB,
     512,
     16 * KIB,
     "sync=off, background=off, mmap=off, busy_timeout=60000",
     5,
     4,
     .processes = true},
};
#define CONFIGS (sizeof configs / sizeof *configs)

/* ---- One run of a script ------------------------------------------------- */

/* What an actor's reads are compared with. */
typedef enum diff_view {
  VIEW_NONE,   /* what is committed, or what the writer has changed */
  VIEW_FROZEN, /* the copy in `frozen` */
  VIEW_UNSURE  /* the actor has written with cursors open: it may be the state
                  of `since` or the one of now */
} diff_view;

typedef struct diff_side {
  diff_actor actor;
  struct diff_expected {
    diff_result rows; /* of the query, all of them */
    size_t next, at;  /* row that comes next, and its offset */
    bool is_open;
  } cursors[DIFF_SLOTS];
  int open; /* cursors */
  bool is_pinned;
  bool has_written; /* in the open transaction */
  diff_view view;
  uint64_t since;  /* commits when the view began */
  sqlite3 *frozen; /* ordinary tables, of several actors */
} diff_side;

typedef struct diff_run {
  const diff_config *config;
  uint64_t number;
  int type[2];
  char store[4096];
  sqlite3 *truth;     /* ordinary tables */
  sqlite3 *committed; /* the same, without what the writer has not committed */
  diff_side sides[DIFF_ACTORS];
  int writer; /* the actor whose transaction is open, or -1 */
  uint64_t commits;
  uint64_t compared; /* statements */
  diff_result got, wanted;
  diff_text why; /* the first difference */
} diff_run;

static char base[4000]; /* directory of everything */

static const char *const key_options[] = {"text", "blob", "int"};
static const char *const key_columns[] = {"TEXT", "BLOB", "INTEGER"};

static bool differs(diff_run *run, const diff_op *op, const char *sql,
                    const char *what) {
  text_put(&run->why, "  actor %d: %s\n  %s\n    store:    ", op->actor, what,
           sql != NULL ? sql : "");
  text_put(&run->why, "%d %s, changes %d, total %d, autocommit %d\n%.3000s",
           run->got.head.code, run->got.head.message, run->got.head.changes,
           run->got.head.total, run->got.head.autocommit,
           run->got.text.len > 0 ? run->got.text.data : "");
  text_put(&run->why,
           "    ordinary: %d %s, changes %d, total %d, "
           "autocommit %d\n%.3000s",
           run->wanted.head.code, run->wanted.head.message,
           run->wanted.head.changes, run->wanted.head.total,
           run->wanted.head.autocommit,
           run->wanted.text.len > 0 ? run->wanted.text.data : "");
  return false;
}

/* ---- Schemas ------------------------------------------------------------- */

static const char *const plain_triggers[] = {
    "CREATE TRIGGER p1 AFTER INSERT ON p WHEN new.value%4=1 BEGIN "
    "INSERT OR REPLACE INTO kv SELECT key,new.value FROM kv WHERE value=3; "
    "DELETE FROM k2 WHERE value=new.key; END",
    "CREATE TRIGGER p2 AFTER INSERT ON p WHEN new.value%16=2 BEGIN "
    "UPDATE kv SET value=new.key WHERE value<4; "
    "SELECT raise(ABORT,'abort') WHERE new.key%2=0; END",
    "CREATE TRIGGER p3 BEFORE INSERT ON p WHEN new.value%16=3 BEGIN "
    "DELETE FROM kv WHERE value=new.key%8; "
    "SELECT raise(FAIL,'fail') WHERE new.key%2=0; END",
    "CREATE TRIGGER p4 AFTER INSERT ON p WHEN new.value%16=4 BEGIN "
    "UPDATE k2 SET value=value+1 WHERE value<6; "
    "SELECT raise(ROLLBACK,'rollback') WHERE new.key%4=0; END",
    "CREATE TRIGGER p5 BEFORE UPDATE ON p WHEN new.value%4=1 BEGIN "
    "UPDATE kv SET value=new.key WHERE value=5; "
    "SELECT raise(IGNORE) WHERE new.key%2=0; END",
    ("CREATE TRIGGER p6 AFTER DELETE ON p BEGIN "
     "INSERT INTO kv SELECT key,old.key FROM kv WHERE value=9; END")};

static void table_sql(const diff_run *run, int table, bool is_store,
                      diff_text *t) {
  const diff_config *config = run->config;
  text_clear(t);
  if (!is_store)
    text_put(t,
             "CREATE TABLE %s(key %s NOT NULL PRIMARY KEY, value ANY) STRICT, "
             "WITHOUT ROWID",
             gen_tables[table], key_columns[run->type[table]]);
  else
    text_put(t,
             "CREATE VIRTUAL TABLE %s USING stratakv('%s', table=%s, key=%s"
             "%s%s)",
             gen_tables[table], config->memory ? ":memory:" : run->store,
             gen_tables[table], key_options[run->type[table]],
             *config->options ? ", " : "", config->options);
}

static void make_plain(sqlite3 *db) {
  sql_must(db, "CREATE TABLE p(key INTEGER PRIMARY KEY, value INT) STRICT");
}

static void make_triggers(sqlite3 *db) {
  for (size_t i = 0; i < sizeof plain_triggers / sizeof *plain_triggers; i++)
    sql_must(db, plain_triggers[i]);
}

static sqlite3 *make_ordinary(const diff_run *run, const char *path) {
  sqlite3 *db;
  diff_text t = {0};
  if (sqlite3_open_v2(path, &db, DIFF_OPEN_FLAGS, NULL) != SQLITE_OK) abort();
  sqlite3_db_config(db, SQLITE_DBCONFIG_LOOKASIDE, NULL, 1200, 400);
  sqlite3_extended_result_codes(db, 1);
  sql_must(db, "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY; "
               "PRAGMA cache_spill=OFF");
  for (int i = 0; i < 2; i++) {
    table_sql(run, i, false, &t);
    sql_must(db, t.data);
  }
  text_free(&t);
  return db;
}

/* Ask an actor for what must succeed. */
static bool side_must(diff_run *run, int actor, const char *sql) {
  diff_op op = {.actor = actor};
  run->wanted.head = (struct diff_head){0};
  text_clear(&run->wanted.text);
  if (!actor_do(&run->sides[actor].actor, ASK_RUN, 0, 0, sql, &run->got))
    return differs(run, &op, sql, "the process has ended");
  if (run->got.head.code == SQLITE_OK) return true;
  return differs(run, &op, sql, "setup failed");
}

/* The plain table of a connection that was opened again. */
static bool side_copy_plain(diff_run *run, int actor) {
  sqlite3_stmt *stmt;
  bool ok = true;
  if (sqlite3_prepare_v2(run->truth,
                         "SELECT printf('INSERT INTO p VALUES(%d,%d)',key,"
                         "value) FROM p",
                         -1, &stmt, NULL) != SQLITE_OK)
    abort();
  while (ok && sqlite3_step(stmt) == SQLITE_ROW)
    ok = side_must(run, actor, (const char *)sqlite3_column_text(stmt, 0));
  sqlite3_finalize(stmt);
  return ok;
}

static bool side_open(diff_run *run, int actor) {
  diff_text t = {0};
  bool ok = true;
  actor_begin(&run->sides[actor].actor, run->config->processes);
  for (int i = 0; ok && i < 2; i++) {
    table_sql(run, i, true, &t);
    ok = side_must(run, actor, t.data);
  }
  text_free(&t);
  if (!ok || run->config->actors > 1) return ok;
  ok = side_must(run, actor,
                 "CREATE TABLE p(key INTEGER PRIMARY KEY, value INT) STRICT") &&
       side_copy_plain(run, actor);
  for (size_t i = 0; i < sizeof plain_triggers / sizeof *plain_triggers; i++)
    ok = ok && side_must(run, actor, plain_triggers[i]);
  return ok;
}

static bool run_begin(diff_run *run, const diff_config *config,
                      uint64_t number) {
  char path[4096];
  *run = (diff_run){.config = config, .number = number, .writer = -1};
  run->type[0] = (int)(number / 16 % 3);
  run->type[1] = (int)(number / 48 % 3);
  files_remove(base);
  mkdir(base, 0777);
  snprintf(run->store, sizeof run->store, "%s/store", base);
  snprintf(path, sizeof path, "%s/ordinary.db", base);
  run->truth = make_ordinary(run, config->actors > 1 ? path : ":memory:");
  make_plain(run->truth);
  make_triggers(run->truth);
  if (config->actors > 1 && sqlite3_open_v2(path, &run->committed,
                                            DIFF_OPEN_FLAGS, NULL) != SQLITE_OK)
    abort();
  for (int i = 0; i < config->actors; i++) {
    if (config->actors > 1)
      run->sides[i].frozen = make_ordinary(run, ":memory:");
    if (!side_open(run, i)) return false;
  }
  return true;
}

static void run_end(diff_run *run) {
  for (int i = 0; i < run->config->actors; i++) {
    diff_side *side = &run->sides[i];
    actor_end(&side->actor, run->why.len > 0);
    for (int j = 0; j < DIFF_SLOTS; j++) text_free(&side->cursors[j].rows.text);
    sqlite3_close(side->frozen);
  }
  sqlite3_close(run->truth);
  sqlite3_close(run->committed);
  text_free(&run->got.text);
  text_free(&run->wanted.text);
}

/* ---- What an actor reads ------------------------------------------------- */

static void freeze_copy(sqlite3 *from, sqlite3 *to, const char *table) {
  sqlite3_stmt *get, *put;
  char sql[80];
  snprintf(sql, sizeof sql, "DELETE FROM %s", table);
  sql_must(to, sql);
  snprintf(sql, sizeof sql, "SELECT key,value FROM %s", table);
  sqlite3_prepare_v2(from, sql, -1, &get, NULL);
  snprintf(sql, sizeof sql, "INSERT INTO %s VALUES(?,?)", table);
  sqlite3_prepare_v2(to, sql, -1, &put, NULL);
  while (sqlite3_step(get) == SQLITE_ROW) {
    sqlite3_bind_value(put, 1, sqlite3_column_value(get, 0));
    sqlite3_bind_value(put, 2, sqlite3_column_value(get, 1));
    if (sqlite3_step(put) != SQLITE_DONE) abort();
    sqlite3_reset(put);
  }
  sqlite3_finalize(get);
  sqlite3_finalize(put);
}

/* Keep what an actor sees from here on. */
static void side_freeze(diff_run *run, diff_side *side) {
  side->view = VIEW_FROZEN;
  side->since = run->commits;
  if (side->frozen == NULL) return;
  sql_must(side->frozen, "BEGIN");
  for (int i = 0; i < 2; i++)
    freeze_copy(run->committed, side->frozen, gen_tables[i]);
  sql_must(side->frozen, "COMMIT");
}

/* The database whose answers an actor's reads must equal; NULL if that is not
 * known. A connection keeps a view for as long as any cursor is open, and
 * begins one with the first read outside a transaction that has written. */
static sqlite3 *side_source(diff_run *run, int actor, bool opens) {
  diff_side *side = &run->sides[actor];
  if (run->config->actors == 1) return run->truth;
  if (side->is_pinned) return side->frozen;
  if (side->has_written) return run->truth;
  if (side->view == VIEW_NONE && (opens || side->open > 0))
    side_freeze(run, side);
  if (side->view == VIEW_FROZEN) return side->frozen;
  if (side->view == VIEW_UNSURE && side->since != run->commits) return NULL;
  return actor == run->writer ? run->truth : run->committed;
}

/* The actor's connection has written, or ended a transaction of the store. Its
 * next view begins with its next read, and which statement reads is up to the
 * plan: `key IS NULL` needs no row. */
static void side_wrote(const diff_run *run, diff_side *side) {
  if (side->open > 0 && side->view == VIEW_NONE) side->since = run->commits;
  side->view = side->open > 0 ? VIEW_UNSURE : VIEW_NONE;
}

static void side_closed(diff_side *side, int slot) {
  if (!side->cursors[slot].is_open) return;
  side->cursors[slot].is_open = false;
  if (--side->open == 0) side->view = VIEW_NONE;
}

/* ---- Operations ---------------------------------------------------------- */

static bool side_ask(diff_run *run, const diff_op *op, diff_ask ask, int rows,
                     const char *sql) {
  if (actor_do(&run->sides[op->actor].actor, ask, op->slot, rows, sql,
               &run->got))
    return true;
  return differs(run, op, sql, "the process has ended");
}

/* The code that the store's table has to return for an ordinary table's. D4: a
 * key of a wrong class is no constraint under an OR clause that would not undo
 * the statement if it were. */
static int code_wanted(const char *sql, int code) {
  static const char *const clauses[] = {" OR IGNORE ", " OR FAIL ",
                                        " OR ROLLBACK "};
  if (code != SQLITE_CONSTRAINT_DATATYPE) return code;
  for (size_t i = 0; i < sizeof clauses / sizeof *clauses; i++)
    if (strncmp(sql + strlen("INSERT"), clauses[i], strlen(clauses[i])) == 0)
      return SQLITE_MISMATCH;
  return code;
}

static bool same_outcome(diff_run *run, const char *sql, bool is_write) {
  const struct diff_head *a = &run->got.head, *b = &run->wanted.head;
  run->compared++;
  if (a->code != code_wanted(sql, b->code)) return false;
  if (strcmp(a->message, b->message) != 0) return false;
  if (a->autocommit != b->autocommit) return false;
  return !is_write || (a->changes == b->changes && a->total == b->total);
}

static bool same_text(const diff_result *a, const diff_result *b) {
  return a->text.len == b->text.len &&
         (a->text.len == 0 ||
          memcmp(a->text.data, b->text.data, a->text.len) == 0);
}

/* A statement that may change something. */
static bool do_write(diff_run *run, const diff_op *op) {
  diff_side *side = &run->sides[op->actor];
  if (side->is_pinned) return true;
  if (run->writer >= 0 && run->writer != op->actor) return true;
  if (!side_ask(run, op, ASK_RUN, 0, op->sql)) return false;
  sql_run(run->truth, op->sql, &run->wanted);
  if (!same_outcome(run, op->sql, op->kind == DIFF_WRITE))
    return differs(run, op, op->sql, "outcomes differ");
  if (!same_text(&run->got, &run->wanted))
    return differs(run, op, op->sql, "rows differ");
  bool is_open = run->wanted.head.autocommit == 0;
  run->writer = is_open ? op->actor : -1;
  bool wrote = op->kind == DIFF_WRITE || side->has_written;
  if (op->kind == DIFF_WRITE && is_open) side->has_written = true;
  if (!is_open) {
    side->has_written = false;
    run->commits++;
  }
  if (wrote) side_wrote(run, side);
  return true;
}

/* Offset of row n of some rows. */
static size_t row_offset(const diff_result *rows, size_t n) {
  const char *p = rows->text.data;
  for (; n > 0; n--) p = strchr(p, '\n') + 1;
  return p == NULL ? 0 : (size_t)(p - rows->text.data);
}

/* Rows from..from+length of `rows`, of the reversed ones if back. */
static void rows_slice(const diff_result *rows, bool back, size_t from,
                       size_t length, diff_text *out) {
  size_t count = rows->head.rows;
  text_clear(out);
  for (size_t i = from; i < count && i - from < length; i++) {
    size_t row = back ? count - 1 - i : i;
    size_t at = row_offset(rows, row);
    text_add(out, rows->text.data + at, row_offset(rows, row + 1) - at);
  }
}

/* What a form's rows must be, into `out`. */
static void form_wanted(const diff_form *form, const diff_result *rows,
                        diff_text *out) {
  switch (form->relation) {
  case DIFF_SAME:
    text_clear(out);
    text_add(out, rows->text.data != NULL ? rows->text.data : "",
             rows->text.len);
    break;
  case DIFF_REVERSED: rows_slice(rows, true, 0, SIZE_MAX, out); break;
  case DIFF_COUNT:
    text_clear(out);
    text_put(out, "%zu\n", rows->head.rows);
    break;
  case DIFF_SLICE:
    rows_slice(rows, form->back, form->from, form->length, out);
    break;
  }
}

static bool same_form(diff_run *run, const diff_form *form, diff_text *out) {
  if (!same_outcome(run, form->sql, false)) return false;
  if (run->wanted.head.code != SQLITE_OK) return true;
  form_wanted(form, &run->wanted, out);
  return out->len == run->got.text.len &&
         (out->len == 0 ||
          memcmp(out->data, run->got.text.data, out->len) == 0);
}

static bool do_query(diff_run *run, const diff_op *op) {
  sqlite3 *source = side_source(run, op->actor, false);
  diff_text out = {0};
  bool ok = true;
  if (source == NULL) return true;
  sql_run(source, op->sql, &run->wanted);
  for (int i = -1; ok && i < op->form_count; i++) {
    diff_form plain = {.relation = DIFF_SAME, .sql = op->sql};
    const diff_form *form = i < 0 ? &plain : &op->forms[i];
    if (i >= 0 && form->sql == op->sql) break;
    ok = side_ask(run, op, ASK_RUN, 0, form->sql);
    run->wanted.head.autocommit = run->got.head.autocommit;
    if (!ok) break;
    ok = same_form(run, form, &out);
    if (!ok) differs(run, op, form->sql, i < 0 ? "rows differ" : op->sql);
  }
  text_free(&out);
  return ok;
}

/* The rows that a cursor just returned are the next ones that it should. */
static bool cursor_follows(diff_run *run, const diff_op *op) {
  diff_side *side = &run->sides[op->actor];
  struct diff_expected *cursor = &side->cursors[op->slot];
  const diff_text *all = &cursor->rows.text;
  size_t rows = run->got.head.rows, n = run->got.text.len;
  run->compared++;
  bool ok =
      run->got.head.code == SQLITE_OK &&
      cursor->next + rows <= cursor->rows.head.rows &&
      cursor->at + n <= all->len &&
      (n == 0 || memcmp(all->data + cursor->at, run->got.text.data, n) == 0);
  cursor->next += rows;
  cursor->at += n;
  if (run->got.head.is_done) {
    ok = ok && cursor->next == cursor->rows.head.rows;
    side_closed(side, op->slot);
  }
  if (ok) return true;
  text_clear(&run->wanted.text);
  text_add(&run->wanted.text, all->data != NULL ? all->data : "", all->len);
  run->wanted.head = cursor->rows.head;
  return differs(run, op, op->sql, "an open cursor's rows differ");
}

static bool do_open(diff_run *run, const diff_op *op) {
  diff_side *side = &run->sides[op->actor];
  struct diff_expected *cursor = &side->cursors[op->slot];
  sqlite3 *source;
  if (cursor->is_open) return true;
  source = side_source(run, op->actor, true);
  if (source == NULL) return true;
  sql_run(source, op->sql, &cursor->rows);
  cursor->next = cursor->at = 0;
  cursor->is_open = true;
  side->open++;
  return side_ask(run, op, ASK_OPEN, 1, op->sql) && cursor_follows(run, op);
}

static bool do_step(diff_run *run, const diff_op *op) {
  if (!run->sides[op->actor].cursors[op->slot].is_open) return true;
  return side_ask(run, op, ASK_STEP, op->count, NULL) &&
         cursor_follows(run, op);
}

static bool do_close(diff_run *run, const diff_op *op) {
  diff_side *side = &run->sides[op->actor];
  if (!side->cursors[op->slot].is_open) return true;
  side_closed(side, op->slot);
  return side_ask(run, op, ASK_CLOSE, 0, NULL);
}

#define PIN_SQL "INSERT INTO kv(kv) VALUES('snapshot')"

static bool do_pin(diff_run *run, const diff_op *op) {
  diff_side *side = &run->sides[op->actor];
  if (side->is_pinned || run->writer == op->actor) return true;
  if (!side_must(run, op->actor, "BEGIN") ||
      !side_must(run, op->actor, PIN_SQL))
    return false;
  diff_view view = side->view;
  uint64_t since = side->since;
  side_freeze(run, side);
  side->is_pinned = true;
  side->view = view == VIEW_NONE ? VIEW_FROZEN : view;
  if (view != VIEW_NONE) side->since = since;
  return true;
}

static bool do_unpin(diff_run *run, const diff_op *op) {
  diff_side *side = &run->sides[op->actor];
  if (!side->is_pinned) return true;
  side->is_pinned = false;
  side_wrote(run, side);
  return side_must(run, op->actor, "COMMIT");
}

static bool compare_all(diff_run *run, int actor) {
  static const char *const sql[2][3] = {
      {"SELECT key,value FROM kv ORDER BY key",
       "SELECT key,value FROM kv ORDER BY key DESC", "SELECT count(*) FROM kv"},
      {"SELECT key,value FROM k2 ORDER BY key",
       "SELECT key,value FROM k2 ORDER BY key DESC",
       "SELECT count(*) FROM k2"}};
  for (int i = 0; i < 2; i++) {
    diff_op op = {.kind = DIFF_QUERY, .actor = actor, .sql = sql[i][0]};
    op.form_count = 2;
    op.forms[0] = (diff_form){.relation = DIFF_REVERSED, .sql = sql[i][1]};
    op.forms[1] = (diff_form){.relation = DIFF_COUNT, .sql = sql[i][2]};
    if (!do_query(run, &op)) return false;
  }
  return true;
}

static bool do_command(diff_run *run, const diff_op *op) {
  diff_side *side = &run->sides[op->actor];
  if (side->is_pinned) return true;
  if (!side_must(run, op->actor, op->sql)) return false;
  side_wrote(run, side);
  if (run->writer == op->actor) side->has_written = true;
  run->compared++;
  for (int i = 0; i < run->config->actors; i++)
    if (!compare_all(run, i)) return false;
  return true;
}

static bool do_reopen(diff_run *run, const diff_op *op) {
  diff_side *side = &run->sides[op->actor];
  bool killed = op->kind == DIFF_KILL && run->config->processes;
  if (run->config->memory) return true; /* it would be gone */
  for (int i = 0; i < DIFF_SLOTS; i++) side_closed(side, i);
  if (!actor_end(&side->actor, killed)) {
    actor_begin(&side->actor, run->config->processes);
    return differs(run, op, "close", "the process did not end well");
  }
  side->is_pinned = side->has_written = false;
  side->view = VIEW_NONE;
  if (run->writer == op->actor) {
    sql_must(run->truth, "ROLLBACK");
    run->writer = -1;
  }
  return side_open(run, op->actor) && compare_all(run, op->actor);
}

static bool do_op(diff_run *run, const diff_op *op) {
  switch (op->kind) {
  case DIFF_WRITE:
  case DIFF_CONTROL: return do_write(run, op);
  case DIFF_QUERY: return do_query(run, op);
  case DIFF_OPEN: return do_open(run, op);
  case DIFF_STEP: return do_step(run, op);
  case DIFF_CLOSE: return do_close(run, op);
  case DIFF_PIN: return do_pin(run, op);
  case DIFF_UNPIN: return do_unpin(run, op);
  case DIFF_COMMAND: return do_command(run, op);
  case DIFF_REOPEN:
  case DIFF_KILL: return do_reopen(run, op);
  }
  return false;
}

static void set_size(const char *name, unsigned size) {
  char number[16];
  snprintf(number, sizeof number, "%u", size);
  if (size > 0)
    setenv(name, number, 1);
  else
    unsetenv(name);
}

/* The operation at which the sides differ, or `count`. */
static size_t run_script(const diff_config *config, uint64_t number,
                         const diff_op *const *ops, size_t count,
                         uint64_t *compared, diff_text *why) {
  diff_run run;
  size_t i = 0;
  set_size("SKV_TEST_WAL_SIZE", config->wal);
  set_size("SKV_TEST_BLOCK_SIZE", config->block);
  set_size("SKV_TEST_SEGMENT_SIZE", config->segment);
  bool ok = run_begin(&run, config, number);
  while (ok && i < count) {
    ok = do_op(&run, ops[i]);
    i += ok;
  }
  for (int j = 0; ok && j < config->actors; j++) ok = compare_all(&run, j);
  if (ok) {
    diff_op op = {.kind = DIFF_REOPEN};
    ok = do_reopen(&run, &op);
  }
  run_end(&run);
  if (compared != NULL) *compared = run.compared;
  if (why != NULL) {
    text_free(why);
    *why = run.why;
  } else {
    text_free(&run.why);
  }
  if (ok) return count;
  return i < count ? i : count - (count > 0); /* the end counts as the last */
}

#endif
