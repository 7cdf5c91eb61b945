/*
 * What decoders refuse although a checksum covers it: the fields of a body, one
 * wrong at a time, which no flipped bit of a file reaches.
 *
 * Covers: INV-8
 */
#include <stdlib.h>
#include <string.h>

#include "engine/db/db.h"
#include "engine/seg/seg_block.h"
#include "engine/seg/seg_compress.h"
#include "engine/seg/seg_filter.h"
#include "engine/seg/seg_footer.h"
#include "engine/seg/seg_frame.h"
#include "engine/seg/seg_index.h"
#include "engine/tree/manifest.h"
#include "engine/util/alloc.h"
#include "engine/util/hash.h"
#include "engine/wal/batch.h"
#include "engine/wal/wal.h"
#include "include/stratakv.h"
#include "test/c/check.h"

/* Memory of exactly that size, so that a sanitizer sees what is read past it. */
static uint8_t *exact_copy(const void *bytes, size_t size) {
  uint8_t *copy = malloc(size ? size : 1);
  if (copy == NULL) abort();
  memcpy(copy, bytes, size);
  return copy;
}

static void test_filter(void) {
  skv_buf buf = {0};
  skv_filter out;
  uint64_t hash = 1;
  skv_filter_encode(&buf, 0, &hash, 1, 10);
  CHECK(skv_filter_open(skv_buf_bytes(&buf), &out));
  for (size_t n = 0; n < buf.size; n++) {
    uint8_t *cut = exact_copy(buf.data, n);
    CHECK(!skv_filter_open(skv_slice_of(cut, n), &out));
    free(cut);
  }
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
  CHECK(!skv_filter_open(skv_slice_of(buf.data, buf.size - 64), &out));
  skv_buf_clear(&buf);
  /* Of as many bytes, but a line is padding. */
  uint64_t hashes[200] = {0};
  skv_filter_encode(&buf, 0, hashes, 200, 10);
  CHECK(skv_filter_open(skv_buf_bytes(&buf), &out) && out.n > 1);
  skv_put32(buf.data, out.n - 1);
  skv_put16(buf.data + 6, (uint16_t)(skv_get16(buf.data + 6) + 64));
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
  for (size_t n = 0; n < buf.size; n++) {
    uint8_t *cut = exact_copy(buf.data, n);
    CHECK(!skv_props_decode(skv_slice_of(cut, n), &out));
    free(cut);
  }
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
  /* Lengths of the two keys that are not those of what follows: less, more,
   * and their sum in 32 bits. */
  static const uint32_t lengths[][2] = {
      {1, 0}, {0, 1}, {2, 1}, {1, 2}, {UINT32_MAX, 3}, {0, UINT32_MAX}};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    skv_put32(buf.data + 48, lengths[i][0]);
    skv_put32(buf.data + 52, lengths[i][1]);
    CHECK(!skv_props_decode(skv_buf_bytes(&buf), &out));
  }
  skv_put32(buf.data + 48, 2); /* another split is another key, not damage */
  skv_put32(buf.data + 52, 0);
  CHECK(skv_props_decode(skv_buf_bytes(&buf), &out));
  CHECK(out.min_key.size == 2 && out.max_key.size == 0);
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
  CHECK(!skv_block_open(body, (size_t)UINT32_MAX + 1, &out));
  /* A header that is cut is not read: memory of exactly its size. */
  for (size_t n = 0; n < SKV_BLOCK_HEADER; n++) {
    uint8_t *cut = malloc(n + 1);
    CHECK(cut != NULL && !skv_block_open(cut + 1, n, &out));
    free(cut);
  }
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
  static const uint8_t valued[] = {SKV_KIND_DELETE, 0, 1, 0, 'v'};
  memcpy(body + 59, valued, sizeof valued);
  CHECK(!skv_block_get_slow(&out, 59, &item));
  body[59] = SKV_KIND_PUT;
  CHECK(skv_block_get_slow(&out, 59, &item));
  body[59] = SKV_KIND_PUT + SKV_KIND_DELETE; /* neither */
  CHECK(!skv_block_get_slow(&out, 59, &item));
  body[59] = SKV_KIND_PUT;
  body[60] = 2; /* a key's byte that is not there */
  body[61] = 0;
  CHECK(!skv_block_get_slow(&out, 59, &item));
}

