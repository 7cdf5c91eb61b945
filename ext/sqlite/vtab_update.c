/*
 * Writing: xUpdate.
 *
 * ARGUMENTS  DELETE [key]; INSERT [NULL, NULL, key, value, version, command];
 *   UPDATE [old key, new key, key, value, version, command].
 *
 * All checks come before the first change: both the OR clauses and the
 * planner's promise of one row rely on it. OR REPLACE is done here; the core
 * does the others with the code that comes back.
 *
 * CONFLICTS  What a statement looked at is told to the engine, which checks it
 *   at commit: an INSERT saw that its key was absent, an UPDATE or DELETE that
 *   the old one was present. OR REPLACE looks at nothing.
 */
#include <string.h>

#include "ext/sqlite/command.h"
#include "ext/sqlite/plan.h"
#include "ext/sqlite/vtab.h"

SQLITE_EXTENSION_INIT3

#define ARG_COLUMN(column) (2 + (column)) /* of INSERT and UPDATE */

/* What a table keeps of its value buffer between rows. */
#define VALUE_KEEP ((size_t)1024 * 1024)

/* ---- Refusals ---------------------------------------------------------- */

static int update_not_null(skv_sql_vtab *vtab) {
  return skv_sql_vtab_fail(vtab, SQLITE_CONSTRAINT_NOTNULL,
                           "NOT NULL constraint failed: %s.key", vtab->name);
}

static int update_not_unique(skv_sql_vtab *vtab) {
  return skv_sql_vtab_fail(vtab, SQLITE_CONSTRAINT_PRIMARYKEY,
                           "UNIQUE constraint failed: %s.key", vtab->name);
}

/* As a constraint the core would skip the row under OR IGNORE, keep the rows
 * before it under OR FAIL and roll back everything under OR ROLLBACK; a STRICT
 * table undoes the statement, whatever the clause. */
static int update_wrong_class(skv_sql_vtab *vtab, const char *class_name) {
  static const char *const columns[] = {"TEXT", "BLOB", "INTEGER"};
  int conflict = sqlite3_vtab_on_conflict(skv_sql_conn_db(vtab->conn));
  int code = conflict == SQLITE_ABORT || conflict == SQLITE_REPLACE
                 ? SQLITE_CONSTRAINT_DATATYPE
                 : SQLITE_MISMATCH;
  return skv_sql_vtab_fail(
      vtab, code, "cannot store %s value in %s column %s.key", class_name,
      columns[vtab->args.key_type - STRATAKV_KEY_TEXT], vtab->name);
}

static int update_too_big(skv_sql_vtab *vtab, const char *what, size_t size,
                          size_t limit) {
  return skv_sql_vtab_fail(
      vtab, SQLITE_TOOBIG, "stratakv: %s is %llu bytes, the limit is %llu",
      what, (unsigned long long)size, (unsigned long long)limit);
}

static int update_read_only_column(skv_sql_vtab *vtab) {
  return skv_sql_vtab_fail(vtab, SQLITE_ERROR,
                           "stratakv: column \"version\" is read-only");
}

/* ---- Taking arguments -------------------------------------------------- */

static int update_take_key(skv_sql_vtab *vtab, sqlite3_value *value,
                           skv_sql_key *key) {
  const char *class_name = "";
  int rc;
  if (sqlite3_value_type(value) == SQLITE_NULL) return update_not_null(vtab);
  rc = skv_sql_key_store(value, vtab->args.key_type, key, &class_name);
  if (rc == SQLITE_MISMATCH) return update_wrong_class(vtab, class_name);
  if (rc == SQLITE_TOOBIG) {
    return update_too_big(vtab, "key", key->len, STRATAKV_MAX_KEY);
  }
  return rc;
}

static int update_take_value(skv_sql_vtab *vtab, sqlite3_value *value) {
  size_t size = 0;
  int rc = skv_sql_value_store(value, &vtab->value, &size);
  if (rc == SQLITE_TOOBIG) {
    return update_too_big(vtab, "value", size, STRATAKV_MAX_VALUE - 9);
  }
  return rc;
}

static stratakv_txn *update_txn(const skv_sql_vtab *vtab) {
  return skv_sql_context_txn(vtab->context);
}

/* SQLITE_OK if the key is not there. */
static int update_check_absent(skv_sql_vtab *vtab, const skv_sql_key *key) {
  stratakv_error err = {0, ""};
  int rc = stratakv_txn_get(update_txn(vtab), vtab->table, key->data, key->len,
                            &err, NULL);
  if (rc == STRATAKV_NOTFOUND) return SQLITE_OK;
  if (rc == STRATAKV_OK) return update_not_unique(vtab);
  return skv_sql_vtab_engine_fail(vtab, rc, &err);
}

