/*
 * StrataKV for the benchmark, through include/stratakv.h.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "stratakv.h"

static stratakv_store *store;
static stratakv_error error;
static uint32_t table;

static void check(int rc, const char *what) {
  if (rc != STRATAKV_OK)
    bench_fail("stratakv %s: %d %s", what, rc, error.message);
}

static void strata_describe(char *text, size_t size) {
  snprintf(text, size,
           "%s; wal_size=64M, memory=320M in all, compression=lz4, "
           "filter_bits=10",
           STRATAKV_VERSION);
}

static void strata_open(const char *dir, bool is_synced) {
  stratakv_options options;
  stratakv_table_info info;
  stratakv_options_init(&options);
  options.create = 1;
  options.sync = is_synced ? STRATAKV_SYNC_FULL : STRATAKV_SYNC_OFF;
  options.memory = BENCH_BUFFER + BENCH_CACHE;
  options.wal_size = BENCH_BUFFER;
  options.busy_timeout_ms = 60000;
  check(stratakv_open(dir, &options, &error, &store), "open");
  check(stratakv_table(store, "kv", STRATAKV_KEY_BLOB, 1, &error, &info),
        "table");
  table = info.id;
}

static void strata_close(void) {
  check(stratakv_close(store, &error), "close");
}

static void *strata_thread_begin(void) {
  static _Thread_local stratakv_value value;
  memset(&value, 0, sizeof value);
  return &value;
}

static void strata_thread_end(void *thread) { stratakv_value_clear(thread); }

static void strata_put(void *thread, const char *key, const char *value) {
  stratakv_error mine;
  (void)thread;
  int rc = stratakv_put(store, table, key, BENCH_KEY, value, BENCH_VALUE, &mine,
                        NULL);
  if (rc != STRATAKV_OK) bench_fail("stratakv put: %d %s", rc, mine.message);
}

static bool strata_get(void *thread, const char *key, char *value) {
  stratakv_value *got = thread;
  int rc = stratakv_get(store, NULL, table, key, BENCH_KEY, &error, got);
  if (rc == STRATAKV_NOTFOUND) return false;
  check(rc, "get");
  if (got->size != BENCH_VALUE) bench_fail("stratakv get: size");
  memcpy(value, got->data, BENCH_VALUE);
  return true;
}

static void strata_scan(void *thread, const char *from, bench_visit visit,
                        void *arg) {
  stratakv_cursor *c;
  stratakv_range range = {0};
  bool more = true;
  (void)thread;
  range.start = from;
  range.start_len = from == NULL ? 0 : BENCH_KEY;
  check(stratakv_cursor_open(store, NULL, NULL, table, &range, &error, &c),
        "cursor");
  check(stratakv_cursor_first(c, &error), "first");
  while (more && stratakv_cursor_valid(c)) {
    size_t key_len, value_len;
    const void *key = stratakv_cursor_key(c, &key_len);
    const void *value = stratakv_cursor_value(c, &value_len);
    more = visit(arg, key, key_len, value, value_len);
    if (more) check(stratakv_cursor_next(c, &error), "next");
  }
  stratakv_cursor_close(c);
}

/* Compaction is behind while this figure is not 0. */
static int is_pending(void *arg, const char *name, double value,
                      const char *unit, const char *help) {
  (void)unit;
  (void)help;
  if (strcmp(name, "stratakv_compaction_pending_bytes") == 0 && value > 0)
    *(bool *)arg = true;
  return 0;
}

static void strata_settle(void) {
  struct timespec pause = {0, 20 * 1000 * 1000};
  bool pending = true;
  check(stratakv_flush(store, &error), "flush");
  for (int i = 0; pending && i < 6000; i++) {
    pending = false;
    check(stratakv_stats(store, is_pending, &pending, &error), "stats");
    if (pending) nanosleep(&pause, NULL);
  }
}

const bench_engine bench_this_engine = {
    .name = "stratakv",
    .describe = strata_describe,
    .open = strata_open,
    .close = strata_close,
    .thread_begin = strata_thread_begin,
    .thread_end = strata_thread_end,
    .put = strata_put,
    .get = strata_get,
    .scan = strata_scan,
    .settle = strata_settle,
};
