/*
 * A context: one connection's use of one store.
 *
 * PURPOSE  All tables of a connection that live in one store share one handle
 *   and one engine transaction, so a commit is one batch across them. This
 *   module maps SQLite's transaction calls, which come once per table, to
 *   that one transaction.
 *
 * TRANSACTION  Begun by the first table that joins (xBegin, or xUpdate in the
 *   transaction that created the table: the core then sends no xBegin), ended
 *   by the first xCommit or xRollback; the other tables' calls find none.
 *   A transaction has a number, so that a table knows whether it has joined
 *   and written in *this* one without anybody resetting a flag.
 *
 * SAVEPOINTS  A stack of (n, mark). A table joins late: savepoints older than
 *   its first write are unknown here, and an unknown n is older than every
 *   write, so rolling back to it goes to the start.
 *   A mark is set only for a table that has already written. One that joins
 *   is told the number of a savepoint that may be older than what another
 *   table of this store has written since; marking it then would keep those
 *   writes on ROLLBACK TO.
 *
 * VIEW  What is read outside a write transaction. Cursors that are open at the
 *   same time share one snapshot, so that a statement sees one state however
 *   many cursors and inner loops it has (the core never tells a module where a
 *   statement begins). It ends with the last cursor, or with the connection's
 *   own commit, which the next cursor must see.
 */
#ifndef SKV_SQL_CONTEXT_H
#define SKV_SQL_CONTEXT_H

#include <stdint.h>

#include "ext/sqlite/connection.h"
#include "stratakv.h"

typedef struct skv_sql_view {
  stratakv_snapshot *snapshot;
  int refs; /* cursors, and the context while the view is the current one */
} skv_sql_view;

/* Kinds of store handle. */
#define SKV_SQL_READ_WRITE 0
#define SKV_SQL_READ_ONLY 1
#define SKV_SQL_PRIVATE 2 /* an in-memory store: nobody else's */

/*
 * The context for an open store: an existing one of the same directory, which
 * the new handle is closed for, or a new one that owns the handle. A table
 * that only reads shares whatever there is. Returns SQLITE_OK with a reference
 * in *out, or SQLITE_NOMEM; the handle is taken either way.
 */
int skv_sql_context_open(skv_sql_conn *conn, stratakv_store *store, int kind,
                         skv_sql_context **out);
skv_sql_context *skv_sql_context_ref(skv_sql_context *context);
/* NULL is allowed. The last one closes the store. */
void skv_sql_context_unref(skv_sql_context *context);

stratakv_store *skv_sql_context_store(const skv_sql_context *context);
/* The running transaction, or NULL. */
stratakv_txn *skv_sql_context_txn(const skv_sql_context *context);
/* Its number, never 0; 0 if there is none. */
uint64_t skv_sql_context_txn_number(const skv_sql_context *context);

/* How a table wishes to commit. */
typedef struct skv_sql_wish {
  int sync;                 /* STRATAKV_SYNC_*; the strongest of all wins */
  uint32_t busy_timeout_ms; /* the last to join wins */
} skv_sql_wish;

/* Join the transaction, beginning it if there is none. Codes of
 * stratakv_begin. */
int skv_sql_context_join(skv_sql_context *context, const skv_sql_wish *wish,
                         stratakv_error *err);
/* A table that had joined is gone: the last one takes the transaction, which
 * nobody would end, with it. */
void skv_sql_context_leave(skv_sql_context *context);

/* The transaction is about to change something. */
void skv_sql_context_changes(skv_sql_context *context);
/* Before long work of a statement by itself that only maintains: a transaction
 * that has nothing to commit would pin the files that the work replaces. */
void skv_sql_context_rest(skv_sql_context *context);

/* What the command `config` sets for all tables of the store. */
void skv_sql_context_set_sync(skv_sql_context *context, int sync);
void skv_sql_context_set_busy_timeout(skv_sql_context *context, uint32_t ms);

/* xSync: prepare. If it fails, this connection's other stores that are
 * prepared are freed from it, so that nobody waits for them. */
int skv_sql_context_prepare(skv_sql_context *context, stratakv_error *err);
int skv_sql_context_commit(skv_sql_context *context, stratakv_error *err);
void skv_sql_context_rollback(skv_sql_context *context);

int skv_sql_context_savepoint(skv_sql_context *context, int n,
                              stratakv_error *err);
void skv_sql_context_release(skv_sql_context *context, int n);
int skv_sql_context_rollback_to(skv_sql_context *context, int n,
                                stratakv_error *err);

/* A cursor opens, and closes. */
void skv_sql_context_enter(skv_sql_context *context);
void skv_sql_context_exit(skv_sql_context *context);
/* The view of now, with a reference. Codes of stratakv_snapshot_open. */
int skv_sql_view_open(skv_sql_context *context, stratakv_error *err,
                      skv_sql_view **out);
void skv_sql_view_unref(skv_sql_view *view);

#endif /* SKV_SQL_CONTEXT_H */
