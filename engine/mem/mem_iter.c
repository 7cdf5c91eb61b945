/*
 * The MemTable's iterator: for each key its newest entry below a limit, over
 * a list of sorted arrays that never changes.
 *
 * CHILDREN  One cursor per array. It stands on the newest version below the
 *   limit of some key, as far as its array knows. In an array the versions of
 *   a key stand side by side, newest first, so those at or above the limit
 *   come before those below it. Two facts make moving cheap:
 *     forwards from the start of a key, the first position below the limit
 *     belongs to the newest version of its key that may be shown;
 *     backwards from the oldest version of a key, the first position below the
 *     limit belongs to the oldest version of its key.
 *   So what the limit hides is stepped over without reading keys, and only the
 *   versions of one key have to be told from the next key's: by their prefixes
 *   nearly always, else in the log, by galloping.
 *
 * ORDER  order[0, active) are the children that stand somewhere, sorted by
 *   key in the direction of travel; of equal keys the newer array's is first.
 *   The iterator shows order[0]. When the direction changes, the others are
 *   sought anew.
 */
#include "engine/mem/mem_internal.h"
#include "engine/util/alloc.h"

#define ITER_AHEAD 16  /* entries to prefetch ahead */
#define ITER_HIDDEN 64 /* hidden entries stepped over before galloping */

typedef struct memiter_child {
  const skv_mem_array *array;
  uint32_t at;     /* index of its entry */
  unsigned age;    /* its index in the list: higher is newer */
  skv_entry entry; /* decoded */
} memiter_child;

typedef struct memiter {
  skv_iter base;
  skv_mem *mem;           /* a reference */
  skv_mem_arrays *arrays; /* a reference, or NULL */
  skv_mem_view view;
  uint64_t limit;
  int direction;   /* 1 or -1: what order[] is sorted for */
  unsigned count;  /* children */
  unsigned active; /* of them stand on an entry */
  memiter_child *order[SKV_MEM_MAX_ARRAYS];
  memiter_child children[];
} memiter;

/* ---- Within one array ---------------------------------------------------- */

static int memiter_key(const memiter *it, const skv_mem_array *array,
                       uint32_t at, skv_err *err, skv_slice *key) {
  skv_entry entry;
  int rc = skv_mem_read(&it->view, array->positions[at], err, &entry);
  *key = rc == STRATAKV_OK ? entry.key : skv_slice_of(NULL, 0);
  return rc;
}

/* A run of entries: those of the key at `anchor` with positions in
 * [lowest, highest). */
typedef struct memiter_run {
  const skv_mem_array *array;
  uint32_t anchor;
  skv_slice key;
  uint64_t lowest;
  uint64_t highest;
} memiter_run;

static int memiter_belongs(const memiter *it, const memiter_run *run,
                           uint32_t at, skv_err *err, bool *belongs) {
  const skv_mem_array *array = run->array;
  uint32_t position = array->positions[at];
  *belongs = false;
  if (array->prefixes[at] != array->prefixes[run->anchor] ||
      position < run->lowest || position >= run->highest) {
    return STRATAKV_OK;
  }
  skv_slice key;
  int rc = memiter_key(it, array, at, err, &key);
  if (rc == STRATAKV_OK) *belongs = skv_equal(key, run->key);
  return rc;
}

/*
 * The far end of the run when going from its anchor, which belongs to it, in
 * that direction. Steps double until they leave the run, then halve.
 */
static int memiter_gallop(const memiter *it, const memiter_run *run,
                          int direction, skv_err *err, uint32_t *out) {
  uint32_t room =
      direction > 0 ? run->array->count - 1 - run->anchor : run->anchor;
  uint32_t inside = 0, outside = room + 1; /* distances from the anchor */
  uint32_t step = 1;
  while (outside - inside > 1) {
    uint32_t gap = outside - inside;
    if (outside <= room || step >= gap) step = gap / 2;
    bool belongs;
    uint32_t try = inside + step;
    uint32_t at = direction > 0 ? run->anchor + try : run
      ->anchor - try;
    int rc = memiter_belongs(it, run, at, err, &belongs);
    if (rc != STRATAKV_OK) return rc;
    if (belongs) {
      inside = try;
    } else {
      outside = try;
    }
    step *= 2;
  }
  *out = direction > 0 ? run->anchor + inside : run->anchor - inside;
  return STRATAKV_OK;
}

