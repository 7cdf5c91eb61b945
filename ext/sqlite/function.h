/*
 * SQL functions: stratakv_version, stratakv_debug, stratakv_allow_root,
 * stratakv_backup, stratakv_prefix_end.
 */
#ifndef SKV_SQL_FUNCTION_H
#define SKV_SQL_FUNCTION_H

#include "ext/sqlite/connection.h"

/* Register them for the connection; each takes a reference to conn. */
int skv_sql_function_register(skv_sql_conn *conn);
/* Take them back, as far as they were registered. */
void skv_sql_function_unregister(sqlite3 *db);

#endif /* SKV_SQL_FUNCTION_H */
