/*
 * The workloads, for one engine.
 *
 *   bench-ENGINE --dir=DIR [--n=1000000] [--syncs=10000] [--seed=1]
 *                [--only=fillseq,readrandom]
 *
 * PURPOSE  Prints one TSV line per workload: name, operations, seconds,
 *   operations per second; then lines that begin with "#": what the engine is
 *   and how it was opened, disk space. Every value read is compared with what
 *   its key demands, and every count with what was written.
 *
 *   fillseq      one commit per put, not synced, keys ascending
 *   fillrandom   the same, keys in random order
 *   settle       memory to files, background work done (seconds only)
 *   readrandom   keys that are there, uniformly drawn
 *   readmissing  keys that lie between those
 *   readseq      one full scan
 *   seekrandom   seek to a key that is there and take 10 entries
 *   fillsync1    one durable commit per put, one thread
 *   fillsync8    the same, 8 threads
 *
 * The reads run on what fillrandom left, settled, by one thread, right after
 * it: caches are as warm as that leaves them.
 */
#include "bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEK_ENTRIES 10
#define MAX_THREADS 64

static const bench_engine *engine = &bench_this_engine;
static const char *only;
static uint64_t seed;

static bool is_wanted(const char *workload) {
  const char *p = only;
  size_t len = strlen(workload);
  if (p == NULL) return true;
  while ((p = strstr(p, workload)) != NULL) {
    if (p[len] == ',' || p[len] == 0) return true;
    p += len;
  }
  return false;
}

static void report(const char *workload, uint64_t ops, double seconds) {
  printf("%s\t%llu\t%.6f\t%.1f\n", workload, (unsigned long long)ops, seconds,
         (double)ops / seconds);
  fflush(stdout);
}

static void put_number(void *thread, uint64_t number) {
  char key[BENCH_KEY], value[BENCH_VALUE];
  bench_key(number * 2, key);
  bench_fill(number * 2, value, sizeof value);
  engine->put(thread, key, value);
}

/* order NULL: ascending. */
static void run_fill(const char *workload, const char *dir, uint32_t n,
                     const uint32_t *order) {
  bench_fresh(dir);
  engine->open(dir, false);
  void *thread = engine->thread_begin();
  double start = bench_now();
  for (uint32_t i = 0; i < n; i++)
    put_number(thread, order == NULL ? i : order[i]);
  report(workload, n, bench_now() - start);
  engine->thread_end(thread);
}

/* ---- Reads --------------------------------------------------------------- */

static void run_gets(const char *workload, uint32_t n, uint64_t reads,
                     bool is_missing) {
  char key[BENCH_KEY], value[BENCH_VALUE];
  uint64_t state = seed * 7 + 1, found = 0;
  void *thread = engine->thread_begin();
  double start = bench_now();
  for (uint64_t i = 0; i < reads; i++) {
    uint64_t number = bench_below(&state, n) * 2 + is_missing;
    bench_key(number, key);
    if (!engine->get(thread, key, value)) continue;
    found++;
    if (!bench_value_is(number, value))
      bench_fail("%s: wrong value of %llu", workload,
                 (unsigned long long)number);
  }
  double seconds = bench_now() - start;
  engine->thread_end(thread);
  if (found != (is_missing ? 0 : reads))
    bench_fail("%s: %llu of %llu found", workload, (unsigned long long)found,
               (unsigned long long)reads);
  report(workload, reads, seconds);
}

/* A scan's progress: the number that comes next, and how many are wanted. */
typedef struct scan_state {
  uint64_t next;
  uint64_t left;
} scan_state;

static bool visit_entry(void *arg, const void *key, size_t key_len,
                        const void *value, size_t value_len) {
  scan_state *s = arg;
  char expected[BENCH_KEY];
  bench_key(s->next, expected);
  if (key_len != BENCH_KEY || memcmp(key, expected, BENCH_KEY) != 0 ||
      value_len != BENCH_VALUE || !bench_value_is(s->next, value))
    bench_fail("scan: wrong entry where %llu was to come",
               (unsigned long long)s->next);
  s->next += 2;
  return --s->left > 0;
}

static void run_scan(uint32_t n) {
  scan_state s = {0, n};
  void *thread = engine->thread_begin();
  double start = bench_now();
  engine->scan(thread, NULL, visit_entry, &s);
  double seconds = bench_now() - start;
  engine->thread_end(thread);
  if (s.left != 0)
    bench_fail("readseq: %llu entries missing", (unsigned long long)s.left);
  report("readseq", n, seconds);
}