/* The far end of the run of the key at `at`, in that direction, over positions
 * in [lowest, highest). One look decides if the neighbour's prefix differs. */
static int memiter_run_end(const memiter *it, const skv_mem_array *array,
                           uint32_t at, int direction, uint64_t lowest,
                           uint64_t highest, skv_err *err, uint32_t *out) {
  *out = at;
  if (direction > 0 ? at + 1 == array->count : at == 0) return STRATAKV_OK;
  uint32_t next = direction > 0 ? at + 1 : at - 1;
  if (array->prefixes[next] != array->prefixes[at]) return STRATAKV_OK;
  memiter_run run = {array, at, {NULL, 0}, lowest, highest};
  int rc = memiter_key(it, array, at, err, &run.key);
  if (rc != STRATAKV_OK) return rc;
  return memiter_gallop(it, &run, direction, err, out);
}

/*
 * Step from index *at on, in that direction, to the first entry below the
 * limit; *found false at the end of the array. One hot key may have hidden
 * versions by the thousand: galloping gets behind them.
 */
static int memiter_skip_hidden(const memiter *it, const skv_mem_array *array,
                               int direction, skv_err *err, int64_t *at,
                               bool *found) {
  int64_t i = *at;
  *found = false;
  for (unsigned steps = 1; i >= 0 && i < array->count; steps++) {
    if (array->positions[i] < it->limit) {
      *at = i;
      *found = true;
      return STRATAKV_OK;
    }
    if (steps % ITER_HIDDEN == 0) {
      uint32_t end;
      int rc = memiter_run_end(it, array, (uint32_t)i, direction, it->limit,
                               UINT64_MAX, err, &end);
      if (rc != STRATAKV_OK) return rc;
      i = end;
    }
    i += direction;
  }
  return STRATAKV_OK;
}

/* ---- Children ------------------------------------------------------------ */

/* The entry that is `distance` indexes away. */
static void memiter_prefetch(const memiter *it, const memiter_child *child,
                             int distance) {
  const skv_mem_array *array = child->array;
  int64_t i = (int64_t)child->at + distance;
  if (i >= 0 && i < array->count) {
    skv_mem_prefetch(&it->view, array->positions[i]);
  }
}

/*
 * Stand on the first visible entry from index `at` on: going forwards, `at` is
 * the start of a key; backwards, the oldest version of one. Out of the array
 * means the end.
 */
static int memiter_settle(const memiter *it, memiter_child *child, int64_t at,
                          int direction, skv_err *err, bool *found) {
  int rc = memiter_skip_hidden(it, child->array, direction, err, &at, found);
  if (rc != STRATAKV_OK || !*found) return rc;
  child->at = (uint32_t)at;
  if (direction < 0) { /* from the oldest version to the newest visible */
    rc = memiter_run_end(it, child->array, (uint32_t)at, -1, 0, it->limit, err,
                         &child->at);
    if (rc != STRATAKV_OK) return rc;
  }
  return skv_mem_read(&it->view, child->array->positions[child->at], err,
                      &child->entry);
}

/* To the next key in that direction. */
static int memiter_step(const memiter *it, memiter_child *child, int direction,
                        skv_err *err, bool *found) {
  uint32_t end;
  memiter_prefetch(it, child, direction * ITER_AHEAD);
  int rc = memiter_run_end(it, child->array, child->at, direction, 0,
                           UINT64_MAX, err, &end);
  if (rc != STRATAKV_OK) return rc;
  return memiter_settle(it, child, (int64_t)end + direction, direction, err,
                        found);
}

/* Where the key goes in the order of the array's common bytes: 0 if it begins
 * with them, else before (-1) or behind (1) all entries. */
static int memiter_side(const memiter *it, const skv_mem_array *array,
                        skv_slice key, skv_err *err, int *side) {
  skv_slice common;
  *side = 0;
  if (array->skip == 0) return STRATAKV_OK;
  int rc = memiter_key(it, array, 0, err, &common);
  if (rc != STRATAKV_OK) return rc;
  if (common.size > array->skip) common.size = array->skip;
  if (key.size > common.size) key.size = common.size;
  *side = skv_compare(key, common);
  return rc;
}

