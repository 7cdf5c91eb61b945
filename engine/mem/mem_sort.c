/*
 * Sorting the positions of one array by their keys.
 *
 * The 8 key bytes beside each position decide nearly all: a radix sort over
 * those of their bytes that vary, which never looks into the log. Entries that
 * tie are a smaller problem of the same kind: their keys go on, so they are
 * sorted by the 8 bytes behind what they have in common. Everything is stable;
 * so the versions of a key stay in the order in which they came.
 */
#include "engine/mem/mem_internal.h"

#define SORT_SMALL 16    /* insertion sort up to here */
#define SORT_DEPTH 8     /* levels of ties; then by comparing whole keys */
#define SORT_AHEAD 8     /* keys to prefetch ahead */
#define SORT_MORE_BITS 4 /* bits sorted by beyond those that number entries */

/* Parallel arrays: what is sorted, and as much room again. */
typedef struct sort_part {
  uint64_t *prefixes;
  uint32_t *positions;
  uint64_t *spare_prefixes;
  uint32_t *spare_positions;
  size_t n;
} sort_part;

static void sort_range(const skv_mem_view *view, sort_part part, size_t skip,
                       unsigned depth);

/* ---- By prefix ----------------------------------------------------------- */

static void sort_insertion(uint64_t *prefixes, uint32_t *positions, size_t n) {
  for (size_t i = 1; i < n; i++) {
    uint64_t prefix = prefixes[i];
    uint32_t position = positions[i];
    size_t j = i;
    for (; j > 0 && prefixes[j - 1] > prefix; j--) {
      prefixes[j] = prefixes[j - 1];
      positions[j] = positions[j - 1];
    }
    prefixes[j] = prefix;
    positions[j] = position;
  }
}

/* One pass of the radix sort, into the spare arrays. */
static void sort_digit(const sort_part *part, unsigned shift) {
  uint32_t next[256] = {0};
  for (size_t i = 0; i < part->n; i++) {
    next[(part->prefixes[i] >> shift) & 0xff]++;
  }
  uint32_t sum = 0;
  for (size_t d = 0; d < 256; d++) {
    uint32_t count = next[d];
    next[d] = sum;
    sum += count;
  }
  for (size_t i = 0; i < part->n; i++) {
    uint64_t prefix = part->prefixes[i];
    uint32_t to = next[(prefix >> shift) & 0xff]++;
    part->spare_prefixes[to] = prefix;
    part->spare_positions[to] = part->positions[i];
  }
}

static sort_part sort_swapped(sort_part part) {
  sort_part swapped = {part.spare_prefixes, part.spare_positions, part.prefixes,
                       part.positions, part.n};
  return swapped;
}

static void sort_radix(sort_part part, uint64_t varying) {
  sort_part now = part;
  for (unsigned shift = 0; shift < 64; shift += 8) {
    if (((varying >> shift) & 0xff) == 0) continue;
    sort_digit(&now, shift);
    now = sort_swapped(now);
  }
  if (now.prefixes == part.prefixes) return;
  memcpy(part.prefixes, now.prefixes, part.n * sizeof *part.prefixes);
  memcpy(part.positions, now.positions, part.n * sizeof *part.positions);
}

/*
 * The lowest bit of the bytes that must be looked at so that few of n entries
 * still tie: of bytes that vary at random, those that number the entries and a
 * little more.
 */
static unsigned sort_lowest_bit(uint64_t varying, size_t n) {
  int wanted = 64 - __builtin_clzll(n) + SORT_MORE_BITS;
  unsigned shift = 64;
  while (shift > 0 && wanted > 0) {
    shift -= 8;
    wanted -= __builtin_popcountll((varying >> shift) & 0xff);
  }
  return shift;
}

static sort_part sort_sub(const sort_part *part, size_t from, size_t end) {
  sort_part sub = {part->prefixes + from, part->positions + from,
                   part->spare_prefixes + from, part->spare_positions + from,
                   end - from};
  return sub;
}

/* Each call of itself is for entries that have one more byte in common. */
static void sort_by_prefix(sort_part part) {
  if (part.n <= SORT_SMALL) {
    sort_insertion(part.prefixes, part.positions, part.n);
    return;
  }
  uint64_t varying = 0;
  bool is_sorted = true;
  for (size_t i = 1; i < part.n; i++) {
    varying |= part.prefixes[i] ^ part.prefixes[i - 1];
    is_sorted &= part.prefixes[i - 1] <= part.prefixes[i];
  }
  if (is_sorted) return;
  unsigned shift = sort_lowest_bit(varying, part.n);
  sort_radix(part, varying >> shift << shift);
  if (shift == 0) return;
  size_t end;
  for (size_t i = 0; i < part.n; i = end) {
    uint64_t top = part.prefixes[i] >> shift;
    for (end = i + 1; end < part.n; end++) {
      if (part.prefixes[end] >> shift != top) break;
    }
    if (end > i + 1) sort_by_prefix(sort_sub(&part, i, end));
  }
}

