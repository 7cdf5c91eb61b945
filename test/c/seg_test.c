/*
 * Segments, against a sorted array.
 *
 *   round    every kind of data, over compression, block size, filter, way of
 *            reading and cache: meta, gets, seeks, scans, walks, check
 *   estimate ranges of a large segment; the writer's own estimate
 *   ingest   the LSN that the caller gives
 *   parts    separators, index and filter by themselves
 *   flip     every byte of a small segment flipped: CORRUPT or the same data
 *   cut      the same segment cut at every length
 *   forged   random changes under a right checksum: no crash, no hang
 *   sections what is said of a section or footer that cannot be
 *   memory   every allocation failing: NOMEM, nothing lost
 *   faults   every call of the environment failing: its code, nothing lost
 *   threads  several read one segment through a small cache
 *   order    keys out of order, and what follows a failure
 *
 * Usage: seg_test [directory]; with one, everything runs on the real system
 * too. Covers: INV-8, INV-10
 */
#include <unistd.h>

#include "engine/os/thread.h"
#include "engine/seg/seg_filter.h"
#include "engine/seg/seg_footer.h"
#include "engine/seg/seg_frame.h"
#include "engine/seg/seg_index.h"
#include "engine/seg/seg_scan.h"
#include "test/c/seg_model.h"

/* ---- Reading compared with the model ------------------------------------- */

/* The iterator stands where the model does; n is the end. */
static bool stands_at(const skv_iter *it, const model *m, size_t i) {
  if (i >= m->n) return !it->valid;
  return it->valid && same_entry(&it->entry, &m->at[i]);
}

static void check_scans(skv_iter *it, const model *m) {
  size_t i = 0, wrong = 0;
  OK(skv_iter_first(it, &last));
  for (; it->valid && i < m->n; i++) {
    wrong += !stands_at(it, m, i);
    if (skv_iter_next(it, &last)) break;
  }
  CHECK(i == m->n && !it->valid && wrong == 0);
  OK(skv_iter_last(it, &last));
  for (i = m->n; it->valid && i > 0; i--) {
    wrong += !stands_at(it, m, i - 1);
    if (skv_iter_prev(it, &last)) break;
  }
  CHECK(i == 0 && !it->valid && wrong == 0);
}

/* A key to look for: one of the model's, or a neighbour of one. */
static size_t near_key(const model *m, uint8_t *key) {
  skv_slice k = m->at[chance(m->n)].key;
  if (k.size) memcpy(key, k.data, k.size);
  switch (chance(5)) {
  case 0: key[k.size] = 0; return k.size + 1;
  case 1: return k.size ? k.size - 1 : 0;
  case 2:
    if (k.size) key[k.size - 1]++;
    return k.size;
  case 3:
    if (k.size) key[chance(k.size)] = (uint8_t)chance(256);
    return k.size;
  default: return k.size;
  }
}

static void check_seeks(skv_iter *it, const model *m, size_t rounds) {
  uint8_t *key = must(malloc(STRATAKV_MAX_KEY + 8));
  size_t wrong = 0;
  for (size_t r = 0; r < rounds; r++) {
    skv_slice k = skv_slice_of(key, near_key(m, key));
    size_t i = model_find(m, k);
    wrong += skv_iter_seek(it, k, &last) || !stands_at(it, m, i);
    bool exact = i < m->n && skv_equal(m->at[i].key, k);
    i = exact ? i : i - 1; /* SIZE_MAX: there is none */
    wrong += skv_iter_seek_back(it, k, &last) || !stands_at(it, m, i);
    for (int steps = (int)chance(6); it->valid && steps > 0; steps--) {
      bool forward = chance(2);
      i = forward ? i + 1 : i - 1;
      wrong += forward ? skv_iter_next(it, &last) : skv_iter_prev(it, &last);
      wrong += !stands_at(it, m, i);
    }
    if (it->valid && chance(4) == 0) /* seek for the iterator's own key */
      wrong += skv_iter_seek(it, it->entry.key, &last) || !stands_at(it, m, i);
  }
  CHECK(wrong == 0);
  free(key);
}

