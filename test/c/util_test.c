/*
 * engine/util: errors, allocation, buffers, varints, hashes.
 */
#include <stdint.h>
#include <string.h>

#include "engine/util/alloc.h"
#include "engine/util/buf.h"
#include "engine/util/err.h"
#include "engine/util/hash.h"
#include "engine/util/prng.h"
#include "test/c/check.h"

/* ---- Errors ------------------------------------------------------------ */

static int keep_first(int first, int second) {
  int rc = first;
  SKV_KEEP(rc, second);
  return rc;
}

static void test_err(void) {
  skv_err err = {0};
  CHECK(SKV_ERROR(&err, STRATAKV_IOERR, "cannot %s %d", "read", 7) ==
        STRATAKV_IOERR);
  CHECK(err.code == STRATAKV_IOERR);
  CHECK(strcmp(err.message, "cannot read 7") == 0);
  CHECK(SKV_ERROR(NULL, STRATAKV_FULL, "x") == STRATAKV_FULL);
  CHECK(SKV_ERROR(&err, STRATAKV_BUSY, "%s", "") == STRATAKV_BUSY);
  CHECK(err.message[0] != '\0');
  CHECK(skv_error_nomem(&err) == STRATAKV_NOMEM);
  CHECK(strcmp(err.message, "out of memory") == 0);
  CHECK(skv_error_corrupt(&err, "1.seg", 65536, "checksum mismatch") ==
        STRATAKV_CORRUPT);
  CHECK(strcmp(err.message, "checksum mismatch in 1.seg at offset 65536") == 0);
  SKV_ERROR(&err, err.code, "again: %s", err.message);
  CHECK(strncmp(err.message, "again: checksum", 15) == 0);
  CHECK(keep_first(STRATAKV_OK, STRATAKV_BUSY) == STRATAKV_BUSY);
  CHECK(keep_first(STRATAKV_FULL, STRATAKV_BUSY) == STRATAKV_FULL);
}

/* A message that is too long ends before the character that does not fit. */
static void test_err_utf8(void) {
  skv_err err;
  char text[600];
  for (size_t shift = 0; shift < 3; shift++) {
    memset(text, 'a', shift);
    for (size_t i = shift; i + 3 < sizeof text; i += 3) {
      memcpy(text + i, "\xe2\x82\xac", 4);
    }
    SKV_ERROR(&err, STRATAKV_ERROR, "%s", text);
    size_t n = strlen(err.message);
    CHECK(n > 490 && n < sizeof err.message && (n - shift) % 3 == 0);
  }
  memset(text, 'b', 599);
  text[599] = '\0';
  SKV_ERROR(&err, STRATAKV_ERROR, "%s", text);
  CHECK(strlen(err.message) == 499);
}

/* ---- Allocation -------------------------------------------------------- */

static int refuse(void *arg, size_t size) {
  SKV_UNUSED(size);
  int *left = arg;
  return --*left < 0;
}

static void test_alloc(void) {
  size_t before = skv_alloc_count();
  uint8_t *p = skv_malloc(0);
  uint8_t *z = skv_calloc(10, 10);
  CHECK(p != NULL && z != NULL && z[99] == 0);
  CHECK(skv_alloc_count() == before + 2);
  z = skv_realloc(z, 100000);
  CHECK(z != NULL && z[99] == 0);
  p = skv_realloc(p, 5);
  CHECK(skv_alloc_count() == before + 2);
  CHECK(skv_calloc(SIZE_MAX / 2, 3) == NULL);
  skv_free(p);
  skv_free(z);
  skv_free(NULL);
  for (size_t a = 8; a <= 4096; a *= 2) {
    void *q = skv_aligned(a, 100);
    CHECK(q != NULL && (uintptr_t)q % a == 0);
    skv_free(q);
  }
  char *s = skv_strdup("text");
  CHECK(s != NULL && strcmp(s, "text") == 0);
  skv_free(s);
  uint8_t *pages = skv_pages_new((size_t)256 << 20);
  CHECK(pages != NULL && (uintptr_t)pages % 4096 == 0);
  if (pages != NULL) CHECK(pages[(256 << 20) - 1] == 0);
  skv_pages_free(pages, (size_t)256 << 20);
  CHECK(skv_pages_new(SIZE_MAX - 10) == NULL);
  CHECK(skv_alloc_count() == before);
}

static void test_alloc_hook(void) {
  size_t before = skv_alloc_count();
  int rc = STRATAKV_OK;
  int left = 1;
  skv_alloc_set_hook(refuse, &left);
  void *p = skv_new(16, &rc);
  CHECK(p != NULL && rc == STRATAKV_OK);
  CHECK(skv_realloc(p, 32) == NULL);
  CHECK(skv_new(16, &rc) == NULL && rc == STRATAKV_NOMEM);
  CHECK(skv_aligned(64, 1) == NULL && skv_pages_new(1) == NULL);
  skv_buf buf = {0};
  skv_buf_u32(&buf, 1);
  CHECK(buf.rc == STRATAKV_NOMEM && buf.size == 0);
  skv_alloc_set_hook(NULL, NULL);
  CHECK(skv_new(16, &rc) == NULL && rc == STRATAKV_NOMEM);
  skv_buf_u32(&buf, 1);
  CHECK(buf.rc == STRATAKV_NOMEM && buf.size == 0);
  skv_buf_clear(&buf);
  CHECK(buf.rc == STRATAKV_OK);
  skv_free(p);
  CHECK(skv_alloc_count() == before);
}

/* ---- Buffers and varints ----------------------------------------------- */

