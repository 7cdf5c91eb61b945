/*
 * The benchmark of the engine that this project began as, beside the figures
 * that it published.
 *
 *   seed --dir=DIR [--scale=1]
 *
 * WORKLOAD  50,000 inserts, 200,000 overwrites of the first quarter of the
 *   keys, 80,000 deletes of keys drawn at random; values of 8 KiB that compress
 *   to half; every write durable; fixed seed. Then 1,000 reads that hit and
 *   1,000 that miss, a compaction, the same reads again, and opening it again:
 *   after a clean close, and after a kill. --scale divides the counts, for a
 *   quick look; the published figures belong to scale 1.
 *
 * CHECKS  Every read is compared with a model; after the compaction the whole
 *   store is. A deleted key that comes back ends the program.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "stratakv.h"

#define SEED_VALUE 8192
#define SEED_READS 1000

static stratakv_store *store;
static stratakv_error error;
static uint32_t table;
static uint32_t inserts, overwrites, deletes;
static uint32_t *generation; /* per key: 0 is absent, else which write */

static void check(int rc, const char *what) {
  if (rc != STRATAKV_OK) bench_fail("%s: %d %s", what, rc, error.message);
}

static void seed_open(const char *dir) {
  stratakv_table_info info;
  stratakv_options options;
  stratakv_options_init(&options);
  options.create = 1;
  options.busy_timeout_ms = 60000;
  check(stratakv_open(dir, &options, &error, &store), "open");
  check(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &error, &info),
        "table");
  table = info.id;
}

static void seed_close(void) { check(stratakv_close(store, &error), "close"); }

/* The bytes of a key's n-th write. */
static void seed_fill(uint32_t number, uint32_t n, char *value) {
  bench_fill(number + ((uint64_t)n << 32), value, SEED_VALUE);
}

static void seed_put(uint32_t number, uint32_t n) {
  char key[BENCH_KEY], value[SEED_VALUE];
  bench_key(number, key);
  seed_fill(number, n, value);
  check(stratakv_put(store, table, key, sizeof key, value, sizeof value, &error,
                     NULL),
        "put");
  generation[number] = n;
}

static void seed_delete(uint32_t number) {
  char key[BENCH_KEY];
  bench_key(number, key);
  check(stratakv_delete(store, table, key, sizeof key, &error, NULL), "delete");
  generation[number] = 0;
}

static double seed_write(void) {
  uint64_t state = 20240501;
  double start = bench_now();
  for (uint32_t i = 0; i < inserts; i++) seed_put(i, 1);
  for (uint32_t i = 0; i < overwrites; i++)
    seed_put((uint32_t)bench_below(&state, inserts / 4), 2 + i);
  for (uint32_t i = 0; i < deletes; i++)
    seed_delete((uint32_t)bench_below(&state, inserts));
  return bench_now() - start;
}

/* Read one key and compare with the model; true if it was there. */
static bool seed_get(uint32_t number, stratakv_value *value) {
  static char expected[SEED_VALUE];
  char key[BENCH_KEY];
  bool is_there = number < inserts && generation[number] != 0;
  bench_key(number, key);
  int rc = stratakv_get(store, NULL, table, key, sizeof key, &error, value);
  if (rc == STRATAKV_NOTFOUND) {
    if (is_there) bench_fail("key %u is missing", number);
    return false;
  }
  check(rc, "get");
  if (!is_there) bench_fail("key %u was deleted and is returned", number);
  seed_fill(number, generation[number], expected);
  if (value->size != SEED_VALUE ||
      memcmp(value->data, expected, SEED_VALUE) != 0)
    bench_fail("key %u has a wrong value", number);
  return true;
}

/* Mean seconds of a read of 1,000 keys that are there, or are not. */
static double seed_reads(bool hits) {
  uint64_t state = 7;
  stratakv_value value = {0};
  uint32_t numbers[SEED_READS];
  for (int i = 0; i < SEED_READS; i++) {
    do numbers[i] = (uint32_t)bench_below(&state, inserts);
    while (hits && generation[numbers[i]] == 0);
    if (!hits) numbers[i] += inserts;
  }
  double start = bench_now();
  for (int i = 0; i < SEED_READS; i++) seed_get(numbers[i], &value);
  double seconds = bench_now() - start;
  stratakv_value_clear(&value);
  return seconds / SEED_READS;
}