/* Slots that do not fit; two of one head, neither of which leads to an entry. */
static void test_block_slots(void) {
  uint8_t body[SKV_BLOCK_HEADER + 2 * SKV_BLOCK_SLOT] = {0};
  uint32_t slot;
  bool exact;
  skv_block out;
  skv_put32(body, 2);
  CHECK(!skv_block_open(body, sizeof body - 1, &out));
  CHECK(skv_block_open(body, sizeof body, &out));
  for (size_t at = SKV_BLOCK_HEADER; at < sizeof body; at += 4)
    skv_put32(body + at, sizeof body); /* the head, and where it is */
  const uint8_t key[] = {0, 0, 0, sizeof body};
  CHECK(skv_block_slot_head(&out, 1) == skv_block_head(skv_slice_of(key, 4)));
  CHECK(!skv_block_find(&out, skv_slice_of(key, 4), &slot, &exact));
}

/* An index of ten blocks, 24 bytes each; what the test changes in it. */
#define INDEX_N 10
#define INDEX_TREE (16 + 48) /* of levels of 8 and 16 numbers, line by line */
#define INDEX_OFFSETS (INDEX_TREE + 8 * 24)
#define INDEX_ENDS (INDEX_OFFSETS + 8 * (INDEX_N + 1))

static bool index_opens(const skv_buf *body, size_t at, unsigned width,
                        uint64_t v) {
  uint8_t *copy = skv_aligned(64, body->size);
  skv_index out;
  memcpy(copy, body->data, body->size);
  if (width == 4) skv_put32(copy + at, (uint32_t)v);
  if (width == 8) skv_put64(copy + at, v);
  bool opens =
      skv_index_open(skv_slice_of(copy, body->size), 24 * INDEX_N, &out);
  skv_free(copy);
  return opens;
}

static void test_index(void) {
  skv_index_builder builder = {0};
  skv_buf body = {0};
  for (uint32_t i = 0; i < INDEX_N; i++)
    skv_index_add(&builder, skv_slice_of(&"0123456789"[i], 1),
                  24 * (uint64_t)i);
  CHECK(skv_index_encode(&builder, 0, 24 * INDEX_N, &body) == STRATAKV_OK);
  CHECK(index_opens(&body, 0, 0, 0));
  CHECK(!index_opens(&body, 0, 4, 0));
  CHECK(!index_opens(&body, 0, 4, UINT32_MAX));
  CHECK(!index_opens(&body, 8, 4, 64));
  CHECK(!index_opens(&body, 8, 4, 47)); /* the tree on no line */
  CHECK(!index_opens(&body, 12, 4, 1));
  CHECK(!index_opens(&body, INDEX_OFFSETS, 8, 8));
  CHECK(!index_opens(&body, INDEX_OFFSETS + 8 * INDEX_N, 8, 24 * INDEX_N - 8));
  CHECK(!index_opens(&body, INDEX_OFFSETS + 8, 8, 0));
  CHECK(!index_opens(&body, INDEX_OFFSETS + 8, 8, 16));
  CHECK(!index_opens(&body, INDEX_OFFSETS + 8, 8, 1024));
  CHECK(!index_opens(&body, INDEX_OFFSETS + 8, 8, 25));
  CHECK(!index_opens(&body, INDEX_ENDS, 4, 3));
  CHECK(!index_opens(&body, INDEX_ENDS + 4 * INDEX_N - 4, 4, INDEX_N + 1));
  CHECK(!index_opens(&body, INDEX_TREE, 8, 5)); /* the root's first */
  CHECK(!index_opens(&body, INDEX_TREE + 64, 8, 5));
  skv_buf_clear(&body);
  /* Separators that are what the leaves say, and do not ascend. */
  builder.bytes.data[3] = '1';
  CHECK(skv_index_encode(&builder, 0, 24 * INDEX_N, &body) == STRATAKV_OK);
  CHECK(!index_opens(&body, 0, 0, 0));
  skv_buf_clear(&body);
  skv_index_builder_clear(&builder);
}

/* Of blocks of 48 bytes each: a first, a last and an edge that are off by 8, or
 * by 1, leave every block long enough. */
