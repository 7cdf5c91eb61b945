/*
 * How long one read or write takes while a gibibyte is compacted.
 *
 *   pause --dir=DIR [--mib=1024]
 *
 * PURPOSE  Loads --mib MiB of values of 1 KiB that do not compress, in random
 *   order, then compacts everything while one thread reads and one writes
 *   without sync, and prints the longest single call of each, with percentiles,
 *   and the same for as long again without a compaction.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "stratakv.h"

#define PAUSE_VALUE 1024
#define MAX_SAMPLES (8u << 20)

static stratakv_store *store;
static uint32_t table;
static uint32_t entries;
static atomic_bool stop;

/* One thread's latencies, in seconds. */
typedef struct samples {
  const char *name;
  float *all;
  size_t count;
  double longest;
} samples;

static void check(int rc, const stratakv_error *error, const char *what) {
  if (rc != STRATAKV_OK) bench_fail("%s: %d %s", what, rc, error->message);
}

static void pause_open(const char *dir) {
  stratakv_error error;
  stratakv_table_info info;
  stratakv_options options;
  stratakv_options_init(&options);
  options.create = 1;
  options.sync = STRATAKV_SYNC_OFF;
  options.busy_timeout_ms = 60000;
  check(stratakv_open(dir, &options, &error, &store), &error, "open");
  check(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &error, &info),
        &error, "table");
  table = info.id;
}

static void pause_put(uint64_t number, uint64_t *state) {
  stratakv_error error;
  char key[BENCH_KEY], value[PAUSE_VALUE];
  bench_key(number, key);
  for (size_t i = 0; i < sizeof value; i += 8) {
    uint64_t word = bench_random(state);
    memcpy(value + i, &word, 8);
  }
  check(stratakv_put(store, table, key, sizeof key, value, sizeof value, &error,
                     NULL),
        &error, "put");
}

static void take_sample(samples *s, double start) {
  double seconds = bench_now() - start;
  if (seconds > s->longest) s->longest = seconds;
  if (s->count < MAX_SAMPLES) s->all[s->count++] = (float)seconds;
}

static void *reader_main(void *arg) {
  samples *s = arg;
  uint64_t state = 11;
  stratakv_value value = {0};
  while (!atomic_load(&stop)) {
    stratakv_error error;
    char key[BENCH_KEY];
    bench_key(bench_below(&state, entries), key);
    double start = bench_now();
    check(stratakv_get(store, NULL, table, key, sizeof key, &error, &value),
          &error, "get");
    take_sample(s, start);
    if (value.size != PAUSE_VALUE) bench_fail("wrong size");
  }
  stratakv_value_clear(&value);
  return NULL;
}

/* About 20,000 puts a second: what a busy application does, not a load. */
static void *writer_main(void *arg) {
  samples *s = arg;
  uint64_t state = 13;
  while (!atomic_load(&stop)) {
    double start = bench_now();
    pause_put(bench_below(&state, entries), &state);
    take_sample(s, start);
    usleep(50);
  }
  return NULL;
}

static int by_value(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static void print_samples(const char *when, samples *s) {
  qsort(s->all, s->count, sizeof *s->all, by_value);
  printf("%-12s %-4s %9zu calls  p50 %9.1f us  p99 %9.1f us  p99.9 %9.1f us  "
         "longest %8.2f ms\n",
         when, s->name, s->count, (double)s->all[s->count / 2] * 1e6,
         (double)s->all[s->count * 99 / 100] * 1e6,
         (double)s->all[s->count * 999 / 1000] * 1e6, s->longest * 1e3);
  fflush(stdout);
}

/* Run reader and writer while work(arg) runs. */
static void measure(const char *when, void (*work)(void *), void *arg) {
  samples get = {"get", malloc(MAX_SAMPLES * sizeof(float)), 0, 0};
  samples put = {"put", malloc(MAX_SAMPLES * sizeof(float)), 0, 0};
  pthread_t reader, writer;
  if (get.all == NULL || put.all == NULL) bench_fail("out of memory");
  atomic_store(&stop, false);
  pthread_create(&reader, NULL, reader_main, &get);
  pthread_create(&writer, NULL, writer_main, &put);
  work(arg);
  atomic_store(&stop, true);
  pthread_join(reader, NULL);
  pthread_join(writer, NULL);
  if (get.count == 0 || put.count == 0) bench_fail("nothing measured");
  print_samples(when, &get);
  print_samples(when, &put);
  free(get.all);
  free(put.all);
}

static void work_compact(void *seconds) {
  stratakv_error error;
  double start = bench_now();
  check(stratakv_compact(store, NULL, NULL, &error), &error, "compact");
  *(double *)seconds = bench_now() - start;
}

static void work_wait(void *seconds) {
  usleep((useconds_t)(*(double *)seconds * 1e6));
}

int main(int argc, char **argv) {
  const char *dir = bench_option(argc, argv, "dir", "build/bench/pause.strata");
  uint64_t mib = bench_option_number(argc, argv, "mib", 1024), state = 3;
  stratakv_error error;
  double seconds = 0;
  entries = (uint32_t)(mib * 1024);
  bench_fresh(dir);
  pause_open(dir);
  uint32_t *order = bench_shuffle(entries, 1);
  double start = bench_now();
  for (uint32_t i = 0; i < entries; i++) pause_put(order[i], &state);
  free(order);
  printf("%llu MiB loaded in %.1f s; %.0f MiB on disk\n",
         (unsigned long long)mib, bench_now() - start,
         (double)bench_disk(dir) / 1048576);
  measure("compacting", work_compact, &seconds);
  printf("the compaction took %.1f s; %.0f MiB on disk\n", seconds,
         (double)bench_disk(dir) / 1048576);
  measure("quiet", work_wait, &seconds);
  check(stratakv_close(store, &error), &error, "close");
  bench_remove(dir);
  return 0;
}
