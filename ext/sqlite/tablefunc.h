/*
 * Table-valued functions: stratakv_stats(tab), stratakv_verify(tab),
 * stratakv_estimate(tab, lo, hi), stratakv_options, stratakv_commands.
 * Eponymous-only and DIRECTONLY.
 */
#ifndef SKV_SQL_TABLEFUNC_H
#define SKV_SQL_TABLEFUNC_H

#include "ext/sqlite/connection.h"

/* Register them for the connection; each takes a reference to conn. */
int skv_sql_tablefunc_register(skv_sql_conn *conn);
/* Take them back, as far as they were registered. */
void skv_sql_tablefunc_unregister(sqlite3 *db);

#endif /* SKV_SQL_TABLEFUNC_H */
