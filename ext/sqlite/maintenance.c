/*
 * Check and backup: see maintenance.h.
 */
#include "ext/sqlite/maintenance.h"

#include <string.h>

#include "ext/sqlite/trust.h"

SQLITE_EXTENSION_INIT3

/* The argument of a watch's callbacks. */
typedef struct maintenance_watch {
  sqlite3 *db;
  stratakv_report report;
  void *arg;
} maintenance_watch;

static int maintenance_progress(void *arg, double done) {
  (void)done;
  return skv_sql_is_interrupted(((maintenance_watch *)arg)->db);
}

static int maintenance_report(void *arg, const stratakv_finding *finding) {
  const maintenance_watch *watch = arg;
  return watch->report != NULL && watch->report(watch->arg, finding);
}

int skv_sql_check(skv_sql_vtab *vtab, stratakv_report report, void *arg,
                  stratakv_error *err) {
  maintenance_watch ours = {skv_sql_conn_db(vtab->conn), report, arg};
  stratakv_watch watch = {maintenance_report, maintenance_progress, &ours};
  return stratakv_check(skv_sql_context_store(vtab->context), &watch, err);
}

int skv_sql_backup(skv_sql_vtab *vtab, const char *dir, int who,
                   stratakv_error *err, uint64_t *lsn) {
  maintenance_watch ours = {skv_sql_conn_db(vtab->conn), NULL, NULL};
  stratakv_watch watch = {maintenance_report, maintenance_progress, &ours};
  skv_sql_place place;
  int rc = skv_sql_trust_place(vtab->conn, vtab->schema, &vtab->args, dir,
                               who == SKV_SQL_BY_USER, err, &place);
  if (rc != STRATAKV_OK) return rc;
  return stratakv_backup(skv_sql_context_store(vtab->context),
                         place.has_base ? place.base : NULL, place.path, &watch,
                         err, lsn);
}
