/*
 * The benchmark's seam between workloads and engines.
 *
 * PURPOSE  bench.c runs the same workloads on whatever one engine_*.c offers;
 *   each engine is linked into a program of its own, so that no engine's
 *   library, threads or memory are near another's.
 *
 * ENTRIES  Keys are 16 decimal digits of an even number, values 100 bytes that
 *   compress to half and follow from the key, so that every read is checked.
 *   Odd numbers are the keys that are missing.
 */
#ifndef TEST_BENCH_BENCH_H
#define TEST_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_KEY 16
#define BENCH_VALUE 100
#define BENCH_BUFFER (64ull << 20) /* log or write buffer, for every engine */
#define BENCH_CACHE (256ull << 20) /* cache, for every engine */

/* Called for each entry of a scan, in key order; false ends it. */
typedef bool (*bench_visit)(void *arg, const void *key, size_t key_len,
                            const void *value, size_t value_len);

/* An engine. Functions end the program with a message when they fail. */
typedef struct bench_engine {
  const char *name;
  void (*describe)(char *text, size_t size); /* version and options */
  /* Open a store in directory `dir`, making it; every commit synced or not. */
  void (*open)(const char *dir, bool is_synced);
  void (*close)(void);
  /* What a thread needs for its calls. */
  void *(*thread_begin)(void);
  void (*thread_end)(void *thread);
  /* One commit of one entry. */
  void (*put)(void *thread, const char *key, const char *value);
  /* True if there; value is then copied (BENCH_VALUE bytes). */
  bool (*get)(void *thread, const char *key, char *value);
  /* From the first key >= `from` (NULL: the first), in one snapshot. */
  void (*scan)(void *thread, const char *from, bench_visit visit, void *arg);
  /* Memory to files, and wait until background work is done. */
  void (*settle)(void);
} bench_engine;

extern const bench_engine bench_this_engine;

/* ---- bench_util.c ------------------------------------------------------------ */

/* Print and exit(1). */
void bench_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));

double bench_now(void); /* seconds, monotonic */

/* A small generator: one state a thread, never zero. */
uint64_t bench_random(uint64_t *state);
uint64_t bench_below(uint64_t *state, uint64_t n);

void bench_key(uint64_t number, char key[BENCH_KEY]);
/* Fill `size` bytes that follow from number and compress to half. */
void bench_fill(uint64_t number, char *value, size_t size);
bool bench_value_is(uint64_t number, const char *value);

/* Numbers 0..n-1 in an order drawn from seed; freed by the caller. */
uint32_t *bench_shuffle(uint32_t n, uint64_t seed);

/* Bytes on disk below dir; remove it with all that is in it; make it anew. */
uint64_t bench_disk(const char *dir);
void bench_remove(const char *dir);
void bench_fresh(const char *dir);

/* The value of `--name=` among the arguments, or fallback. */
const char *bench_option(int argc, char **argv, const char *name,
                         const char *fallback);
uint64_t bench_option_number(int argc, char **argv, const char *name,
                             uint64_t fallback);

#endif