static void check_gets(skv_seg *seg, skv_cache *cache, const model *m,
                       size_t rounds) {
  uint8_t *key = must(malloc(STRATAKV_MAX_KEY + 8));
  skv_seg_pin pin = {0};
  size_t wrong = 0;
  for (size_t r = 0; r < rounds; r++) {
    skv_slice k = skv_slice_of(key, near_key(m, key));
    skv_entry e;
    bool found;
    size_t i = model_find(m, k);
    bool there = i < m->n && skv_equal(m->at[i].key, k);
    skv_seg_filter_prefetch(seg, skv_hash(k));
    wrong += skv_seg_get(seg, k, skv_hash(k), &pin, &last, &found, &e) != 0;
    wrong += found != there || (found && !same_entry(&e, &m->at[i]));
    if (chance(8) == 0) skv_seg_pin_release(cache, &pin);
  }
  skv_seg_pin_clear(cache, &pin);
  CHECK(wrong == 0);
  free(key);
}

static void check_keys_only(skv_seg *seg, const model *m) {
  skv_iter *it = NULL;
  size_t i = 0, wrong = 0;
  if (!OK(skv_seg_iter_new(seg, true, &last, &it))) return;
  OK(skv_iter_first(it, &last));
  for (; it->valid; i++) {
    wrong += !skv_equal(it->entry.key, m->at[i].key);
    if (skv_iter_next(it, &last)) break;
  }
  CHECK(i == m->n && wrong == 0);
  skv_iter_close(it);
}

static int count_damage(void *arg, uint64_t at, const char *what,
                        skv_err *err) {
  size_t *count = arg;
  SKV_UNUSED(at);
  SKV_UNUSED(err);
  CHECK(what != NULL && what[0] != 0);
  ++*count;
  return STRATAKV_OK;
}

/* How many damages the check of the whole segment finds. */
static size_t damages(skv_in *in, const skv_seg_meta *meta, uint64_t lsn) {
  size_t count = 0;
  skv_seg_judge judge = {meta, lsn, count_damage, NULL, &count};
  OK(skv_seg_check(in, &judge, &last));
  return count;
}

static void check_segment(skv_seg *seg, skv_cache *cache, const model *m) {
  uint64_t entries, bytes;
  size_t rounds = m->n < 200 ? m->n + 20 : 300;
  skv_iter *it = NULL;
  if (!OK(skv_seg_iter_new(seg, false, &last, &it))) return;
  check_seeks(it, m, rounds);
  check_scans(it, m);
  skv_iter_close(it);
  check_gets(seg, cache, m, rounds);
  check_keys_only(seg, m);
  CHECK(damages(skv_seg_in(seg), NULL, 0) == 0);
  skv_seg_estimate(seg, NULL, NULL, &entries, &bytes);
  CHECK(entries == m->n && bytes > 0);
  CHECK(skv_seg_anonymous(seg) > 0);
}

/* ---- round --------------------------------------------------------------- */

static void check_ways(const model *m, const skv_seg_meta *meta) {
  for (int way = 0; way < 4; way++) {
    skv_cache *cache =
        way & 1 ? skv_cache_new(way == 1 ? 1 << 22 : 9000) : NULL;
    skv_seg *seg;
    if (OK(open_segment(meta->size, way & 2, cache, 0, &seg)))
      check_segment(seg, cache, m);
    skv_seg_close(seg);
    skv_cache_free(cache);
  }
}

static void check_meta(const model *m, const skv_seg_meta *meta) {
  uint64_t tombstones = 0, raw = 0, min = UINT64_MAX, max = 0;
  for (size_t i = 0; i < m->n; i++) {
    tombstones += m->at[i].kind == SKV_KIND_DELETE;
    raw += m->at[i].key.size + m->at[i].value.size;
    if (m->at[i].lsn < min) min = m->at[i].lsn;
    if (m->at[i].lsn > max) max = m->at[i].lsn;
  }
  CHECK(meta->entries == m->n && meta->tombstones == tombstones);
  CHECK(meta->raw_bytes == raw);
  CHECK(meta->min_lsn == min && meta->max_lsn == max);
}