static void test_index_edges(void) {
  skv_index_builder builder = {0};
  skv_buf body = {0};
  skv_index out;
  const uint64_t end = 48 * INDEX_N;
  for (uint32_t i = 0; i < INDEX_N; i++)
    skv_index_add(&builder, skv_slice_of(&"0123456789"[i], 1),
                  48 * (uint64_t)i);
  CHECK(skv_index_encode(&builder, 0, end, &body) == STRATAKV_OK);
  static const uint64_t edges[][2] = {
      {0, 8}, {INDEX_N, end - 8}, {INDEX_N, end + 8}, {1, 49}, {1, 40}};
  for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
    uint8_t *copy = skv_aligned(64, body.size);
    memcpy(copy, body.data, body.size);
    skv_put64(copy + INDEX_OFFSETS + 8 * edges[i][0], edges[i][1]);
    CHECK(skv_index_open(skv_slice_of(copy, body.size), end, &out) == (i == 4));
    skv_free(copy);
  }
  skv_buf_clear(&body);
  skv_index_builder_clear(&builder);
}

/* Suffixes that run backwards, though each begins with the bytes that its leaf
 * says. */
static void test_index_ends(void) {
  skv_index_builder builder = {0};
  skv_buf body = {0};
  skv_index out;
  for (uint32_t i = 0; i < 3; i++)
    skv_index_add(&builder, skv_slice_of("a\0\0", 1 + i), 24 * (uint64_t)i);
  CHECK(skv_index_encode(&builder, 0, 24 * 3, &body) == STRATAKV_OK);
  uint8_t *copy = skv_aligned(64, body.size);
  memcpy(copy, body.data, body.size);
  skv_slice whole = skv_slice_of(copy, body.size);
  CHECK(skv_index_open(whole, 24 * 3, &out));
  skv_put32(copy + INDEX_TREE + 64 + 8 * (3 + 1), 2);
  CHECK(!skv_index_open(whole, 24 * 3, &out));
  skv_free(copy);
  skv_buf_clear(&body);
  skv_index_builder_clear(&builder);
}

/* Cut anywhere, in memory of exactly that size; lengths that cannot be. */
static void test_index_sizes(void) {
  skv_index_builder builder = {0};
  skv_buf body = {0};
  skv_index out;
  for (uint32_t i = 0; i < INDEX_N; i++)
    skv_index_add(&builder, skv_slice_of(&"0123456789"[i], 1),
                  24 * (uint64_t)i);
  CHECK(skv_index_encode(&builder, 0, 24 * INDEX_N, &body) == STRATAKV_OK);
  for (size_t n = 0; n < body.size; n++) {
    uint8_t *cut = exact_copy(body.data, n);
    CHECK(!skv_index_open(skv_slice_of(cut, n), 24 * INDEX_N, &out));
    free(cut);
  }
  /* A line more of padding, and all the rest behind it. */
  uint8_t *padded = skv_aligned(64, body.size + 64);
  memset(padded, 0, body.size + 64);
  memcpy(padded, body.data, 16);
  memcpy(padded + INDEX_TREE + 64, body.data + INDEX_TREE,
         body.size - INDEX_TREE);
  skv_put32(padded + 8, skv_get32(padded + 8) + 64);
  skv_slice longer = skv_slice_of(padded, body.size + 64);
  CHECK(!skv_index_open(longer, 24 * INDEX_N, &out));
  /* More blocks than a segment can have, of which none is looked at. */
  skv_put32(padded, UINT32_MAX / 64 + 1);
  skv_put32(padded + 8, 0);
  CHECK(!skv_index_open(skv_slice_of(padded, UINT32_MAX), 24, &out));
  /* No block at all, up to offset 0. */
  memset(padded, 0, 24);
  CHECK(!skv_index_open(skv_slice_of(padded, 24), 0, &out));
  skv_free(padded);
  skv_buf_clear(&body);
  skv_index_builder_clear(&builder);
}

