/*
 * The version object: counting, opening its files, and its order of search.
 * How one is made out of another by an edit is in edit.c. See version.h.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "engine/tree/version_impl.h"
#include "engine/util/alloc.h"

/* ---- Life ---------------------------------------------------------------- */

skv_version_object *skv_version_alloc(int *rc) {
  skv_version_object *object = skv_new(sizeof *object, rc);
  if (object != NULL) atomic_init(&object->refs, 1);
  return object;
}

int skv_version_new(skv_tree *tree, const uint8_t store_id[16], skv_err *err,
                    skv_version **out) {
  SKV_UNUSED(tree);
  int rc = STRATAKV_OK;
  *out = NULL;
  skv_version_object *object = skv_version_alloc(&rc);
  if (rc != STRATAKV_OK) return skv_error_nomem(err);
  memcpy(object->base.store_id, store_id, 16);
  object->base.next_file = 1;
  *out = &object->base;
  return STRATAKV_OK;
}

skv_version *skv_version_ref(const skv_version *version) {
  /* Counting is no change that a holder could see. */
  skv_version_object *object = (skv_version_object *)(uintptr_t)version;
  atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);
  return &object->base;
}

static void version_free(skv_version_object *object) {
  for (size_t i = 0; i < object->seg_count; i++) {
    skv_segref_unref(object->segs[i]);
  }
  skv_tables *tables = object->tables;
  if (tables != NULL &&
      atomic_fetch_sub_explicit(&tables->refs, 1, memory_order_acq_rel) == 1) {
    skv_free(tables);
  }
  skv_free(object->segs);
  skv_free(object->sorted);
  skv_free(object->base.wals);
  skv_free(object->base.retired);
  skv_free(object->base.runs);
  skv_free(object);
}

void skv_version_unref(skv_version *version) {
  if (version == NULL) return;
  skv_version_object *object = (skv_version_object *)version;
  if (atomic_fetch_sub_explicit(&object->refs, 1, memory_order_acq_rel) == 1) {
    version_free(object);
  }
}

/* ---- Order --------------------------------------------------------------- */

/* The order of search (INV-5): level, newest run, key. */
static int version_compare_segs(const void *a, const void *b) {
  const skv_segref *x = *(skv_segref *const *)a;
  const skv_segref *y = *(skv_segref *const *)b;
  if (x->level != y->level) return x->level < y->level ? -1 : 1;
  if (x->run != y->run) return x->run > y->run ? -1 : 1;
  int c = skv_compare(skv_segref_start(x), skv_segref_start(y));
  if (c != 0) return c;
  return x->number < y->number ? -1 : x->number > y->number;
}

static bool version_same_run(const skv_segref *a, const skv_segref *b) {
  return a->level == b->level && a->run == b->run;
}

/* The run that begins at segs[0]; its segments must not overlap. */
static int version_take_run(skv_segref **segs, size_t left, skv_err *err,
                            skv_run *run) {
  run->id = segs[0]->run;
  run->segs = segs;
  run->max_lsn = skv_segref_max_lsn(segs[0]);
  run->count = 1;
  for (; run->count < left && version_same_run(segs[0], segs[run->count]);
       run->count++) {
    const skv_segref *last = segs[run->count - 1];
    const skv_segref *next = segs[run->count];
    if (skv_compare(last->meta.max_key, skv_segref_start(next)) >= 0) {
      return SKV_ERROR(err, STRATAKV_CORRUPT,
                       "segments %" PRIu64 " and %" PRIu64
                       " overlap at level %" PRIu32,
                       last->number, next->number, next->level);
    }
    uint64_t lsn = skv_segref_max_lsn(next);
    if (lsn > run->max_lsn) run->max_lsn = lsn;
  }
  return STRATAKV_OK;
}

/* INV-5: an older run has nothing that a newer one could have. */
static int version_check_lsn(const skv_run *newer, const skv_run *older,
                             skv_err *err) {
  if (older->max_lsn < newer->id) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_CORRUPT,
                   "run %" PRIu64 " reaches into run %" PRIu64, older->id,
                   newer->id);
}

