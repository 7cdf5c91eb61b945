/*
 * Bodies of data blocks: build, open, search (DATA BODY in seg.h). Pure.
 */
#ifndef SKV_SEG_SEG_BLOCK_H
#define SKV_SEG_SEG_BLOCK_H

#include "engine/util/buf.h"
#include "engine/util/entry.h"

#define SKV_BLOCK_HEADER 16u
#define SKV_BLOCK_SLOT 8u

/* ---- Building ---------------------------------------------------------- */

/* Collects the entries of one block; zero is empty. They are copied, since the
 * prefix and the smallest LSN are known only at the end. */
typedef struct skv_block_builder {
  skv_buf raw;    /* keys and values */
  skv_buf items;  /* struct block_item each: see seg_block.c */
  uint32_t count; /* entries */
  size_t prefix;  /* bytes that all keys share, at most 65535 */
  size_t keys;    /* sum of key lengths */
  size_t others;  /* bytes of values and, about, of entries' heads */
  uint64_t base;  /* smallest LSN */
} skv_block_builder;

void skv_block_builder_clear(skv_block_builder *builder);
void skv_block_builder_reset(skv_block_builder *builder); /* keeps memory */
/* Add an entry; false, and nothing added, if there are others and the body
 * would grow beyond `limit` bytes, about. Sticky in the buffers. */
bool skv_block_add(skv_block_builder *builder, const skv_entry *entry,
                   size_t limit);
/* The last key added (count > 0). */
skv_slice skv_block_last(const skv_block_builder *builder);
/* Append the body (count > 0). */
void skv_block_encode(const skv_block_builder *builder, skv_buf *buf);
/* Append the body of a block that holds only this entry, but for its value,
 * which comes last. */
void skv_block_encode_one(const skv_entry *entry, skv_buf *buf);

/* ---- Reading ----------------------------------------------------------- */

/* A body that was checked against its checksum, of which nothing else is
 * believed. */
typedef struct skv_block {
  const uint8_t *body;
  size_t size;
  uint32_t n;      /* entries: its slots and prefix are inside the body */
  uint32_t prefix; /* bytes of the prefix */
  uint64_t base;
} skv_block;

typedef struct skv_block_item {
  skv_slice suffix; /* key after the prefix; inside the body */
  skv_slice value;  /* inside the body */
  uint64_t lsn;
  uint8_t kind;
} skv_block_item;

/* False: malformed. */
bool skv_block_open(const uint8_t *body, size_t size, skv_block *out);

static inline const uint8_t *skv_block_prefix(const skv_block *block) {
  return block->body + SKV_BLOCK_HEADER + (size_t)SKV_BLOCK_SLOT * block->n;
}

static inline uint32_t skv_block_slot_head(const skv_block *block,
                                           uint32_t slot) {
  return skv_get32(block->body + SKV_BLOCK_HEADER +
                   (size_t)SKV_BLOCK_SLOT * slot);
}

static inline uint32_t skv_block_slot_at(const skv_block *block,
                                         uint32_t slot) {
  return skv_get32(block->body + SKV_BLOCK_HEADER + 4 +
                   (size_t)SKV_BLOCK_SLOT * slot);
}

/* skv_block_get for any entry. */
bool skv_block_get_slow(const skv_block *block, size_t at, skv_block_item *out);

/* The varint at the start of w. stop: the upper bits of those bytes of w that
 * have it clear; the lowest is the end. The 7-bit groups move together. */
static inline uint64_t skv_block_gather(uint64_t w, uint64_t stop) {
  w &= (stop ^ (stop - 1)) & UINT64_C(0x7f7f7f7f7f7f7f7f);
  w = (w & UINT64_C(0x007f007f007f007f)) |
      (w & UINT64_C(0x7f007f007f007f00)) >> 1;
  w = (w & UINT64_C(0x00003fff00003fff)) |
      (w & UINT64_C(0x3fff00003fff0000)) >> 2;
  return (w & UINT64_C(0x0fffffff)) | (w & UINT64_C(0x0fffffff00000000)) >> 4;
}

/* Decode the entry of a slot < n. False: malformed. Inline, for short keys and
 * values under 16 KiB, because scans consist of it. */
static inline bool skv_block_get(const skv_block *block, uint32_t slot,
                                 skv_block_item *out) {
  size_t at = skv_block_slot_at(block, slot);
  if (at + 16 > block->size) return skv_block_get_slow(block, at, out);
  const uint8_t *p = block->body + at;
  size_t key = p[1], value = p[2], two = value >> 7;
  if (p[0] != SKV_KIND_PUT || key >= 0x80 || (two && p[3] >= 0x80))
    return skv_block_get_slow(block, at, out);
  if (two) value = (value & 0x7f) | (size_t)p[3] << 7;
  uint64_t w = skv_get64(p + 3 + two);
  uint64_t stop = ~w & UINT64_C(0x8080808080808080);
  if (stop == 0) return skv_block_get_slow(block, at, out);
  size_t head = 4 + two + ((unsigned)__builtin_ctzll(stop) >> 3);
  if (at + head + key + value > block->size) return false;
  out->suffix = skv_slice_of(p + head, key);
  out->value = skv_slice_of(p + head + key, value);
  out->lsn = block->base + skv_block_gather(w, stop);
  out->kind = SKV_KIND_PUT;
  return true;
}

/* The first slot with a key >= key, n if there is none; *exact: it is equal.
 * False: malformed. */
bool skv_block_find(const skv_block *block, skv_slice key, uint32_t *slot,
                    bool *exact);
/* The first 4 bytes of a suffix as a slot has them. */
static inline uint32_t skv_block_head(skv_slice suffix) {
  if (suffix.size >= 4) return __builtin_bswap32(skv_get32(suffix.data));
  return (uint32_t)(skv_prefix64(suffix, 0) >> 32);
}

#endif