/* Every `step`-th of nine combinations. */
static void test_round(const char *what, void (*make)(model *, size_t),
                       size_t n, int step) {
  static const uint32_t block_sizes[] = {256, 512, 8192};
  static const int bits[] = {10, 0, 20};
  char where[64];
  model m = {0};
  seed = 42 + n;
  make(&m, n);
  for (int c = 0; c < 9; c += step) {
    skv_seg_options options = {c % 3, bits[(c + c / 3) % 3],
                               block_sizes[c / 3]};
    skv_seg_meta meta;
    snprintf(where, sizeof where, "%s, compression %d, block %u, bits %d", what,
             options.compression, options.block_size, options.filter_bits);
    check_where = where;
    if (OK(write_segment(&m, &options, false, &meta))) {
      check_meta(&m, &meta);
      check_ways(&m, &meta);
    }
    remove_segment();
  }
  check_where = "";
  model_free(&m);
}

/* ---- estimate, ingest ---------------------------------------------------- */

static void test_estimate(void) {
  model m = {0};
  skv_seg_options options = {STRATAKV_COMPRESSION_LZ4, 10, 4096};
  skv_seg_meta meta;
  skv_seg *seg;
  uint64_t entries, bytes;
  seed = 5;
  make_users(&m, 20000);
  OK(write_segment(&m, &options, false, &meta));
  OK(open_segment(meta.size, true, NULL, 0, &seg));
  for (int r = 0; r < 300 && seg; r++) {
    size_t a = chance(m.n), b = a + chance(r % 2 ? 50 : m.n - a);
    if (b >= m.n) b = m.n - 1;
    skv_seg_estimate(seg, &m.at[a].key, &m.at[b].key, &entries, &bytes);
    double real = (double)(b - a), got = (double)entries;
    CHECK(got >= real * 0.8 - 40 && got <= real * 1.2 + 40);
    CHECK(bytes <= meta.size && (b - a < 100 || bytes > 0));
    skv_seg_estimate(seg, &m.at[b].key, &m.at[a].key, &entries, &bytes);
    CHECK(entries == 0 && bytes == 0);
  }
  skv_slice beyond = skv_slice_of("y", 1), before = skv_slice_of("a", 1);
  skv_seg_estimate(seg, &beyond, NULL, &entries, &bytes);
  CHECK(entries == 0 && bytes == 0);
  skv_seg_estimate(seg, NULL, &before, &entries, &bytes);
  CHECK(entries == 0 && bytes == 0);
  skv_seg_close(seg);
  remove_segment();
  model_free(&m);
}

static void test_ingest(void) {
  model m = {0};
  skv_seg_options options = {STRATAKV_COMPRESSION_NONE, 10, 512};
  skv_seg_meta meta;
  skv_seg *seg;
  seed = 6;
  make_short(&m, 200);
  OK(write_segment(&m, &options, true, &meta));
  CHECK(meta.min_lsn == 0 && meta.max_lsn == 0);
  for (size_t i = 0; i < m.n; i++) m.at[i].lsn = 4711;
  OK(open_segment(meta.size, true, NULL, 4711, &seg));
  if (seg) check_segment(seg, NULL, &m);
  skv_seg_close(seg);
  remove_segment();
  model_free(&m);
}

/* ---- parts --------------------------------------------------------------- */

static void test_separators(void) {
  static const uint8_t letters[] = {0, 1, 'a', 'b', 0xfe, 0xff};
  uint8_t a[8], b[8];
  skv_buf s = {0};
  seed = 7;
  for (int r = 0; r < 20000; r++) {
    skv_slice x = skv_slice_of(a, chance(7)), y = skv_slice_of(b, chance(7));
    for (int i = 0; i < 8; i++) {
      a[i] = letters[chance(sizeof letters)];
      b[i] = chance(2) ? a[i] : letters[chance(sizeof letters)];
    }
    if (skv_compare(x, y) >= 0) continue;
    skv_index_separator(x, y, &s);
    if (skv_compare(x, skv_buf_bytes(&s)) > 0 ||
        skv_compare(skv_buf_bytes(&s), y) >= 0 || s.size > x.size + 1)
      check_failed("a separator lies between");
  }
  CHECK(s.rc == STRATAKV_OK);
  skv_buf_clear(&s);
}

