/*
 * What decoders refuse although a checksum covers it: the fields of a body, one
 * wrong at a time, which no flipped bit of a file reaches.
 *
 * Covers: INV-8
 */
#include <string.h>

#include "engine/seg/seg_block.h"
#include "engine/seg/seg_compress.h"
#include "engine/seg/seg_filter.h"
#include "engine/seg/seg_footer.h"
#include "engine/seg/seg_frame.h"
#include "engine/seg/seg_index.h"
#include "engine/util/hash.h"
#include "engine/wal/batch.h"
#include "engine/wal/wal.h"
#include "include/stratakv.h"
#include "test/c/check.h"

static void test_filter(void) {
  skv_buf buf = {0};
  skv_filter out;
  uint64_t hash = 1;
  skv_filter_encode(&buf, 0, &hash, 1, 10);
  CHECK(skv_filter_open(skv_buf_bytes(&buf), &out));
  CHECK(!skv_filter_open(skv_slice_of(buf.data, 7), &out));
  CHECK(!skv_filter_open(skv_slice_of(buf.data, buf.size - 1), &out));
  uint8_t probes = buf.data[4];
  buf.data[4] = 0;
  CHECK(!skv_filter_open(skv_buf_bytes(&buf), &out));
  buf.data[4] = 0xff;
  CHECK(!skv_filter_open(skv_buf_bytes(&buf), &out));
  buf.data[4] = probes;
  buf.data[6] ^= 64; /* padding */
  CHECK(!skv_filter_open(skv_buf_bytes(&buf), &out));
  buf.data[6] ^= 64;
  skv_put32(buf.data, 0);
  CHECK(!skv_filter_open(skv_buf_bytes(&buf), &out));
  skv_buf_clear(&buf);
}

/* A filter of no keys has a line all the same; one of too many is refused. */
static void test_filter_sizes(void) {
  skv_buf buf = {0};
  skv_filter out;
  skv_filter_encode(&buf, 0, NULL, 0, 10);
  CHECK(buf.rc == STRATAKV_OK && skv_filter_open(skv_buf_bytes(&buf), &out));
  CHECK(out.n == 1 && !skv_filter_has(&out, 12345));
  skv_filter_encode(&buf, 0, NULL, (size_t)1 << 40, 20);
  CHECK(buf.rc == STRATAKV_NOMEM);
  skv_filter_encode(&buf, 0, NULL, (size_t)1 << 40, 20);
  CHECK(buf.rc == STRATAKV_NOMEM);
  skv_buf_clear(&buf);
}

static void test_props(void) {
  skv_seg_props props = {.entries = 2,
                         .tombstones = 1,
                         .min_lsn = 8,
                         .max_lsn = 16,
                         .min_key = skv_slice_of("a", 1),
                         .max_key = skv_slice_of("b", 1)};
  skv_seg_props out;
  skv_buf buf = {0};
  skv_props_encode(&props, &buf);
  CHECK(skv_props_decode(skv_buf_bytes(&buf), &out));
  CHECK(!skv_props_decode(skv_slice_of(buf.data, 55), &out));
  CHECK(!skv_props_decode(skv_slice_of(buf.data, buf.size - 1), &out));
  buf.data[46] = 1;
  CHECK(!skv_props_decode(skv_buf_bytes(&buf), &out));
  buf.data[46] = 0;
  skv_put64(buf.data + 24, 17); /* first LSN behind the last */
  CHECK(!skv_props_decode(skv_buf_bytes(&buf), &out));
  skv_put64(buf.data + 24, 8);
  skv_put64(buf.data + 8, 3); /* more tombstones than entries */
  CHECK(!skv_props_decode(skv_buf_bytes(&buf), &out));
  skv_put64(buf.data + 8, 0);
  skv_put64(buf.data, 0);
  CHECK(!skv_props_decode(skv_buf_bytes(&buf), &out));
  skv_buf_clear(&buf);
}

static int footer_code(uint64_t index, uint64_t filter, uint64_t props,
                       uint64_t at) {
  skv_seg_footer footer = {1, index, filter, props}, out;
  uint8_t bytes[SKV_FOOTER_SIZE];
  const char *what;
  skv_footer_encode(&footer, at, bytes);
  return skv_footer_decode(bytes, at, &out, &what);
}

static void test_footer(void) {
  CHECK(footer_code(64, 128, 192, 256) == STRATAKV_OK);
  CHECK(footer_code(64, 0, 192, 256) == STRATAKV_OK);
  CHECK(footer_code(64, 192, 192, 256) == STRATAKV_CORRUPT);
  CHECK(footer_code(64, 200, 192, 256) == STRATAKV_CORRUPT);
  CHECK(footer_code(0, 128, 192, 256) == STRATAKV_CORRUPT);
  CHECK(footer_code(128, 128, 192, 256) == STRATAKV_CORRUPT);
  CHECK(footer_code(64, 128, 256, 256) == STRATAKV_CORRUPT);
  CHECK(footer_code(65, 128, 192, 256) == STRATAKV_CORRUPT);
}

