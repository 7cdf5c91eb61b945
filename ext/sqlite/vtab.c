/*
 * The module `stratakv`: create, connect, plan, rename, destroy, and the calls
 * of a transaction. What the core promises about their order is in context.h.
 */
#include "ext/sqlite/vtab.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ext/sqlite/plan.h"
#include "ext/sqlite/trust.h"

SQLITE_EXTENSION_INIT3

/* The guess for a store that is not open: the planner must not open it. */
#define ROWS_UNKNOWN 100000.0
#define ROWS_MOST ((uint64_t)1 << 48) /* and no plan depends on more */

static skv_sql_vtab *vtab_of(sqlite3_vtab *pVtab) {
  return (skv_sql_vtab *)pVtab;
}

/* ---- Errors ------------------------------------------------------------ */

int skv_sql_code(int engine_code) {
  return engine_code == STRATAKV_CORRUPT ? SQLITE_CORRUPT_VTAB : engine_code;
}

char *skv_sql_engine_message(int code, const stratakv_error *err) {
  if (code == STRATAKV_NOMEM || code == STRATAKV_INTERRUPT) return NULL;
  return sqlite3_mprintf("stratakv: %s", err->message);
}

int skv_sql_vtab_fail(skv_sql_vtab *vtab, int code, const char *format, ...) {
  va_list ap;
  sqlite3_free(vtab->base.zErrMsg);
  va_start(ap, format);
  vtab->base.zErrMsg = sqlite3_vmprintf(format, ap);
  va_end(ap);
  return code;
}

int skv_sql_vtab_engine_fail(skv_sql_vtab *vtab, int code,
                             const stratakv_error *err) {
  sqlite3_free(vtab->base.zErrMsg);
  vtab->base.zErrMsg = skv_sql_engine_message(code, err);
  return skv_sql_code(code);
}

/* ---- Opening ----------------------------------------------------------- */

static int vtab_is_memory(const skv_sql_vtab *vtab) {
  return strcmp(vtab->args.path, ":memory:") == 0;
}

/* The table within an open store. */
static int vtab_find_table(skv_sql_vtab *vtab, stratakv_store *store,
                           int is_create, stratakv_error *err) {
  stratakv_table_info info;
  const skv_sql_args *args = &vtab->args;
  int may_create = is_create && (!args->is_read_only || vtab_is_memory(vtab));
  int rc = stratakv_table(store, args->table, args->key_type, may_create, err,
                          &info);
  vtab->table = info.id;
  if (rc == STRATAKV_CONSTRAINT) {
    snprintf(err->message, sizeof err->message,
             "table \"%s\" in \"%s\" has key=%s; this statement says key=%s",
             args->table, stratakv_path(store),
             skv_sql_key_type_name(info.key_type),
             skv_sql_key_type_name(args->key_type));
    return STRATAKV_ERROR;
  }
  if (rc == STRATAKV_NOTFOUND) {
    snprintf(err->message, sizeof err->message, "no table \"%s\" in \"%s\"",
             args->table, stratakv_path(store));
    return STRATAKV_CANTOPEN;
  }
  return rc;
}

/* A new handle, its table, and the context that takes the handle. */
static int vtab_open_store(skv_sql_vtab *vtab, int is_create,
                           stratakv_error *err) {
  stratakv_store *store;
  int kind;
  int rc = skv_sql_trust_open(vtab->conn, vtab->schema, &vtab->args, is_create,
                              err, &store);
  if (rc != STRATAKV_OK) return rc;
  rc = vtab_find_table(vtab, store, is_create, err);
  if (rc != STRATAKV_OK) {
    stratakv_close(store, NULL);
    return rc;
  }
  kind = vtab_is_memory(vtab)      ? SKV_SQL_PRIVATE
         : vtab->args.is_read_only ? SKV_SQL_READ_ONLY
                                   : SKV_SQL_READ_WRITE;
  return skv_sql_context_open(vtab->conn, store, kind, &vtab->context);
}