/* Searching n separators, two apart, of 8-byte numbers behind a prefix. */
static void check_index(uint32_t n) {
  skv_index_builder builder = {0};
  skv_buf body = {0};
  skv_index index;
  uint8_t key[12] = "pre:";
  for (uint32_t i = 0; i < n; i++) {
    uint64_t v = __builtin_bswap64(2 * (uint64_t)i + 1);
    memcpy(key + 4, &v, 8);
    skv_index_add(&builder, skv_slice_of(key, 12), 24 * (uint64_t)i);
  }
  OK(skv_index_encode(&builder, 24 * n + 16, 24 * n, &body));
  uint8_t *copy = must(skv_aligned(64, body.size));
  memcpy(copy, body.data, body.size);
  CHECK(skv_index_open(skv_slice_of(copy, body.size), 24 * n, &index));
  size_t wrong = 0;
  for (uint64_t v = 0; v <= 2 * (uint64_t)n; v++) {
    uint64_t big = __builtin_bswap64(v);
    memcpy(key + 4, &big, 8);
    wrong += skv_index_find(&index, skv_slice_of(key, 12)) != v / 2;
  }
  CHECK(wrong == 0);
  for (size_t cut = 0; cut < body.size; cut += 1 + cut / 50)
    wrong += skv_index_open(skv_slice_of(copy, cut), 24 * n, &index);
  CHECK(wrong == 0);
  skv_free(copy);
  skv_buf_clear(&body);
  skv_index_builder_clear(&builder);
}

static void test_filter(int bits, double worst) {
  enum { N = 20000 };
  static uint64_t hashes[N];
  skv_buf buf = {0};
  skv_filter filter = {0};
  size_t missing = 0, wrong = 0;
  for (uint64_t i = 0; i < N; i++) hashes[i] = skv_hash(skv_slice_of(&i, 8));
  skv_filter_encode(&buf, 1016, hashes, N, bits);
  CHECK(skv_filter_open(skv_buf_bytes(&buf), &filter));
  CHECK((1016 + (filter.lines - buf.data)) % 64 == 0);
  for (uint64_t i = 0; i < N; i++)
    missing += !skv_filter_has(&filter, hashes[i]);
  for (uint64_t i = N; i < 4 * N; i++)
    wrong += skv_filter_has(&filter, skv_hash(skv_slice_of(&i, 8)));
  CHECK(missing == 0);
  CHECK((double)wrong / (3 * N) < worst);
  skv_buf_clear(&buf);
}

static void test_parts(void) {
  static const uint32_t counts[] = {1, 2, 7, 8, 9, 63, 64, 65, 512, 513, 5000};
  test_separators();
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
    check_index(counts[i]);
  test_filter(1, 0.9);
  test_filter(5, 0.12);
  test_filter(10, 0.013);
  test_filter(20, 0.001);
}

/* ---- flip, cut, forged --------------------------------------------------- */

/* Read everything; CORRUPT, or OK with the model's data. Other codes and
 * other data: false. */
static bool reads_right(uint64_t size, bool map, const model *m, int *rc) {
  skv_seg *seg = NULL;
  skv_iter *it = NULL;
  skv_seg_pin pin = {0};
  size_t i = 0;
  bool same = true;
  *rc = open_segment(size, map, NULL, 0, &seg);
  if (*rc == STRATAKV_OK) *rc = skv_seg_iter_new(seg, false, &last, &it);
  if (*rc == STRATAKV_OK) *rc = skv_iter_first(it, &last);
  for (; *rc == STRATAKV_OK && it->valid && same; i++) {
    same = stands_at(it, m, i) && i < m->n;
    *rc = skv_iter_next(it, &last);
  }
  if (*rc == STRATAKV_OK && same) same = i == m->n;
  for (i = 0; *rc == STRATAKV_OK && same && i < m->n; i += 5) {
    skv_slice k = m->at[i].key;
    skv_entry e;
    bool found = false;
    *rc = skv_seg_get(seg, k, skv_hash(k), &pin, &last, &found, &e);
    if (*rc == STRATAKV_OK) same = found && same_entry(&e, &m->at[i]);
  }
  skv_seg_pin_clear(NULL, &pin);
  skv_iter_close(it);
  skv_seg_close(seg);
  return same && (*rc == STRATAKV_OK || *rc == STRATAKV_CORRUPT);
}

