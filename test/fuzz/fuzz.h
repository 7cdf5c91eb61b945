/*
 * What the fuzz targets share.
 *
 * TARGET  A file NAME_fuzz.c has LLVMFuzzerTestOneInput and fuzz_repair. It is
 *   built twice: with libFuzzer (build/fuzz/NAME_fuzz, `make fuzz`), and with
 *   any compiler and fuzz_replay.c (build/test/fuzz/NAME_fuzz), which runs the
 *   corpus and a fixed number of mutations of it.
 *
 * REPAIR  Bytes behind a checksum are never reached by mutations alone, so the
 *   mutator (fuzz_mutate.c) calls fuzz_repair after most of them: it makes
 *   magics, lengths, chains and checksums right again, mostly; some are left
 *   wrong on purpose.
 *
 * ORACLES  FUZZ_CHECK aborts with a sentence. Bytes that a decoder refuses are
 *   no failure; two ways of reading them that disagree are.
 */
#ifndef TEST_FUZZ_FUZZ_H
#define TEST_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/util/bytes.h"
#include "engine/util/prng.h"

/* Bytes of the longest input. */
#define FUZZ_MAX_INPUT ((size_t)128 * 1024)
/* One allocation of the engine over this is a failure: a size was believed
 * before it was checked. */
#define FUZZ_MAX_ALLOCATION ((size_t)64 * 1024 * 1024)

#define FUZZ_CHECK(condition)                                                  \
  do {                                                                         \
    if (!(condition)) fuzz_fail(__FILE__, __LINE__, #condition);               \
  } while (0)

static inline void fuzz_fail(const char *file, int line, const char *what) {
  fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  fflush(stderr);
  abort();
}

/* Of the target. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Make the input right again, in place; returns its size, at most `max`. */
size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng);

/* Of libFuzzer or fuzz_replay.c: one small change. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
/* Of fuzz_mutate.c: one small change, and repair. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
                               unsigned seed);

/* True most of the time: what is repaired. */
static inline bool fuzz_mostly(skv_prng *rng) {
  return skv_prng_below(rng, 16) != 0;
}

/* Test memory, of exactly this size. */
static inline void *fuzz_alloc(size_t size) {
  void *p = calloc(1, size ? size : 1);
  if (p == NULL) abort();
  return p;
}

/* ---- An input that is read as a list of choices ------------------------ */

typedef struct fuzz_input {
  const uint8_t *p;
  const uint8_t *end;
} fuzz_input;

static inline bool fuzz_more(const fuzz_input *in) { return in->p < in->end; }

/* The next byte; 0 behind the end. */
static inline uint8_t fuzz_u8(fuzz_input *in) {
  return in->p < in->end ? *in->p++ : 0;
}

static inline uint64_t fuzz_u64(fuzz_input *in, unsigned bytes) {
  uint64_t v = 0;
  for (unsigned i = 0; i < bytes; i++) v |= (uint64_t)fuzz_u8(in) << (8 * i);
  return v;
}

static inline skv_slice fuzz_take(fuzz_input *in, size_t size) {
  size_t left = (size_t)(in->end - in->p);
  skv_slice slice = skv_slice_of(in->p, size < left ? size : left);
  in->p += slice.size;
  return slice;
}

#endif