/* A store that lives in memory is found by the table's name. A connection that
 * did not create it (it reads a file's schema) gets an empty one. */
static int vtab_open_memory(skv_sql_vtab *vtab, int is_create,
                            stratakv_error *err) {
  skv_sql_context *found =
      skv_sql_conn_memory(vtab->conn, vtab->schema, vtab->name);
  int rc;
  if (found != NULL && !is_create) {
    rc = vtab_find_table(vtab, skv_sql_context_store(found), 0, err);
    if (rc == STRATAKV_OK) vtab->context = skv_sql_context_ref(found);
    return rc;
  }
  rc = vtab_open_store(vtab, 1, err);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_sql_conn_set_memory(vtab->conn, vtab->schema, vtab->name,
                               vtab->context);
  if (rc != SQLITE_OK) {
    skv_sql_context_unref(vtab->context);
    vtab->context = NULL;
  }
  return rc;
}

static int vtab_open_any(skv_sql_vtab *vtab, int is_create,
                         stratakv_error *err) {
  return vtab_is_memory(vtab) ? vtab_open_memory(vtab, is_create, err)
                              : vtab_open_store(vtab, is_create, err);
}

int skv_sql_vtab_open(skv_sql_vtab *vtab) {
  stratakv_error err = {0, ""};
  int rc;
  if (vtab->context != NULL) return SQLITE_OK;
  if (vtab->refusal != NULL) {
    return skv_sql_vtab_fail(vtab, SQLITE_ERROR, "stratakv: %s", vtab->refusal);
  }
  rc = vtab_open_any(vtab, 0, &err);
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

/* ---- Create, connect, destroy ------------------------------------------ */

static int vtab_free(skv_sql_vtab *vtab) {
  skv_sql_vtab **at = skv_sql_conn_tables(vtab->conn);
  while (*at != NULL && *at != vtab) at = &(*at)->next;
  if (*at == vtab) *at = vtab->next;
  if (vtab->context != NULL &&
      vtab->joined == skv_sql_context_txn_number(vtab->context) &&
      vtab->joined != 0) {
    skv_sql_context_leave(vtab->context);
  }
  skv_sql_cursor_free(vtab->spare);
  skv_sql_buf_trim(&vtab->value, 0);
  stratakv_value_clear(&vtab->old);
  skv_sql_context_unref(vtab->context);
  skv_sql_conn_unref(vtab->conn);
  sqlite3_free(vtab->base.zErrMsg);
  sqlite3_free(vtab->schema);
  sqlite3_free(vtab->name);
  sqlite3_free(vtab->refusal);
  sqlite3_free(vtab);
  return SQLITE_OK;
}

static skv_sql_vtab *vtab_new(skv_sql_conn *conn, const char *schema,
                              const char *name) {
  skv_sql_vtab *vtab = sqlite3_malloc64(sizeof *vtab);
  if (vtab == NULL) return NULL;
  memset(vtab, 0, sizeof *vtab);
  vtab->conn = skv_sql_conn_ref(conn);
  vtab->is_utf16 = -1;
  skv_sql_args_init(&vtab->args);
  vtab->schema = sqlite3_mprintf("%s", schema);
  vtab->name = sqlite3_mprintf("%s", name);
  if (vtab->schema == NULL || vtab->name == NULL) {
    vtab_free(vtab);
    return NULL;
  }
  vtab->next = *skv_sql_conn_tables(conn);
  *skv_sql_conn_tables(conn) = vtab;
  return vtab;
}

/* What is wrong with the statement, as a sentence. 1 if nothing is. */
static int vtab_parse(skv_sql_vtab *vtab, int argc, const char *const *argv,
                      char *message, size_t capacity) {
  if (skv_sql_name_clashes(vtab->name)) {
    snprintf(message, capacity,
             "a table cannot be named \"%s\": its command column would clash "
             "with a column",
             vtab->name);
    return 0;
  }
  /* argv: module, schema, table, then the arguments */
  if (!skv_sql_args_parse(&vtab->args, argc - 3, argv + 3, message, capacity)) {
    return 0;
  }
  if (skv_sql_trust_needs_path(vtab->conn, vtab->schema, &vtab->args)) {
    snprintf(message, capacity,
             "an in-memory database needs a path, for "
             "example USING stratakv('app.strata')");
    return 0;
  }
  return 1;
}

static int vtab_declare(skv_sql_vtab *vtab, sqlite3 *db) {
  static const char *const types[] = {"TEXT", "BLOB", "INTEGER"};
  const char *type = types[vtab->args.key_type - STRATAKV_KEY_TEXT];
  /* A table whose name clashes is declared all the same, to be dropped. */
  const char *command = skv_sql_name_clashes(vtab->name) ? "" : vtab->name;
  char *sql =
      sqlite3_mprintf("CREATE TABLE x(key %s NOT NULL PRIMARY KEY, value,"
                      " version INTEGER HIDDEN, \"%w\" HIDDEN) WITHOUT ROWID",
                      type, command);
  int rc;
  if (sql == NULL) return SQLITE_NOMEM;
  rc = sqlite3_declare_vtab(db, sql);
  sqlite3_free(sql);
  if (rc != SQLITE_OK) return rc;
  rc = sqlite3_vtab_config(db, SQLITE_VTAB_CONSTRAINT_SUPPORT, 1);
  if (rc == SQLITE_OK && vtab->args.is_direct_only) {
    rc = sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY);
  }
  return rc;
}

