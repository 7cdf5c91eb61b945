/*
 * The index of a segment: which data block a key belongs to. Pure; the bytes
 * of its body stand in seg_index.c.
 */
#ifndef SKV_SEG_SEG_INDEX_H
#define SKV_SEG_SEG_INDEX_H

#include <stdbool.h>

#include "engine/util/buf.h"

/* ---- Building ---------------------------------------------------------- */

/* Zero is empty; keeps every separator in memory until it is encoded. */
typedef struct skv_index_builder {
  skv_buf bytes;   /* separators, one behind the other */
  skv_buf ends;    /* uint64_t each: where separator i ends in bytes */
  skv_buf offsets; /* uint64_t each: where data block i begins in the file */
} skv_index_builder;

void skv_index_builder_clear(skv_index_builder *builder);
/* Add the next data block. Sticky in the buffers. */
void skv_index_add(skv_index_builder *builder, skv_slice separator,
                   uint64_t offset);
/* A short separator s, last <= s < next, into buf (replaced). */
void skv_index_separator(skv_slice last, skv_slice next, skv_buf *s);
/* Bytes that the body would take, about. */
uint64_t skv_index_estimate(const skv_index_builder *builder);
/* Append the body to buf. at: offset in the file of the body's first byte;
 * end: where the last data block ends. STRATAKV_OK, NOMEM, or TOOBIG. */
int skv_index_encode(const skv_index_builder *builder, uint64_t at,
                     uint64_t end, skv_buf *buf);

/* ---- Searching --------------------------------------------------------- */

#define SKV_INDEX_LEVELS 12 /* 8^12 blocks and more than fit */

typedef struct skv_index {
  uint32_t n;                              /* data blocks (>= 1) */
  unsigned levels;                         /* of the tree */
  uint32_t last[SKV_INDEX_LEVELS];         /* the last node of each level */
  const uint64_t *level[SKV_INDEX_LEVELS]; /* the leaves are the last */
  const uint64_t *offsets;                 /* n + 1 */
  const uint32_t *ends;                    /* n: ends of suffixes */
  const uint8_t *suffixes;                 /* separators without common */
  uint32_t suffix_bytes;                   /* of all of them */
  skv_slice common;                        /* what all separators begin with */
} skv_index;

/* Take a checked body (8-byte aligned) for use: everything that a search
 * relies on is verified. end: where data blocks must end. */
bool skv_index_open(skv_slice body, uint64_t end, skv_index *out);
/* The block that key belongs to: the first with separator >= key; n if there
 * is none. */
uint32_t skv_index_find(const skv_index *index, skv_slice key);

/* Separator i without the common prefix. The bytes may be mapped, and another
 * program may change them after they were verified: then it is wrong, and still
 * within the body. */
static inline skv_slice skv_index_suffix(const skv_index *index, uint32_t i) {
  uint32_t start = i ? index->ends[i - 1] : 0, end = index->ends[i];
  if (end > index->suffix_bytes) end = index->suffix_bytes;
  if (start > end) start = end;
  return skv_slice_of(index->suffixes + start, end - start);
}

#endif