static void test_frame(void) {
  uint8_t frame[32] = {0};
  CHECK(skv_frame_check(frame, SKV_FRAME_HEADER - 1, 1, 0) != NULL);
  CHECK(skv_frame_seal(frame, 5, 0, SKV_FRAME_DATA, 7, NULL) == 24);
  CHECK(skv_frame_check(frame, 24, SKV_FRAME_DATA, 7) == NULL);
  CHECK(skv_frame_check(frame, 24, SKV_FRAME_INDEX, 7) != NULL);
  CHECK(skv_frame_check(frame, 24, SKV_FRAME_DATA, 8) != NULL);
  CHECK(skv_frame_check(frame, 32, SKV_FRAME_DATA, 7) != NULL);
  frame[23] = 1;
  CHECK(skv_frame_check(frame, 24, SKV_FRAME_DATA, 7) != NULL);
}

static void test_block(void) {
  uint8_t body[64] = {0};
  skv_block out;
  skv_block_item item;
  CHECK(!skv_block_open(body, SKV_BLOCK_HEADER - 1, &out));
  CHECK(!skv_block_open(body, (size_t)UINT32_MAX + 1, &out));
  CHECK(!skv_block_open(body, sizeof body, &out)); /* no entry */
  skv_put32(body, 1);
  body[6] = 1; /* reserved */
  CHECK(!skv_block_open(body, sizeof body, &out));
  body[6] = 0;
  CHECK(skv_block_open(body, sizeof body, &out));
  CHECK(!skv_block_get_slow(&out, sizeof body, &item));
  /* A kind at the end, then a number more each time, each cut off. */
  for (size_t at = 63; at >= 61; at--) {
    memset(body + 61, 0, 3);
    body[at] = SKV_KIND_PUT;
    CHECK(!skv_block_get_slow(&out, at, &item));
  }
  body[60] = SKV_KIND_PUT;
  memset(body + 61, 0, 3);
  CHECK(skv_block_get_slow(&out, 60, &item));
  body[62] = 1; /* a value's byte that is not there */
  CHECK(!skv_block_get_slow(&out, 60, &item));
}

static void test_unpack(void) {
  uint8_t body[16] = {0}, raw[64];
  CHECK(skv_unpack_size(skv_slice_of(body, 4)) == 0);
  CHECK(skv_unpack_size(skv_slice_of(body, sizeof body)) == 0);
  for (int c = STRATAKV_COMPRESSION_LZ4; c <= STRATAKV_COMPRESSION_ZSTD; c++) {
    skv_put32(body, 0);
    CHECK(skv_unpack(c, skv_slice_of(body, 2), raw) == STRATAKV_CORRUPT);
    CHECK(skv_unpack(c, skv_slice_of(body, 16), raw) == STRATAKV_CORRUPT);
    skv_put32(body, SKV_COMPRESS_LIMIT);
    CHECK(skv_unpack(c, skv_slice_of(body, 16), raw) == STRATAKV_CORRUPT);
    skv_put32(body, sizeof raw);
    CHECK(skv_unpack(c, skv_slice_of(body, 16), raw) == STRATAKV_CORRUPT);
  }
}

static void test_wal_header(void) {
  skv_wal_header header = {.number = 3, .start = 4096}, out;
  uint8_t bytes[SKV_WAL_HEADER] = {0};
  skv_err err = {0, ""};
  skv_wal_header_encode(&header, bytes);
  CHECK(skv_wal_header_decode(bytes, sizeof bytes, "wal", &err, &out) ==
        STRATAKV_OK);
  static const size_t fields[] = {40, 48}; /* start not on 8; reserved */
  for (size_t i = 0; i < 2; i++) {
    skv_wal_header_encode(&header, bytes);
    bytes[fields[i]] |= 1;
    skv_put64(bytes + 56, skv_checksum(bytes, 56, 0));
    CHECK(skv_wal_header_decode(bytes, sizeof bytes, "wal", &err, &out) ==
          STRATAKV_CORRUPT);
  }
}

static void test_batch(void) {
  uint8_t bytes[4] = {SKV_KIND_PUT, 0, 0, 0};
  skv_entry entry;
  CHECK(skv_entry_get(bytes, bytes, &entry, NULL) == NULL);
  for (size_t n = 1; n <= 4; n++)
    CHECK(skv_entry_get(bytes, bytes + n, &entry, NULL) == NULL);
}

int main(void) {
  test_filter();
  test_filter_sizes();
  test_props();
  test_footer();
  test_frame();
  test_block();
  test_unpack();
  test_wal_header();
  test_batch();
  return check_end();
}
