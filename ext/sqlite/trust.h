/*
 * Where a store may be, and who may open it.
 *
 * PURPOSE  A schema may come from a hostile file, and naming a directory in it
 *   must not make that directory be read or written. A store is opened only if
 *   (a) this connection executed the CREATE that names it, (b) a root granted
 *   to this connection contains it, or (c) the store's OWNERS lists the
 *   database file that names it.
 *
 * BASE  A relative path lies beneath the directory of the database file that
 *   holds the table, for temp and in-memory schemas beneath the current
 *   directory. The engine resolves it without symlinks, and reads and keeps
 *   OWNERS; this module says which base, which owner, and whether it counts.
 */
#ifndef SKV_SQL_TRUST_H
#define SKV_SQL_TRUST_H

#include "ext/sqlite/args.h"
#include "ext/sqlite/connection.h"
#include "stratakv.h"

/*
 * Open the store that a table in `schema` names.
 *
 * is_create  a CREATE is being executed: a missing store is made, OWNERS gets
 *            the database file, and the connection the grant of (a).
 *
 * Codes of stratakv_open; err->message has no prefix.
 */
int skv_sql_trust_open(skv_sql_conn *conn, const char *schema,
                       const skv_sql_args *args, int is_create,
                       stratakv_error *err, stratakv_store **out);

/* Where a directory is to be made: as the engine takes it. */
typedef struct skv_sql_place {
  int has_base;                /* `path` must stay beneath `base` */
  char base[SKV_SQL_MAX_PATH]; /* a directory */
  char path[SKV_SQL_MAX_PATH];
} skv_sql_place;

/*
 * Where a backup of the store of a table in `schema` goes. A relative `dir` is
 * meant from the base of the table's path. Unless is_any_path, it must lie
 * beneath that base or at or beneath a granted root: a trigger or a view of a
 * hostile file must not write anywhere else.
 *
 * AUTH      it lies elsewhere
 * CANTOPEN  there is no directory above it, or it has no name
 */
int skv_sql_trust_place(skv_sql_conn *conn, const char *schema,
                        const skv_sql_args *args, const char *dir,
                        int is_any_path, stratakv_error *err,
                        skv_sql_place *out);

/* Does the table have no path, and no database file to stand beside? */
int skv_sql_trust_needs_path(skv_sql_conn *conn, const char *schema,
                             const skv_sql_args *args);

/* Grant a root; *canonical (of PATH_MAX bytes) gets its canonical path.
 * SQLITE_CANTOPEN if it does not exist, SQLITE_NOMEM. */
int skv_sql_trust_allow_root(skv_sql_conn *conn, const char *root,
                             char *canonical);

#endif /* SKV_SQL_TRUST_H */
