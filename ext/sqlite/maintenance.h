/*
 * Maintenance: check and backup of a table's store, for the command, the
 * function and the table-valued function that offer them.
 *
 * Both are ended by an interrupt of the connection.
 */
#ifndef SKV_SQL_MAINTENANCE_H
#define SKV_SQL_MAINTENANCE_H

#include "ext/sqlite/vtab.h"

/* stratakv_check of the table's open store; report may be NULL. Codes of
 * stratakv_check. */
int skv_sql_check(skv_sql_vtab *vtab, stratakv_report report, void *arg,
                  stratakv_error *err);

/* Who asks for a backup. */
#define SKV_SQL_BY_STATEMENT 0 /* perhaps a trigger: see trust.h */
#define SKV_SQL_BY_USER 1      /* a DIRECTONLY function: to any path */

/*
 * stratakv_backup of the table's open store to directory `dir`; a relative
 * one lies beneath the base of the table's own path. *lsn may be NULL. Codes
 * of stratakv_backup, and AUTH if `dir` is not allowed.
 */
int skv_sql_backup(skv_sql_vtab *vtab, const char *dir, int who,
                   stratakv_error *err, uint64_t *lsn);

#endif /* SKV_SQL_MAINTENANCE_H */
