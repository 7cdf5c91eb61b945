/*
 * Bodies of data blocks. Any body: the fast and the slow decoder of an entry
 * agree with one written from the format, and a search stays inside. A body
 * that is in order: the search finds what a linear scan finds, and encoding
 * the entries again gives a body with the same entries.
 *
 * INPUT  length of a key (1 byte), that key, the body.
 */
#include "engine/seg/seg_block.h"
#include "test/fuzz/fuzz_entries.h"

/* A key is short enough to be glued together here. */
#define BLOCK_KEY_MAX 70000

static uint8_t key_bytes[2][BLOCK_KEY_MAX];

/* Slots point into the body, keys ascend and heads are theirs, mostly. */
size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  (void)max;
  size_t skip = size > 0 ? 1 + (size_t)data[0] : 0;
  if (skip == 0 || size < skip + SKV_BLOCK_HEADER + SKV_BLOCK_SLOT) return size;
  uint8_t *body = data + skip;
  size_t left = size - skip;
  uint32_t n = skv_get32(body);
  uint64_t most = (left - SKV_BLOCK_HEADER) / SKV_BLOCK_SLOT;
  if ((n == 0 || n > most) && fuzz_mostly(rng))
    skv_put32(body, n = 1 + n % (uint32_t)most);
  if (fuzz_mostly(rng)) skv_put16(body + 6, 0);
  uint64_t fixed = SKV_BLOCK_HEADER + (uint64_t)SKV_BLOCK_SLOT * n;
  if (fixed > left) return size;
  if (fixed + skv_get16(body + 4) > left && fuzz_mostly(rng))
    skv_put16(body + 4, (uint16_t)skv_prng_below(rng, left - fixed + 1));
  skv_block block;
  skv_block_item item;
  if (!skv_block_open(body, left, &block)) return size;
  for (uint32_t i = 0; i < n; i++) {
    uint8_t *slot = body + SKV_BLOCK_HEADER + (size_t)SKV_BLOCK_SLOT * i;
    if (skv_get32(slot + 4) >= left && fuzz_mostly(rng))
      skv_put32(slot + 4, skv_get32(slot + 4) % (uint32_t)left);
    if (skv_block_get_slow(&block, skv_get32(slot + 4), &item) &&
        fuzz_mostly(rng))
      skv_put32(slot, skv_block_head(item.suffix));
  }
  return size;
}

/* The entry of a slot, read byte by byte. */
static bool naive_get(const skv_block *block, uint32_t slot,
                      skv_block_item *out) {
  const uint8_t *b = block->body;
  size_t at = skv_get32(b + 16 + 8 * (size_t)slot + 4);
  uint64_t key, value, lsn;
  if (at >= block->size) return false;
  out->kind = b[at++];
  if (out->kind != 1 && out->kind != 2) return false;
  if (!naive_varint(b, block->size, &at, &key) ||
      !naive_varint(b, block->size, &at, &value) ||
      !naive_varint(b, block->size, &at, &lsn))
    return false;
  size_t left = block->size - at;
  if (key > left || value > left || key + value > left) return false;
  if (out->kind == 2 && value > 0) return false;
  out->suffix = skv_slice_of(b + at, key);
  out->value = skv_slice_of(b + at + key, value);
  out->lsn = block->base + lsn;
  return true;
}

static bool same_item(const skv_block_item *a, const skv_block_item *b) {
  return a->kind == b->kind && a->lsn == b->lsn &&
         a->suffix.data == b->suffix.data && a->suffix.size == b->suffix.size &&
         a->value.data == b->value.data && a->value.size == b->value.size;
}

static skv_slice whole_key(const skv_block *block, const skv_block_item *item,
                           uint8_t *space) {
  if (block->prefix + item->suffix.size > BLOCK_KEY_MAX)
    return skv_slice_of(NULL, 0);
  memcpy(space, skv_block_prefix(block), block->prefix);
  memcpy(space + block->prefix, item->suffix.data, item->suffix.size);
  return skv_slice_of(space, block->prefix + item->suffix.size);
}