static int update_is_replace(const skv_sql_vtab *vtab) {
  return sqlite3_vtab_on_conflict(skv_sql_conn_db(vtab->conn)) ==
         SQLITE_REPLACE;
}

/* ---- INSERT ------------------------------------------------------------ */

static int update_insert(skv_sql_vtab *vtab, sqlite3_value **argv) {
  stratakv_error err = {0, ""};
  int is_replace = update_is_replace(vtab);
  skv_sql_key key;
  int rc;
  if (sqlite3_value_type(argv[ARG_COLUMN(SKV_SQL_COLUMN_VERSION)]) !=
      SQLITE_NULL) {
    return update_read_only_column(vtab);
  }
  rc = update_take_key(vtab, argv[ARG_COLUMN(SKV_SQL_COLUMN_KEY)], &key);
  if (rc != SQLITE_OK) return rc;
  rc = update_take_value(vtab, argv[ARG_COLUMN(SKV_SQL_COLUMN_VALUE)]);
  if (rc != SQLITE_OK) return rc;
  if (!is_replace) {
    rc = update_check_absent(vtab, &key);
    if (rc != SQLITE_OK) return rc;
  }
  rc = stratakv_txn_put(
      update_txn(vtab), vtab->table, key.data, key.len, vtab->value.data,
      vtab->value.len, is_replace ? STRATAKV_BLIND : STRATAKV_SAW_ABSENT, &err);
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

/* ---- DELETE ------------------------------------------------------------ */

static int update_delete(skv_sql_vtab *vtab, sqlite3_value *old) {
  stratakv_error err = {0, ""};
  skv_sql_key key;
  int rc = update_take_key(vtab, old, &key);
  if (rc != SQLITE_OK) return rc;
  rc = stratakv_txn_delete(update_txn(vtab), vtab->table, key.data, key.len,
                           STRATAKV_SAW_PRESENT, &err);
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

/* ---- UPDATE ------------------------------------------------------------ */

/* Writing back the number that is there passes: UPDATE FROM does it. */
static int update_check_version(skv_sql_vtab *vtab, sqlite3_value *given) {
  if (sqlite3_value_nochange(given)) return SQLITE_OK;
  if (sqlite3_value_type(given) == SQLITE_NULL) {
    return vtab->old.version == 0 ? SQLITE_OK : update_read_only_column(vtab);
  }
  if ((uint64_t)sqlite3_value_int64(given) == vtab->old.version) {
    return SQLITE_OK;
  }
  return update_read_only_column(vtab);
}

/* Read the old entry. STRATAKV_NOTFOUND without a message if it is gone. */
static int update_read_old(skv_sql_vtab *vtab, const skv_sql_key *key,
                           sqlite3_value **argv) {
  stratakv_error err = {0, ""};
  sqlite3_value *value = argv[ARG_COLUMN(SKV_SQL_COLUMN_VALUE)];
  sqlite3_value *version = argv[ARG_COLUMN(SKV_SQL_COLUMN_VERSION)];
  int wants_entry =
      sqlite3_value_nochange(value) || !sqlite3_value_nochange(version);
  int rc = stratakv_txn_get(update_txn(vtab), vtab->table, key->data, key->len,
                            &err, wants_entry ? &vtab->old : NULL);
  if (rc == STRATAKV_OK) return update_check_version(vtab, version);
  if (rc == STRATAKV_NOTFOUND) return rc;
  return skv_sql_vtab_engine_fail(vtab, rc, &err);
}

/* Put the new key and remove the old one, or neither. */
static int update_move(skv_sql_vtab *vtab, const skv_sql_key *from,
                       const skv_sql_key *to, const void *value, size_t len,
                       int saw) {
  stratakv_error err = {0, ""};
  stratakv_txn *txn = update_txn(vtab);
  uint64_t mark;
  int rc = stratakv_savepoint(txn, &err, &mark);
  if (rc != STRATAKV_OK) return skv_sql_vtab_engine_fail(vtab, rc, &err);
  rc = stratakv_txn_put(txn, vtab->table, to->data, to->len, value, len, saw,
                        &err);
  if (rc == STRATAKV_OK) {
    rc = stratakv_txn_delete(txn, vtab->table, from->data, from->len,
                             STRATAKV_SAW_PRESENT, &err);
  }
  if (rc != STRATAKV_OK) stratakv_rollback_to(txn, mark, NULL);
  stratakv_release(txn, mark);
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

/* The stored value passes within the engine's bytes, never through SQLite. */
static int update_write(skv_sql_vtab *vtab, const skv_sql_key *from,
                        const skv_sql_key *to, sqlite3_value *value) {
  stratakv_error err = {0, ""};
  int is_same =
      from->len == to->len && memcmp(from->data, to->data, from->len) == 0;
  int is_replace = update_is_replace(vtab);
  const void *bytes = vtab->old.data;
  size_t len = vtab->old.size;
  int rc = SQLITE_OK;
  if (!sqlite3_value_nochange(value)) {
    rc = update_take_value(vtab, value);
    bytes = vtab->value.data;
    len = vtab->value.len;
  }
  if (rc == SQLITE_OK && !is_same && !is_replace) {
    rc = update_check_absent(vtab, to);
  }
  if (rc != SQLITE_OK) return rc;
  if (!is_same) {
    return update_move(vtab, from, to, bytes, len,
                       is_replace ? STRATAKV_BLIND : STRATAKV_SAW_ABSENT);
  }
  rc = stratakv_txn_put(update_txn(vtab), vtab->table, to->data, to->len, bytes,
                        len, STRATAKV_SAW_PRESENT, &err);
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

static int update_update(skv_sql_vtab *vtab, sqlite3_value **argv) {
  sqlite3_value *command = argv[ARG_COLUMN(SKV_SQL_COLUMN_COMMAND)];
  skv_sql_key from;
  skv_sql_key to;
  int rc;
  if (!sqlite3_value_nochange(command) &&
      sqlite3_value_type(command) != SQLITE_NULL) {
    return skv_sql_vtab_fail(vtab, SQLITE_ERROR,
                             "stratakv: a command is given by INSERT INTO "
                             "%s(%s), not by UPDATE",
                             vtab->name, vtab->name);
  }
  rc = update_take_key(vtab, argv[0], &from);
  if (rc != SQLITE_OK) return rc;
  rc = update_take_key(vtab, argv[ARG_COLUMN(SKV_SQL_COLUMN_KEY)], &to);
  if (rc != SQLITE_OK) return rc;
  rc = update_read_old(vtab, &from, argv);
  if (rc == STRATAKV_NOTFOUND) return SQLITE_OK; /* nothing to update */
  if (rc != SQLITE_OK) return rc;
  return update_write(vtab, &from, &to, argv[ARG_COLUMN(SKV_SQL_COLUMN_VALUE)]);
}

/* ---- xUpdate ----------------------------------------------------------- */

static int update_is_command(int argc, sqlite3_value **argv) {
  return argc > 1 && sqlite3_value_type(argv[0]) == SQLITE_NULL &&
         sqlite3_value_type(argv[ARG_COLUMN(SKV_SQL_COLUMN_COMMAND)]) !=
             SQLITE_NULL;
}

int skv_sql_update(sqlite3_vtab *pVtab, int argc, sqlite3_value **argv,
                   sqlite3_int64 *pRowid) {
  skv_sql_vtab *vtab = (skv_sql_vtab *)pVtab;
  int rc = skv_sql_vtab_join(vtab); /* a table just created has no xBegin */
  if (rc != SQLITE_OK) return rc;
  /* Else every INSERT would reset last_insert_rowid() to 0. */
  *pRowid = sqlite3_last_insert_rowid(skv_sql_conn_db(vtab->conn));
  if (vtab->args.is_read_only) {
    return skv_sql_vtab_fail(vtab, SQLITE_READONLY,
                             "stratakv: %s was opened with mode=ro",
                             vtab->name);
  }
  vtab->written = vtab->joined;
  if (!update_is_command(argc, argv)) skv_sql_context_changes(vtab->context);
  if (argc == 1) {
    rc = update_delete(vtab, argv[0]);
  } else if (update_is_command(argc, argv)) {
    rc = skv_sql_command_run(vtab, argv);
  } else if (sqlite3_value_type(argv[0]) == SQLITE_NULL) {
    rc = update_insert(vtab, argv);
  } else {
    rc = update_update(vtab, argv);
  }
  skv_sql_buf_trim(&vtab->value, VALUE_KEEP);
  if (vtab->old.capacity > VALUE_KEEP) stratakv_value_clear(&vtab->old);
  return rc;
}
