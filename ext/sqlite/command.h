/*
 * Commands: INSERT INTO kv(kv [, key] [, value]) VALUES('flush' ...).
 *
 * PURPOSE  What SQL has no statement for. Some are part of the transaction,
 *   the others act at once on committed data; stratakv_commands says which.
 */
#ifndef SKV_SQL_COMMAND_H
#define SKV_SQL_COMMAND_H

#include "ext/sqlite/vtab.h"

typedef struct skv_sql_command_doc {
  const char *name;
  const char *arguments;
  int is_transactional;
  const char *help;
} skv_sql_command_doc;

/* Run the command in a table that has joined the transaction; argv is that of
 * xUpdate's INSERT. Sets zErrMsg. */
int skv_sql_command_run(skv_sql_vtab *vtab, sqlite3_value **argv);

/* The command in row i, NULL behind the last. */
const skv_sql_command_doc *skv_sql_command_at(size_t i);

#endif /* SKV_SQL_COMMAND_H */