/* Live entries and their bytes, each compared with the model. */
static uint64_t seed_check_all(uint32_t *live) {
  stratakv_value value = {0};
  *live = 0;
  for (uint32_t i = 0; i < inserts; i++) *live += seed_get(i, &value);
  stratakv_value_clear(&value);
  return (uint64_t)*live * (BENCH_KEY + SEED_VALUE);
}

/* Open in a child, write, and die there as a killed process does. */
static void seed_die(const char *dir) {
  pid_t child = fork();
  if (child < 0) bench_fail("fork");
  if (child == 0) {
    seed_open(dir);
    for (uint32_t i = 0; i < 2000; i++) seed_put(i, 1u << 30);
    raise(SIGKILL);
  }
  int status;
  waitpid(child, &status, 0);
  if (!WIFSIGNALED(status)) bench_fail("the child failed");
  for (uint32_t i = 0; i < 2000; i++) generation[i] = 1u << 30;
}

/* Seconds until the store is open and has answered a read. */
static double seed_reopen(const char *dir) {
  stratakv_value value = {0};
  double start = bench_now();
  seed_open(dir);
  seed_get(0, &value);
  double seconds = bench_now() - start;
  stratakv_value_clear(&value);
  return seconds;
}

static void row(const char *what, const char *theirs, const char *format,
                double ours) {
  char text[60];
  snprintf(text, sizeof text, format, ours);
  printf("| %-36s | %14s | %14s |\n", what, theirs, text);
  fflush(stdout);
}

int main(int argc, char **argv) {
  const char *dir = bench_option(argc, argv, "dir", "build/bench/seed.strata");
  uint32_t scale = (uint32_t)bench_option_number(argc, argv, "scale", 1), live;
  inserts = 50000 / scale;
  overwrites = 200000 / scale;
  deletes = 80000 / scale;
  if (scale == 0 || inserts < 2000) bench_fail("--scale is 1 to 25");
  generation = calloc(inserts, sizeof *generation);
  if (generation == NULL) bench_fail("out of memory");
  bench_fresh(dir);
  seed_open(dir);

  printf("| %-36s | %14s | %14s |\n", "", "published", "stratakv");
  printf("|--------------------------------------|---------------:|"
         "---------------:|\n");
  char what[60];
  snprintf(what, sizeof what, "%u durable writes",
           inserts + overwrites + deletes);
  row(what, "397.5 s", "%.1f s", seed_write());
  row("GET before compaction, hit", "1.23 s", "%.1f us",
      seed_reads(true) * 1e6);
  row("GET before compaction, miss", "", "%.1f us", seed_reads(false) * 1e6);
  row("disk before compaction", "1954 MB", "%.0f MB",
      (double)bench_disk(dir) / 1e6);
  double start = bench_now();
  check(stratakv_compact(store, NULL, NULL, &error), "compact");
  row("compaction (theirs stops everything)", "9.2 s", "%.2f s",
      bench_now() - start);
  row("disk after compaction, logs and all", "393 MB", "%.0f MB",
      (double)bench_disk(dir) / 1e6);
  row("GET after compaction, hit", "175 us", "%.1f us", seed_reads(true) * 1e6);
  row("GET after compaction, miss", "", "%.1f us", seed_reads(false) * 1e6);
  uint64_t bytes = seed_check_all(&live);
  row("live bytes, not compressed", "", "%.0f MB", (double)bytes / 1e6);
  row("live entries", "", "%.0f", live);
  seed_close();
  row("disk, closed", "", "%.0f MB", (double)bench_disk(dir) / 1e6);
  row("open after a clean close", "447 ms", "%.2f ms", seed_reopen(dir) * 1e3);
  seed_close();
  seed_die(dir);
  row("open after a kill, 16 MB of log", "447 ms", "%.2f ms",
      seed_reopen(dir) * 1e3);
  seed_check_all(&live);
  seed_close();
  if (scale != 1) printf("scale %u: the figures do not compare\n", scale);
  printf("no deleted key was returned; every value was compared\n");
  free(generation);
  bench_remove(dir);
  return 0;
}
