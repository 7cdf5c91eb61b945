/*
 * Bodies of data blocks. See seg_block.h; the bytes stand in seg.h.
 */
#include "engine/seg/seg_block.h"

#define BLOCK_PREFIX_MAX 65535u
#define BLOCK_LSN_GUESS 3u /* bytes of an LSN's varint, before it is known */
/* Kind and three varints. */
#define BLOCK_HEAD_MAX (1 + 3 * SKV_VARINT_MAX)

struct block_item {
  size_t at;      /* of the key in raw; the value stands behind it */
  uint32_t key;   /* length */
  uint32_t value; /* length */
  uint64_t lsn;
  uint8_t kind;
};

/* ---- Building ---------------------------------------------------------- */

void skv_block_builder_clear(skv_block_builder *builder) {
  skv_buf_clear(&builder->raw);
  skv_buf_clear(&builder->items);
  skv_block_builder_reset(builder);
}

void skv_block_builder_reset(skv_block_builder *builder) {
  builder->raw.size = builder->items.size = 0;
  builder->count = 0;
  builder->prefix = builder->keys = builder->others = 0;
  builder->base = 0;
}

static const struct block_item *block_items(const skv_block_builder *builder) {
  return (const struct block_item *)(const void *)builder->items.data;
}

/* What all keys would share with this one among them. */
static size_t block_prefix_with(const skv_block_builder *builder,
                                skv_slice key) {
  if (builder->count == 0)
    return key.size < BLOCK_PREFIX_MAX ? key.size : BLOCK_PREFIX_MAX;
  skv_slice shared = skv_slice_of(builder->raw.data, builder->prefix);
  if (key.size >= shared.size &&
      (shared.size == 0 || memcmp(key.data, shared.data, shared.size) == 0))
    return shared.size;
  return skv_common_prefix(shared, key);
}

static size_t block_others(const skv_entry *entry) {
  return 1 + skv_varint_size(entry->key.size) +
         skv_varint_size(entry->value.size) + BLOCK_LSN_GUESS +
         entry->value.size;
}

static uint8_t *block_put_bytes(uint8_t *p, const uint8_t *data, size_t size) {
  if (size) memcpy(p, data, size);
  return p + size;
}

/* Room for one more entry, in both buffers. */
static struct block_item *block_reserve(skv_block_builder *b, size_t size) {
  if (!skv_buf_reserve(&b->raw, size)) return NULL;
  return (struct block_item *)(void *)skv_buf_reserve(
      &b->items, sizeof(struct block_item));
}

bool skv_block_add(skv_block_builder *b, const skv_entry *entry, size_t limit) {
  skv_slice key = entry->key, value = entry->value;
  size_t n = b->count + 1, prefix = block_prefix_with(b, key);
  size_t keys = b->keys + key.size, others = b->others + block_others(entry);
  size_t size = SKV_BLOCK_HEADER + n * SKV_BLOCK_SLOT + prefix + keys -
                n * prefix + others;
  if (b->count > 0 && size > limit) return false;
  struct block_item *item = block_reserve(b, key.size + value.size);
  if (!item) return true;
  *item = (struct block_item){.at = b->raw.size,
                              .key = (uint32_t)key.size,
                              .value = (uint32_t)value.size,
                              .lsn = entry->lsn,
                              .kind = entry->kind};
  uint8_t *p = b->raw.data + b->raw.size;
  p = block_put_bytes(p, key.data, key.size);
  block_put_bytes(p, value.data, value.size);
  b->raw.size += key.size + value.size;
  b->items.size += sizeof *item;
  if (b->count == 0 || entry->lsn < b->base) b->base = entry->lsn;
  b->prefix = prefix;
  b->keys = keys;
  b->others = others;
  b->count++;
  return true;
}

skv_slice skv_block_last(const skv_block_builder *builder) {
  const struct block_item *last = block_items(builder) + builder->count - 1;
  return skv_slice_of(builder->raw.data + last->at, last->key);
}

static void block_put_header(uint8_t *body, uint32_t n, size_t prefix,
                             uint64_t base) {
  skv_put32(body, n);
  skv_put16(body + 4, (uint16_t)prefix);
  skv_put16(body + 6, 0);
  skv_put64(body + 8, base);
}

/* An entry up to its value, and its slot. */
static uint8_t *block_put_key(uint8_t *body, uint32_t slot, uint8_t *p,
                              const struct block_item *item, skv_slice suffix,
                              uint64_t base) {
  uint8_t *s = body + SKV_BLOCK_HEADER + (size_t)SKV_BLOCK_SLOT * slot;
  skv_put32(s, skv_block_head(suffix));
  skv_put32(s + 4, (uint32_t)(p - body));
  *p++ = item->kind;
  p = skv_varint_put(p, suffix.size);
  p = skv_varint_put(p, item->value);
  p = skv_varint_put(p, item->lsn - base);
  return block_put_bytes(p, suffix.data, suffix.size);
}

