/*
 * Manifests: the file is read by the engine, and its edits are applied one by
 * one by a reader written from the format; both end in the same version. A
 * version encodes to one edit that makes the same version again.
 */
#include "engine/tree/manifest.h"
#include "test/fuzz/fuzz_file.h"
#include "test/fuzz/fuzz_repair_manifest.h"

#define FILE_NUMBER 1

static const uint8_t id[16] = "fuzz store id..";

size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  (void)max;
  fuzz_repair_manifest(data, size, id, FILE_NUMBER, rng);
  return size;
}

static skv_version *empty_version(void) {
  skv_version *version = NULL;
  FUZZ_CHECK(skv_version_new(NULL, id, NULL, &version) == STRATAKV_OK);
  return version;
}

/* decode(encode(version)) is the version. */
static void check_encoding(const skv_version *version) {
  skv_buf once = {0}, twice = {0};
  skv_version *base = empty_version(), *again = NULL;
  skv_version_encode(version, &once);
  FUZZ_CHECK(once.rc == STRATAKV_OK);
  skv_err err;
  int rc = skv_version_apply(NULL, base, skv_buf_bytes(&once),
                             skv_head_at(1, 64), false, &err, &again);
  if (rc != STRATAKV_OK) fprintf(stderr, "%s\n", err.message);
  FUZZ_CHECK(rc == STRATAKV_OK);
  skv_version_encode(again, &twice);
  FUZZ_CHECK(skv_equal(skv_buf_bytes(&once), skv_buf_bytes(&twice)));
  skv_version_unref(again);
  skv_version_unref(base);
  skv_buf_clear(&once);
  skv_buf_clear(&twice);
}

static bool naive_is_header(const uint8_t *b, size_t size) {
  return size >= 64 && memcmp(b, "STRATMAN", 8) == 0 && skv_get32(b + 8) == 1 &&
         memcmp(b + 16, id, 16) == 0 && skv_get64(b + 32) == FILE_NUMBER &&
         skv_checksum(b, 56, 0) == skv_get64(b + 56);
}

/* Bytes of the edit's payload at `at`, 0 if none is there. */
static uint64_t naive_edit(const uint8_t *b, size_t size, size_t at) {
  if (at > size || size - at < 24) return 0;
  uint64_t n = skv_get32(b + at + 8);
  if (n > size - at - 24 || skv_get32(b + at + 12) != 0) return 0;
  uint64_t seed = skv_seed(id, FILE_NUMBER, at);
  return skv_checksum(b + at + 8, 16 + n, seed) == skv_get64(b + at) ? n : 0;
}

/* The version that the edits make; NULL if they are damaged. */
static skv_version *naive_read(const uint8_t *b, size_t size, size_t *end) {
  skv_version *version = empty_version(), *next = NULL;
  uint64_t chain = 0;
  size_t at = 64, edits = 0;
  for (uint64_t n; (n = naive_edit(b, size, at)) > 0; edits++) {
    size_t behind = at + (24 + n + 7) / 8 * 8;
    int rc = STRATAKV_CORRUPT;
    if (skv_get64(b + at + 16) == chain)
      rc = skv_version_apply(NULL, version, skv_slice_of(b + at + 24, n),
                             skv_head_at(FILE_NUMBER, behind), false, NULL,
                             &next);
    if (rc != STRATAKV_OK) {
      skv_version_unref(version);
      return NULL;
    }
    chain = skv_get64(b + at);
    skv_version_unref(version);
    version = next;
    at = behind;
  }
  *end = at;
  bool has_later = false;
  for (size_t i = at; i < size; i += 8) has_later |= naive_edit(b, size, i) > 0;
  if (edits > 0 && !has_later) return version;
  skv_version_unref(version);
  return NULL;
}

static bool same_version(const skv_version *a, const skv_version *b) {
  skv_buf x = {0}, y = {0};
  skv_version_encode(a, &x);
  skv_version_encode(b, &y);
  bool is_same = skv_equal(skv_buf_bytes(&x), skv_buf_bytes(&y));
  skv_buf_clear(&x);
  skv_buf_clear(&y);
  return is_same;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  skv_version *version = NULL, *slow = NULL;
  skv_manifest_end end;
  skv_err err = {0};
  size_t at = 0;
  fuzz_put("000001.manifest", data, size);
  skv_tree tree = {.store = fuzz_store, .map = true};
  if (naive_is_header(data, size)) slow = naive_read(data, size, &at);
  int rc = skv_manifest_read(&tree, id, FILE_NUMBER, NULL, NULL, 0, &err, &end,
                             &version);
  if (slow == NULL) {
    FUZZ_CHECK(rc == STRATAKV_CORRUPT || rc == STRATAKV_NOTADB);
    FUZZ_CHECK(strstr(err.message, "000001.manifest") != NULL);
    return 0;
  }
  /* Its segments are nowhere. */
  FUZZ_CHECK(rc == STRATAKV_OK || rc == STRATAKV_NOTFOUND);
  if (rc == STRATAKV_OK) {
    FUZZ_CHECK(end.pos == skv_head_at(FILE_NUMBER, at));
    FUZZ_CHECK(same_version(version, slow));
  }
  check_encoding(slow);
  skv_version_unref(version);
  skv_version_unref(slow);
  return 0;
}
