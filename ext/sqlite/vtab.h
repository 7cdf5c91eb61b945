/*
 * The virtual table's object, shared by the files that implement its methods:
 * vtab.c (module, life cycle, transactions), vtab_cursor.c (reading),
 * vtab_update.c (writing), command.c (commands).
 *
 * LAZY  xConnect parses and declares, and touches no file; whatever is wrong
 *   is kept in `refusal` and reported when the table is first used. The store
 *   is opened by skv_sql_vtab_open, at the first xOpen, xBegin or xUpdate.
 */
#ifndef SKV_SQL_VTAB_H
#define SKV_SQL_VTAB_H

#include <sqlite3ext.h>
#include <stdint.h>

#include "ext/sqlite/args.h"
#include "ext/sqlite/context.h"
#include "ext/sqlite/value.h"

typedef struct skv_sql_cursor skv_sql_cursor; /* vtab_cursor.c */

struct skv_sql_vtab {
  sqlite3_vtab base;  /* first: the core sees this */
  skv_sql_vtab *next; /* in the connection's list */
  skv_sql_conn *conn; /* with a reference */
  char *schema;
  char *name;    /* the SQL table's */
  char *refusal; /* why it cannot be used, or NULL */
  skv_sql_args args;

  skv_sql_context *context; /* NULL until the store is open */
  uint32_t table;           /* the engine's table id */
  uint64_t joined;          /* number of the transaction that it joined */
  uint64_t written;         /* number of the one that it wrote in */

  int is_utf16;          /* -1 until PRAGMA encoding was asked */
  skv_sql_cursor *spare; /* a closed cursor, kept for its buffers */
  skv_sql_buf value;     /* the value being written */
  stratakv_value old;    /* the entry being updated */
};

extern const sqlite3_module skv_sql_module;

/* Open the store if it is not open. Sets zErrMsg. */
int skv_sql_vtab_open(skv_sql_vtab *vtab);
/* Open and join the transaction. Sets zErrMsg. */
int skv_sql_vtab_join(skv_sql_vtab *vtab);
/* skv_sql_vtab_open for a table of this name, "kv" or "schema.kv", connecting
 * it if the connection does not know it yet. NULL with an error in *message
 * (from sqlite3_mprintf, NULL for no memory) and *rc. */
skv_sql_vtab *skv_sql_vtab_find(skv_sql_conn *conn, const char *name, int *rc,
                                char **message);

/* Fail with a message of our own: sets zErrMsg and returns code. */
__attribute__((format(printf, 3, 4))) int
skv_sql_vtab_fail(skv_sql_vtab *vtab, int code, const char *format, ...);
/* Fail with the engine's: maps the code, sets zErrMsg with our prefix. */
int skv_sql_vtab_engine_fail(skv_sql_vtab *vtab, int code,
                             const stratakv_error *err);
/* The code as SQL shows it: CORRUPT is SQLITE_CORRUPT_VTAB. */
int skv_sql_code(int engine_code);
/* An engine's error as a message from sqlite3_mprintf; NULL where the core's
 * own words are better (no memory, interrupt) or there is no memory. */
char *skv_sql_engine_message(int code, const stratakv_error *err);

/* Methods of the module that live in files of their own. */
int skv_sql_cursor_open(sqlite3_vtab *pVtab, sqlite3_vtab_cursor **ppCursor);
int skv_sql_cursor_close(sqlite3_vtab_cursor *pCursor);
int skv_sql_cursor_filter(sqlite3_vtab_cursor *pCursor, int idxNum,
                          const char *idxStr, int argc, sqlite3_value **argv);
int skv_sql_cursor_next(sqlite3_vtab_cursor *pCursor);
int skv_sql_cursor_eof(sqlite3_vtab_cursor *pCursor);
int skv_sql_cursor_column(sqlite3_vtab_cursor *pCursor, sqlite3_context *ctx,
                          int column);
int skv_sql_cursor_rowid(sqlite3_vtab_cursor *pCursor, sqlite3_int64 *pRowid);
void skv_sql_cursor_free(skv_sql_cursor *cursor); /* NULL is allowed */
int skv_sql_update(sqlite3_vtab *pVtab, int argc, sqlite3_value **argv,
                   sqlite3_int64 *pRowid);

/* Has the running statement been interrupted? Has the form of
 * stratakv_range.poll. */
int skv_sql_is_interrupted(void *db);

#endif /* SKV_SQL_VTAB_H */