/* CREATE: everything that is wrong is reported at once. */
static int vtab_create(sqlite3 *db, void *pAux, int argc,
                       const char *const *argv, sqlite3_vtab **ppVtab,
                       char **pzErr) {
  char message[600];
  stratakv_error err = {0, ""};
  skv_sql_vtab *vtab = vtab_new(pAux, argv[1], argv[2]);
  int rc;
  if (vtab == NULL) return SQLITE_NOMEM;
  if (!vtab_parse(vtab, argc, argv, message, sizeof message)) {
    *pzErr = sqlite3_mprintf("stratakv: %s", message);
    rc = SQLITE_ERROR;
    goto out;
  }
  rc = vtab_declare(vtab, db);
  if (rc != SQLITE_OK) goto out;
  rc = vtab_open_any(vtab, 1, &err);
  if (rc != STRATAKV_OK) {
    *pzErr = skv_sql_engine_message(rc, &err);
    rc = skv_sql_code(rc);
  }

out:
  if (rc != SQLITE_OK) {
    vtab_free(vtab);
    vtab = NULL;
  }
  *ppVtab = vtab != NULL ? &vtab->base : NULL;
  return rc;
}

/* The schema names the table: touches nothing, and fails for lack of memory
 * only, as a failing xConnect would make DROP TABLE fail. */
static int vtab_connect(sqlite3 *db, void *pAux, int argc,
                        const char *const *argv, sqlite3_vtab **ppVtab,
                        char **pzErr) {
  char message[600];
  skv_sql_vtab *vtab = vtab_new(pAux, argv[1], argv[2]);
  int rc = SQLITE_NOMEM;
  (void)pzErr;
  if (vtab == NULL) return SQLITE_NOMEM;
  if (!vtab_parse(vtab, argc, argv, message, sizeof message)) {
    vtab->refusal = sqlite3_mprintf("%s", message);
    if (vtab->refusal == NULL) goto out;
  }
  rc = vtab_declare(vtab, db);

out:
  if (rc != SQLITE_OK) {
    vtab_free(vtab);
    vtab = NULL;
  }
  *ppVtab = vtab != NULL ? &vtab->base : NULL;
  return rc;
}

static int vtab_disconnect(sqlite3_vtab *pVtab) {
  return vtab_free(vtab_of(pVtab));
}

/*
 * DROP detaches: the store keeps every byte. Refused while the table has
 * changes in the running transaction: the core forgets a dropped table, so
 * neither COMMIT nor ROLLBACK would reach them. (It also shows no message of
 * ours here.)
 */