/* A mapped index that changes after it was opened is searched within itself. */
static void test_index_changes(void) {
  skv_index_builder builder = {0};
  skv_buf body = {0};
  skv_index index;
  for (uint32_t i = 0; i < INDEX_N; i++)
    skv_index_add(&builder, skv_slice_of(&"0123456789"[i], 1),
                  24 * (uint64_t)i);
  CHECK(skv_index_encode(&builder, 0, 24 * INDEX_N, &body) == STRATAKV_OK);
  uint8_t *copy = skv_aligned(64, body.size);
  skv_slice key = skv_slice_of("8", 1), whole = skv_slice_of(copy, body.size);
  memcpy(copy, body.data, body.size);
  CHECK(!skv_index_open(skv_slice_of(copy, body.size + (size_t)UINT32_MAX),
                        24 * INDEX_N, &index));
  CHECK(skv_index_open(whole, 24 * INDEX_N, &index));
  CHECK(skv_index_find(&index, key) == 8);
  memset(copy + INDEX_TREE + 8 * (8 + INDEX_N), 0, 8 * (16 - INDEX_N));
  memset(copy + INDEX_TREE + 64, 0, 64 + 8);
  CHECK(skv_index_find(&index, skv_slice_of("9", 1)) <= INDEX_N);
  memset(copy + INDEX_TREE, 0, 64);
  CHECK(skv_index_find(&index, key) <= INDEX_N);
  CHECK(skv_index_find(&index, skv_slice_of("9", 1)) <= INDEX_N);
  skv_free(copy);
  skv_buf_clear(&body);
  skv_index_builder_clear(&builder);
}

static int no_memory(void *arg, size_t size) {
  (void)arg;
  (void)size;
  return 1;
}

/* What an index cannot hold, and no memory for what it holds. */
static void test_index_encode(void) {
  skv_index_builder b = {0};
  skv_buf body = {0}, *const lists[] = {&b.bytes, &b.ends, &b.offsets};
  skv_index_add(&b, skv_slice_of("a", 1), 0);
  for (int i = 0; i < 3; i++) {
    lists[i]->rc = STRATAKV_NOMEM;
    CHECK(skv_index_encode(&b, 0, 24, &body) == STRATAKV_NOMEM);
    lists[i]->rc = STRATAKV_OK;
  }
  skv_alloc_set_hook(no_memory, NULL);
  CHECK(skv_index_encode(&b, 0, 24, &body) == STRATAKV_NOMEM);
  skv_alloc_set_hook(NULL, NULL);
  skv_buf_clear(&body);
  size_t offsets = b.offsets.size, bytes = b.bytes.size;
  b.offsets.size = 8 * (UINT32_MAX / 64 + (size_t)1);
  CHECK(skv_index_encode(&b, 0, 24, &body) == STRATAKV_TOOBIG);
  b.offsets.size = offsets;
  b.bytes.size = UINT32_MAX / 2 + (size_t)1;
  CHECK(skv_index_encode(&b, 0, 24, &body) == STRATAKV_TOOBIG);
  b.bytes.size = bytes;
  CHECK(skv_index_encode(&b, 0, 24, &body) == STRATAKV_OK);
  skv_buf_clear(&body);
  skv_index_builder_clear(&b);
}

/* A block that found no memory for an entry is not written without it. */
static void test_block_memory(void) {
  skv_block_builder b = {0};
  skv_buf body = {0};
  skv_entry entry = {.key = skv_slice_of("key", 3), .kind = SKV_KIND_PUT};
  for (int i = 0; i < 2; i++) {
    skv_buf *list = i == 0 ? &b.raw : &b.items;
    CHECK(skv_block_add(&b, &entry, 1000) && b.count == 1);
    list->rc = STRATAKV_NOMEM;
    CHECK(skv_block_add(&b, &entry, 1000) && b.count == 1);
    skv_block_encode(&b, &body);
    CHECK(body.rc == STRATAKV_NOMEM);
    skv_buf_clear(&body);
    skv_block_builder_clear(&b);
  }
  CHECK(skv_block_add(&b, &entry, 1000));
  skv_alloc_set_hook(no_memory, NULL);
  skv_block_encode(&b, &body);
  CHECK(body.rc == STRATAKV_NOMEM);
  skv_buf_clear(&body);
  skv_block_encode_one(&entry, &body);
  CHECK(body.rc == STRATAKV_NOMEM);
  skv_buf_clear(&body);
  skv_batch_append(&body, SKV_KIND_PUT, 1, entry.key, entry.key);
  CHECK(body.rc == STRATAKV_NOMEM && body.size == 0);
  skv_alloc_set_hook(NULL, NULL);
  skv_buf_clear(&body);
  skv_block_builder_clear(&b);
}

