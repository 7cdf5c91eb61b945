/*
 * The filter of a segment: a blocked Bloom filter, in which a key touches one
 * cache line. Pure; the bytes of its body stand in seg_filter.c.
 */
#ifndef SKV_SEG_SEG_FILTER_H
#define SKV_SEG_SEG_FILTER_H

#include <stdbool.h>

#include "engine/util/buf.h"

typedef struct skv_filter {
  const uint8_t *lines; /* 64 bytes each; NULL: no filter */
  uint32_t n;           /* lines */
  unsigned probes;      /* bits looked at per key */
} skv_filter;

/* Append a filter's body for `count` hashes to buf. at: offset in the file of
 * the body's first byte. bits: 1..20 per key. */
void skv_filter_encode(skv_buf *buf, uint64_t at, const uint64_t *hashes,
                       size_t count, int bits);
/* Take a checked body for use; false if it is malformed. */
bool skv_filter_open(skv_slice body, skv_filter *out);

/* The line of a hash. */
static inline const uint8_t *skv_filter_line(const skv_filter *filter,
                                             uint64_t hash) {
  return filter->lines + ((hash >> 32) * filter->n >> 32) * 64;
}

/* Whether a key of that hash may be there. */
static inline bool skv_filter_has(const skv_filter *filter, uint64_t hash) {
  const uint8_t *line = skv_filter_line(filter, hash);
  uint32_t h = (uint32_t)hash;
  for (unsigned i = 0; i < filter->probes; i++) {
    unsigned bit = h >> 23; /* 9 bits: 512 in a line */
    if (!(line[bit / 8] >> (bit % 8) & 1)) return false;
    h *= UINT32_C(0x9e3779b9);
  }
  return true;
}

#endif
