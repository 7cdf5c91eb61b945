/*
 * RocksDB for the benchmark, through its C API, with the options that its
 * wiki's "Setup Options and Basic Tuning" advises.
 */
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

/* The C header has no version; the Makefile asks the package. */
#ifndef BENCH_ROCKSDB_VERSION
#define BENCH_ROCKSDB_VERSION "unknown version"
#endif

static rocksdb_t *db;
static rocksdb_options_t *options;
static rocksdb_writeoptions_t *write_options;
static rocksdb_readoptions_t *read_options;
static rocksdb_cache_t *cache;

static void check(char *message, const char *what) {
  if (message != NULL) bench_fail("rocksdb %s: %s", what, message);
}

static void rocks_describe(char *text, size_t size) {
  snprintf(text, size,
           "%s, Debian's build (with assertions, without CRC32C "
           "instructions); write_buffer=64M, block_cache=256M, block=16K, "
           "bloom=10, lz4, dynamic levels, bytes_per_sync=1M",
           BENCH_ROCKSDB_VERSION);
}

static void rocks_tables(void) {
  rocksdb_block_based_table_options_t *table =
      rocksdb_block_based_options_create();
  cache = rocksdb_cache_create_lru(BENCH_CACHE);
  rocksdb_block_based_options_set_block_cache(table, cache);
  rocksdb_block_based_options_set_block_size(table, 16 << 10);
  rocksdb_block_based_options_set_filter_policy(
      table, rocksdb_filterpolicy_create_bloom_full(10));
  rocksdb_block_based_options_set_format_version(table, 5);
  rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
  rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table,
                                                                          1);
  rocksdb_options_set_block_based_table_factory(options, table);
  rocksdb_block_based_options_destroy(table);
}

static void rocks_open(const char *dir, bool is_synced) {
  char *message = NULL;
  options = rocksdb_options_create();
  rocksdb_options_set_create_if_missing(options, 1);
  rocksdb_options_set_write_buffer_size(options, BENCH_BUFFER);
  rocksdb_options_set_compression(options, rocksdb_lz4_compression);
  rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
  rocksdb_options_set_max_background_jobs(options, 4);
  rocksdb_options_set_bytes_per_sync(options, 1 << 20);
  rocks_tables();
  write_options = rocksdb_writeoptions_create();
  rocksdb_writeoptions_set_sync(write_options, is_synced);
  read_options = rocksdb_readoptions_create();
  db = rocksdb_open(options, dir, &message);
  check(message, "open");
}

static void rocks_close(void) {
  rocksdb_close(db);
  rocksdb_options_destroy(options);
  rocksdb_writeoptions_destroy(write_options);
  rocksdb_readoptions_destroy(read_options);
  rocksdb_cache_destroy(cache);
}

static void *rocks_thread_begin(void) { return NULL; }

static void rocks_thread_end(void *thread) { (void)thread; }

static void rocks_put(void *thread, const char *key, const char *value) {
  char *message = NULL;
  (void)thread;
  rocksdb_put(db, write_options, key, BENCH_KEY, value, BENCH_VALUE, &message);
  check(message, "put");
}

static bool rocks_get(void *thread, const char *key, char *value) {
  char *message = NULL;
  (void)thread;
  rocksdb_pinnableslice_t *got =
      rocksdb_get_pinned(db, read_options, key, BENCH_KEY, &message);
  check(message, "get");
  if (got == NULL) return false;
  size_t len;
  const char *bytes = rocksdb_pinnableslice_value(got, &len);
  if (len != BENCH_VALUE) bench_fail("rocksdb get: size");
  memcpy(value, bytes, BENCH_VALUE);
  rocksdb_pinnableslice_destroy(got);
  return true;
}

static void rocks_scan(void *thread, const char *from, bench_visit visit,
                       void *arg) {
  char *message = NULL;
  rocksdb_iterator_t *it = rocksdb_create_iterator(db, read_options);
  bool more = true;
  (void)thread;
  if (from == NULL) {
    rocksdb_iter_seek_to_first(it);
  } else {
    rocksdb_iter_seek(it, from, BENCH_KEY);
  }
  while (more && rocksdb_iter_valid(it)) {
    size_t key_len, value_len;
    const char *key = rocksdb_iter_key(it, &key_len);
    const char *value = rocksdb_iter_value(it, &value_len);
    more = visit(arg, key, key_len, value, value_len);
    if (more) rocksdb_iter_next(it);
  }
  rocksdb_iter_get_error(it, &message);
  check(message, "scan");
  rocksdb_iter_destroy(it);
}

static long rocks_property(const char *name) {
  char *text = rocksdb_property_value(db, name);
  long value = text == NULL ? 0 : atol(text);
  rocksdb_free(text);
  return value;
}

static void rocks_settle(void) {
  struct timespec pause = {0, 20 * 1000 * 1000};
  char *message = NULL;
  rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
  rocksdb_flushoptions_set_wait(flush, 1);
  rocksdb_flush(db, flush, &message);
  check(message, "flush");
  rocksdb_flushoptions_destroy(flush);
  for (int i = 0; i < 6000; i++) {
    if (rocks_property("rocksdb.compaction-pending") == 0 &&
        rocks_property("rocksdb.num-running-compactions") == 0 &&
        rocks_property("rocksdb.num-running-flushes") == 0)
      break;
    nanosleep(&pause, NULL);
  }
}

const bench_engine bench_this_engine = {
    .name = "rocksdb",
    .describe = rocks_describe,
    .open = rocks_open,
    .close = rocks_close,
    .thread_begin = rocks_thread_begin,
    .thread_end = rocks_thread_end,
    .put = rocks_put,
    .get = rocks_get,
    .scan = rocks_scan,
    .settle = rocks_settle,
};