static int vtab_destroy(sqlite3_vtab *pVtab) {
  skv_sql_vtab *vtab = vtab_of(pVtab);
  if (vtab->written != 0 && vtab->context != NULL &&
      vtab->written == skv_sql_context_txn_number(vtab->context)) {
    return SQLITE_LOCKED;
  }
  return vtab_free(vtab);
}

/* Only the name changes. An in-memory store gets an alias and keeps the old
 * name, which a rolled-back rename connects again without asking. */
static int vtab_rename(sqlite3_vtab *pVtab, const char *zNew) {
  skv_sql_vtab *vtab = vtab_of(pVtab);
  skv_sql_context *memory;
  char *name;
  if (skv_sql_name_clashes(zNew)) {
    return skv_sql_vtab_fail(
        vtab, SQLITE_ERROR,
        "stratakv: a table cannot be named \"%s\": its command column would "
        "clash with a column",
        zNew);
  }
  memory = vtab_is_memory(vtab)
               ? skv_sql_conn_memory(vtab->conn, vtab->schema, vtab->name)
               : NULL;
  if (memory != NULL) {
    int rc = skv_sql_conn_set_memory(vtab->conn, vtab->schema, zNew, memory);
    if (rc != SQLITE_OK) return rc;
  }
  name = sqlite3_mprintf("%s", zNew);
  if (name == NULL) return SQLITE_NOMEM;
  sqlite3_free(vtab->name);
  vtab->name = name;
  return SQLITE_OK;
}

/* ---- Finding a table by name ------------------------------------------- */

static skv_sql_vtab *vtab_lookup(skv_sql_conn *conn, const char *schema,
                                 const char *name) {
  skv_sql_vtab *vtab = *skv_sql_conn_tables(conn);
  for (; vtab != NULL; vtab = vtab->next) {
    if (sqlite3_stricmp(vtab->name, name) != 0) continue;
    if (schema == NULL || sqlite3_stricmp(vtab->schema, schema) == 0) break;
  }
  return vtab;
}

/* In the order in which the core resolves a name without a schema. */
static skv_sql_vtab *vtab_resolve(skv_sql_conn *conn, const char *schema,
                                  const char *name) {
  skv_sql_vtab *vtab;
  if (schema != NULL) return vtab_lookup(conn, schema, name);
  vtab = vtab_lookup(conn, "temp", name);
  if (vtab == NULL) vtab = vtab_lookup(conn, "main", name);
  return vtab != NULL ? vtab : vtab_lookup(conn, NULL, name);
}

/* Preparing a SELECT makes the core connect the table, if there is one. */
static int vtab_touch(skv_sql_conn *conn, const char *schema,
                      const char *name) {
  sqlite3_stmt *stmt = NULL;
  char *sql = schema != NULL
                  ? sqlite3_mprintf("SELECT 1 FROM \"%w\".\"%w\"", schema, name)
                  : sqlite3_mprintf("SELECT 1 FROM \"%w\"", name);
  int rc;
  if (sql == NULL) return SQLITE_NOMEM;
  rc = sqlite3_prepare_v2(skv_sql_conn_db(conn), sql, -1, &stmt, NULL);
  sqlite3_free(sql);
  sqlite3_finalize(stmt);
  return rc;
}

