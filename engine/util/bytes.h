/*
 * Slices, little-endian fields, varints and key comparison: the vocabulary of
 * every format. All inline.
 */
#ifndef SKV_UTIL_BYTES_H
#define SKV_UTIL_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes. data may be NULL only if size is 0. */
typedef struct skv_slice {
  const uint8_t *data;
  size_t size;
} skv_slice;

static inline skv_slice skv_slice_of(const void *data, size_t size) {
  skv_slice s = {(const uint8_t *)data, size};
  return s;
}

/* memcmp order, a prefix before what it is a prefix of: <0, 0, >0. */
static inline int skv_compare(skv_slice a, skv_slice b) {
  size_t n = a.size < b.size ? a.size : b.size;
  int c = n ? memcmp(a.data, b.data, n) : 0;
  if (c != 0) return c;
  return a.size < b.size ? -1 : a.size > b.size;
}

static inline int skv_equal(skv_slice a, skv_slice b) {
  return a.size == b.size &&
         (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Bytes that a and b have in common at their start. */
static inline size_t skv_common_prefix(skv_slice a, skv_slice b) {
  size_t n = a.size < b.size ? a.size : b.size;
  size_t i = 0;
  while (i < n && a.data[i] == b.data[i]) i++;
  return i;
}

/* The 8 bytes from `skip` on as a big-endian number, zero padded: numbers
 * order as the bytes do; equal numbers say nothing. */
static inline uint64_t skv_prefix64(skv_slice key, size_t skip) {
  uint8_t b[8] = {0};
  if (key.size > skip) {
    size_t n = key.size - skip;
    memcpy(b, key.data + skip, n < 8 ? n : 8);
  }
  uint64_t v;
  memcpy(&v, b, 8);
  return __builtin_bswap64(v);
}

/* Fixed little-endian fields, at any alignment. */
static inline void skv_put16(uint8_t *p, uint16_t v) { memcpy(p, &v, 2); }
static inline void skv_put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void skv_put64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }
static inline uint16_t skv_get16(const uint8_t *p) {
  uint16_t v;
  memcpy(&v, p, 2);
  return v;
}
static inline uint32_t skv_get32(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return v;
}
static inline uint64_t skv_get64(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, 8);
  return v;
}
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the formats are little-endian and this code reads them in place"
#endif

/* LEB128: 7 bits a byte, least significant first. */
#define SKV_VARINT_MAX 10 /* bytes of the longest varint */

static inline size_t skv_varint_size(uint64_t v) {
  size_t n = 1;
  while (v >= 0x80) {
    v >>= 7;
    n++;
  }
  return n;
}

/* Write v at p (room for SKV_VARINT_MAX); returns the byte after it. */
static inline uint8_t *skv_varint_put(uint8_t *p, uint64_t v) {
  while (v >= 0x80) {
    *p++ = (uint8_t)(v | 0x80);
    v >>= 7;
  }
  *p++ = (uint8_t)v;
  return p;
}

/* Read a varint from [p, end): the byte after it, or NULL if it does not end
 * there or exceeds 64 bits. */
static inline const uint8_t *skv_varint_get(const uint8_t *p,
                                            const uint8_t *end, uint64_t *v) {
  uint64_t result = 0;
  for (unsigned shift = 0; shift < 64 && p < end; shift += 7) {
    uint8_t byte = *p++;
    if (shift == 63 && byte > 1) return NULL;
    result |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) {
      *v = result;
      return p;
    }
  }
  return NULL;
}

#endif