static void run_seeks(uint32_t n, uint64_t seeks) {
  uint64_t state = seed * 11 + 1;
  void *thread = engine->thread_begin();
  double start = bench_now();
  for (uint64_t i = 0; i < seeks; i++) {
    char key[BENCH_KEY];
    uint64_t number = bench_below(&state, n - SEEK_ENTRIES);
    scan_state s = {number * 2, SEEK_ENTRIES};
    bench_key(number * 2, key);
    engine->scan(thread, key, visit_entry, &s);
    if (s.left != 0) bench_fail("seekrandom: entries missing");
  }
  double seconds = bench_now() - start;
  engine->thread_end(thread);
  report("seekrandom", seeks, seconds);
}

static void run_reads(const char *dir, uint32_t n) {
  double start = bench_now();
  engine->settle();
  report("settle", 1, bench_now() - start);
  printf("#disk\t%llu\n", (unsigned long long)bench_disk(dir));
  if (is_wanted("readrandom")) run_gets("readrandom", n, n, false);
  if (is_wanted("readmissing")) run_gets("readmissing", n, n, true);
  if (is_wanted("readseq")) run_scan(n);
  if (is_wanted("seekrandom")) run_seeks(n, n / 10);
}

/* ---- Durable commits ------------------------------------------------------- */

typedef struct syncer {
  pthread_t id;
  uint64_t from; /* first number */
  uint64_t count;
} syncer;

static pthread_barrier_t barrier;

static void *sync_main(void *arg) {
  syncer *s = arg;
  void *thread = engine->thread_begin();
  pthread_barrier_wait(&barrier);
  for (uint64_t i = 0; i < s->count; i++) put_number(thread, s->from + i);
  pthread_barrier_wait(&barrier);
  engine->thread_end(thread);
  return NULL;
}

static void run_sync(const char *workload, const char *dir, int threads,
                     uint64_t syncs) {
  syncer s[MAX_THREADS];
  uint64_t each = syncs / (uint64_t)threads;
  bench_fresh(dir);
  engine->open(dir, true);
  pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
  for (int i = 0; i < threads; i++) {
    s[i].from = (uint64_t)i * each;
    s[i].count = each;
    if (pthread_create(&s[i].id, NULL, sync_main, &s[i]) != 0)
      bench_fail("cannot start a thread");
  }
  pthread_barrier_wait(&barrier);
  double start = bench_now();
  pthread_barrier_wait(&barrier);
  report(workload, each * (uint64_t)threads, bench_now() - start);
  for (int i = 0; i < threads; i++) pthread_join(s[i].id, NULL);
  pthread_barrier_destroy(&barrier);

  void *thread = engine->thread_begin();
  scan_state all = {0, each * (uint64_t)threads};
  engine->scan(thread, NULL, visit_entry, &all);
  engine->thread_end(thread);
  if (all.left != 0) bench_fail("%s: entries missing", workload);
  engine->close();
}

int main(int argc, char **argv) {
  const char *dir = bench_option(argc, argv, "dir", NULL);
  uint32_t n = (uint32_t)bench_option_number(argc, argv, "n", 1000000);
  uint64_t syncs = bench_option_number(argc, argv, "syncs", 10000);
  char text[1000];
  seed = bench_option_number(argc, argv, "seed", 1);
  only = bench_option(argc, argv, "only", NULL);
  if (dir == NULL || n < 100) {
    fprintf(stderr,
            "usage: %s --dir=DIR [--n=] [--syncs=] [--seed=] "
            "[--only=a,b]\n",
            argv[0]);
    return 2;
  }
  engine->describe(text, sizeof text);
  printf("#engine\t%s\t%s\n", engine->name, text);

  if (is_wanted("fillsync1")) run_sync("fillsync1", dir, 1, syncs);
  if (is_wanted("fillsync8")) run_sync("fillsync8", dir, 8, syncs * 4);
  if (is_wanted("fillseq")) {
    run_fill("fillseq", dir, n, NULL);
    engine->close();
  }
  if (is_wanted("fillrandom")) {
    uint32_t *order = bench_shuffle(n, seed);
    run_fill("fillrandom", dir, n, order);
    free(order);
    run_reads(dir, n);
    engine->close();
  }
  bench_remove(dir);
  return 0;
}