/* A segment of about 6 KiB. */
static void small_segment(model *m, int compression, skv_seg_meta *meta) {
  skv_seg_options options = {compression, 10, 512};
  seed = 8;
  make_users(m, 38);
  make_short(m, 20);
  OK(write_segment(m, &options, false, meta));
}

static void test_flips(int compression) {
  model m = {0};
  skv_seg_meta meta;
  size_t wrong = 0, unnoticed = 0, unnamed = 0;
  int rc;
  small_segment(&m, compression, &meta);
  skv_file *file = open_file();
  uint8_t *bytes = get_bytes(file, meta.size);
  CHECK(reads_right(meta.size, false, &m, &rc) && rc == STRATAKV_OK);
  for (uint64_t i = 0; i < meta.size; i++) {
    uint8_t flipped = bytes[i] ^ (uint8_t)(1u << chance(8));
    put_bytes(file, i, &flipped, 1);
    for (int map = 0; map < 2; map++) {
      if (!reads_right(meta.size, map, &m, &rc)) wrong++;
      unnoticed += rc == STRATAKV_OK;
      unnamed += rc != STRATAKV_OK && (!strstr(last.message, ".tmp") ||
                                       !strstr(last.message, "offset"));
    }
    put_bytes(file, i, &bytes[i], 1);
  }
  CHECK(wrong == 0);
  CHECK(unnoticed == 0);
  CHECK(unnamed == 0);
  file->env->file_close(file);
  free(bytes);
  remove_segment();
  model_free(&m);
}

static void test_cuts(void) {
  model m = {0};
  skv_seg_meta meta;
  size_t wrong = 0;
  int rc;
  small_segment(&m, STRATAKV_COMPRESSION_NONE, &meta);
  skv_file *file = open_file();
  for (uint64_t size = meta.size - 1; size > 0; size--) {
    if (file->env->file_truncate(file, size, &last)) abort();
    for (int map = 0; map < 2; map++)
      wrong += !reads_right(size, map, &m, &rc) || rc == STRATAKV_OK;
  }
  CHECK(wrong == 0);
  file->env->file_close(file);
  remove_segment();
  model_free(&m);
}

/* Give the block that holds byte `at` a right checksum again. */
static void forge_checksum(uint8_t *bytes, uint64_t size, uint64_t at) {
  uint64_t footer = size - SKV_FOOTER_SIZE, from = 0;
  if (at >= footer) {
    skv_put64(bytes + footer + 56, skv_checksum(bytes + footer, 56, footer));
    return;
  }
  for (;;) {
    uint64_t next = from + skv_frame_size(skv_frame_stored(bytes + from));
    if (next > footer || next < from) return;
    if (at < next) break;
    from = next;
  }
  skv_put64(bytes + from,
            skv_checksum(bytes + from + 8, 8 + skv_frame_stored(bytes + from),
                         skv_frame_seed(UID, from)));
}