/* What is not worth packing, or too long, is not. */
static void test_pack_sizes(void) {
  static const uint8_t zeros[100];
  uint8_t out[100];
  skv_err err;
  for (int c = STRATAKV_COMPRESSION_NONE; c <= STRATAKV_COMPRESSION_ZSTD; c++) {
    skv_packer *packer = NULL;
    CHECK(skv_packer_new(c, &err, &packer) == STRATAKV_OK);
    CHECK(skv_packer_pack(packer, skv_slice_of(zeros, 7), out) == 0);
    CHECK(skv_packer_pack(packer, skv_slice_of(zeros, SKV_COMPRESS_LIMIT),
                          out) == 0);
    size_t n = skv_packer_pack(packer, skv_slice_of(zeros, 100), out);
    CHECK((n > 0) == (c != STRATAKV_COMPRESSION_NONE));
    skv_packer_free(packer);
  }
}

/* Contexts wait in four slots. Unpacking within the allocation of a context
 * is what many threads do at the same time. */
static uint8_t packed[100];
static size_t packed_size;
static int unpacking;

static int unpack_again(void *arg, size_t size) {
  uint8_t raw[100];
  (void)arg;
  (void)size;
  if (unpacking < 6) {
    unpacking++;
    CHECK(skv_unpack(STRATAKV_COMPRESSION_ZSTD,
                     skv_slice_of(packed, packed_size), raw) == STRATAKV_OK);
  }
  return 0;
}

static void test_unpack_slots(void) {
  static const uint8_t zeros[100];
  uint8_t raw[100];
  skv_err err;
  skv_packer *packer = NULL;
  CHECK(skv_packer_new(STRATAKV_COMPRESSION_ZSTD, &err, &packer) ==
        STRATAKV_OK);
  packed_size = skv_packer_pack(packer, skv_slice_of(zeros, 100), packed);
  skv_packer_free(packer);
  skv_slice body = skv_slice_of(packed, packed_size);
  size_t before = skv_alloc_count();
  skv_unpack_ref();
  skv_alloc_set_hook(no_memory, NULL);
  CHECK(skv_unpack(STRATAKV_COMPRESSION_ZSTD, body, raw) == STRATAKV_NOMEM);
  skv_alloc_set_hook(unpack_again, NULL);
  CHECK(skv_unpack(STRATAKV_COMPRESSION_ZSTD, body, raw) == STRATAKV_OK);
  CHECK(unpacking == 6);
  skv_alloc_set_hook(NULL, NULL);
  CHECK(skv_unpack(STRATAKV_COMPRESSION_ZSTD, body, raw) == STRATAKV_OK);
  skv_unpack_unref();
  CHECK(skv_alloc_count() == before);
}