skv_sql_vtab *skv_sql_vtab_find(skv_sql_conn *conn, const char *name, int *rc,
                                char **message) {
  const char *dot = strchr(name, '.');
  char *schema = NULL;
  skv_sql_vtab *vtab = NULL;
  *message = NULL;
  *rc = SQLITE_NOMEM;
  if (dot != NULL) {
    schema = sqlite3_mprintf("%.*s", (int)(dot - name), name);
    if (schema == NULL) return NULL;
  }
  *rc = vtab_touch(conn, schema, dot != NULL ? dot + 1 : name);
  if (*rc == SQLITE_OK) {
    vtab = vtab_resolve(conn, schema, dot != NULL ? dot + 1 : name);
  }
  if (*rc != SQLITE_NOMEM && vtab == NULL) {
    *rc = SQLITE_ERROR;
    *message = sqlite3_mprintf("stratakv: no stratakv table \"%s\"", name);
  } else if (vtab != NULL) {
    *rc = skv_sql_vtab_open(vtab);
    if (*rc != SQLITE_OK) {
      *message = vtab->base.zErrMsg;
      vtab->base.zErrMsg = NULL;
      vtab = NULL;
    }
  }
  sqlite3_free(schema);
  return vtab;
}

/* ---- Planning ---------------------------------------------------------- */

/* Asked once; -1 means that it could not be asked, which plans as UTF-16. */
static int vtab_is_utf16(skv_sql_vtab *vtab) {
  sqlite3_stmt *stmt = NULL;
  if (vtab->is_utf16 >= 0) return vtab->is_utf16;
  if (sqlite3_prepare_v2(skv_sql_conn_db(vtab->conn), "PRAGMA encoding", -1,
                         &stmt, NULL) == SQLITE_OK &&
      sqlite3_step(stmt) == SQLITE_ROW) {
    const char *encoding = (const char *)sqlite3_column_text(stmt, 0);
    if (encoding != NULL) vtab->is_utf16 = strncmp(encoding, "UTF-16", 6) == 0;
  }
  sqlite3_finalize(stmt);
  return vtab->is_utf16 != 0;
}

static skv_sql_arg vtab_op(sqlite3_index_info *info, int i) {
  if (!info->aConstraint[i].usable ||
      info->aConstraint[i].iColumn != SKV_SQL_COLUMN_KEY) {
    return SKV_SQL_ARG_OTHER;
  }
  switch (info->aConstraint[i].op) {
  case SQLITE_INDEX_CONSTRAINT_EQ:
  case SQLITE_INDEX_CONSTRAINT_IS:
  case SQLITE_INDEX_CONSTRAINT_GT:
  case SQLITE_INDEX_CONSTRAINT_GE:
  case SQLITE_INDEX_CONSTRAINT_LT:
  case SQLITE_INDEX_CONSTRAINT_LE:
    /* NOCASE and the like would lose rows; LIKE sends such bounds. */
    if (sqlite3_stricmp(sqlite3_vtab_collation(info, i), "BINARY") != 0) {
      return SKV_SQL_ARG_OTHER;
    }
    break;
  default: break;
  }
  switch (info->aConstraint[i].op) {
  case SQLITE_INDEX_CONSTRAINT_EQ:
    return sqlite3_vtab_in(info, i, -1) ? SKV_SQL_ARG_IN : SKV_SQL_ARG_EQ;
  case SQLITE_INDEX_CONSTRAINT_IS: return SKV_SQL_ARG_EQ;
  case SQLITE_INDEX_CONSTRAINT_GT: return SKV_SQL_ARG_GT;
  case SQLITE_INDEX_CONSTRAINT_GE: return SKV_SQL_ARG_GE;
  case SQLITE_INDEX_CONSTRAINT_LT: return SKV_SQL_ARG_LT;
  case SQLITE_INDEX_CONSTRAINT_LE: return SKV_SQL_ARG_LE;
  case SQLITE_INDEX_CONSTRAINT_GLOB: return SKV_SQL_ARG_GLOB;
  default: return SKV_SQL_ARG_OTHER;
  }
}

/* Entries of the table, about; a damaged segment may claim any number. */
static double vtab_rows(const skv_sql_vtab *vtab) {
  uint64_t entries;
  uint64_t bytes;
  if (vtab->context == NULL) return ROWS_UNKNOWN;
  if (stratakv_estimate(skv_sql_context_store(vtab->context), vtab->table, NULL,
                        0, NULL, 0, NULL, &entries, &bytes) != STRATAKV_OK) {
    return ROWS_UNKNOWN;
  }
  return entries < ROWS_MOST ? (double)entries : (double)ROWS_MOST;
}

