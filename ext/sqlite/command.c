/*
 * The commands, by a table: name, arguments, function.
 */
#include "ext/sqlite/command.h"

#include <stdio.h>
#include <string.h>

#include "ext/sqlite/maintenance.h"
#include "ext/sqlite/plan.h"

SQLITE_EXTENSION_INIT3

/* key and value are what stands in the columns; NULL values if not given. */
typedef int (*command_function)(skv_sql_vtab *vtab, sqlite3_value *key,
                                sqlite3_value *value);

typedef struct command_row {
  skv_sql_command_doc doc;
  int takes_key;
  int takes_value;
  command_function run;
} command_row;

/* ---- Deleting many ----------------------------------------------------- */

/* Delete what a cursor over the transaction shows. Blind: no conflict. */
static int delete_walk(skv_sql_vtab *vtab, stratakv_cursor *cursor,
                       stratakv_error *err) {
  stratakv_txn *txn = skv_sql_context_txn(vtab->context);
  sqlite3 *db = skv_sql_conn_db(vtab->conn);
  unsigned count = 0;
  int rc = stratakv_cursor_first(cursor, err);
  while (rc == STRATAKV_OK && stratakv_cursor_valid(cursor)) {
    size_t len;
    const void *key = stratakv_cursor_key(cursor, &len);
    if (++count % 1000 == 0 && skv_sql_is_interrupted(db)) {
      return STRATAKV_INTERRUPT;
    }
    rc = stratakv_txn_delete(txn, vtab->table, key, len, STRATAKV_BLIND, err);
    if (rc == STRATAKV_OK) rc = stratakv_cursor_next(cursor, err);
  }
  return rc;
}

static int is_empty_range(const skv_sql_buf *from, const skv_sql_buf *to) {
  size_t n = from->len < to->len ? from->len : to->len;
  int order = n > 0 ? memcmp(from->data, to->data, n) : 0;
  return order > 0 || (order == 0 && from->len >= to->len);
}