/* A block is full at its limit; an entry that is larger has one of its own. */
static void test_block_limit(void) {
  enum { LIMIT = 512 };
  static const uint8_t large[LIMIT];
  skv_block_builder b = {0};
  skv_buf buf = {0};
  uint8_t key[8] = "\0\1key";
  skv_entry e = {skv_slice_of(key, 8), skv_slice_of("value", 5), 8,
                 SKV_KIND_PUT};
  unsigned count = 0;
  for (bool fits = true; fits && count < 200; count += fits) {
    key[7] = (uint8_t)count;
    fits = skv_block_add(&b, &e, LIMIT);
  }
  skv_block_encode(&b, &buf);
  CHECK(count > 10 && b.count == count && buf.size <= LIMIT);
  e.value = skv_slice_of(large, LIMIT);
  CHECK(!skv_block_add(&b, &e, LIMIT));
  skv_block_builder_reset(&b);
  CHECK(skv_block_add(&b, &e, LIMIT) && b.count == 1);
  skv_block_builder_clear(&b);
  skv_buf_clear(&buf);
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

/* Lengths below a record's header are no large ones, however long the file. */
static void test_wal_length(void) {
  uint8_t bytes[SKV_WAL_HEADER + SKV_RECORD_HEADER] = {0};
  skv_wal_record out;
  bytes[SKV_WAL_HEADER + 28] = SKV_RECORD_COMMIT;
  for (uint32_t length = 0; length < SKV_RECORD_HEADER; length++) {
    skv_wal_place place = {1, SKV_WAL_HEADER, 0, 0};
    skv_put32(bytes + SKV_WAL_HEADER + 20, length);
    CHECK(!skv_wal_read(bytes, UINT64_C(1) << 40, true, &place, &out));
  }
}

/* A record stands behind the file's header, and on a multiple of 8. */
static void test_wal_place(void) {
  for (size_t at = 0; at <= 80; at++) {
    uint8_t bytes[80 + SKV_RECORD_HEADER] = {0};
    skv_wal_record out;
    skv_wal_place place = {1, at, 0, 0};
    skv_put32(bytes + at + 20, SKV_RECORD_HEADER);
    bytes[at + 28] = SKV_RECORD_COMMIT;
    skv_put64(bytes + at,
              skv_checksum(bytes + at + 8, SKV_RECORD_HEADER - 8, 1 + at));
    skv_wal_place found = {.seed = 1};
    bool may = at >= SKV_WAL_HEADER && at % 8 == 0;
    CHECK(skv_wal_read(bytes, sizeof bytes, true, &place, &out) == may);
    CHECK(skv_wal_find(bytes, sizeof bytes, at, &found) == may);
    if (at > 0) CHECK(!skv_wal_find(bytes, at - 1, at, &found));
    bytes[at] ^= 1;
    CHECK(!skv_wal_find(bytes, sizeof bytes, at, &found));
  }
}

/* Types that there are, and the lengths that two of them must have. */
static void test_wal_types(void) {
  for (uint8_t type = 0; type < 8; type++) {
    for (uint32_t payload = 0; payload <= 16; payload += 8) {
      uint8_t bytes[SKV_WAL_HEADER + SKV_RECORD_HEADER + 16] = {0};
      uint8_t *record = bytes + SKV_WAL_HEADER;
      skv_wal_record out;
      skv_wal_place place = {1, SKV_WAL_HEADER, 0, 0}, found = place;
      uint32_t length = SKV_RECORD_HEADER + payload;
      skv_put32(record + 20, length);
      record[28] = type;
      skv_put64(record,
                skv_checksum(record + 8, length - 8, 1 + SKV_WAL_HEADER));
      bool is_one = type >= SKV_RECORD_COMMIT && type <= SKV_RECORD_SEAL &&
                    (type != SKV_RECORD_ABORT || payload == 8) &&
                    (type != SKV_RECORD_SEAL || payload == 0);
      CHECK(skv_wal_read(bytes, sizeof bytes, true, &place, &out) == is_one);
      CHECK(skv_wal_find(bytes, sizeof bytes, SKV_WAL_HEADER, &found) ==
            is_one);
    }
  }
}

static void test_batch(void) {
  uint8_t bytes[4] = {SKV_KIND_PUT, 0, 0, 0};
  skv_entry entry;
  uint8_t *end = (uint8_t *)malloc(1) + 1; /* behind it nothing is read */
  CHECK(skv_entry_get(end, end, &entry, NULL) == NULL);
  free(end - 1);
  for (size_t n = 1; n <= 4; n++)
    CHECK(skv_entry_get(bytes, bytes + n, &entry, NULL) == NULL);
}

/* One segment's description: its numbers, and two keys. */
static skv_slice ingest_of(skv_buf *buf, const uint64_t numbers[8]) {
  buf->size = 0;
  skv_buf_varint(buf, 7); /* first file number */
  skv_buf_varint(buf, 1);
  for (int i = 0; i < 8; i++) skv_buf_varint(buf, numbers[i]);
  skv_buf_slice(buf, skv_slice_of("aa", 2));
  skv_buf_slice(buf, skv_slice_of("bb", 2));
  return skv_buf_bytes(buf);
}

static void test_ingest(void) {
  uint64_t numbers[8] = {0xff, UINT32_MAX, 3, 4, 5, 6, 7, 8};
  skv_buf buf = {0};
  CHECK(skv_ingest_check(ingest_of(&buf, numbers)));
  for (size_t n = 0; n < buf.size; n++) {
    uint8_t *cut = exact_copy(buf.data, n);
    CHECK(!skv_ingest_check(skv_slice_of(cut, n)));
    free(cut);
  }
  numbers[0]++; /* a slot, an incarnation that no name has room for */
  CHECK(!skv_ingest_check(ingest_of(&buf, numbers)));
  numbers[0]--;
  numbers[1]++;
  CHECK(!skv_ingest_check(ingest_of(&buf, numbers)));
  skv_buf_clear(&buf);
}

static const uint8_t manifest_id[16] = "a store's id...";

static bool edit_stands(const uint8_t *bytes, size_t size, uint64_t at,
                        skv_edit_info *out) {
  return skv_manifest_edit_at(bytes, size, manifest_id, 1, at, out);
}

static void test_manifest(void) {
  skv_buf buf = {0};
  skv_manifest_end end;
  skv_edit_info info;
  skv_err err = {0, ""};
  uint8_t id[16];
  uint64_t file = 0;
  skv_manifest_encode(manifest_id, 1, skv_slice_of("abc", 3), &buf, &end);
  CHECK(skv_manifest_header(buf.data, buf.size, "m", &err, id, &file) ==
        STRATAKV_OK);
  CHECK(edit_stands(buf.data, buf.size, SKV_MANIFEST_HEADER, &info));
  CHECK(info.end == buf.size && info.is_padded && info.payload.size == 3);
  /* A CURRENT has the same fields, and another magic. */
  buf.data[0] ^= 1;
  skv_put64(buf.data + 56, skv_checksum(buf.data, 56, 0));
  CHECK(skv_manifest_header(buf.data, buf.size, "m", &err, id, &file) ==
        STRATAKV_CORRUPT);
  /* Cut within its padding, the edit ends behind the file. */
  size_t cut = SKV_MANIFEST_HEADER + SKV_EDIT_HEADER + 3;
  uint8_t *exact = exact_copy(buf.data, cut);
  CHECK(edit_stands(exact, cut, SKV_MANIFEST_HEADER, &info));
  CHECK(info.end == buf.size && !info.is_padded);
  CHECK(!edit_stands(exact, cut, info.end, &info));
  for (size_t at = SKV_MANIFEST_HEADER; at < cut; at++) {
    exact[at] ^= 1;
    CHECK(!edit_stands(exact, cut, SKV_MANIFEST_HEADER, &info));
    exact[at] ^= 1;
  }
  free(exact);
  /* An edit of no operation. */
  uint8_t *edit = buf.data + SKV_MANIFEST_HEADER;
  memset(edit, 0, buf.size - SKV_MANIFEST_HEADER);
  skv_put64(edit, skv_checksum(edit + 8, SKV_EDIT_HEADER - 8,
                               skv_seed(manifest_id, 1, SKV_MANIFEST_HEADER)));
  CHECK(!edit_stands(buf.data, buf.size, SKV_MANIFEST_HEADER, &info));
  /* A reserved byte. */
  edit[8] = 1;
  for (uint8_t reserved = 0; reserved < 2; reserved++) {
    edit[12] = reserved;
    skv_put64(edit,
              skv_checksum(edit + 8, SKV_EDIT_HEADER - 8 + 1,
                           skv_seed(manifest_id, 1, SKV_MANIFEST_HEADER)));
    CHECK(edit_stands(buf.data, buf.size, SKV_MANIFEST_HEADER, &info) ==
          !reserved);
  }
  skv_buf_clear(&buf);
}

int main(void) {
  test_filter();
  test_filter_sizes();
  test_props();
  test_footer();
  test_frame();
  test_block();
  test_block_slots();
  test_block_limit();
  test_block_memory();
  test_index();
  test_index_edges();
  test_index_ends();
  test_index_sizes();
  test_index_changes();
  test_index_encode();
  test_pack_sizes();
  test_unpack_slots();
  test_unpack();
  test_wal_header();
  test_wal_length();
  test_wal_place();
  test_wal_types();
  test_batch();
  test_ingest();
  test_manifest();
  return check_end();
}
