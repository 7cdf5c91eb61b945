/*
 * One connection, one store, one transaction: see context.h.
 */
#include "ext/sqlite/context.h"

#include <assert.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

typedef struct context_mark {
  int n;         /* SQLite's savepoint number */
  uint64_t mark; /* the engine's */
} context_mark;

struct skv_sql_context {
  skv_sql_context *next; /* in the connection's list */
  skv_sql_conn *conn;
  int refs;
  stratakv_store *store;
  int kind; /* SKV_SQL_READ_WRITE .. SKV_SQL_PRIVATE */

  stratakv_txn *txn;
  uint64_t txn_number; /* of txn, or of the last one */
  int members;         /* tables that joined txn */
  int is_prepared;
  context_mark *marks; /* n ascending */
  int mark_count;
  int mark_capacity;

  int sync;        /* what the handle is set to */
  int txn_sync;    /* what the members of txn wish */
  int is_changed;  /* txn may have changes */
  int config_sync; /* set by config, or -1 */
  uint32_t busy_timeout_ms;
  int has_config_busy;

  int cursors;        /* open ones */
  skv_sql_view *view; /* current one, or NULL */
};

/* ---- Opening ----------------------------------------------------------- */

static int context_is_idle(const skv_sql_context *context) {
  return context->txn == NULL && context->cursors == 0;
}

/* Can this context serve the new table? A writer can take over a reader's
 * context by giving it its handle, if nothing is open on the old one. */
static int context_adopt(skv_sql_context *context, stratakv_store *store,
                         int kind) {
  if (kind == SKV_SQL_READ_ONLY || context->kind == SKV_SQL_READ_WRITE) {
    stratakv_close(store, NULL);
    return 1;
  }
  if (!context_is_idle(context)) return 0;
  stratakv_close(context->store, NULL);
  context->store = store;
  context->kind = kind;
  context->sync = -1;
  return 1;
}

static skv_sql_context *context_find(skv_sql_conn *conn, stratakv_store *store,
                                     int kind) {
  const char *path = stratakv_path(store);
  skv_sql_context *context = *skv_sql_conn_contexts(conn);
  if (kind == SKV_SQL_PRIVATE) return NULL;
  for (; context != NULL; context = context->next) {
    if (context->kind == SKV_SQL_PRIVATE) continue;
    if (strcmp(stratakv_path(context->store), path) != 0) continue;
    if (context_adopt(context, store, kind)) return context;
  }
  return NULL;
}

int skv_sql_context_open(skv_sql_conn *conn, stratakv_store *store, int kind,
                         skv_sql_context **out) {
  skv_sql_context *context = context_find(conn, store, kind);
  if (context == NULL) {
    context = sqlite3_malloc64(sizeof *context);
    if (context == NULL) {
      stratakv_close(store, NULL);
      *out = NULL;
      return SQLITE_NOMEM;
    }
    memset(context, 0, sizeof *context);
    context->conn = conn;
    context->store = store;
    context->kind = kind;
    context->sync = -1;
    context->config_sync = -1;
    context->next = *skv_sql_conn_contexts(conn);
    *skv_sql_conn_contexts(conn) = context;
  }
  *out = skv_sql_context_ref(context);
  return SQLITE_OK;
}

skv_sql_context *skv_sql_context_ref(skv_sql_context *context) {
  context->refs++;
  return context;
}

void skv_sql_context_unref(skv_sql_context *context) {
  skv_sql_context **at;
  if (context == NULL || --context->refs > 0) return;
  assert(context->cursors == 0);
  at = skv_sql_conn_contexts(context->conn);
  while (*at != context) at = &(*at)->next;
  *at = context->next;
  skv_sql_context_rollback(context);
  stratakv_close(context->store, NULL); /* its warnings have no one to hear */
  sqlite3_free(context->marks);
  sqlite3_free(context);
}

stratakv_store *skv_sql_context_store(const skv_sql_context *context) {
  return context->store;
}

stratakv_txn *skv_sql_context_txn(const skv_sql_context *context) {
  return context->txn;
}

uint64_t skv_sql_context_txn_number(const skv_sql_context *context) {
  return context->txn != NULL ? context->txn_number : 0;
}

