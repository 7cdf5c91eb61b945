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
 * Kinds: `oom`, engine allocations.
 *
 * THREADS  The counters are atomic: background threads allocate too, and
 *   are hit as well as the caller.
 */
#include <sqlite3ext.h>
#include <stdatomic.h>
#include <string.h>

#include "engine/util/alloc.h"

SQLITE_EXTENSION_INIT3

__attribute__((visibility("default"))) int
sqlite3_skvtest_init(sqlite3 *db, char **error,
                     const sqlite3_api_routines *api);

/* The armed fault: calls left until it fires, whether it goes on, and how
 * often it has fired. */
static struct {
  atomic_llong left; /* 0: not armed or spent */
  atomic_bool is_forever;
  atomic_llong hits;
} fault;

static int fault_fires(void) {
  if (atomic_load(&fault.left) <= 0) return 0;
  if (atomic_fetch_sub(&fault.left, 1) != 1) return 0;
  if (atomic_load(&fault.is_forever)) atomic_store(&fault.left, 1);
  atomic_fetch_add(&fault.hits, 1);
  return 1;
}

static int fault_alloc_hook(void *arg, size_t size) {
  (void)arg;
  (void)size;
  return fault_fires();
}

static int fault_is_oom(sqlite3_value *kind) {
  const char *name = (const char *)sqlite3_value_text(kind);
  return name != NULL && strcmp(name, "oom") == 0;
}

static void skvtest_fault_available(sqlite3_context *ctx, int argc,
                                    sqlite3_value **argv) {
  (void)argc;
  sqlite3_result_int(ctx, fault_is_oom(argv[0]));
}

static void skvtest_fault(sqlite3_context *ctx, int argc,
                          sqlite3_value **argv) {
  (void)argc;
  if (!fault_is_oom(argv[0])) {
    sqlite3_result_error(ctx, "skvtest_fault: unknown kind", -1);
    return;
  }
  atomic_store(&fault.hits, 0);
  atomic_store(&fault.is_forever, sqlite3_value_int(argv[2]) != 0);
  atomic_store(&fault.left, sqlite3_value_int64(argv[1]));
  skv_alloc_set_hook(fault_alloc_hook, NULL);
}

static void skvtest_fault_end(sqlite3_context *ctx, int argc,
                              sqlite3_value **argv) {
  (void)argc;
  (void)argv;
  atomic_store(&fault.left, 0);
  skv_alloc_set_hook(NULL, NULL);
  sqlite3_result_int64(ctx, atomic_load(&fault.hits));
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
