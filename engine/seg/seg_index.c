/*
 * The index of a segment.
 *
 * BODY
 *      0  4  n: data blocks (>= 1)
 *      4  4  bytes of the common prefix of all separators
 *      8  4  pad: zero bytes before the tree, < 64, so that its nodes are
 *            cache lines of a mapped file
 *     12  4  zero
 *     16     pad zero bytes, then the tree: levels of 8-byte numbers, root
 *            first. The leaves are each separator's first 8 bytes after the
 *            common prefix (skv_prefix64), filled up with ~0 to a multiple of
 *            8; a level above holds the greatest number of each 8 below it,
 *            filled up likewise; the root has 8.
 *            8(n+1): the data blocks' offsets in the file, and the last one's
 *            end
 *            4n: where each separator's suffix ends among the suffixes
 *            the common prefix, the suffixes
 *
 * A search loads one line per level, and the upper levels are few bytes that
 * stay cached: a 64 MiB segment of 8 KiB blocks has 5 levels, the leaves take
 * 64 KiB. Only where numbers tie are separators looked at.
 */
#include "engine/seg/seg_index.h"

#include "engine/util/err.h"

#define INDEX_HEADER 16u
#define INDEX_FANOUT 8u

/* ---- Layout ------------------------------------------------------------ */

/* Sizes of the levels, leaves first; returns how many there are. */
static unsigned seg_index_shape(uint64_t n, uint64_t sizes[SKV_INDEX_LEVELS],
                                uint64_t *total) {
  unsigned levels = 0;
  *total = 0;
  do {
    n = (n + INDEX_FANOUT - 1) / INDEX_FANOUT;
    sizes[levels++] = n * INDEX_FANOUT;
    *total += n * INDEX_FANOUT;
  } while (n > 1);
  return levels;
}

/* ---- Building ---------------------------------------------------------- */

void skv_index_builder_clear(skv_index_builder *builder) {
  skv_buf_clear(&builder->bytes);
  skv_buf_clear(&builder->ends);
  skv_buf_clear(&builder->offsets);
}

void skv_index_add(skv_index_builder *builder, skv_slice separator,
                   uint64_t offset) {
  skv_buf_append(&builder->bytes, separator.data, separator.size);
  skv_buf_u64(&builder->ends, builder->bytes.size);
  skv_buf_u64(&builder->offsets, offset);
}

/* The shortest key >= last that begins with more than last's first `keep`
 * bytes: one byte counted up and the rest cut off, where that is possible. */
static void seg_index_bump(skv_slice last, size_t keep, skv_buf *s) {
  size_t i = keep;
  while (i < last.size && last.data[i] == 0xff) i++;
  skv_buf_set(s, skv_slice_of(last.data, i < last.size ? i + 1 : last.size));
  if (i < last.size && s->rc == STRATAKV_OK) s->data[i]++;
}

void skv_index_separator(skv_slice last, skv_slice next, skv_buf *s) {
  size_t d = skv_common_prefix(last, next);
  if (d == last.size)
    skv_buf_set(s, last);
  else if (next.size > d + 1)
    skv_buf_set(s, skv_slice_of(next.data, d + 1));
  else
    seg_index_bump(last, last.data[d] + 1 < next.data[d] ? d : d + 1, s);
}

static uint64_t seg_index_count(const skv_index_builder *builder) {
  return builder->offsets.size / 8;
}

uint64_t skv_index_estimate(const skv_index_builder *builder) {
  return INDEX_HEADER + 22 * seg_index_count(builder) + builder->bytes.size;
}

static skv_slice seg_index_separator(const skv_index_builder *b, uint64_t i) {
  uint64_t start = i ? skv_get64(b->ends.data + 8 * (i - 1)) : 0;
  uint64_t end = skv_get64(b->ends.data + 8 * i);
  return skv_slice_of(b->bytes.data + start, end - start);
}

