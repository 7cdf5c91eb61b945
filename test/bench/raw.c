/*
 * What this machine can do at most, measured in the same run as the engines.
 *
 *   raw --dir=DIR [--syncs=5000] [--only-syncs=1]
 *
 * TSV as bench.c prints it; for the last two the rate is in MiB per second.
 *
 *   overwrite128+fdatasync  in a file written before, sequentially
 *   pwrite128               the same without the sync
 *   memcpy128               into a mapping of that file, pages touched before
 *   memcpy                  64 MiB to 64 MiB
 *   write                   512 MiB in 1 MiB writes, one fdatasync at the end
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define FILE_SIZE (64u << 20)

static char record[128];

static void raw_report(const char *name, uint64_t ops, double seconds) {
  printf("%s\t%llu\t%.6f\t%.1f\n", name, (unsigned long long)ops, seconds,
         (double)ops / seconds);
}

/* Written in 4 KiB pieces, so that the page cache keeps single pages. */
static int make_file(const char *path) {
  static char page[4096];
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) bench_fail("cannot make %s", path);
  for (off_t at = 0; at < FILE_SIZE; at += (off_t)sizeof page)
    if (pwrite(fd, page, sizeof page, at) != sizeof page) bench_fail("write");
  if (fsync(fd) != 0) bench_fail("fsync");
  return fd;
}

static void run_overwrite(int fd, uint64_t count, bool is_synced) {
  double start = bench_now();
  for (uint64_t i = 0; i < count; i++) {
    off_t at = (off_t)(i * sizeof record % FILE_SIZE);
    if (pwrite(fd, record, sizeof record, at) != sizeof record)
      bench_fail("pwrite");
    if (is_synced && fdatasync(fd) != 0) bench_fail("fdatasync");
  }
  raw_report(is_synced ? "overwrite128+fdatasync" : "pwrite128", count,
             bench_now() - start);
}

static void run_mapped(int fd) {
  char *map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  uint64_t count = FILE_SIZE / sizeof record;
  if (map == MAP_FAILED) bench_fail("mmap");
  double start = 0;
  for (int pass = 0; pass < 2; pass++) {
    start = bench_now();
    for (uint64_t i = 0; i < count; i++)
      memcpy(map + i * sizeof record, record, sizeof record);
  }
  raw_report("memcpy128", count, bench_now() - start);
  munmap(map, FILE_SIZE);
}

static void run_memcpy(void) {
  char *from = malloc(FILE_SIZE), *to = malloc(FILE_SIZE);
  if (from == NULL || to == NULL) bench_fail("out of memory");
  memset(from, 1, FILE_SIZE);
  memset(to, 2, FILE_SIZE);
  double start = bench_now();
  for (int i = 0; i < 16; i++) {
    from[i] = (char)i;
    memcpy(to, from, FILE_SIZE);
    if (to[i] != from[i]) bench_fail("memcpy");
  }
  raw_report("memcpy", 16ull * FILE_SIZE >> 20, bench_now() - start);
  free(from);
  free(to);
}

static void run_write(const char *path) {
  static char chunk[1 << 20];
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) bench_fail("cannot make %s", path);
  memset(chunk, 3, sizeof chunk);
  double start = bench_now();
  for (int i = 0; i < 512; i++)
    if (write(fd, chunk, sizeof chunk) != sizeof chunk) bench_fail("write");
  if (fdatasync(fd) != 0) bench_fail("fdatasync");
  raw_report("write", 512, bench_now() - start);
  close(fd);
}

int main(int argc, char **argv) {
  const char *dir = bench_option(argc, argv, "dir", NULL);
  uint64_t syncs = bench_option_number(argc, argv, "syncs", 5000);
  char path[4096];
  if (dir == NULL) bench_fail("usage: raw --dir=DIR [--syncs=]");
  bench_fresh(dir);
  memset(record, 'r', sizeof record);
  snprintf(path, sizeof path, "%s/raw", dir);
  int fd = make_file(path);
  run_overwrite(fd, syncs, true);
  if (bench_option_number(argc, argv, "only-syncs", 0) != 0) {
    close(fd);
    bench_remove(dir);
    return 0;
  }
  run_overwrite(fd, 200000, false);
  run_mapped(fd);
  close(fd);
  run_memcpy();
  run_write(path);
  bench_remove(dir);
  return 0;
}