static void test_varint(void) {
  for (int bit = 0; bit < 64; bit++) {
    for (int more = -1; more <= 1; more++) {
      uint64_t v = ((uint64_t)1 << bit) + (uint64_t)more;
      uint64_t got = 0;
      uint8_t bytes[SKV_VARINT_MAX];
      uint8_t *end = skv_varint_put(bytes, v);
      size_t n = (size_t)(end - bytes);
      CHECK(n == skv_varint_size(v));
      CHECK(skv_varint_get(bytes, end, &got) == end && got == v);
      CHECK(skv_varint_get(bytes, end - 1, &got) == NULL);
    }
  }
  uint64_t got;
  const uint8_t wide[] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 2};
  const uint8_t wider[] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1};
  CHECK(skv_varint_get(wide, wide + sizeof wide, &got) == NULL);
  CHECK(skv_varint_get(wider, wider + sizeof wider, &got) == NULL);
}

static void test_buf(void) {
  skv_buf buf = {0};
  CHECK(skv_buf_bytes(&buf).size == 0);
  skv_buf_append(&buf, NULL, 0);
  skv_buf_u8(&buf, 1);
  skv_buf_u16(&buf, 0x0302);
  skv_buf_u32(&buf, 0x07060504);
  skv_buf_u64(&buf, 0x0f0e0d0c0b0a0908u);
  skv_buf_varint(&buf, 300);
  CHECK(buf.rc == STRATAKV_OK && buf.size == 17);
  for (uint8_t i = 0; i < 15; i++) CHECK(buf.data[i] == i + 1);
  skv_buf_set(&buf, skv_slice_of("hello", 5));
  CHECK(skv_equal(skv_buf_bytes(&buf), skv_slice_of("hello", 5)));
  for (int i = 0; i < 100000; i++) skv_buf_u32(&buf, (uint32_t)i);
  CHECK(buf.rc == STRATAKV_OK && buf.size == 400005);
  CHECK(skv_get32(buf.data + 5 + 4 * 99999) == 99999);
  CHECK(skv_buf_reserve(&buf, SIZE_MAX) == NULL);
  CHECK(buf.rc == STRATAKV_NOMEM);
  skv_buf_clear(&buf);
}

static void test_slice(void) {
  skv_buf buf = {0};
  skv_slice a, b;
  skv_buf_slice(&buf, skv_slice_of("abc", 3));
  skv_buf_slice(&buf, skv_slice_of(NULL, 0));
  const uint8_t *end = buf.data + buf.size;
  const uint8_t *p = skv_slice_get(buf.data, end, &a);
  CHECK(p != NULL && skv_equal(a, skv_slice_of("abc", 3)));
  CHECK(skv_slice_get(p, end, &b) == end && b.size == 0);
  for (const uint8_t *cut = buf.data; cut < buf.data + 4; cut++) {
    CHECK(skv_slice_get(buf.data, cut, &b) == NULL);
  }
  skv_buf_set(&buf, skv_slice_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 10));
  CHECK(skv_slice_get(buf.data, buf.data + 10, &b) == NULL);
  skv_buf_clear(&buf);
  CHECK(skv_compare(a = skv_slice_of("ab", 2), skv_slice_of("abc", 3)) < 0);
  CHECK(skv_compare(a, skv_slice_of("aa\xff", 3)) > 0);
  CHECK(skv_compare(a, a) == 0 && skv_compare(skv_slice_of(NULL, 0), a) < 0);
  CHECK(skv_common_prefix(a, skv_slice_of("abc", 3)) == 2);
  CHECK(skv_prefix64(a, 0) == 0x6162000000000000u);
  CHECK(skv_prefix64(a, 2) == 0);
}

/* ---- Hashes ------------------------------------------------------------ */

/* The values are the format's: they are XXH3's published test vectors. */
static void test_hash(void) {
  CHECK(skv_hash(skv_slice_of(NULL, 0)) == 0x2d06800538d394c2u);
  CHECK(skv_checksum("", 0, 0) == 0x2d06800538d394c2u);
  uint64_t sum = skv_checksum("stratakv", 8, 42);
  CHECK(skv_checksum_ok("stratakv", 8, 42, sum));
  CHECK(!skv_checksum_ok("stratakv", 8, 43, sum));
  CHECK(!skv_checksum_ok("stratakV", 8, 42, sum));
  CHECK(skv_checksum("stratakv", 8, 0) ==
        skv_hash(skv_slice_of("stratakv", 8)));
  uint8_t id[16] = {1, 2, 3};
  uint64_t seed = skv_seed(id, 4, 5);
  CHECK(seed == skv_seed(id, 4, 5));
  CHECK(seed != skv_seed(id, 5, 4));
  id[15] = 1;
  CHECK(seed != skv_seed(id, 4, 5));
}

static void test_prng(void) {
  skv_prng a = {1}, b = {1}, c = {2};
  uint8_t bytes[11] = {0};
  uint64_t first = skv_prng_u64(&a);
  CHECK(first == skv_prng_u64(&b) && first != skv_prng_u64(&c));
  CHECK(skv_prng_below(&a, 10) < 10);
  skv_prng_fill(&a, bytes, 10);
  CHECK(bytes[10] == 0 && memcmp(bytes, "\0\0\0\0\0\0\0\0\0", 9) != 0);
}

int main(void) {
  test_err();
  test_err_utf8();
  test_alloc();
  test_alloc_hook();
  test_varint();
  test_buf();
  test_slice();
  test_hash();
  test_prng();
  return check_end();
}
