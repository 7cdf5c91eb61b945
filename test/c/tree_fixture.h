/*
 * What the tests of engine/tree share: versions written as text, and back.
 *
 * A version's segments stand separated by commas, each
 *     level[/run] number min max MiB [tPERCENT] [>trim]
 * as in "0/200 7 a f 64, 1 3 a c 32 t50 >b": keys are table 1's, a MiB holds
 * 1,000 entries, tPERCENT of them tombstones.
 */
#ifndef TEST_C_TREE_FIXTURE_H
#define TEST_C_TREE_FIXTURE_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tree/version.h"
#include "engine/util/alloc.h"
#include "test/c/check.h"

static skv_err fixture_err;

/* A call that gives that code; what came instead is shown. */
static inline bool fixture_expect(int rc, int want, const char *file, int line,
                                  const char *what) {
  if (rc != want) {
    printf("code %d, not %d: %s\n", rc, want,
           rc != STRATAKV_OK ? fixture_err.message : "it succeeded");
  }
  return check_that(rc == want, file, line, what, check_where);
}
#define OK(call) FAILS(STRATAKV_OK, call)
#define FAILS(code, call)                                                      \
  fixture_expect((call), (code), __FILE__, __LINE__, #call)

/* Two texts that must be equal; both are shown if not. */
static inline bool fixture_same(const char *got, const char *want,
                                const char *file, int line) {
  bool is_same = strcmp(got, want) == 0;
  if (!is_same) printf("got:  %s\nwant: %s\n", got, want);
  return check_that(is_same, file, line, "text as expected", check_where);
}
#define SAME(got, want) fixture_same((got), (want), __FILE__, __LINE__)

static const uint8_t fixture_id[16] = "fixture store id";

/* An internal key of table 1 in one of many buffers that are used in turn. */
static inline skv_slice fixture_key(const char *text) {
  static uint8_t keys[64][64];
  static unsigned next;
  uint8_t *key = keys[next++ % 64];
  size_t size = strlen(text);
  if (size > 62) size = 62;
  key[0] = 0;
  key[1] = 1;
  memcpy(key + 2, text, size);
  return skv_slice_of(key, size + 2);
}

static inline skv_seg_meta fixture_meta(const char *min, const char *max) {
  skv_seg_meta meta = {.size = 4096,
                       .entries = 10,
                       .raw_bytes = 100,
                       .min_lsn = 1,
                       .max_lsn = 1};
  meta.min_key = fixture_key(min);
  meta.max_key = fixture_key(max);
  return meta;
}

/* Append the operation for one segment's text. */
static inline void fixture_edit_seg(skv_buf *edit, const char *text) {
  char place[32], min[32], max[32], more[2][32] = {"", ""};
  unsigned long long number, mib;
  int n = sscanf(text, "%31s %llu %31s %31s %llu %31s %31s", place, &number,
                 min, max, &mib, more[0], more[1]);
  if (!CHECK(n >= 5)) return;
  skv_slice trim = {NULL, 0};
  skv_seg_meta meta = fixture_meta(min, max);
  const char *run = strchr(place, '/');
  uint64_t id = run ? strtoull(run + 1, NULL, 10) : 0;
  meta.size = mib << 20;
  meta.entries = mib * 1000;
  meta.max_lsn = id;
  meta.min_lsn = id;
  for (int i = 0; i < 2; i++) {
    if (more[i][0] == 't') {
      meta.tombstones = meta.entries * strtoull(more[i] + 1, NULL, 10) / 100;
    } else if (more[i][0] == '>') {
      trim = fixture_key(more[i] + 1);
    }
  }
  skv_edit_seg(edit, number, (uint32_t)atoi(place), id, 0, &meta, trim);
}

static inline void fixture_edit_segs(skv_buf *edit, const char *text) {
  char copy[4096];
  snprintf(copy, sizeof copy, "%s", text);
  for (char *seg = strtok(copy, ","); seg != NULL; seg = strtok(NULL, ",")) {
    fixture_edit_seg(edit, seg);
  }
}

/* A version with these segments, whose files are not open; NULL on failure. */
static inline skv_version *fixture_version(const char *text) {
  skv_version *empty = NULL;
  skv_version *version = NULL;
  skv_buf edit = {0};
  skv_edit_next(&edit, 100000);
  fixture_edit_segs(&edit, text);
  if (OK(skv_version_new(NULL, fixture_id, &fixture_err, &empty))) {
    OK(skv_version_apply(NULL, empty, skv_buf_bytes(&edit), 1, false,
                         &fixture_err, &version));
  }
  skv_version_unref(empty);
  skv_buf_clear(&edit);
  return version;
}

/* ---- Text of a version --------------------------------------------------- */

typedef struct fixture_text {
  char text[8192];
  size_t size;
} fixture_text;

__attribute__((format(printf, 2, 3))) static inline void
fixture_print(fixture_text *t, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(t->text + t->size, sizeof t->text - t->size, format, args);
  va_end(args);
  if (n > 0) t->size += (size_t)n;
  if (t->size >= sizeof t->text) t->size = sizeof t->text - 1;
}

static inline void fixture_print_run(fixture_text *t, const skv_run *run) {
  for (size_t i = 0; i < run->count; i++) {
    const skv_segref *ref = run->segs[i];
    skv_slice start = skv_segref_start(ref);
    skv_slice end = ref->meta.max_key;
    fixture_print(t, " %" PRIu64 "[%.*s-%.*s]", ref->number,
                  (int)(start.size - 2), (const char *)start.data + 2,
                  (int)(end.size - 2), (const char *)end.data + 2);
  }
}

/* "0/200: 7[a-f] 1: 3[b-c]" */
static inline void fixture_levels(const skv_version *version, fixture_text *t) {
  for (size_t i = 0; i < version->run_count; i++) {
    fixture_print(t, " 0/%" PRIu64 ":", version->runs[i].id);
    fixture_print_run(t, &version->runs[i]);
  }
  for (unsigned i = 1; i < SKV_LEVELS; i++) {
    if (version->levels[i].count == 0) continue;
    fixture_print(t, " %u:", i);
    fixture_print_run(t, &version->levels[i]);
  }
}

/* Everything that a version says. */
static inline const char *fixture_dump(const skv_version *version) {
  static fixture_text t;
  t.size = 0;
  fixture_print(&t, "next %" PRIu64, version->next_file);
  for (size_t i = 0; i < version->table_count; i++) {
    const stratakv_table_info *table = &version->tables[i];
    fixture_print(&t, " table %u:%d:%s", (unsigned)table->id, table->key_type,
                  table->name);
  }
  for (size_t i = 0; i < version->wal_count; i++) {
    const skv_wal_info *wal = &version->wals[i];
    fixture_print(&t, " wal %" PRIu64 "@%" PRIu64 "+%" PRIu64 "-%" PRIu64,
                  wal->number, wal->start, wal->size, wal->end);
  }
  for (size_t i = 0; i < version->retired_count; i++) {
    fixture_print(&t, " retired %" PRIu64, version->retired[i]);
  }
  if (version->flushed_wal) {
    fixture_print(&t, " flushed %" PRIu64, version->flushed_wal);
  }
  if (version->clean) fixture_print(&t, " clean %" PRIu64, version->clean);
  fixture_levels(version, &t);
  return t.text;
}

#endif