/* Use everything; what comes out does not matter. */
static void use_forged(uint64_t size, bool map, const model *m) {
  skv_seg *seg = NULL;
  skv_iter *it = NULL;
  skv_seg_pin pin = {0};
  skv_entry e;
  bool found;
  uint64_t entries, bytes;
  if (open_segment(size, map, NULL, 0, &seg) != STRATAKV_OK) return;
  damages(skv_seg_in(seg), NULL, 0);
  for (size_t i = 0; i < m->n; i += 7) {
    skv_slice k = m->at[i].key;
    skv_seg_get(seg, k, skv_hash(k), &pin, &last, &found, &e);
    skv_seg_estimate(seg, &k, NULL, &entries, &bytes);
  }
  skv_seg_pin_clear(NULL, &pin);
  OK(skv_seg_iter_new(seg, false, &last, &it));
  size_t steps = 0;
  for (size_t i = 0; i < m->n; i += 9) {
    int rc = i % 2 ? skv_iter_seek(it, m->at[i].key, &last)
                   : skv_iter_seek_back(it, m->at[i].key, &last);
    for (; rc == STRATAKV_OK && it->valid && steps < 100000; steps++)
      rc = i % 2 ? skv_iter_next(it, &last) : skv_iter_prev(it, &last);
  }
  CHECK(steps < 100000);
  skv_iter_close(it);
  skv_seg_close(seg);
}

static void test_forged(int compression, int rounds) {
  model m = {0};
  skv_seg_meta meta;
  small_segment(&m, compression, &meta);
  skv_file *file = open_file();
  uint8_t *bytes = get_bytes(file, meta.size);
  uint8_t *forged = must(malloc(meta.size));
  for (int r = 0; r < rounds; r++) {
    memcpy(forged, bytes, meta.size);
    for (uint64_t n = 1 + chance(3); n > 0; n--) {
      /* Every second one near the end: index, filter, properties, footer. */
      uint64_t at =
          chance(2) ? chance(meta.size) : meta.size - 1 - chance(meta.size / 4);
      forged[at] = chance(2) ? (uint8_t)chance(256)
                             : (uint8_t)(forged[at] + 1 - 2 * chance(2));
      forge_checksum(forged, meta.size, at);
    }
    put_bytes(file, 0, forged, meta.size);
    use_forged(meta.size, r % 2, &m);
  }
  file->env->file_close(file);
  free(forged);
  free(bytes);
  remove_segment();
  model_free(&m);
}

/* A section, or the footer, that is wrong under a checksum that holds: what
 * the message says of it. */
static void test_sections(void) {
  model m = {0};
  skv_seg_meta meta;
  skv_seg *seg = NULL;
  skv_in *in = NULL;
  small_segment(&m, STRATAKV_COMPRESSION_NONE, &meta);
  skv_file *file = open_file();
  uint8_t *bytes = get_bytes(file, meta.size);
  uint64_t footer = meta.size - SKV_FOOTER_SIZE;
  const struct {
    uint64_t at;
    uint8_t value;
    const char *what;
  } fields[] = {
      {skv_get64(bytes + footer + 40) + SKV_FRAME_HEADER + 46, 1,
       "malformed properties"},
      {skv_get64(bytes + footer + 24) + SKV_FRAME_HEADER + 12, 1,
       "malformed index"},
      {skv_get64(bytes + footer + 32) + SKV_FRAME_HEADER + 4, 0,
       "malformed filter"},
      {footer + 48, 1, "offset"},
  };
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    uint8_t *bad = must(malloc(meta.size));
    memcpy(bad, bytes, meta.size);
    bad[fields[i].at] = fields[i].value;
    forge_checksum(bad, meta.size, fields[i].at);
    put_bytes(file, 0, bad, meta.size);
    CHECK(open_segment(meta.size, i % 2, NULL, 0, &seg) == STRATAKV_CORRUPT);
    CHECK(strstr(last.message, fields[i].what) != NULL);
    free(bad);
  }
  put_bytes(file, 0, bytes, meta.size);
  OK(skv_in_open(store, 0, &tmp_name, meta.size, false, &last, &in));
  CHECK(skv_seg_open(in, NULL, 7, UID + 1, 0, &last, &seg) == STRATAKV_CORRUPT);
  CHECK(strstr(last.message, "another segment") != NULL);
  skv_in_close(in);
  if (file->env->file_truncate(file, SKV_FOOTER_SIZE - 1, &last)) abort();
  CHECK(open_segment(SKV_FOOTER_SIZE - 1, false, NULL, 0, &seg) ==
        STRATAKV_CORRUPT);
  CHECK(strstr(last.message, "too short") != NULL);
  file->env->file_close(file);
  free(bytes);
  remove_segment();
  model_free(&m);
}

