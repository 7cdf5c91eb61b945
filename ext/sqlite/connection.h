/*
 * What the extension keeps for one database connection.
 *
 * PURPOSE  The module, the functions and stratakv_allow_root() all act on the
 *   same sqlite3*; this is where they meet: the stores that the connection
 *   may open, its open stores, its tables, and its in-memory stores, which
 *   outlive the tables that show them.
 *
 * LIFE  Made when the extension is loaded into the connection, referenced by
 *   every registration of a module or function, freed with the last of them,
 *   when the connection closes.
 *
 * THREADS  Everything but skv_sql_conn_find is called under the connection's
 *   mutex, as the core calls modules and functions.
 */
#ifndef SKV_SQL_CONNECTION_H
#define SKV_SQL_CONNECTION_H

#include <sqlite3ext.h>

typedef struct skv_sql_conn skv_sql_conn;
typedef struct skv_sql_context skv_sql_context; /* context.h */
typedef struct skv_sql_vtab skv_sql_vtab;       /* vtab.h */

/* Make the connection's state with one reference, or return NULL: no memory. */
skv_sql_conn *skv_sql_conn_new(sqlite3 *db);
/* The state of a connection that has loaded the extension, or NULL. */
skv_sql_conn *skv_sql_conn_find(sqlite3 *db);
skv_sql_conn *skv_sql_conn_ref(skv_sql_conn *conn);
/* Has the form of a destructor of sqlite3_create_module_v2. */
void skv_sql_conn_unref(void *conn);

sqlite3 *skv_sql_conn_db(const skv_sql_conn *conn);

/* Heads of the lists that context.c and vtab.c keep here. */
skv_sql_context **skv_sql_conn_contexts(skv_sql_conn *conn);
skv_sql_vtab **skv_sql_conn_tables(skv_sql_conn *conn);

/* Allow the connection to open the store at this canonical path, or any store
 * at or below it (is_root). SQLITE_OK or SQLITE_NOMEM. */
int skv_sql_conn_grant(skv_sql_conn *conn, const char *path, int is_root);
int skv_sql_conn_is_granted(const skv_sql_conn *conn, const char *path);
/* The granted root at or above this canonical path, or NULL. */
const char *skv_sql_conn_root(const skv_sql_conn *conn, const char *path);

/* The in-memory store that schema.table shows, or NULL; no reference. */
skv_sql_context *skv_sql_conn_memory(const skv_sql_conn *conn,
                                     const char *schema, const char *table);
/* Let schema.table show this store from now on; takes a reference of its own,
 * which it keeps until the connection closes or the name gets another. */
int skv_sql_conn_set_memory(skv_sql_conn *conn, const char *schema,
                            const char *table, skv_sql_context *context);

#endif /* SKV_SQL_CONNECTION_H */
