/*
 * A growing byte buffer with a sticky code: after the first failure its calls
 * do nothing, and skv_buf.rc is asked for once at the end. Zero is empty.
 */
#ifndef SKV_UTIL_BUF_H
#define SKV_UTIL_BUF_H

#include "engine/util/bytes.h"

typedef struct skv_buf {
  uint8_t *data;   /* owned; moves when it grows */
  size_t size;     /* bytes used */
  size_t capacity; /* bytes allocated */
  int rc;          /* STRATAKV_OK, or STRATAKV_NOMEM once it failed */
} skv_buf;

void skv_buf_clear(skv_buf *buf); /* frees, back to zero */
/* Make room for `extra` more bytes and return where they go, NULL on failure;
 * size is unchanged. */
uint8_t *skv_buf_reserve(skv_buf *buf, size_t extra);
void skv_buf_append(skv_buf *buf, const void *data, size_t size);
void skv_buf_u8(skv_buf *buf, uint8_t v);
void skv_buf_u16(skv_buf *buf, uint16_t v);
void skv_buf_u32(skv_buf *buf, uint32_t v);
void skv_buf_u64(skv_buf *buf, uint64_t v);
void skv_buf_varint(skv_buf *buf, uint64_t v);
/* A varint length, then the bytes. */
void skv_buf_slice(skv_buf *buf, skv_slice s);
/* Replace the content with a copy of s. */
void skv_buf_set(skv_buf *buf, skv_slice s);

static inline skv_slice skv_buf_bytes(const skv_buf *buf) {
  return skv_slice_of(buf->data, buf->size);
}

/* Read what skv_buf_slice wrote from [p, end): the byte after it, or NULL. */
const uint8_t *skv_slice_get(const uint8_t *p, const uint8_t *end,
                             skv_slice *out);

#endif