/* ---- Joining and leaving ----------------------------------------------- */

/* The engine's background thread may undo a prepare that COMMIT left behind
 * with BUSY, while no call is inside the connection. */
static int context_guard_enter(void *db) {
  return sqlite3_mutex_try(sqlite3_db_mutex(db)) == SQLITE_OK;
}

static void context_guard_leave(void *db) {
  sqlite3_mutex_leave(sqlite3_db_mutex(db));
}

static void context_guard(skv_sql_context *context) {
  sqlite3 *db = skv_sql_conn_db(context->conn);
  if (sqlite3_db_mutex(db) != NULL) /* not in the multi-thread mode */
    stratakv_txn_guard(context->txn, context_guard_enter, context_guard_leave,
                       db);
}

int skv_sql_context_join(skv_sql_context *context, const skv_sql_wish *wish,
                         stratakv_error *err) {
  if (!context->has_config_busy &&
      context->busy_timeout_ms != wish->busy_timeout_ms) {
    context->busy_timeout_ms = wish->busy_timeout_ms;
    stratakv_set_busy_timeout(context->store, wish->busy_timeout_ms);
  }
  if (context->txn == NULL) {
    int rc = stratakv_begin(context->store, err, &context->txn);
    if (rc != STRATAKV_OK) return rc;
    context_guard(context);
    context->txn_number++;
    context->txn_sync = wish->sync;
    context->is_changed = 0;
  }
  if (wish->sync < context->txn_sync) context->txn_sync = wish->sync;
  context->members++;
  return STRATAKV_OK;
}

void skv_sql_context_leave(skv_sql_context *context) {
  if (context->txn != NULL && --context->members == 0) {
    skv_sql_context_rollback(context);
  }
}

void skv_sql_context_changes(skv_sql_context *context) {
  context->is_changed = 1;
}

void skv_sql_context_rest(skv_sql_context *context) {
  if (context->txn != NULL && !context->is_changed &&
      sqlite3_get_autocommit(skv_sql_conn_db(context->conn))) {
    skv_sql_context_rollback(context);
  }
}

void skv_sql_context_set_sync(skv_sql_context *context, int sync) {
  context->config_sync = sync;
}

void skv_sql_context_set_busy_timeout(skv_sql_context *context, uint32_t ms) {
  context->has_config_busy = 1;
  context->busy_timeout_ms = ms;
  stratakv_set_busy_timeout(context->store, ms);
}

/* ---- The decision ------------------------------------------------------ */

static void context_forget_view(skv_sql_context *context) {
  skv_sql_view *view = context->view;
  context->view = NULL;
  skv_sql_view_unref(view);
}

static void context_txn_ended(skv_sql_context *context) {
  context->txn = NULL;
  context->members = 0;
  context->is_prepared = 0;
  context->mark_count = 0;
  context_forget_view(context);
}

/* Rolling back to the very end changes nothing and undoes the prepare. */
static void context_unprepare(skv_sql_context *context) {
  uint64_t mark;
  if (context->txn == NULL || !context->is_prepared) return;
  context->is_prepared = 0;
  if (stratakv_savepoint(context->txn, NULL, &mark) != STRATAKV_OK) return;
  stratakv_rollback_to(context->txn, mark, NULL);
  stratakv_release(context->txn, mark);
}

int skv_sql_context_prepare(skv_sql_context *context, stratakv_error *err) {
  int sync =
      context->config_sync >= 0 ? context->config_sync : context->txn_sync;
  int rc;
  if (context->txn == NULL) return STRATAKV_OK;
  if (sync != context->sync) {
    stratakv_set_sync(context->store, sync);
    context->sync = sync;
  }
  /* Called even if prepared: an old prepare may have been aborted. */
  rc = stratakv_prepare(context->txn, err);
  context->is_prepared = rc == STRATAKV_OK;
  if (rc != STRATAKV_OK) {
    skv_sql_context *other = *skv_sql_conn_contexts(context->conn);
    for (; other != NULL; other = other->next) context_unprepare(other);
  }
  return rc;
}