static void vtab_fill_query(skv_sql_vtab *vtab, sqlite3_index_info *info,
                            skv_sql_constraint *constraints,
                            skv_sql_query *query) {
  memset(query, 0, sizeof *query);
  for (int i = 0; i < info->nConstraint; i++) {
    constraints[i].op = vtab_op(info, i);
  }
  query->constraints = constraints;
  query->count = info->nConstraint;
  query->is_ordered = info->nOrderBy > 0;
  if (query->is_ordered) {
    query->is_ordered_by_key = info->aOrderBy[0].iColumn == SKV_SQL_COLUMN_KEY;
    query->is_descending = info->aOrderBy[0].desc;
  }
  query->uses_value = (info->colUsed >> SKV_SQL_COLUMN_VALUE) & 1;
  query->uses_version = (info->colUsed >> SKV_SQL_COLUMN_VERSION) & 1;
  query->is_text_glob = vtab->args.key_type == STRATAKV_KEY_TEXT;
  query->is_utf16 =
      vtab->args.key_type == STRATAKV_KEY_TEXT && vtab_is_utf16(vtab);
  query->rows = vtab_rows(vtab);
}

static int vtab_best_index(sqlite3_vtab *pVtab, sqlite3_index_info *info) {
  skv_sql_constraint few[16];
  skv_sql_constraint *constraints = few;
  skv_sql_query query;
  skv_sql_plan plan;
  if (info->nConstraint > (int)(sizeof few / sizeof few[0])) {
    constraints = sqlite3_malloc64((sqlite3_uint64)info->nConstraint *
                                   sizeof *constraints);
    if (constraints == NULL) return SQLITE_NOMEM;
  }
  vtab_fill_query(vtab_of(pVtab), info, constraints, &query);
  skv_sql_plan_choose(&query, &plan);
  if (constraints != few) sqlite3_free(constraints);

  for (int i = 0; i < plan.used_count; i++) {
    info->aConstraintUsage[plan.used[i]].argvIndex = i + 1;
    if (SKV_SQL_PLAN_ARG(plan.number, i) == SKV_SQL_ARG_IN) {
      sqlite3_vtab_in(info, plan.used[i], 1);
    }
  }
  info->idxNum = plan.number;
  info->orderByConsumed = plan.is_order_consumed;
  info->estimatedCost = plan.cost;
  info->estimatedRows = (sqlite3_int64)plan.rows;
  if (plan.is_unique) info->idxFlags |= SQLITE_INDEX_SCAN_UNIQUE;
  info->idxStr = sqlite3_mprintf("%s", plan.text);
  info->needToFreeIdxStr = 1;
  return info->idxStr != NULL ? SQLITE_OK : SQLITE_NOMEM;
}

/* ---- Transactions ------------------------------------------------------ */

int skv_sql_vtab_join(skv_sql_vtab *vtab) {
  stratakv_error err = {0, ""};
  skv_sql_wish wish;
  int rc = skv_sql_vtab_open(vtab);
  if (rc != SQLITE_OK) return rc;
  if (vtab->joined != 0 &&
      vtab->joined == skv_sql_context_txn_number(vtab->context)) {
    return SQLITE_OK;
  }
  wish.sync = vtab->args.sync;
  wish.busy_timeout_ms = vtab->args.busy_timeout_ms;
  rc = skv_sql_context_join(vtab->context, &wish, &err);
  if (rc != STRATAKV_OK) return skv_sql_vtab_engine_fail(vtab, rc, &err);
  vtab->joined = skv_sql_context_txn_number(vtab->context);
  return SQLITE_OK;
}

static int vtab_begin(sqlite3_vtab *pVtab) {
  return skv_sql_vtab_join(vtab_of(pVtab));
}

/* A table that took no part (CREATE puts it on the core's list all the same)
 * has nothing to say. */