static size_t version_count_runs(skv_segref *const *sorted, size_t count) {
  size_t runs = 0;
  for (size_t i = 0; i < count && sorted[i]->level == 0; i++) {
    runs += i == 0 || sorted[i]->run != sorted[i - 1]->run;
  }
  return runs;
}

static int version_fill_runs(skv_version_object *object, skv_err *err) {
  skv_version *version = &object->base;
  for (size_t i = 0; i < object->seg_count;) {
    skv_segref **segs = object->sorted + i;
    uint32_t level = segs[0]->level;
    skv_run *run = level == 0 ? &version->runs[version->run_count]
                              : &version->levels[level];
    int rc = version_take_run(segs, object->seg_count - i, err, run);
    if (rc == STRATAKV_OK && level == 0 && version->run_count++ > 0) {
      rc = version_check_lsn(run - 1, run, err);
    }
    if (rc != STRATAKV_OK) return rc;
    i += run->count;
  }
  return STRATAKV_OK;
}

int skv_version_arrange(skv_version_object *object, skv_err *err) {
  size_t count = object->seg_count;
  if (count == 0) return STRATAKV_OK;
  object->sorted = skv_malloc(count * sizeof *object->sorted);
  if (object->sorted == NULL) return skv_error_nomem(err);
  memcpy(object->sorted, object->segs, count * sizeof *object->sorted);
  qsort(object->sorted, count, sizeof *object->sorted, version_compare_segs);
  size_t runs = version_count_runs(object->sorted, count);
  object->base.runs = skv_calloc(runs, sizeof *object->base.runs);
  if (object->base.runs == NULL) return skv_error_nomem(err);
  return version_fill_runs(object, err);
}

/* ---- Files --------------------------------------------------------------- */

size_t skv_segs_find(skv_segref *const *segs, size_t count, uint64_t number) {
  size_t low = 0;
  size_t high = count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (segs[middle]->number < number) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/* Share what `older` has of ref's file, if it has it. */
static int version_share(const skv_version_object *older, skv_segref *ref,
                         skv_err *err) {
  size_t at = skv_segs_find(older->segs, older->seg_count, ref->number);
  if (at == older->seg_count || older->segs[at]->number != ref->number) {
    return STRATAKV_OK;
  }
  return skv_segref_share(ref, older->segs[at], err);
}

int skv_version_open(skv_tree *tree, skv_version *version,
                     const skv_version *older, skv_err *err) {
  const skv_version_object *object = skv_version_object_of(version);
  for (size_t i = 0; i < object->seg_count; i++) {
    skv_segref *ref = object->segs[i];
    int rc = STRATAKV_OK;
    if (ref->file != NULL) continue;
    if (older != NULL) {
      rc = version_share(skv_version_object_of(older), ref, err);
    }
    if (rc == STRATAKV_OK && ref->file == NULL) {
      rc = skv_segref_open(tree, ref, err);
    }
    if (rc != STRATAKV_OK) return rc;
  }
  return STRATAKV_OK;
}

/* ---- Questions ----------------------------------------------------------- */

const stratakv_table_info *skv_version_table(const skv_version *version,
                                             const char *name) {
  for (size_t i = 0; i < version->table_count; i++) {
    if (strcmp(version->tables[i].name, name) == 0) {
      return &version->tables[i];
    }
  }
  return NULL;
}

skv_segref *const *skv_version_segs(const skv_version *version, size_t *count) {
  const skv_version_object *object = skv_version_object_of(version);
  *count = object->seg_count;
  return object->segs;
}

static uint64_t version_run_bytes(const skv_run *run) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < run->count; i++) bytes += run->segs[i]->meta.size;
  return bytes;
}

uint64_t skv_version_level_bytes(const skv_version *version, unsigned level) {
  if (level > 0) return version_run_bytes(&version->levels[level]);
  uint64_t bytes = 0;
  for (size_t i = 0; i < version->run_count; i++) {
    bytes += version_run_bytes(&version->runs[i]);
  }
  return bytes;
}
