/*
 * An open segment, as the files that read it share it: seg_reader.c (open,
 * blocks, get), seg_iter.c, seg_check.c.
 */
#ifndef SKV_SEG_SEG_OPEN_H
#define SKV_SEG_SEG_OPEN_H

#include <stdatomic.h>

#include "engine/seg/seg.h"
#include "engine/seg/seg_block.h"
#include "engine/seg/seg_filter.h"
#include "engine/seg/seg_footer.h"
#include "engine/seg/seg_index.h"

#define SKV_SEG_LINES 8 /* cache lines of a block loaded before it is used */

/* A checked block outside the data: in the mapping, or a copy. */
typedef struct skv_section {
  skv_slice body; /* 8-byte aligned; as the file would be, 64-byte aligned */
  void *owned;    /* the copy's memory, NULL if mapped */
} skv_section;

struct skv_seg {
  skv_in *in;          /* owned */
  const uint8_t *map;  /* NULL: read through `in` */
  uint64_t size;       /* bytes of the file */
  uint64_t ingest_lsn; /* not 0: every entry's LSN */
  skv_cache *cache;    /* borrowed; NULL: none */
  uint64_t cache_id;   /* who we are in it */
  size_t anonymous;    /* bytes of memory */

  skv_seg_footer footer;
  skv_seg_props props; /* keys in the section */
  skv_section props_section;
  skv_index index;
  skv_section index_section;
  skv_filter filter; /* lines NULL: there is none */
  skv_section filter_section;

  /* Data blocks of the mapping that are uncompressed and were verified, a bit
   * each; NULL if not mapped. Relaxed: what they speak of never changes. */
  _Atomic uint64_t *checked;
  atomic_bool cached; /* the cache may hold blocks of ours */
};

/* Where data block i begins; i = n: where the last one ends. Within the file,
 * whoever changed the mapped index after it was verified. */
static inline uint64_t skv_seg_block_at(const skv_seg *seg, uint32_t i) {
  uint64_t at = seg->index.offsets[i];
  return at < seg->footer.index ? at : seg->footer.index;
}
/* Bytes of data block i; 0 if the index makes no sense any more. */
static inline uint64_t skv_seg_block_size(const skv_seg *seg, uint32_t i) {
  uint64_t at = skv_seg_block_at(seg, i), end = skv_seg_block_at(seg, i + 1);
  return end > at ? end - at : 0;
}

/* Load the lines that hold a block's slots all at once, instead of one miss
 * after the other. */
static inline void skv_seg_prefetch(const skv_seg *seg, uint32_t i) {
  if (!seg->map) return;
  const uint8_t *p = seg->map + skv_seg_block_at(seg, i);
  uint64_t left = seg->size - skv_seg_block_at(seg, i);
  for (unsigned line = 0; line < SKV_SEG_LINES && line * 64u < left; line++)
    __builtin_prefetch(p + line * 64u);
}

/*
 * Make data block i readable: verified, decoded. What pin held before is
 * released; it keeps the new block's memory if that is not the mapping. With
 * `keep` a block that had to be decoded goes into the cache, without it into
 * pin's own memory.
 */
int skv_seg_load(skv_seg *seg, uint32_t i, bool keep, skv_seg_pin *pin,
                 skv_err *err, skv_block *block);

/* For opening, and for who reads damaged ones (seg_scan.c). */
int skv_seg_read_footer(skv_seg *seg, skv_err *err);
/* Read and check the block in [from, to). */
int skv_seg_section(skv_seg *seg, uint64_t from, uint64_t to, int kind,
                    skv_section *out, skv_err *err);

/* The damage in data block i. */
int skv_seg_damage(const skv_seg *seg, uint32_t i, const char *what,
                   skv_err *err);

#endif
