/*
 * Clock, chance, entries, directories and options for the benchmarks.
 */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void bench_fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "benchmark: ");
  vfprintf(stderr, format, args);
  fprintf(stderr, "\n");
  va_end(args);
  exit(1);
}

double bench_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

uint64_t bench_random(uint64_t *state) {
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  *state = x;
  return x * 0x2545f4914f6cdd1dull;
}

uint64_t bench_below(uint64_t *state, uint64_t n) {
  __extension__ typedef unsigned __int128 wide;
  return (uint64_t)(((wide)bench_random(state) * n) >> 64);
}

void bench_key(uint64_t number, char key[BENCH_KEY]) {
  for (int i = BENCH_KEY - 1; i >= 0; i--) {
    key[i] = (char)('0' + number % 10);
    number /= 10;
  }
}

void bench_fill(uint64_t number, char *value, size_t size) {
  uint64_t state = (number + 1) * 0x9e3779b97f4a7c15ull;
  size_t half = size / 2;
  for (size_t i = 0; i < half; i += 8) {
    uint64_t word = bench_random(&state);
    memcpy(value + i, &word, half - i < 8 ? half - i : 8);
  }
  /* The other half repeats the first: what any compressor finds. */
  memcpy(value + half, value, size - half);
}

bool bench_value_is(uint64_t number, const char *value) {
  char expected[BENCH_VALUE];
  bench_fill(number, expected, sizeof expected);
  return memcmp(expected, value, sizeof expected) == 0;
}

uint32_t *bench_shuffle(uint32_t n, uint64_t seed) {
  uint32_t *order = malloc(n * sizeof *order);
  uint64_t state = seed * 2 + 1;
  if (order == NULL) bench_fail("out of memory");
  for (uint32_t i = 0; i < n; i++) order[i] = i;
  for (uint32_t i = n; i > 1; i--) {
    uint32_t j = (uint32_t)bench_below(&state, i);
    uint32_t t = order[i - 1];
    order[i - 1] = order[j];
    order[j] = t;
  }
  return order;
}

/* Call each(path) for everything below dir, files first. */
static void walk(const char *dir, void (*each)(const char *, void *),
                 void *arg) {
  DIR *d = opendir(dir);
  if (d == NULL) return;
  for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
    char path[4096];
    struct stat st;
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) walk(path, each, arg);
    each(path, arg);
  }
  closedir(d);
}

static void add_blocks(const char *path, void *arg) {
  struct stat st;
  if (lstat(path, &st) == 0) *(uint64_t *)arg += (uint64_t)st.st_blocks * 512;
}

static void remove_one(const char *path, void *arg) {
  (void)arg;
  if (remove(path) != 0 && errno != ENOENT)
    bench_fail("cannot remove %s: %s", path, strerror(errno));
}

uint64_t bench_disk(const char *dir) {
  uint64_t bytes = 0;
  walk(dir, add_blocks, &bytes);
  return bytes;
}

void bench_remove(const char *dir) {
  walk(dir, remove_one, NULL);
  remove_one(dir, NULL);
}

void bench_fresh(const char *dir) {
  struct stat st;
  if (lstat(dir, &st) == 0) bench_remove(dir);
  if (mkdir(dir, 0700) != 0)
    bench_fail("cannot make %s: %s", dir, strerror(errno));
}

const char *bench_option(int argc, char **argv, const char *name,
                         const char *fallback) {
  size_t len = strlen(name);
  for (int i = 1; i < argc; i++) {
    if (strncmp(argv[i], "--", 2) == 0 &&
        strncmp(argv[i] + 2, name, len) == 0 && argv[i][2 + len] == '=')
      return argv[i] + 3 + len;
  }
  return fallback;
}

uint64_t bench_option_number(int argc, char **argv, const char *name,
                             uint64_t fallback) {
  const char *text = bench_option(argc, argv, name, NULL);
  return text == NULL ? fallback : strtoull(text, NULL, 10);
}
