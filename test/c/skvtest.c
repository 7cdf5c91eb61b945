/*
 * The test build's own SQL functions, for what SQL cannot reach.
 *
 * PURPOSE  They are linked into the test build's stratakv.so beside engine and
 *   virtual table, so that they see the same allocator and the same process.
 *   tester.tcl loads them by the entry point sqlite3_skvtest_init.
 *
 *   skvtest_extended_codes(on)      sqlite3_extended_result_codes
 *   skvtest_fault_available(kind)   1 if this build can make `kind` fail
 *   skvtest_fault(kind, n, forever) the n-th call from here on fails; with
 *                                   forever, those after it too
 *   skvtest_fault_end()             stop; how many calls were made to fail
 *   skvtest_alloc_count()           engine allocations alive now
 *
 * Kinds of faults, and who is hit: skvtest.h.
 */
#include <sqlite3ext.h>

#include "engine/util/alloc.h"
#include "test/c/skvtest.h"

SQLITE_EXTENSION_INIT3

__attribute__((visibility("default"))) int
sqlite3_skvtest_init(sqlite3 *db, char **error,
                     const sqlite3_api_routines *api);

static void skvtest_fault_available(sqlite3_context *ctx, int argc,
                                    sqlite3_value **argv) {
  const char *kind = (const char *)sqlite3_value_text(argv[0]);
  (void)argc;
  sqlite3_result_int(ctx, skvtest_fault_is_kind(kind));
}

static void skvtest_fault(sqlite3_context *ctx, int argc,
                          sqlite3_value **argv) {
  const char *kind = (const char *)sqlite3_value_text(argv[0]);
  (void)argc;
  if (!skvtest_fault_is_kind(kind)) {
    sqlite3_result_error(ctx, "skvtest_fault: unknown kind", -1);
    return;
  }
  skvtest_fault_arm(kind, sqlite3_value_int64(argv[1]),
                    sqlite3_value_int(argv[2]) != 0);
}

static void skvtest_fault_end(sqlite3_context *ctx, int argc,
                              sqlite3_value **argv) {
  (void)argc;
  (void)argv;
  sqlite3_result_int64(ctx, skvtest_fault_disarm());
}

static void skvtest_alloc_count(sqlite3_context *ctx, int argc,
                                sqlite3_value **argv) {
  (void)argc;
  (void)argv;
  sqlite3_result_int64(ctx, (sqlite3_int64)skv_alloc_count());
}

static void skvtest_extended_codes(sqlite3_context *ctx, int argc,
                                   sqlite3_value **argv) {
  (void)argc;
  sqlite3_extended_result_codes(sqlite3_context_db_handle(ctx),
                                sqlite3_value_int(argv[0]));
}

static const struct {
  const char *name;
  int argc;
  void (*function)(sqlite3_context *, int, sqlite3_value **);
} functions[] = {
    {"skvtest_extended_codes", 1, skvtest_extended_codes},
    {"skvtest_fault_available", 1, skvtest_fault_available},
    {"skvtest_fault", 3, skvtest_fault},
    {"skvtest_fault_end", 0, skvtest_fault_end},
    {"skvtest_alloc_count", 0, skvtest_alloc_count},
};

int sqlite3_skvtest_init(sqlite3 *db, char **error,
                         const sqlite3_api_routines *api) {
  int rc = SQLITE_OK;
  (void)error;
  SQLITE_EXTENSION_INIT2(api);
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    rc = sqlite3_create_function_v2(db, functions[i].name, functions[i].argc,
                                    SQLITE_UTF8, NULL, functions[i].function,
                                    NULL, NULL, NULL);
    if (rc != SQLITE_OK) return rc;
  }
  return SQLITE_OK_LOAD_PERMANENTLY;
}
