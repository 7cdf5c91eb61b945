/*
 * Properties and footer of a segment. Pure; their bytes stand in seg_footer.c.
 */
#ifndef SKV_SEG_SEG_FOOTER_H
#define SKV_SEG_SEG_FOOTER_H

#include <stdbool.h>

#include "engine/util/buf.h"

#define SKV_FOOTER_SIZE 64u

typedef struct skv_seg_footer {
  uint64_t uid;    /* the segment's random number */
  uint64_t index;  /* offsets of the blocks: the index, */
  uint64_t filter; /* the filter, 0: there is none, */
  uint64_t props;  /* the properties */
} skv_seg_footer;

/* at: the footer's own offset in the file. */
void skv_footer_encode(const skv_seg_footer *footer, uint64_t at,
                       uint8_t bytes[SKV_FOOTER_SIZE]);
/* STRATAKV_OK, NOTADB (a whole footer of another format version) or CORRUPT,
 * with *what saying why. Places are checked: in order, aligned, in the file. */
int skv_footer_decode(const uint8_t bytes[SKV_FOOTER_SIZE], uint64_t at,
                      skv_seg_footer *out, const char **what);

typedef struct skv_seg_props {
  uint64_t entries;
  uint64_t tombstones;
  uint64_t raw_bytes; /* sum of key and value lengths */
  uint64_t min_lsn;
  uint64_t max_lsn;
  uint32_t block_size; /* the options it was written with */
  uint8_t compression;
  uint8_t filter_bits;
  skv_slice min_key; /* borrowed */
  skv_slice max_key;
} skv_seg_props;

void skv_props_encode(const skv_seg_props *props, skv_buf *buf);
/* False if malformed. Keys borrow from body. */
bool skv_props_decode(skv_slice body, skv_seg_props *out);

#endif
