/*
 * Compression of block bodies: none, lz4 or zstd behind one pair of functions.
 */
#ifndef SKV_SEG_SEG_COMPRESS_H
#define SKV_SEG_SEG_COMPRESS_H

#include "engine/util/bytes.h"
#include "engine/util/err.h"

/* Bodies from this size on are stored as they are. */
#define SKV_COMPRESS_LIMIT ((size_t)1024 * 1024)

/* Compresses for one writer; reused from block to block. */
typedef struct skv_packer skv_packer;

int skv_packer_new(int compression, skv_err *err, skv_packer **out);
void skv_packer_free(skv_packer *packer); /* NULL allowed */
/*
 * Compress src into dst, of src.size bytes: what it took, raw length included,
 * or 0 if it is not worth it (less than 1/8 saved).
 */
size_t skv_packer_pack(skv_packer *packer, skv_slice src, uint8_t *dst);

/* The raw length that a compressed body states, 0 if it cannot be one. */
size_t skv_unpack_size(skv_slice body);
/* Decompress a body into dst, of exactly skv_unpack_size bytes. CORRUPT if it
 * does not come out right (err untouched), NOMEM. Any thread. */
int skv_unpack(int compression, skv_slice body, uint8_t *dst);

/* Decompression contexts are shared by all; they live while anyone holds a
 * reference. */
void skv_unpack_ref(void);
void skv_unpack_unref(void);

#endif