/* The tree: leaves at the end, each level above from the one below it. */
static uint8_t *seg_index_put_tree(const skv_index_builder *b, size_t common,
                                   uint8_t *p, uint64_t total) {
  uint64_t sizes[SKV_INDEX_LEVELS], n = seg_index_count(b), whole;
  unsigned levels = seg_index_shape(n, sizes, &whole);
  uint8_t *level = p + 8 * (total - sizes[0]);
  for (uint64_t i = 0; i < sizes[0]; i++) {
    uint64_t v = UINT64_MAX;
    if (i < n) v = skv_prefix64(seg_index_separator(b, i), common);
    skv_put64(level + 8 * i, v);
  }
  for (unsigned l = 1; l < levels; l++) {
    uint8_t *below = level;
    level = below - 8 * sizes[l];
    memset(level, 0xff, 8 * sizes[l]);
    for (uint64_t i = 0; i < sizes[l - 1] / INDEX_FANOUT; i++)
      memcpy(level + 8 * i, below + 64 * i + 56, 8);
  }
  return p + 8 * total;
}

static uint8_t *seg_index_put_places(const skv_index_builder *b, size_t common,
                                     uint64_t end, uint8_t *p) {
  uint64_t n = seg_index_count(b);
  memcpy(p, b->offsets.data, 8 * n);
  skv_put64(p + 8 * n, end);
  p += 8 * (n + 1);
  for (uint64_t i = 0; i < n; i++) {
    uint64_t suffix = skv_get64(b->ends.data + 8 * i) - (i + 1) * common;
    skv_put32(p + 4 * i, (uint32_t)suffix);
  }
  return p + 4 * n;
}

int skv_index_encode(const skv_index_builder *b, uint64_t at, uint64_t end,
                     skv_buf *buf) {
  uint64_t n = seg_index_count(b), sizes[SKV_INDEX_LEVELS], total;
  if (b->bytes.rc || b->ends.rc || b->offsets.rc) return STRATAKV_NOMEM;
  if (n > UINT32_MAX / 64 || b->bytes.size > UINT32_MAX / 2)
    return STRATAKV_TOOBIG;
  seg_index_shape(n, sizes, &total);
  skv_slice first = seg_index_separator(b, 0);
  size_t common = skv_common_prefix(first, seg_index_separator(b, n - 1));
  unsigned pad = (unsigned)(-(at + INDEX_HEADER) & 63);
  size_t size = INDEX_HEADER + pad + 8 * total + 12 * n + 8 + common +
                (b->bytes.size - n * common);
  uint8_t *p = skv_buf_reserve(buf, size);
  if (!p) return STRATAKV_NOMEM;
  memset(p, 0, INDEX_HEADER + pad);
  skv_put32(p, (uint32_t)n);
  skv_put32(p + 4, (uint32_t)common);
  skv_put32(p + 8, pad);
  p = seg_index_put_tree(b, common, p + INDEX_HEADER + pad, total);
  p = seg_index_put_places(b, common, end, p);
  if (common) memcpy(p, first.data, common);
  p += common;
  for (uint64_t i = 0; i < n; i++) {
    skv_slice s = seg_index_separator(b, i);
    if (s.size > common) memcpy(p, s.data + common, s.size - common);
    p += s.size - common;
  }
  buf->size += size;
  return STRATAKV_OK;
}

/* ---- Opening ----------------------------------------------------------- */

/* Leaves are their separators', every level is what the one below says, and
 * leaves ascend: then a search stays within the arrays. */
static bool seg_index_tree_ok(const skv_index *index,
                              const uint64_t sizes[SKV_INDEX_LEVELS]) {
  const uint64_t *leaf = index->level[index->levels - 1];
  for (uint64_t i = 0; i < sizes[0]; i++) {
    uint64_t v = UINT64_MAX;
    if (i < index->n) v = skv_prefix64(skv_index_suffix(index, (uint32_t)i), 0);
    if (leaf[i] != v || (i > 0 && leaf[i - 1] > v)) return false;
  }
  for (unsigned l = 1; l < index->levels; l++) {
    const uint64_t *level = index->level[index->levels - 1 - l];
    const uint64_t *below = index->level[index->levels - l];
    uint64_t filled = sizes[l - 1] / INDEX_FANOUT;
    for (uint64_t i = 0; i < sizes[l]; i++)
      if (level[i] != (i < filled ? below[8 * i + 7] : UINT64_MAX))
        return false;
  }
  return true;
}