/* Decode every slot in both ways. True: the block is as a writer makes it. */
static bool check_slots(const skv_block *block) {
  bool in_order = true;
  skv_slice last = {NULL, 0};
  for (uint32_t i = 0; i < block->n; i++) {
    skv_block_item fast, slow, naive;
    bool is_fast = skv_block_get(block, i, &fast);
    bool is_slow =
        skv_block_get_slow(block, skv_block_slot_at(block, i), &slow);
    bool is_naive = naive_get(block, i, &naive);
    FUZZ_CHECK(is_fast == is_naive && is_slow == is_naive);
    if (!is_naive) {
      in_order = false;
      continue;
    }
    FUZZ_CHECK(same_item(&fast, &naive) && same_item(&slow, &naive));
    in_order &= skv_block_slot_head(block, i) == skv_block_head(naive.suffix) &&
                (i == 0 || skv_compare(last, naive.suffix) < 0);
    last = naive.suffix;
  }
  return in_order;
}

static void check_find(const skv_block *block, skv_slice key, bool in_order) {
  uint32_t slot = UINT32_MAX, want = 0;
  bool exact = true;
  skv_block_item item;
  if (!skv_block_find(block, key, &slot, &exact)) {
    FUZZ_CHECK(!in_order);
    return;
  }
  FUZZ_CHECK(slot <= block->n && (!exact || slot < block->n));
  if (!in_order) return;
  for (; want < block->n; want++) {
    FUZZ_CHECK(naive_get(block, want, &item));
    if (skv_compare(whole_key(block, &item, key_bytes[1]), key) >= 0) break;
  }
  FUZZ_CHECK(slot == want);
  FUZZ_CHECK(exact == (want < block->n &&
                       skv_equal(whole_key(block, &item, key_bytes[1]), key)));
}

static void check_encoding(const skv_block *block) {
  skv_block_builder builder = {0};
  skv_buf body = {0};
  skv_block again;
  skv_block_item item, other;
  for (uint32_t i = 0; i < block->n; i++) {
    FUZZ_CHECK(skv_block_get(block, i, &item));
    skv_entry e = {whole_key(block, &item, key_bytes[0]), item.value, item.lsn,
                   item.kind};
    FUZZ_CHECK(skv_block_add(&builder, &e, SIZE_MAX));
  }
  skv_block_encode(&builder, &body);
  FUZZ_CHECK(body.rc == STRATAKV_OK);
  FUZZ_CHECK(skv_block_open(body.data, body.size, &again));
  FUZZ_CHECK(again.n == block->n && again.prefix >= block->prefix);
  for (uint32_t i = 0; i < block->n; i++) {
    FUZZ_CHECK(skv_block_get(block, i, &item));
    FUZZ_CHECK(naive_get(&again, i, &other));
    FUZZ_CHECK(item.kind == other.kind && item.lsn == other.lsn &&
               skv_equal(item.value, other.value));
    FUZZ_CHECK(skv_equal(whole_key(block, &item, key_bytes[0]),
                         whole_key(&again, &other, key_bytes[1])));
  }
  skv_block_builder_clear(&builder);
  skv_buf_clear(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_input in = {data, data + size};
  skv_slice key = fuzz_take(&in, fuzz_u8(&in));
  skv_block block;
  skv_block_item item;
  if (!skv_block_open(in.p, (size_t)(in.end - in.p), &block)) return 0;
  bool in_order = check_slots(&block);
  check_find(&block, key, in_order);
  check_find(&block, skv_slice_of(NULL, 0), in_order);
  for (uint32_t i = 0; i < block.n && i < 64; i++) {
    if (!naive_get(&block, i, &item)) continue;
    skv_slice own = whole_key(&block, &item, key_bytes[0]);
    if (own.data != NULL) check_find(&block, own, in_order);
    own.size -= own.size > 0;
    if (own.data != NULL) check_find(&block, own, in_order);
  }
  if (in_order) check_encoding(&block);
  return 0;
}
