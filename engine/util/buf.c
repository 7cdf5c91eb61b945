/*
 * The growing byte buffer. See buf.h.
 */
#include "engine/util/buf.h"

#include "engine/util/alloc.h"
#include "stratakv.h"

#define BUF_FIRST_CAPACITY 64

void skv_buf_clear(skv_buf *buf) {
  skv_free(buf->data);
  memset(buf, 0, sizeof *buf);
}

/* The capacity to allocate for `need` bytes: doubled, so that appending n
 * bytes copies O(n). */
static size_t buf_capacity_for(const skv_buf *buf, size_t need) {
  size_t capacity = buf->capacity ? buf->capacity : BUF_FIRST_CAPACITY;
  while (capacity < need) {
    if (capacity > SIZE_MAX / 2) return need;
    capacity *= 2;
  }
  return capacity;
}

uint8_t *skv_buf_reserve(skv_buf *buf, size_t extra) {
  if (buf->rc != STRATAKV_OK) return NULL;
  size_t need;
  if (__builtin_add_overflow(buf->size, extra, &need)) {
    buf->rc = STRATAKV_NOMEM;
    return NULL;
  }
  if (need > buf->capacity || buf->data == NULL) {
    size_t capacity = buf_capacity_for(buf, need);
    uint8_t *data = skv_realloc(buf->data, capacity);
    if (data == NULL) {
      buf->rc = STRATAKV_NOMEM;
      return NULL;
    }
    buf->data = data;
    buf->capacity = capacity;
  }
  return buf->data + buf->size;
}

void skv_buf_append(skv_buf *buf, const void *data, size_t size) {
  uint8_t *p = skv_buf_reserve(buf, size);
  if (p == NULL || size == 0) return;
  memcpy(p, data, size);
  buf->size += size;
}

void skv_buf_u8(skv_buf *buf, uint8_t v) { skv_buf_append(buf, &v, 1); }

void skv_buf_u16(skv_buf *buf, uint16_t v) { skv_buf_append(buf, &v, 2); }

void skv_buf_u32(skv_buf *buf, uint32_t v) { skv_buf_append(buf, &v, 4); }

void skv_buf_u64(skv_buf *buf, uint64_t v) { skv_buf_append(buf, &v, 8); }

void skv_buf_varint(skv_buf *buf, uint64_t v) {
  uint8_t *p = skv_buf_reserve(buf, SKV_VARINT_MAX);
  if (p == NULL) return;
  buf->size += (size_t)(skv_varint_put(p, v) - p);
}

void skv_buf_slice(skv_buf *buf, skv_slice s) {
  skv_buf_varint(buf, s.size);
  skv_buf_append(buf, s.data, s.size);
}

void skv_buf_set(skv_buf *buf, skv_slice s) {
  buf->size = 0;
  skv_buf_append(buf, s.data, s.size);
}

const uint8_t *skv_slice_get(const uint8_t *p, const uint8_t *end,
                             skv_slice *out) {
  uint64_t size;
  p = skv_varint_get(p, end, &size);
  if (p == NULL || size > (uint64_t)(end - p)) return NULL; /* INV-8 */
  *out = skv_slice_of(p, (size_t)size);
  return p + size;
}