static int vtab_takes_part(const skv_sql_vtab *vtab) {
  return vtab->context != NULL && vtab->joined != 0 &&
         vtab->joined == skv_sql_context_txn_number(vtab->context);
}

static int vtab_sync(sqlite3_vtab *pVtab) {
  skv_sql_vtab *vtab = vtab_of(pVtab);
  stratakv_error err = {0, ""};
  int rc;
  if (!vtab_takes_part(vtab)) return SQLITE_OK;
  rc = skv_sql_context_prepare(vtab->context, &err);
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

static int vtab_commit(sqlite3_vtab *pVtab) {
  skv_sql_vtab *vtab = vtab_of(pVtab);
  stratakv_error err = {0, ""};
  int rc;
  if (!vtab_takes_part(vtab)) return SQLITE_OK;
  rc = skv_sql_context_commit(vtab->context, &err);
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

static int vtab_rollback(sqlite3_vtab *pVtab) {
  skv_sql_vtab *vtab = vtab_of(pVtab);
  if (vtab_takes_part(vtab)) skv_sql_context_rollback(vtab->context);
  return SQLITE_OK;
}

static int vtab_savepoint(sqlite3_vtab *pVtab, int n) {
  skv_sql_vtab *vtab = vtab_of(pVtab);
  stratakv_error err = {0, ""};
  int rc;
  if (!vtab_takes_part(vtab) || vtab->written != vtab->joined) {
    return SQLITE_OK;
  }
  rc = skv_sql_context_savepoint(vtab->context, n, &err);
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

static int vtab_release(sqlite3_vtab *pVtab, int n) {
  skv_sql_vtab *vtab = vtab_of(pVtab);
  if (vtab_takes_part(vtab)) skv_sql_context_release(vtab->context, n);
  return SQLITE_OK;
}

static int vtab_rollback_to(sqlite3_vtab *pVtab, int n) {
  skv_sql_vtab *vtab = vtab_of(pVtab);
  stratakv_error err = {0, ""};
  int rc;
  if (!vtab_takes_part(vtab)) return SQLITE_OK;
  rc = skv_sql_context_rollback_to(vtab->context, n, &err);
  return rc == STRATAKV_OK ? rc : skv_sql_vtab_engine_fail(vtab, rc, &err);
}

/* What is prepared within a running statement shares its interrupt, and asks
 * the connection's progress handler; so any SQLite can tell. */
static int vtab_ask_interrupted(sqlite3 *db) {
  sqlite3_stmt *stmt = NULL;
  int rc = sqlite3_prepare_v2(db, "SELECT 1", -1, &stmt, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
  sqlite3_finalize(stmt);
  return rc == SQLITE_INTERRUPT || rc == SQLITE_NOMEM;
}

int skv_sql_is_interrupted(void *db) {
#if SQLITE_VERSION_NUMBER >= 3041000
  if (sqlite3_libversion_number() >= 3041000) {
    return sqlite3_is_interrupted(db);
  }
#endif
  return vtab_ask_interrupted(db);
}

const sqlite3_module skv_sql_module = {
    .iVersion = 2,
    .xCreate = vtab_create,
    .xConnect = vtab_connect,
    .xBestIndex = vtab_best_index,
    .xDisconnect = vtab_disconnect,
    .xDestroy = vtab_destroy,
    .xOpen = skv_sql_cursor_open,
    .xClose = skv_sql_cursor_close,
    .xFilter = skv_sql_cursor_filter,
    .xNext = skv_sql_cursor_next,
    .xEof = skv_sql_cursor_eof,
    .xColumn = skv_sql_cursor_column,
    .xRowid = skv_sql_cursor_rowid,
    .xUpdate = skv_sql_update,
    .xBegin = vtab_begin,
    .xSync = vtab_sync,
    .xCommit = vtab_commit,
    .xRollback = vtab_rollback,
    .xRename = vtab_rename,
    .xSavepoint = vtab_savepoint,
    .xRelease = vtab_release,
    .xRollbackTo = vtab_rollback_to,
};
