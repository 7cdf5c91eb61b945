/*
 * Segments: a file's bytes are opened, looked up and iterated over, mapped and
 * read; both ways give the same. What the check of a whole segment accepts has
 * every entry where lookups and iterators in both directions find it.
 */
#include "engine/seg/seg.h"
#include "engine/seg/seg_footer.h"
#include "engine/seg/seg_frame.h"
#include "engine/seg/seg_scan.h"
#include "engine/util/hash.h"
#include "test/fuzz/fuzz_file.h"
#include "test/fuzz/fuzz_repair_seg.h"

#define SEGMENT_ENTRIES 4096 /* a step over that is not taken */

size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  (void)max;
  fuzz_repair_segment(data, size, rng);
  return size;
}

/* What the footer says, were it whole. */
static uint64_t uid_of(const uint8_t *data, size_t size) {
  return size < SKV_FOOTER_SIZE ? 0
                                : skv_get64(data + size - SKV_FOOTER_SIZE + 16);
}

static int open_segment(uint64_t uid, size_t size, bool map, skv_err *err,
                        skv_seg **out) {
  skv_in *in = NULL;
  *out = NULL;
  FUZZ_CHECK(skv_in_open(fuzz_store, 7, NULL, size, map, err, &in) ==
             STRATAKV_OK);
  int rc = skv_seg_open(in, NULL, 0, uid, 0, err, out);
  FUZZ_CHECK(rc == STRATAKV_OK || rc == STRATAKV_CORRUPT ||
             rc == STRATAKV_NOTADB);
  if (rc != STRATAKV_OK) {
    FUZZ_CHECK(strstr(err->message, "000007.seg") != NULL);
    skv_in_close(in);
  }
  return rc;
}

static uint64_t hash_entry(uint64_t h, const skv_entry *e) {
  h = skv_checksum(e->key.data, e->key.size, h);
  h = skv_checksum(e->value.data, e->value.size, h);
  return h * 31 + e->lsn * 7 + e->kind;
}

/* Every entry forwards, then backwards; *sum says what was seen. Entries are
 * looked up if the segment is known to be in order. */
static int walk(skv_seg *seg, bool is_whole, uint64_t *sum, uint64_t *count) {
  skv_iter *it = NULL;
  skv_err err;
  skv_seg_pin pin = {0};
  skv_entry found;
  bool is_there;
  *sum = *count = 0;
  FUZZ_CHECK(skv_seg_iter_new(seg, false, &err, &it) == STRATAKV_OK);
  int rc = skv_iter_first(it, &err);
  while (rc == STRATAKV_OK && it->valid && *count < SEGMENT_ENTRIES) {
    *sum = hash_entry(*sum, &it->entry);
    ++*count;
    int got = skv_seg_get(seg, it->entry.key, skv_hash(it->entry.key), &pin,
                          &err, &is_there, &found);
    if (is_whole) {
      FUZZ_CHECK(got == STRATAKV_OK && is_there);
      FUZZ_CHECK(skv_equal(found.value, it->entry.value) &&
                 found.lsn == it->entry.lsn && found.kind == it->entry.kind);
    }
    rc = skv_iter_next(it, &err);
  }
  uint64_t back = 0;
  int rc_back = skv_iter_last(it, &err);
  while (rc_back == STRATAKV_OK && it->valid && back < SEGMENT_ENTRIES) {
    *sum = *sum * 31 + hash_entry(0, &it->entry);
    back++;
    rc_back = skv_iter_prev(it, &err);
  }
  if (is_whole)
    FUZZ_CHECK(rc == STRATAKV_OK && rc_back == STRATAKV_OK && back == *count);
  skv_iter_close(it);
  skv_seg_pin_clear(NULL, &pin);
  return rc != STRATAKV_OK ? rc : rc_back;
}

static int count_damage(void *arg, uint64_t at, const char *what,
                        skv_err *err) {
  size_t *count = arg;
  SKV_UNUSED(at);
  SKV_UNUSED(err);
  FUZZ_CHECK(what[0] != 0);
  ++*count;
  return STRATAKV_OK;
}

/* Whether the check of the whole file finds nothing wrong. With another uid it
 * must: the footer is not of the segment that is asked for. */
static bool is_sound(skv_in *in, uint64_t uid) {
  size_t count = 0, others = 0;
  skv_err err;
  skv_seg_meta other = {.uid = ~uid, .entries = 1};
  skv_seg_judge judge = {NULL, 0, count_damage, NULL, &count};
  FUZZ_CHECK(skv_seg_check(in, &judge, &err) == STRATAKV_OK);
  judge = (skv_seg_judge){&other, 0, count_damage, NULL, &others};
  FUZZ_CHECK(skv_seg_check(in, &judge, &err) == STRATAKV_OK && others > 0);
  return count == 0;
}

static void estimate(skv_seg *seg, skv_slice key) {
  uint64_t entries, bytes;
  skv_seg_estimate(seg, NULL, NULL, &entries, &bytes);
  skv_seg_estimate(seg, &key, NULL, &entries, &bytes);
  skv_seg_estimate(seg, NULL, &key, &entries, &bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  skv_seg *seg[2] = {NULL, NULL};
  skv_err err[2] = {0}; /* stays empty where opening succeeds */
  int rc[2];
  uint64_t sum[2] = {0, 0}, count[2] = {0, 0};
  if (size == 0) return 0;
  fuzz_put("000007.seg", data, size);
  for (int map = 0; map < 2; map++) {
    uint64_t uid = uid_of(data, size);
    rc[map] = open_segment(uid, size, map, &err[map], &seg[map]);
    if (rc[map] != STRATAKV_OK) continue;
    bool is_whole = is_sound(skv_seg_in(seg[map]), uid);
    rc[map] = walk(seg[map], is_whole, &sum[map], &count[map]);
    FUZZ_CHECK(rc[map] == STRATAKV_OK || rc[map] == STRATAKV_CORRUPT);
    estimate(seg[map], skv_slice_of(data, size < 20 ? size : 20));
  }
  FUZZ_CHECK(rc[0] == rc[1] && sum[0] == sum[1] && count[0] == count[1]);
  if (rc[0] != STRATAKV_OK)
    FUZZ_CHECK(strcmp(err[0].message, err[1].message) == 0);
  skv_seg_close(seg[0]);
  skv_seg_close(seg[1]);
  return 0;
}
