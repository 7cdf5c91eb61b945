/*
 * Runs: looking a key up in one, and iterating over one. See version.h.
 *
 * A run iterator has one segment open at a time. It believes the manifest
 * about which keys a segment covers and shows nothing below its trim.
 */
#include "engine/tree/version_impl.h"
#include "engine/util/alloc.h"

/* The first segment whose greatest key is >= key, or the count. */
static size_t run_find(const skv_run *run, skv_slice key) {
  size_t low = 0;
  size_t high = run->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (skv_compare(run->segs[middle]->meta.max_key, key) < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

int skv_run_get(skv_tree *tree, const skv_run *run, skv_slice key,
                uint64_t hash, skv_seg_pin *pin, skv_err *err, bool *found,
                skv_entry *entry) {
  *found = false;
  size_t at = run_find(run, key);
  if (at == run->count) return STRATAKV_OK;
  skv_segref *ref = run->segs[at];
  if (skv_compare(key, skv_segref_start(ref)) < 0) return STRATAKV_OK;
  skv_seg *seg;
  int rc = skv_segref_get(tree, ref, err, &seg);
  if (rc != STRATAKV_OK) return rc;
  return skv_seg_get(seg, key, hash, pin, err, found, entry);
}

/* ---- Iterating ----------------------------------------------------------- */

typedef struct run_iter {
  skv_iter base;
  skv_tree *tree;
  skv_version *version; /* a reference */
  skv_run run;          /* a copy; segs is borrowed */
  bool keys_only;
  size_t at;     /* the segment that `seg` reads, if there is one */
  skv_iter *seg; /* NULL: none is open */
} run_iter;

/* Show what the open segment shows, or nothing. */
static void run_show(run_iter *it) {
  it->base.valid = it->seg->valid;
  if (it->base.valid) it->base.entry = it->seg->entry;
}

static int run_enter(run_iter *it, size_t at, skv_err *err) {
  if (it->seg != NULL && it->at == at) return STRATAKV_OK;
  skv_iter_close(it->seg);
  it->seg = NULL;
  skv_seg *seg;
  int rc = skv_segref_get(it->tree, it->run.segs[at], err, &seg);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_seg_iter_new(seg, it->keys_only, err, &it->seg);
  it->at = at;
  return rc;
}

static bool run_is_trimmed(const run_iter *it) {
  skv_slice trim = it->run.segs[it->at]->trim;
  return trim.size > 0 && skv_compare(it->seg->entry.key, trim) < 0;
}

/* The first entry of segment `at` or of one behind it. */
static int run_forward(run_iter *it, size_t at, skv_err *err) {
  for (; at < it->run.count; at++) {
    int rc = run_enter(it, at, err);
    if (rc != STRATAKV_OK) return rc;
    skv_slice trim = it->run.segs[at]->trim;
    rc = trim.size > 0 ? skv_iter_seek(it->seg, trim, err)
                       : skv_iter_first(it->seg, err);
    if (rc != STRATAKV_OK) return rc;
    if (it->seg->valid) {
      run_show(it);
      return STRATAKV_OK;
    }
  }
  return STRATAKV_OK;
}

/* The last entry of the `count` first segments. */
static int run_backward(run_iter *it, size_t count, skv_err *err) {
  while (count-- > 0) {
    int rc = run_enter(it, count, err);
    if (rc == STRATAKV_OK) rc = skv_iter_last(it->seg, err);
    if (rc != STRATAKV_OK) return rc;
    if (it->seg->valid && !run_is_trimmed(it)) {
      run_show(it);
      return STRATAKV_OK;
    }
  }
  return STRATAKV_OK;
}

static int run_first(skv_iter *base, skv_err *err) {
  base->valid = false;
  return run_forward((run_iter *)base, 0, err);
}

static int run_last(skv_iter *base, skv_err *err) {
  run_iter *it = (run_iter *)base;
  base->valid = false;
  return run_backward(it, it->run.count, err);
}

static int run_seek(skv_iter *base, skv_slice key, skv_err *err) {
  run_iter *it = (run_iter *)base;
  base->valid = false;
  size_t at = run_find(&it->run, key);
  if (at == it->run.count) return STRATAKV_OK;
  if (skv_compare(key, skv_segref_start(it->run.segs[at])) <= 0) {
    return run_forward(it, at, err);
  }
  int rc = run_enter(it, at, err);
  if (rc == STRATAKV_OK) rc = skv_iter_seek(it->seg, key, err);
  if (rc != STRATAKV_OK) return rc;
  if (!it->seg->valid) return run_forward(it, at + 1, err);
  run_show(it);
  return STRATAKV_OK;
}

static int run_seek_back(skv_iter *base, skv_slice key, skv_err *err) {
  run_iter *it = (run_iter *)base;
  base->valid = false;
  size_t at = run_find(&it->run, key);
  if (at == it->run.count ||
      skv_compare(key, skv_segref_start(it->run.segs[at])) < 0) {
    return run_backward(it, at, err);
  }
  int rc = run_enter(it, at, err);
  if (rc == STRATAKV_OK) rc = skv_iter_seek_back(it->seg, key, err);
  if (rc != STRATAKV_OK) return rc;
  if (!it->seg->valid || run_is_trimmed(it)) return run_backward(it, at, err);
  run_show(it);
  return STRATAKV_OK;
}

static int run_next(skv_iter *base, skv_err *err) {
  run_iter *it = (run_iter *)base;
  base->valid = false;
  int rc = skv_iter_next(it->seg, err);
  if (rc != STRATAKV_OK) return rc;
  if (!it->seg->valid) return run_forward(it, it->at + 1, err);
  run_show(it);
  return STRATAKV_OK;
}

static int run_prev(skv_iter *base, skv_err *err) {
  run_iter *it = (run_iter *)base;
  base->valid = false;
  int rc = skv_iter_prev(it->seg, err);
  if (rc != STRATAKV_OK) return rc;
  if (!it->seg->valid || run_is_trimmed(it)) {
    return run_backward(it, it->at, err);
  }
  run_show(it);
  return STRATAKV_OK;
}

static void run_close(skv_iter *base) {
  run_iter *it = (run_iter *)base;
  skv_iter_close(it->seg);
  skv_version_unref(it->version);
  skv_free(it);
}

static const skv_iter_ops run_ops = {
    run_first, run_last, run_seek, run_seek_back, run_next, run_prev, run_close,
};

int skv_run_iter_new(skv_tree *tree, const skv_version *version,
                     const skv_run *run, bool keys_only, skv_err *err,
                     skv_iter **out) {
  int rc = STRATAKV_OK;
  *out = NULL;
  run_iter *it = skv_new(sizeof *it, &rc);
  if (rc != STRATAKV_OK) return skv_error_nomem(err);
  it->base.ops = &run_ops;
  it->tree = tree;
  it->version = skv_version_ref(version);
  it->run = *run;
  it->keys_only = keys_only;
  *out = &it->base;
  return STRATAKV_OK;
}
