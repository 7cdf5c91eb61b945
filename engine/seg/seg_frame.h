/*
 * Frames: how a block lies in a segment's file (BLOCK in seg.h). Pure.
 *
 * A frame is a header of 16 bytes, the body and zero padding to a multiple of
 * 8. What its bytes mean is the business of seg_block, seg_index, seg_filter
 * and seg_footer.
 */
#ifndef SKV_SEG_SEG_FRAME_H
#define SKV_SEG_SEG_FRAME_H

#include "engine/util/bytes.h"

#define SKV_FRAME_HEADER 16u

#define SKV_FRAME_DATA 1
#define SKV_FRAME_INDEX 2
#define SKV_FRAME_FILTER 3
#define SKV_FRAME_PROPS 4

/* Bytes of the body as it is in the file. */
static inline uint32_t skv_frame_stored(const uint8_t *frame) {
  return skv_get32(frame + 8);
}

static inline int skv_frame_compression(const uint8_t *frame) {
  return frame[12];
}

/* Bytes of a whole frame with a body of `stored` bytes. */
static inline uint64_t skv_frame_size(uint64_t stored) {
  return SKV_FRAME_HEADER + ((stored + 7) & ~UINT64_C(7));
}

/* The seed of a frame's checksum: which segment, and where in it. */
static inline uint64_t skv_frame_seed(uint64_t uid, uint64_t offset) {
  return uid + offset;
}

/*
 * Fill in the header of a frame whose body of `stored` bytes stands behind it,
 * and write the padding; returns the frame's size. With `tail` the body's last
 * bytes are there and not behind the header: the padding is then the caller's.
 */
uint64_t skv_frame_seal(uint8_t *frame, uint64_t stored, int compression,
                        int kind, uint64_t seed, const skv_slice *tail);

/*
 * Check a frame that takes exactly `size` bytes: everything but the body's
 * meaning. NULL: it is whole; else what is wrong with it.
 */
const char *skv_frame_check(const uint8_t *frame, uint64_t size, int kind,
                            uint64_t seed);

#endif