/* The number of entries whose key is less than `key`, or not greater than it
 * if `equal_too`. */
static int memiter_rank(const memiter *it, const skv_mem_array *array,
                        skv_slice key, bool equal_too, skv_err *err,
                        uint32_t *rank) {
  int side;
  int rc = memiter_side(it, array, key, err, &side);
  *rank = side < 0 ? 0 : array->count;
  if (rc != STRATAKV_OK || side != 0) return rc;
  uint64_t prefix = skv_mem_prefix(key, array->skip);
  uint32_t low = 0, high = array->count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    uint64_t at = array->prefixes[middle];
    int order = at < prefix ? -1 : at > prefix;
    if (order == 0) {
      skv_slice other;
      rc = memiter_key(it, array, middle, err, &other);
      if (rc != STRATAKV_OK) return rc;
      order = skv_compare(other, key);
    }
    if (order < 0 || (order == 0 && equal_too)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  *rank = low;
  return STRATAKV_OK;
}

/* Stand on the first key at or behind `key` in that direction; `strictly`
 * excludes the key itself. */
static int memiter_child_seek(const memiter *it, memiter_child *child,
                              skv_slice key, int direction, bool strictly,
                              skv_err *err, bool *found) {
  uint32_t rank;
  bool equal_too = (direction > 0) == strictly;
  int rc = memiter_rank(it, child->array, key, equal_too, err, &rank);
  if (rc != STRATAKV_OK) return rc;
  int64_t at = direction > 0 ? (int64_t)rank : (int64_t)rank - 1;
  return memiter_settle(it, child, at, direction, err, found);
}

/* ---- The order of the children ------------------------------------------- */

static bool memiter_before(const memiter *it, const memiter_child *a,
                           const memiter_child *b) {
  int order = skv_compare(a->entry.key, b->entry.key);
  if (order != 0) return order * it->direction < 0;
  return a->age > b->age;
}

/* order[0, active) but for order[i] is sorted from i + 1 on: put it there. */
static void memiter_sift(memiter *it, unsigned i) {
  memiter_child *child = it->order[i];
  for (; i + 1 < it->active; i++) {
    if (!memiter_before(it, it->order[i + 1], child)) break;
    it->order[i] = it->order[i + 1];
  }
  it->order[i] = child;
}

static void memiter_drop(memiter *it, unsigned i) {
  it->active--;
  for (; i < it->active; i++) it->order[i] = it->order[i + 1];
}

/* Add a child that stands somewhere. */
static void memiter_add(memiter *it, memiter_child *child) {
  unsigned i = it->active++;
  for (; i > 0 && memiter_before(it, child, it->order[i - 1]); i--) {
    it->order[i] = it->order[i - 1];
  }
  it->order[i] = child;
}

static int memiter_show(memiter *it, int rc) {
  it->base.valid = rc == STRATAKV_OK && it->active > 0;
  if (it->base.valid) it->base.entry = it->order[0]->entry;
  if (rc != STRATAKV_OK) it->active = 0;
  return rc;
}

/* How to position a child: at an end of its array, or by a key. */
typedef struct memiter_target {
  const skv_slice *key; /* NULL: the first in the direction */
  bool strictly;
} memiter_target;

static int memiter_place_child(const memiter *it, memiter_child *child,
                               const memiter_target *target, skv_err *err,
                               bool *found) {
  if (target->key != NULL) {
    return memiter_child_seek(it, child, *target->key, it->direction,
                              target->strictly, err, found);
  }
  child->at = it->direction > 0 ? 0 : child->array->count - 1;
  for (int i = 1; i < ITER_AHEAD; i++) {
    memiter_prefetch(it, child, it->direction * i);
  }
  return memiter_settle(it, child, child->at, it->direction, err, found);
}

static int memiter_place(memiter *it, int direction,
                         const memiter_target *target, skv_err *err) {
  int rc = STRATAKV_OK;
  it->direction = direction;
  it->active = 0;
  for (unsigned i = 0; i < it->count && rc == STRATAKV_OK; i++) {
    bool found;
    rc = memiter_place_child(it, &it->children[i], target, err, &found);
    if (rc == STRATAKV_OK && found) memiter_add(it, &it->children[i]);
  }
  return memiter_show(it, rc);
}

/* Children that stand on the key shown. They are the first in the order. */
static unsigned memiter_same(const memiter *it) {
  unsigned n = 1;
  while (n < it->active &&
         skv_equal(it->order[n]->entry.key, it->order[0]->entry.key)) {
    n++;
  }
  return n;
}

/* All children that stand on the key shown go on, the last of them first. */
static int memiter_move(memiter *it, int direction, skv_err *err) {
  int rc = STRATAKV_OK;
  if (direction != it->direction && it->count > 1) {
    memiter_target target = {&it->base.entry.key, true};
    return memiter_place(it, direction, &target, err);
  }
  it->direction = direction;
  for (unsigned i = memiter_same(it); i-- > 0 && rc == STRATAKV_OK;) {
    bool found;
    rc = memiter_step(it, it->order[i], direction, err, &found);
    if (rc != STRATAKV_OK) break;
    if (found) {
      memiter_sift(it, i);
    } else {
      memiter_drop(it, i);
    }
  }
  return memiter_show(it, rc);
}

/* ---- The interface ------------------------------------------------------- */

static int memiter_first(skv_iter *base, skv_err *err) {
  memiter_target target = {NULL, false};
  return memiter_place((memiter *)base, 1, &target, err);
}

static int memiter_last(skv_iter *base, skv_err *err) {
  memiter_target target = {NULL, false};
  return memiter_place((memiter *)base, -1, &target, err);
}

static int memiter_seek(skv_iter *base, skv_slice key, skv_err *err) {
  memiter_target target = {&key, false};
  return memiter_place((memiter *)base, 1, &target, err);
}

static int memiter_seek_back(skv_iter *base, skv_slice key, skv_err *err) {
  memiter_target target = {&key, false};
  return memiter_place((memiter *)base, -1, &target, err);
}

static int memiter_next(skv_iter *base, skv_err *err) {
  return memiter_move((memiter *)base, 1, err);
}

static int memiter_prev(skv_iter *base, skv_err *err) {
  return memiter_move((memiter *)base, -1, err);
}

static void memiter_close(skv_iter *base) {
  memiter *it = (memiter *)base;
  skv_mem_arrays_unref(it->mem, it->arrays);
  skv_mem_unref(it->mem);
  skv_free(it);
}

static const skv_iter_ops memiter_ops = {
    memiter_first, memiter_last, memiter_seek,  memiter_seek_back,
    memiter_next,  memiter_prev, memiter_close,
};

/* A child for each array with anything below the limit. */
static void memiter_set_children(memiter *it) {
  unsigned n = it->arrays != NULL ? it->arrays->count : 0;
  for (unsigned i = 0; i < n; i++) {
    const skv_mem_array *array = it->arrays->arrays[i];
    if (array->lowest >= it->limit) break;
    it->children[it->count].array = array;
    it->children[it->count++].age = i;
  }
}

int skv_mem_iter_new(skv_mem *mem, uint64_t limit, skv_err *err,
                     skv_iter **out) {
  skv_mem_arrays *arrays;
  *out = NULL;
  int rc = skv_mem_check_limit(mem, limit, err);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_mem_order_extend(mem, limit, err, &arrays);
  if (rc != STRATAKV_OK) return rc;
  unsigned n = arrays != NULL ? arrays->count : 0;
  memiter *it = skv_new(sizeof *it + n * sizeof it->children[0], &rc);
  if (it == NULL) {
    skv_mem_arrays_unref(mem, arrays);
    return skv_error_nomem(err);
  }
  it->base.ops = &memiter_ops;
  it->mem = skv_mem_ref(mem);
  it->arrays = arrays;
  it->view = skv_mem_view_of(mem);
  it->limit = limit;
  it->direction = 1;
  memiter_set_children(it);
  *out = &it->base;
  return STRATAKV_OK;
}