/* ---- memory, faults -------------------------------------------------------- */

static long allocations_left;
static int fail_later(void *arg, size_t size) {
  (void)arg;
  (void)size;
  return allocations_left-- <= 0;
}

/* reads_right for data that is whole: a code is an injected one. */
static int read_code(uint64_t size, bool map, const model *m) {
  int rc;
  bool right = reads_right(size, map, m, &rc);
  if (rc == STRATAKV_OK) CHECK(right);
  return rc;
}

static int write_and_read(const model *m, int compression) {
  skv_seg_options options = {compression, 10, 512};
  skv_seg_meta meta;
  int rc = write_segment(m, &options, false, &meta);
  if (rc == STRATAKV_OK) rc = read_code(meta.size, true, m);
  if (rc == STRATAKV_OK) rc = read_code(meta.size, false, m);
  return rc;
}

static void test_memory(int compression) {
  model m = {0};
  int rc = STRATAKV_NOMEM;
  long n = 0;
  seed = 9;
  make_users(&m, 30);
  size_t before = skv_alloc_count();
  for (; rc == STRATAKV_NOMEM && n < 10000; n++) {
    allocations_left = n;
    skv_alloc_set_hook(fail_later, NULL);
    rc = write_and_read(&m, compression);
    skv_alloc_set_hook(NULL, NULL);
    remove_segment();
    if (skv_alloc_count() != before) check_failed("nothing is lost");
  }
  CHECK(rc == STRATAKV_OK && n > 10);
  model_free(&m);
}

static void test_faults(skv_env *faulty) {
  model m = {0};
  uint64_t n = 1, fired = 1;
  seed = 10;
  make_users(&m, 40);
  for (int i = 0; i < 3; i++) /* more than one write */
    model_add(&m, &"xyz"[i], 1, 150000);
  model_done(&m);
  size_t before = skv_alloc_count();
  for (; fired > 0 && n < 10000; n++) {
    skv_fault fault = {.nth = n, .is_partial = n % 2};
    skv_env_fault_set(faulty, &fault);
    int rc = write_and_read(&m, (int)(n % 3));
    fired = skv_env_fault_fired(faulty);
    CHECK(rc == STRATAKV_OK || rc == STRATAKV_IOERR ||
          rc == STRATAKV_IOERR_FSYNC);
    CHECK(rc == STRATAKV_OK || fired == 1);
    skv_env_fault_set(faulty, NULL);
    remove_segment();
    if (skv_alloc_count() != before) check_failed("nothing is lost");
  }
  CHECK(fired == 0 && n > 10);
  model_free(&m);
}

/* ---- threads -------------------------------------------------------------- */

typedef struct reader {
  skv_seg *seg;
  skv_cache *cache;
  const model *m;
  size_t first;
  size_t wrong;
  skv_thread thread;
} reader;

/* Gets, each 16th one the start of a short scan. */
static void *read_all(void *arg) {
  reader *r = arg;
  const model *m = r->m;
  skv_seg_pin pin = {0};
  skv_iter *it = NULL;
  skv_err err;
  if (skv_seg_iter_new(r->seg, false, &err, &it)) abort();
  for (size_t n = 0; n < 2 * m->n; n++) {
    size_t i = (r->first + n * 7) % m->n;
    skv_slice k = m->at[i].key;
    skv_entry e;
    bool found;
    r->wrong += skv_seg_get(r->seg, k, skv_hash(k), &pin, &err, &found, &e) ||
                !found || !same_entry(&e, &m->at[i]);
    if (n % 16) continue;
    r->wrong += skv_iter_seek(it, k, &err) != 0;
    for (size_t j = i; j < i + 40 && it->valid; j++) {
      r->wrong += !stands_at(it, m, j);
      r->wrong += skv_iter_next(it, &err) != 0;
    }
  }
  skv_seg_pin_clear(r->cache, &pin);
  skv_iter_close(it);
  return NULL;
}

