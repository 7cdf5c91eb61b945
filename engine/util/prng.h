/*
 * A small pseudo-random generator (SplitMix64): repeatable from its seed, for
 * the in-memory environment and for tests. Not for anything secret. All
 * inline.
 */
#ifndef SKV_UTIL_PRNG_H
#define SKV_UTIL_PRNG_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Any value of state is a seed. */
typedef struct skv_prng {
  uint64_t state;
} skv_prng;

static inline uint64_t skv_prng_u64(skv_prng *prng) {
  uint64_t z = prng->state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* A number in [0, below); below > 0. */
static inline uint64_t skv_prng_below(skv_prng *prng, uint64_t below) {
  return skv_prng_u64(prng) % below;
}

static inline void skv_prng_fill(skv_prng *prng, void *data, size_t size) {
  uint8_t *p = (uint8_t *)data;
  while (size > 0) {
    uint64_t v = skv_prng_u64(prng);
    size_t n = size < 8 ? size : 8;
    memcpy(p, &v, n);
    p += n;
    size -= n;
  }
}

#endif
