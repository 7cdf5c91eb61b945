/*
 * Bytes in which about every place looks like the beginning of something long
 * that is not there: what a search behind damage must not sum again and again.
 */
#ifndef TEST_C_PRETEND_H
#define TEST_C_PRETEND_H

#include "engine/seg/seg_frame.h"
#include "engine/wal/wal.h"

#define PRETEND_BYTES ((size_t)1 << 20)

/* Lengths of 64 to 512 KiB, where so much is left of `size` bytes. */
static inline uint64_t pretend_length(size_t at, size_t size) {
  uint64_t length = UINT64_C(65536) << (at / 16 % 4);
  return length < size - at ? length : 40;
}

/* Records: a length and a type in turn, two words apart. */
static inline void pretend_records(uint8_t *p, size_t size) {
  for (size_t at = 0; at + 16 <= size; at += 16) {
    skv_put64(p + at, pretend_length(at, size) << 32);
    skv_put64(p + at + 8, (uint64_t)SKV_RECORD_COMMIT << 32);
  }
}

/* Edits: every word is a size. */
static inline void pretend_edits(uint8_t *p, size_t size) {
  for (size_t at = 0; at + 8 <= size; at += 8)
    skv_put64(p + at, pretend_length(at, size));
}

/* Data blocks: every word is a size, a compression and a kind. */
static inline void pretend_blocks(uint8_t *p, size_t size) {
  for (size_t at = 0; at + 8 <= size; at += 8) {
    skv_put32(p + at, (uint32_t)pretend_length(at, size));
    skv_put32(p + at + 4, SKV_FRAME_DATA << 8);
  }
}

#endif