int skv_sql_context_commit(skv_sql_context *context, stratakv_error *err) {
  int rc;
  if (context->txn == NULL) return STRATAKV_OK;
  rc = stratakv_commit(context->txn, err, NULL);
  if (rc != STRATAKV_OK && rc != STRATAKV_IOERR_FSYNC) {
    stratakv_rollback(context->txn);
  }
  context_txn_ended(context);
  return rc;
}

void skv_sql_context_rollback(skv_sql_context *context) {
  if (context->txn == NULL) return;
  /* SQLite asks nobody whether a rollback succeeded. */
  if (stratakv_rollback(context->txn) == STRATAKV_IOERR_FSYNC) {
    sqlite3_log(STRATAKV_IOERR_FSYNC,
                "stratakv: a transaction could not be undone durably; its "
                "outcome is known when the store is opened again");
  }
  context_txn_ended(context);
}

/* ---- Savepoints -------------------------------------------------------- */

/* Forget the marks of savepoint n and of all later ones. */
static void marks_cut(skv_sql_context *context, int n) {
  uint64_t first = 0;
  int count = context->mark_count;
  while (count > 0 && context->marks[count - 1].n >= n) {
    first = context->marks[--count].mark;
  }
  if (count < context->mark_count) stratakv_release(context->txn, first);
  context->mark_count = count;
}

static int marks_reserve(skv_sql_context *context) {
  int capacity = context->mark_capacity * 2 + 8;
  context_mark *marks;
  if (context->mark_count < context->mark_capacity) return SQLITE_OK;
  marks = sqlite3_realloc64(context->marks, (size_t)capacity * sizeof *marks);
  if (marks == NULL) return SQLITE_NOMEM;
  context->marks = marks;
  context->mark_capacity = capacity;
  return SQLITE_OK;
}

int skv_sql_context_savepoint(skv_sql_context *context, int n,
                              stratakv_error *err) {
  context_mark *mark;
  int rc;
  marks_cut(context, n + 1);
  if (context->mark_count > 0 &&
      context->marks[context->mark_count - 1].n == n) {
    return STRATAKV_OK; /* another table of this store was called first */
  }
  rc = marks_reserve(context);
  if (rc != SQLITE_OK) return rc;
  mark = &context->marks[context->mark_count];
  mark->n = n;
  rc = stratakv_savepoint(context->txn, err, &mark->mark);
  if (rc == STRATAKV_OK) context->mark_count++;
  return rc;
}

void skv_sql_context_release(skv_sql_context *context, int n) {
  if (context->txn != NULL) marks_cut(context, n);
}

int skv_sql_context_rollback_to(skv_sql_context *context, int n,
                                stratakv_error *err) {
  uint64_t mark = 0;
  if (context->txn == NULL) return STRATAKV_OK;
  marks_cut(context, n < 0 ? 0 : n + 1);
  if (context->mark_count > 0 &&
      context->marks[context->mark_count - 1].n == n) {
    mark = context->marks[context->mark_count - 1].mark;
  } else {
    context->mark_count = 0;
  }
  context->is_prepared = 0;
  return stratakv_rollback_to(context->txn, mark, err);
}

/* ---- Reading ----------------------------------------------------------- */

void skv_sql_context_enter(skv_sql_context *context) { context->cursors++; }

void skv_sql_context_exit(skv_sql_context *context) {
  assert(context->cursors > 0);
  if (--context->cursors == 0) context_forget_view(context);
}

int skv_sql_view_open(skv_sql_context *context, stratakv_error *err,
                      skv_sql_view **out) {
  skv_sql_view *view = context->view;
  int rc;
  *out = NULL;
  if (view == NULL) {
    view = sqlite3_malloc64(sizeof *view);
    if (view == NULL) return SQLITE_NOMEM;
    rc = stratakv_snapshot_open(context->store, err, &view->snapshot);
    if (rc != STRATAKV_OK) {
      sqlite3_free(view);
      return rc;
    }
    view->refs = 1;
    context->view = view;
  }
  view->refs++;
  *out = view;
  return STRATAKV_OK;
}

void skv_sql_view_unref(skv_sql_view *view) {
  if (view == NULL || --view->refs > 0) return;
  stratakv_snapshot_close(view->snapshot);
  sqlite3_free(view);
}