void skv_block_encode(const skv_block_builder *b, skv_buf *buf) {
  if (b->raw.rc || b->items.rc) {
    buf->rc = STRATAKV_NOMEM;
    return;
  }
  size_t room = SKV_BLOCK_HEADER + b->prefix + b->raw.size +
                (size_t)b->count * (SKV_BLOCK_SLOT + BLOCK_HEAD_MAX);
  uint8_t *body = skv_buf_reserve(buf, room);
  if (!body) return;
  block_put_header(body, b->count, b->prefix, b->base);
  uint8_t *p = body + SKV_BLOCK_HEADER + (size_t)SKV_BLOCK_SLOT * b->count;
  p = block_put_bytes(p, b->raw.data, b->prefix);
  const struct block_item *item = block_items(b);
  for (uint32_t i = 0; i < b->count; i++, item++) {
    const uint8_t *key = b->raw.data + item->at;
    skv_slice suffix = skv_slice_of(key + b->prefix, item->key - b->prefix);
    p = block_put_key(body, i, p, item, suffix, b->base);
    p = block_put_bytes(p, key + item->key, item->value);
  }
  buf->size += (size_t)(p - body);
}

void skv_block_encode_one(const skv_entry *entry, skv_buf *buf) {
  size_t size = entry->key.size;
  size_t prefix = size < BLOCK_PREFIX_MAX ? size : BLOCK_PREFIX_MAX;
  uint8_t *body = skv_buf_reserve(buf, SKV_BLOCK_HEADER + SKV_BLOCK_SLOT +
                                           size + BLOCK_HEAD_MAX);
  if (!body) return;
  block_put_header(body, 1, prefix, entry->lsn);
  uint8_t *p = block_put_bytes(body + SKV_BLOCK_HEADER + SKV_BLOCK_SLOT,
                               entry->key.data, prefix);
  struct block_item item = {.value = (uint32_t)entry->value.size,
                            .lsn = entry->lsn,
                            .kind = entry->kind};
  skv_slice suffix = {NULL, 0};
  if (size > prefix)
    suffix = skv_slice_of(entry->key.data + prefix, size - prefix);
  p = block_put_key(body, 0, p, &item, suffix, entry->lsn);
  buf->size += (size_t)(p - body);
}

/* ---- Reading ----------------------------------------------------------- */

bool skv_block_open(const uint8_t *body, size_t size, skv_block *out) {
  if (size < SKV_BLOCK_HEADER || size > UINT32_MAX) return false;
  out->body = body;
  out->size = size;
  out->n = skv_get32(body);
  out->prefix = skv_get16(body + 4);
  out->base = skv_get64(body + 8);
  return out->n > 0 && skv_get16(body + 6) == 0 &&
         SKV_BLOCK_HEADER + (uint64_t)SKV_BLOCK_SLOT * out->n + out->prefix <=
             size;
}

bool skv_block_get_slow(const skv_block *block, size_t at,
                        skv_block_item *out) {
  uint64_t key, value, lsn;
  if (at >= block->size) return false;
  const uint8_t *p = block->body + at, *end = block->body + block->size;
  out->kind = *p++;
  if (out->kind != SKV_KIND_PUT && out->kind != SKV_KIND_DELETE) return false;
  if (!(p = skv_varint_get(p, end, &key))) return false;
  if (!(p = skv_varint_get(p, end, &value))) return false;
  if (!(p = skv_varint_get(p, end, &lsn))) return false;
  size_t left = (size_t)(end - p);
  if (key > left || value > left - key) return false;
  if (out->kind == SKV_KIND_DELETE && value != 0) return false;
  out->lsn = block->base + lsn;
  out->suffix = skv_slice_of(p, key);
  out->value = skv_slice_of(p + key, value);
  return true;
}

/* The first slot in [lo, n) whose head is >= head. */
static uint32_t block_lower(const skv_block *block, uint32_t lo,
                            uint32_t head) {
  uint32_t n = block->n - lo;
  while (n > 0) { /* the compiler makes the choice without a branch */
    uint32_t half = n / 2;
    bool less = skv_block_slot_head(block, lo + half) < head;
    lo = less ? lo + half + 1 : lo;
    n = less ? n - half - 1 : half;
  }
  return lo;
}

/* Among slots from lo on whose head is `head`, the first >= suffix. */
static bool block_tie(const skv_block *block, uint32_t lo, uint32_t head,
                      skv_slice suffix, uint32_t *slot, bool *exact) {
  skv_block_item item;
  uint32_t hi = lo + 1; /* one it is, nearly always */
  if (hi < block->n && skv_block_slot_head(block, hi) == head)
    hi = head == UINT32_MAX ? block->n : block_lower(block, hi, head + 1);
  while (lo < hi) {
    uint32_t mid = lo + (hi - lo) / 2;
    if (!skv_block_get(block, mid, &item)) return false;
    int c = skv_compare(item.suffix, suffix);
    if (c == 0) {
      *slot = mid;
      *exact = true;
      return true;
    }
    if (c < 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  *slot = lo;
  return true;
}

bool skv_block_find(const skv_block *block, skv_slice key, uint32_t *slot,
                    bool *exact) {
  size_t m = key.size < block->prefix ? key.size : block->prefix;
  int c = m ? memcmp(key.data, skv_block_prefix(block), m) : 0;
  *exact = false;
  *slot = c > 0 ? block->n : 0;
  if (c != 0 || key.size < block->prefix) return true;
  skv_slice suffix = {NULL, 0};
  if (key.size > m) suffix = skv_slice_of(key.data + m, key.size - m);
  uint32_t head = skv_block_head(suffix);
  *slot = block_lower(block, 0, head);
  if (*slot == block->n || skv_block_slot_head(block, *slot) != head)
    return true;
  return block_tie(block, *slot, head, suffix, slot, exact);
}