static void test_threads(bool map) {
  model m = {0};
  skv_seg_meta meta;
  skv_seg_options options = {STRATAKV_COMPRESSION_ZSTD, 10, 1024};
  skv_cache *cache = skv_cache_new(20000);
  reader readers[4] = {0};
  skv_seg *seg;
  seed = 11;
  make_users(&m, 1000);
  OK(write_segment(&m, &options, false, &meta));
  OK(open_segment(meta.size, map, cache, 0, &seg));
  for (size_t i = 0; seg && i < 4; i++) {
    readers[i] = (reader){.seg = seg, .cache = cache, .m = &m};
    readers[i].first = i * m.n / 4;
    OK(skv_thread_start(&readers[i].thread, "reader", read_all, &readers[i],
                        &last));
  }
  for (size_t i = 0; seg && i < 4; i++) {
    skv_thread_join(&readers[i].thread);
    CHECK(readers[i].wrong == 0);
  }
  skv_seg_close(seg);
  skv_cache_free(cache);
  remove_segment();
  model_free(&m);
}

/* ---- order ---------------------------------------------------------------- */

static void test_order(void) {
  skv_seg_options options = {STRATAKV_COMPRESSION_LZ4, 10, 512};
  skv_out *out = NULL;
  skv_seg_writer *w = NULL;
  skv_seg_meta meta;
  skv_entry e = {.key = skv_slice_of("b", 1), .kind = SKV_KIND_PUT};
  OK(skv_out_create(store, &tmp_name, &last, &out));
  OK(skv_seg_writer_new(out, &options, UID, &last, &w));
  CHECK(skv_seg_writer_finish(w, &last, &meta) == STRATAKV_MISUSE);
  OK(skv_seg_writer_add(w, &e, &last));
  CHECK(skv_seg_writer_add(w, &e, &last) == STRATAKV_CORRUPT);
  e.key = skv_slice_of("c", 1);
  CHECK(skv_seg_writer_add(w, &e, &last) == STRATAKV_CORRUPT);
  CHECK(skv_seg_writer_finish(w, &last, &meta) == STRATAKV_CORRUPT);
  skv_seg_writer_free(w);
  skv_out_close(out);
  remove_segment();
}

/* ---- Running --------------------------------------------------------------- */

static void run(skv_env *env, const char *path) {
  if (!OK(skv_store_open(env, NULL, path, SKV_DIR_CREATE, &last, &store)))
    return;
  test_round("users", make_users, 1500, 1);
  test_round("short", make_short, 1500, 1);
  test_round("ties", make_ties, 3000, 1);
  test_round("long", make_long, 24, 2);
  test_round("large", make_large, 18, 4);
  test_round("one", make_one, 0, 1);
  test_round("one large", make_one, 1500000, 4);
  test_estimate();
  test_ingest();
  for (int compression = 0; compression < 3; compression++) {
    test_flips(compression);
    test_forged(compression, 1000);
    test_memory(compression);
  }
  test_cuts();
  test_sections();
  test_threads(false);
  test_threads(true);
  test_order();
  skv_store_close(store);
}

static void run_faulty(skv_env *inner) {
  skv_env *faulty = skv_env_fault_new(inner);
  if (!CHECK(faulty != NULL)) return;
  if (OK(skv_store_open(faulty, NULL, "/seg_faults", SKV_DIR_CREATE, &last,
                        &store))) {
    test_faults(faulty);
    skv_store_close(store);
  }
  skv_env_fault_free(faulty);
}

int main(int argc, char **argv) {
  test_parts();
  size_t before = skv_alloc_count();
  skv_env *env = skv_env_mem_new();
  if (CHECK(env != NULL)) {
    run(env, "/seg_test");
    run_faulty(env);
  }
  skv_env_mem_free(env);
  if (argc > 1) {
    char path[4096];
    snprintf(path, sizeof path, "%s/seg_test.%ld", argv[1], (long)getpid());
    run(skv_env_posix(), path);
    rmdir(path);
  }
  CHECK(skv_alloc_count() == before);
  return check_end();
}