/* ---- By whole keys ------------------------------------------------------- */

static void sort_few_keys(const skv_mem_view *view, uint32_t *positions,
                          size_t n) {
  skv_slice keys[SORT_SMALL];
  for (size_t i = 0; i < n; i++) {
    skv_slice key = skv_mem_key(view, positions[i]);
    uint32_t position = positions[i];
    size_t j = i;
    for (; j > 0 && skv_compare(keys[j - 1], key) > 0; j--) {
      keys[j] = keys[j - 1];
      positions[j] = positions[j - 1];
    }
    keys[j] = key;
    positions[j] = position;
  }
}

/* Merge from[a, middle) and from[middle, end) into to. */
static void sort_merge(const skv_mem_view *view, const uint32_t *from,
                       uint32_t *to, size_t middle, size_t end) {
  size_t a = 0, b = middle, n = 0;
  while (a < middle && b < end) {
    bool is_b =
        skv_compare(skv_mem_key(view, from[a]), skv_mem_key(view, from[b])) > 0;
    to[n++] = is_b ? from[b++] : from[a++];
  }
  memcpy(to + n, from + a, (middle - a) * sizeof *to);
  n += middle - a;
  memcpy(to + n, from + b, (end - b) * sizeof *to);
}

static void sort_by_key(const skv_mem_view *view, sort_part part) {
  size_t n = part.n;
  if (n <= SORT_SMALL) {
    sort_few_keys(view, part.positions, n);
    return;
  }
  uint32_t *from = part.positions, *to = part.spare_positions;
  for (size_t width = 1; width < n; width *= 2) {
    for (size_t i = 0; i < n; i += 2 * width) {
      size_t left = n - i;
      size_t end = left < 2 * width ? left : 2 * width;
      sort_merge(view, from + i, to + i, end < width ? end : width, end);
    }
    uint32_t *swap = from;
    from = to;
    to = swap;
  }
  if (from != part.positions) {
    memcpy(part.positions, from, n * sizeof *from);
  }
}

/* ---- Ties ---------------------------------------------------------------- */

/* Bytes that all keys have in common; *is_sorted whether they ascend. */
static size_t sort_survey(const skv_mem_view *view, const sort_part *part,
                          bool *is_sorted) {
  skv_slice first = skv_mem_key(view, part->positions[0]);
  skv_slice before = first;
  size_t common = first.size;
  *is_sorted = true;
  for (size_t i = 1; i < part->n; i++) {
    if (i + SORT_AHEAD < part->n) {
      skv_mem_prefetch(view, part->positions[i + SORT_AHEAD]);
    }
    skv_slice key = skv_mem_key(view, part->positions[i]);
    first.size = common;
    common = skv_common_prefix(first, key);
    if (*is_sorted && skv_compare(before, key) > 0) *is_sorted = false;
    before = key;
  }
  return common;
}

/* Entries of one prefix. The work is done in the spare arrays, with the
 * entries' own as spare, because their prefixes are one number. */
static void sort_ties(const skv_mem_view *view, sort_part part, size_t skip,
                      unsigned depth) {
  if (part.n <= SORT_SMALL || depth == SORT_DEPTH) {
    sort_by_key(view, part);
    return;
  }
  bool is_sorted;
  size_t common = sort_survey(view, &part, &is_sorted);
  if (is_sorted) return;
  if (common < skip + 8) { /* keys that end: nothing is gained by going on */
    sort_by_key(view, part);
    return;
  }
  uint64_t prefix = part.prefixes[0];
  for (size_t i = 0; i < part.n; i++) {
    skv_slice key = skv_mem_key(view, part.positions[i]);
    part.spare_prefixes[i] = skv_mem_prefix(key, common);
    part.spare_positions[i] = part.positions[i];
  }
  sort_range(view, sort_swapped(part), common, depth + 1);
  memcpy(part.positions, part.spare_positions, part.n * sizeof *part.positions);
  for (size_t i = 0; i < part.n; i++) part.prefixes[i] = prefix;
}

static void sort_range(const skv_mem_view *view, sort_part part, size_t skip,
                       unsigned depth) {
  sort_by_prefix(part);
  size_t end;
  for (size_t i = 0; i < part.n; i = end) {
    end = i + 1;
    while (end < part.n && part.prefixes[end] == part.prefixes[i]) end++;
    if (end > i + 1) sort_ties(view, sort_sub(&part, i, end), skip, depth);
  }
}

void skv_mem_sort(const skv_mem_view *view, uint64_t *prefixes,
                  uint32_t *positions, uint64_t *spare_prefixes,
                  uint32_t *spare_positions, size_t n, size_t skip) {
  sort_part part = {prefixes, positions, spare_prefixes, spare_positions, n};
  sort_range(view, part, skip, 0);
}
