/*
 * The entry point: version checks and registration.
 *
 * VERSIONS  The oldest SQLite is 3.38.0: sqlite3_vtab_in(), on which IN plans
 *   depend, and STRICT tables, the model of our types. A newer call is guarded
 *   by SQLITE_VERSION_NUMBER and by sqlite3_libversion_number().
 *
 * UNLOADING  Never: the core unmaps a library with the last connection that
 *   loaded it, and background threads of a store would run on in unmapped
 *   code.
 */
#include "ext/sqlite/extension.h"

#include <limits.h>
#include <sqlite3ext.h>

#include "ext/sqlite/connection.h"
#include "ext/sqlite/function.h"
#include "ext/sqlite/tablefunc.h"
#include "ext/sqlite/trust.h"
#include "ext/sqlite/vtab.h"

SQLITE_EXTENSION_INIT1

#define OLDEST_SQLITE 3038000

static int extension_register(skv_sql_conn *conn) {
  /* The destructor runs on failure too. */
  int rc = sqlite3_create_module_v2(skv_sql_conn_db(conn), "stratakv",
                                    &skv_sql_module, skv_sql_conn_ref(conn),
                                    skv_sql_conn_unref);
  if (rc == SQLITE_OK) rc = skv_sql_function_register(conn);
  if (rc == SQLITE_OK) rc = skv_sql_tablefunc_register(conn);
  return rc;
}

/* When loading fails the core unmaps the library: nothing may point into it. */
static void extension_unregister(sqlite3 *db) {
  sqlite3_create_module_v2(db, "stratakv", NULL, NULL, NULL);
  skv_sql_function_unregister(db);
  skv_sql_tablefunc_unregister(db);
}

int sqlite3_stratakv_init(sqlite3 *db, char **pzErrMsg,
                          const sqlite3_api_routines *pApi) {
  skv_sql_conn *conn;
  int rc;
  SQLITE_EXTENSION_INIT2(pApi);
  if (sqlite3_libversion_number() < OLDEST_SQLITE) {
    *pzErrMsg =
        sqlite3_mprintf("stratakv: needs SQLite 3.38.0 or newer, this is %s",
                        sqlite3_libversion());
    return SQLITE_ERROR;
  }
  /* Loaded twice: one state for each connection, or two tables of one store
   * would no longer share a transaction. */
  if (skv_sql_conn_find(db) != NULL) return SQLITE_OK_LOAD_PERMANENTLY;
  conn = skv_sql_conn_new(db);
  if (conn == NULL) return SQLITE_NOMEM;
  rc = extension_register(conn);
  if (rc != SQLITE_OK) extension_unregister(db);
  skv_sql_conn_unref(conn); /* the registrations hold it */
  return rc == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : rc;
}

int stratakv_allow_root(sqlite3 *db, const char *root) {
  char canonical[PATH_MAX];
  skv_sql_conn *conn;
  int rc = SQLITE_MISUSE;
  /* Without a load into some connection there is no API to call. */
  if (sqlite3_api == NULL) return SQLITE_MISUSE;
  sqlite3_mutex_enter(sqlite3_db_mutex(db));
  conn = skv_sql_conn_find(db);
  if (conn != NULL) rc = skv_sql_trust_allow_root(conn, root, canonical);
  sqlite3_mutex_leave(sqlite3_db_mutex(db));
  return rc;
}