/* Data blocks follow one another from the file's first byte to `end`, and
 * suffixes to the end of theirs, which fits in 32 bits. */
static bool seg_index_places_ok(const skv_index *index, uint64_t end,
                                uint64_t suffixes) {
  uint32_t before = 0;
  if (index->offsets[0] != 0 || index->offsets[index->n] != end) return false;
  for (uint32_t i = 0; i < index->n; i++) {
    uint64_t from = index->offsets[i], to = index->offsets[i + 1];
    if (to <= from || to - from < 24 || (to & 7)) return false;
    if (index->ends[i] < before) return false;
    before = index->ends[i];
  }
  return before == suffixes;
}

bool skv_index_open(skv_slice body, uint64_t end, skv_index *out) {
  uint64_t sizes[SKV_INDEX_LEVELS], total;
  if (body.size < INDEX_HEADER) return false;
  uint64_t n = skv_get32(body.data), common = skv_get32(body.data + 4);
  unsigned pad = skv_get32(body.data + 8);
  if (n == 0 || n > UINT32_MAX / 64 || pad > 63 ||
      skv_get32(body.data + 12) != 0)
    return false;
  out->n = (uint32_t)n;
  out->levels = seg_index_shape(n, sizes, &total);
  uint64_t fixed = INDEX_HEADER + pad + 8 * total + 12 * n + 8 + common;
  const uint8_t *p = body.data + INDEX_HEADER + pad;
  if (body.size < fixed || (uintptr_t)p & 7) return false;
  for (unsigned l = 0; l < out->levels; l++) {
    uint64_t size = sizes[out->levels - 1 - l];
    out->level[l] = (const uint64_t *)(const void *)p;
    out->last[l] = (uint32_t)(size / INDEX_FANOUT - 1);
    p += 8 * size;
  }
  out->offsets = (const uint64_t *)(const void *)p;
  out->ends = (const uint32_t *)(const void *)(p + 8 * (n + 1));
  p += 12 * n + 8;
  out->common = skv_slice_of(p, common);
  out->suffixes = p + common;
  out->suffix_bytes = (uint32_t)(body.size - fixed);
  return seg_index_places_ok(out, end, body.size - fixed) &&
         seg_index_tree_ok(out, sizes);
}

/* ---- Searching --------------------------------------------------------- */

/* The first leaf >= v. */
static uint32_t seg_index_lower(const skv_index *index, uint64_t v) {
  if (index->level[index->levels - 1][index->n - 1] < v) return index->n;
  size_t i = 0;
  for (unsigned l = 0; l < index->levels; l++) {
    if (i > index->last[l]) i = index->last[l]; /* see skv_index_suffix */
    const uint64_t *node = index->level[l] + i * INDEX_FANOUT;
    size_t less = 0;
    for (unsigned j = 0; j < INDEX_FANOUT; j++) less += node[j] < v;
    i = i * INDEX_FANOUT + less;
  }
  return i < index->n ? (uint32_t)i : index->n;
}

/* Among separators whose leaves are v, the first >= key. */
static uint32_t seg_index_tie(const skv_index *index, uint32_t lo, uint64_t v,
                              skv_slice suffix) {
  uint32_t hi = v == UINT64_MAX ? index->n : seg_index_lower(index, v + 1);
  while (lo < hi) {
    uint32_t mid = lo + (hi - lo) / 2;
    if (skv_compare(skv_index_suffix(index, mid), suffix) < 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

uint32_t skv_index_find(const skv_index *index, skv_slice key) {
  size_t common = index->common.size;
  size_t m = key.size < common ? key.size : common;
  int c = m ? memcmp(key.data, index->common.data, m) : 0;
  if (c != 0) return c < 0 ? 0 : index->n;
  if (key.size < common) return 0;
  skv_slice suffix =
      skv_slice_of(key.size ? key.data + common : NULL, key.size - common);
  uint64_t v = skv_prefix64(suffix, 0);
  uint32_t i = seg_index_lower(index, v);
  if (i == index->n || index->level[index->levels - 1][i] != v) return i;
  return seg_index_tie(index, i, v, suffix);
}