/* Delete [from, to) of the table; NULL is open. */
static int delete_range(skv_sql_vtab *vtab, const skv_sql_buf *from,
                        const skv_sql_buf *to) {
  stratakv_error err = {0, ""};
  stratakv_cursor *cursor = NULL;
  stratakv_range range;
  int rc;
  memset(&range, 0, sizeof range);
  if (from != NULL && to != NULL && is_empty_range(from, to)) return SQLITE_OK;
  skv_sql_context_changes(vtab->context);
  range.keys_only = 1;
  range.poll = skv_sql_is_interrupted;
  range.poll_arg = skv_sql_conn_db(vtab->conn);
  if (from != NULL) {
    range.start = from->data;
    range.start_len = from->len;
  }
  if (to != NULL) {
    range.end = to->data;
    range.end_len = to->len;
  }
  rc = stratakv_cursor_open(skv_sql_context_store(vtab->context), NULL,
                            skv_sql_context_txn(vtab->context), vtab->table,
                            &range, &err, &cursor);
  if (rc == STRATAKV_OK) rc = delete_walk(vtab, cursor, &err);
  stratakv_cursor_close(cursor);
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

static int run_delete_all(skv_sql_vtab *vtab, sqlite3_value *key,
                          sqlite3_value *value) {
  (void)key;
  (void)value;
  return delete_range(vtab, NULL, NULL);
}

/* A limit of a range into buf; *is_open if it is NULL. */
static int command_key(skv_sql_vtab *vtab, const char *command,
                       sqlite3_value *value, skv_sql_buf *buf, int *is_open) {
  const char *class_name = "";
  skv_sql_key key;
  int rc;
  *is_open = sqlite3_value_type(value) == SQLITE_NULL;
  if (*is_open) return SQLITE_OK;
  rc = skv_sql_key_store(value, vtab->args.key_type, &key, &class_name);
  if (rc == SQLITE_MISMATCH) {
    return skv_sql_vtab_fail(vtab, SQLITE_MISMATCH,
                             "stratakv: %s: a key of %s cannot be %s", command,
                             vtab->name, class_name);
  }
  if (rc == SQLITE_TOOBIG) {
    return skv_sql_vtab_fail(vtab, rc,
                             "stratakv: key is %llu bytes, the limit is %u",
                             (unsigned long long)key.len, STRATAKV_MAX_KEY);
  }
  if (rc != SQLITE_OK) return rc;
  return skv_sql_buf_set(buf, key.data, key.len, NULL, 0);
}

static int run_delete_range(skv_sql_vtab *vtab, sqlite3_value *key,
                            sqlite3_value *value) {
  skv_sql_buf from = {NULL, 0, 0};
  skv_sql_buf to = {NULL, 0, 0};
  int from_open;
  int to_open;
  int rc = command_key(vtab, "delete-range", key, &from, &from_open);
  if (rc == SQLITE_OK) {
    rc = command_key(vtab, "delete-range", value, &to, &to_open);
  }
  if (rc == SQLITE_OK) {
    rc = delete_range(vtab, from_open ? NULL : &from, to_open ? NULL : &to);
  }
  skv_sql_buf_trim(&from, 0);
  skv_sql_buf_trim(&to, 0);
  return rc;
}

/* The end of a prefix: its last byte that can grow, grown; the rest cut. */
static int prefix_end(skv_sql_buf *buf) {
  while (buf->len > 0 && buf->data[buf->len - 1] == 0xff) buf->len--;
  if (buf->len == 0) return 0;
  buf->data[buf->len - 1]++;
  return 1;
}

static int run_delete_prefix(skv_sql_vtab *vtab, sqlite3_value *key,
                             sqlite3_value *value) {
  skv_sql_buf from = {NULL, 0, 0};
  skv_sql_buf to = {NULL, 0, 0};
  int is_open;
  int rc;
  (void)value;
  if (vtab->args.key_type == STRATAKV_KEY_INT ||
      sqlite3_value_type(key) == SQLITE_NULL) {
    return skv_sql_vtab_fail(vtab, SQLITE_ERROR,
                             "stratakv: delete-prefix needs a prefix, and a "
                             "table of text or blob keys");
  }
  rc = command_key(vtab, "delete-prefix", key, &from, &is_open);
  if (rc == SQLITE_OK) {
    rc = skv_sql_buf_set(&to, from.data, from.len, NULL, 0);
  }
  if (rc == SQLITE_OK) {
    rc = delete_range(vtab, &from, prefix_end(&to) ? &to : NULL);
  }
  skv_sql_buf_trim(&from, 0);
  skv_sql_buf_trim(&to, 0);
  return rc;
}

/* ---- The others -------------------------------------------------------- */

/* The transaction has begun when a command runs: that is all. */
static int run_snapshot(skv_sql_vtab *vtab, sqlite3_value *key,
                        sqlite3_value *value) {
  (void)vtab;
  (void)key;
  (void)value;
  return SQLITE_OK;
}

static int run_flush(skv_sql_vtab *vtab, sqlite3_value *key,
                     sqlite3_value *value) {
  stratakv_error err = {0, ""};
  int rc = stratakv_flush(skv_sql_context_store(vtab->context), &err);
  (void)key;
  (void)value;
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

static int optimize_progress(void *arg, double done) {
  (void)done;
  return skv_sql_is_interrupted(arg);
}

static int run_optimize(skv_sql_vtab *vtab, sqlite3_value *key,
                        sqlite3_value *value) {
  stratakv_error err = {0, ""};
  skv_sql_context_rest(vtab->context);
  int rc =
      stratakv_compact(skv_sql_context_store(vtab->context), optimize_progress,
                       skv_sql_conn_db(vtab->conn), &err);
  (void)key;
  (void)value;
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

static int run_integrity_check(skv_sql_vtab *vtab, sqlite3_value *key,
                               sqlite3_value *value) {
  stratakv_error err = {0, ""};
  int rc = skv_sql_check(vtab, NULL, NULL, &err);
  (void)key;
  (void)value;
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

static int run_backup(skv_sql_vtab *vtab, sqlite3_value *key,
                      sqlite3_value *value) {
  stratakv_error err = {0, ""};
  const char *dir;
  int rc;
  (void)key;
  if (sqlite3_value_type(value) != SQLITE_TEXT) {
    return skv_sql_vtab_fail(vtab, SQLITE_ERROR,
                             "stratakv: backup needs value = a directory");
  }
  dir = (const char *)sqlite3_value_text(value);
  if (dir == NULL) return SQLITE_NOMEM;
  rc = skv_sql_backup(vtab, dir, SKV_SQL_BY_STATEMENT, &err, NULL);
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

static int run_config(skv_sql_vtab *vtab, sqlite3_value *key,
                      sqlite3_value *value) {
  char message[300];
  skv_sql_args args = vtab->args;
  const char *name = (const char *)sqlite3_value_text(key);
  const char *text = (const char *)sqlite3_value_text(value);
  if (name == NULL || text == NULL) {
    return skv_sql_vtab_fail(vtab, SQLITE_ERROR,
                             "stratakv: config needs key = an option and "
                             "value = its value");
  }
  if (!skv_sql_args_set(&args, name, text, message, sizeof message)) {
    return skv_sql_vtab_fail(vtab, SQLITE_ERROR, "stratakv: %s", message);
  }
  if (sqlite3_stricmp(name, "sync") == 0) {
    skv_sql_context_set_sync(vtab->context, args.sync);
  } else if (sqlite3_stricmp(name, "busy_timeout") == 0) {
    skv_sql_context_set_busy_timeout(vtab->context, args.busy_timeout_ms);
  } else {
    return skv_sql_vtab_fail(vtab, SQLITE_ERROR,
                             "stratakv: option %s cannot change while the "
                             "store is open",
                             name);
  }
  return SQLITE_OK;
}

/* ---- Dispatch ---------------------------------------------------------- */

static const command_row commands[] = {
    {{"snapshot", "", 1, "pins what this transaction reads"},
     0,
     0,
     run_snapshot},
    {{"delete-all", "", 1, "removes every entry of the table; no conflict"},
     0,
     0,
     run_delete_all},
    {{"delete-range", "key = from, value = to", 1,
      "removes from <= key < to; NULL is open; no conflict"},
     1,
     1,
     run_delete_range},
    {{"delete-prefix", "key = prefix", 1,
      "removes every key that begins with it; no conflict"},
     1,
     0,
     run_delete_prefix},
    {{"flush", "", 0, "writes what is committed to segments"}, 0, 0, run_flush},
    {{"optimize", "", 0, "full compaction; readers and writers go on"},
     0,
     0,
     run_optimize},
    {{"integrity-check", "", 0,
      "reads all of the store; fails with the first damage"},
     0,
     0,
     run_integrity_check},
    {{"backup", "value = directory", 0,
      "copies the store to a directory beneath the database file's, or a "
      "granted root"},
     0,
     1,
     run_backup},
    {{"config", "key = option, value", 0,
      "sets sync or busy_timeout for this connection"},
     1,
     1,
     run_config},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static int command_unknown(skv_sql_vtab *vtab, const char *name) {
  const char *names[COMMAND_COUNT];
  const char *guess;
  for (size_t i = 0; i < COMMAND_COUNT; i++) names[i] = commands[i].doc.name;
  guess = skv_sql_suggest(name, names, COMMAND_COUNT);
  if (guess == NULL) {
    return skv_sql_vtab_fail(vtab, SQLITE_ERROR,
                             "stratakv: unknown command \"%s\" (see SELECT * "
                             "FROM stratakv_commands)",
                             name);
  }
  return skv_sql_vtab_fail(vtab, SQLITE_ERROR,
                           "stratakv: unknown command \"%s\" (did you mean "
                           "\"%s\"? see SELECT * FROM stratakv_commands)",
                           name, guess);
}

static const command_row *command_find(const char *name) {
  for (size_t i = 0; i < COMMAND_COUNT; i++) {
    if (sqlite3_stricmp(name, commands[i].doc.name) == 0) return &commands[i];
  }
  return NULL;
}

static int command_has(sqlite3_value *value) {
  return sqlite3_value_type(value) != SQLITE_NULL;
}

int skv_sql_command_run(skv_sql_vtab *vtab, sqlite3_value **argv) {
  sqlite3_value *key = argv[2 + SKV_SQL_COLUMN_KEY];
  sqlite3_value *value = argv[2 + SKV_SQL_COLUMN_VALUE];
  sqlite3_value *command = argv[2 + SKV_SQL_COLUMN_COMMAND];
  const char *name = (const char *)sqlite3_value_text(command);
  const command_row *row;
  if (name == NULL) return SQLITE_NOMEM;
  row = command_find(name);
  if (row == NULL) return command_unknown(vtab, name);
  if ((!row->takes_key && command_has(key)) ||
      (!row->takes_value && command_has(value)) ||
      command_has(argv[2 + SKV_SQL_COLUMN_VERSION])) {
    return skv_sql_vtab_fail(
        vtab, SQLITE_ERROR, "stratakv: command \"%s\" takes %s", row->doc.name,
        row->takes_key || row->takes_value ? row->doc.arguments
                                           : "no arguments");
  }
  return row->run(vtab, key, value);
}

const skv_sql_command_doc *skv_sql_command_at(size_t i) {
  return i < COMMAND_COUNT ? &commands[i].doc : NULL;
}
