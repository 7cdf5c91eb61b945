/*
 * Producing and compacting real segments, against a model.
 *
 *   random    flushes, ingests, slices of picked and of full plans; after each
 *             edit all keys are compared with the model, forwards, backwards
 *             and by lookup; old versions go on showing what they showed,
 *             though their files are unlinked; the manifest gives the same
 *             version again
 *   slices    limits by bytes and by time, cancelling, nothing left over
 *   threads   first uses of the same segments at the same time
 *   faults    every allocation and every write failing: nothing is changed
 *
 * Covers: INV-5, INV-6, INV-10, P2, P17
 */
#include "engine/os/env_fault.h"
#include "engine/os/thread.h"
#include "engine/tree/compact.h"
#include "engine/tree/manifest.h"
#include "engine/tree/merge.h"
#include "engine/util/hash.h"
#include "engine/util/prng.h"
#include "test/c/tree_fixture.h"

#define KEYS 600

/* What is known of a key: the newest change. */
typedef struct model_entry {
  uint64_t lsn; /* 0: never written */
  bool is_deleted;
} model_entry;

typedef struct model {
  model_entry keys[KEYS];
} model;

/* A store with its newest version, and what that must show. */
typedef struct world {
  skv_env *env;
  skv_store *store;
  skv_tree tree;
  skv_job job;
  skv_version *version;
  skv_manifest_end end;
  model now;
  uint64_t lsn;
  uint64_t names;
  skv_prng prng;
  skv_picker_limits limits;
} world;

static skv_slice world_key(unsigned i) {
  char text[32];
  snprintf(text, sizeof text, "%s%05u", i % 3 ? "key" : "a longer key ", i);
  return fixture_key(text);
}

/* The value of key i at an LSN: up to 300 bytes that say both. */
static size_t world_value(unsigned i, uint64_t lsn, uint8_t value[300]) {
  skv_prng prng = {lsn * 1000003 + i};
  size_t size = skv_prng_below(&prng, 300);
  skv_prng_fill(&prng, value, size);
  return size;
}

/* Keys are not in the order of their numbers: i of the n-th smallest. */
static unsigned world_order[KEYS];

static int world_compare(const void *a, const void *b) {
  return skv_compare(world_key(*(const unsigned *)a),
                     world_key(*(const unsigned *)b));
}

static void world_sort_keys(void) {
  for (unsigned i = 0; i < KEYS; i++) world_order[i] = i;
  qsort(world_order, KEYS, sizeof *world_order, world_compare);
}

static void world_next_name(void *arg, skv_name *out) {
  world *w = arg;
  *out = (skv_name){.kind = SKV_NAME_TMP, .slot = 1, .number = ++w->names};
}

static bool world_open(world *w, skv_env *env, uint64_t seed) {
  memset(w, 0, sizeof *w);
  w->env = env;
  w->prng.state = seed;
  w->lsn = 4096;
  w->limits = (skv_picker_limits){3, 48 << 10, 4, UINT64_MAX, false};
  if (!OK(skv_store_open(env, NULL, "/compact", SKV_DIR_CREATE, &fixture_err,
                         &w->store))) {
    return false;
  }
  w->tree.store = w->store;
  w->tree.map = seed % 2 == 0;
  w->tree.cache = seed % 3 ? skv_cache_new(1 << 20) : NULL;
  w->job.tree = &w->tree;
  w->job.seg = (skv_seg_options){(int)(seed % 3), 10, 1024};
  w->job.segment_bytes = 6 << 10;
  w->job.slice_bytes = 20 << 10;
  w->job.next_name = world_next_name;
  w->job.arg = w;
  skv_version *empty = NULL;
  skv_buf edit = {0}, bytes = {0};
  skv_edit_next(&edit, 2);
  OK(skv_version_new(&w->tree, fixture_id, &fixture_err, &empty));
  skv_manifest_encode(fixture_id, 1, skv_buf_bytes(&edit), &bytes, &w->end);
  OK(skv_head_replace(w->store, fixture_id, 1, bytes.data, bytes.size,
                      &fixture_err));
  bool is_open =
      OK(skv_version_apply(&w->tree, empty, skv_buf_bytes(&edit), w->end.pos,
                           true, &fixture_err, &w->version));
  skv_version_unref(empty);
  skv_buf_clear(&edit);
  skv_buf_clear(&bytes);
  return is_open;
}

static void world_close(world *w) {
  skv_version_unref(w->version);
  if (w->tree.cache) skv_cache_free(w->tree.cache);
  skv_store_close(w->store);
}

/* ---- Publishing ---------------------------------------------------------- */

static bool world_has(world *w, uint64_t number) {
  skv_buf edit = {0};
  skv_version *without = NULL;
  skv_edit_remove(&edit, number);
  int rc = skv_version_apply(&w->tree, w->version, skv_buf_bytes(&edit), 9,
                             false, NULL, &without);
  skv_version_unref(without);
  skv_buf_clear(&edit);
  return rc == STRATAKV_OK;
}

static int gc_each(void *arg, const skv_name *name) {
  world *w = arg;
  if (name->kind == SKV_NAME_SEG && !world_has(w, name->number)) {
    OK(skv_store_remove(w->store, name, &fixture_err));
  }
  return 0;
}

/* Name the products, add them to the edit, append and apply it, and remove
 * the files that are no longer named. */
static void world_publish(world *w, skv_products *products, unsigned level,
                          uint64_t run, uint64_t ingest_lsn, skv_buf *edit) {
  uint64_t next = w->version->next_file;
  skv_buf bytes = {0};
  skv_version *version = NULL;
  for (size_t i = 0; i < products->count; i++) {
    OK(skv_seg_name(w->store, &products->list[i].tmp, next, &fixture_err));
    skv_edit_seg(edit, next++, level, run, ingest_lsn, &products->list[i].meta,
                 skv_slice_of(NULL, 0));
  }
  skv_edit_next(edit, next);
  uint64_t at = skv_head_offset(w->end.pos);
  skv_manifest_edit(fixture_id, skv_buf_bytes(edit), &bytes, &w->end);
  if (OK(skv_version_apply(&w->tree, w->version, skv_buf_bytes(edit),
                           w->end.pos, true, &fixture_err, &version))) {
    OK(skv_head_append(w->store, 1, at, bytes.data, bytes.size, &fixture_err));
    skv_version_unref(w->version);
    w->version = version;
  }
  skv_buf_clear(&bytes);
  skv_buf_clear(edit);
  skv_products_clear(products);
  skv_store_list(w->store, gc_each, w, NULL);
}

/* ---- A flush ------------------------------------------------------------- */

/* Entries in key order, as an iterator that only goes forward. */
typedef struct flush_iter {
  skv_iter base;
  model changes; /* lsn 0: not in it */
  unsigned at;   /* in world_order */
  bool is_ingest;
  uint8_t value[300];
} flush_iter;

static int flush_show(flush_iter *it, unsigned at) {
  while (at < KEYS && it->changes.keys[world_order[at]].lsn == 0) at++;
  it->at = at;
  it->base.valid = at < KEYS;
  if (at == KEYS) return STRATAKV_OK;
  unsigned i = world_order[at];
  const model_entry *change = &it->changes.keys[i];
  size_t size = world_value(i, change->lsn, it->value);
  it->base.entry =
      (skv_entry){.key = world_key(i),
                  .value = {it->value, change->is_deleted ? 0 : size},
                  .lsn = it->is_ingest ? 0 : change->lsn,
                  .kind = change->is_deleted ? SKV_KIND_DELETE : SKV_KIND_PUT};
  return STRATAKV_OK;
}
static int flush_first(skv_iter *it, skv_err *err) {
  (void)err;
  return flush_show((flush_iter *)it, 0);
}
static int flush_next(skv_iter *it, skv_err *err) {
  (void)err;
  return flush_show((flush_iter *)it, ((flush_iter *)it)->at + 1);
}
static const skv_iter_ops flush_ops = {.first = flush_first,
                                       .next = flush_next};

/* Some changes in a range of keys become a level-0 run. */
static void world_flush(world *w, unsigned deletes) {
  flush_iter it = {.base.ops = &flush_ops};
  skv_products products = {0};
  skv_buf edit = {0};
  uint64_t run = w->lsn;
  it.is_ingest = skv_prng_below(&w->prng, 4) == 0;
  unsigned from = (unsigned)skv_prng_below(&w->prng, KEYS);
  unsigned range = 1 + (unsigned)skv_prng_below(&w->prng, KEYS - from);
  unsigned count = 1 + (unsigned)skv_prng_below(&w->prng, 200);
  for (unsigned n = 0; n < count; n++) {
    unsigned i = world_order[from + (unsigned)skv_prng_below(&w->prng, range)];
    model_entry change = {it.is_ingest ? run : w->lsn,
                          skv_prng_below(&w->prng, 100) < deletes};
    it.changes.keys[i] = change;
    w->now.keys[i] = change;
    w->lsn += 8;
  }
  OK(skv_produce(&w->job, &it.base, false, &fixture_err, &products));
  CHECK(products.count > 0);
  world_publish(w, &products, 0, run, it.is_ingest ? run : 0, &edit);
}

/* ---- Comparing ----------------------------------------------------------- */

static skv_iter *open_all(world *w, const skv_version *v) {
  skv_iter *list[64];
  skv_iter *merged = NULL;
  size_t count = 0;
  for (size_t i = 0; i < v->run_count && count < 50; i++) {
    OK(skv_run_iter_new(&w->tree, v, &v->runs[i], false, &fixture_err,
                        &list[count++]));
  }
  for (unsigned level = 1; level < SKV_LEVELS; level++) {
    if (v->levels[level].count == 0) continue;
    OK(skv_run_iter_new(&w->tree, v, &v->levels[level], false, &fixture_err,
                        &list[count++]));
  }
  OK(skv_merge_new(list, count, &fixture_err, &merged));
  return merged;
}

static bool same_entry(const skv_entry *entry, unsigned i,
                       const model_entry *want) {
  uint8_t value[300];
  size_t size = want->is_deleted ? 0 : world_value(i, want->lsn, value);
  return skv_equal(entry->key, world_key(i)) && entry->lsn == want->lsn &&
         (entry->kind == SKV_KIND_DELETE) == want->is_deleted &&
         skv_equal(entry->value, skv_slice_of(value, size));
}

/* The next of the iterator that is no tombstone. A tombstone must be the
 * model's too. */
static int skip_tombstones(skv_iter *it, bool is_forward) {
  int rc = STRATAKV_OK;
  while (rc == STRATAKV_OK && it->valid && it->entry.kind == SKV_KIND_DELETE) {
    rc = is_forward ? skv_iter_next(it, &fixture_err)
                    : skv_iter_prev(it, &fixture_err);
  }
  return rc;
}

static void compare_scan(world *w, const skv_version *v, const model *want,
                         bool is_forward) {
  skv_iter *it = open_all(w, v);
  if (it == NULL) return;
  bool is_same = true;
  OK(is_forward ? skv_iter_first(it, &fixture_err)
                : skv_iter_last(it, &fixture_err));
  for (unsigned n = 0; n < KEYS && is_same; n++) {
    unsigned i = world_order[is_forward ? n : KEYS - 1 - n];
    if (want->keys[i].lsn == 0 || want->keys[i].is_deleted) continue;
    is_same = OK(skip_tombstones(it, is_forward)) && it->valid &&
              same_entry(&it->entry, i, &want->keys[i]);
    if (!is_same || !it->valid) break;
    is_same = OK(is_forward ? skv_iter_next(it, &fixture_err)
                            : skv_iter_prev(it, &fixture_err));
  }
  OK(skip_tombstones(it, is_forward));
  CHECK(is_same);
  CHECK(!it->valid);
  skv_iter_close(it);
}

/* The first run that has it decides (INV-5). */
static bool lookup(world *w, const skv_version *v, unsigned i, skv_seg_pin *pin,
                   skv_entry *entry) {
  skv_slice key = world_key(i);
  uint64_t hash = skv_hash(key);
  bool found = false;
  for (size_t r = 0; r < v->run_count && !found; r++) {
    OK(skv_run_get(&w->tree, &v->runs[r], key, hash, pin, &fixture_err, &found,
                   entry));
    CHECK(!found || entry->lsn <= v->runs[r].max_lsn);
  }
  for (unsigned level = 1; level < SKV_LEVELS && !found; level++) {
    OK(skv_run_get(&w->tree, &v->levels[level], key, hash, pin, &fixture_err,
                   &found, entry));
  }
  return found;
}

static void compare_lookups(world *w, const skv_version *v, const model *want) {
  skv_seg_pin pin = {0};
  for (unsigned n = 0; n < 60; n++) {
    unsigned i = (unsigned)skv_prng_below(&w->prng, KEYS);
    skv_entry entry;
    bool found = lookup(w, v, i, &pin, &entry);
    bool is_live = want->keys[i].lsn > 0 && !want->keys[i].is_deleted;
    CHECK(found ? same_entry(&entry, i, &want->keys[i]) : !is_live);
    skv_seg_pin_release(w->tree.cache, &pin);
  }
  skv_seg_pin_clear(w->tree.cache, &pin);
}

/* Seeks within the merge of all runs, trims included. */
static void compare_seeks(world *w, const skv_version *v, const model *want) {
  skv_iter *it = open_all(w, v);
  for (unsigned n = 0; n < 20 && it != NULL; n++) {
    unsigned at = (unsigned)skv_prng_below(&w->prng, KEYS);
    bool is_forward = skv_prng_below(&w->prng, 2);
    skv_slice key = world_key(world_order[at]);
    OK(is_forward ? skv_iter_seek(it, key, &fixture_err)
                  : skv_iter_seek_back(it, key, &fixture_err));
    OK(skip_tombstones(it, is_forward));
    for (; at < KEYS; at += is_forward ? 1u : -1u) {
      const model_entry *e = &want->keys[world_order[at]];
      if (e->lsn > 0 && !e->is_deleted) break;
    }
    CHECK(it->valid == (at < KEYS));
    if (it->valid && at < KEYS) {
      CHECK(same_entry(&it->entry, world_order[at],
                       &want->keys[world_order[at]]));
    }
  }
  skv_iter_close(it);
}

static void compare(world *w, const skv_version *v, const model *want) {
  compare_scan(w, v, want, true);
  compare_scan(w, v, want, false);
  compare_lookups(w, v, want);
  compare_seeks(w, v, want);
}

/* ---- A slice ------------------------------------------------------------- */

/* One step; false when there is nothing to do. */
static bool world_step(world *w, bool is_full) {
  skv_plan plan = {0};
  skv_products products = {0};
  skv_buf edit = {0};
  bool done = false;
  OK((is_full ? skv_pick_full : skv_pick)(w->version, &w->limits, &fixture_err,
                                          &plan));
  bool did = plan.count > 0;
  if (did) {
    did = OK(skv_compact_slice(&w->job, w->version, &plan, &fixture_err,
                               &products, &edit, &done));
    CHECK(edit.size > 0);
    world_publish(w, &products, plan.level, 0, 0, &edit);
  }
  skv_plan_clear(&plan);
  return did;
}

static void world_reopen(world *w) {
  skv_tree tree = w->tree;
  skv_version *again = NULL;
  skv_manifest_end end;
  char text[8192];
  tree.cache = NULL; /* cache ids are of the first tree's segments */
  snprintf(text, sizeof text, "%s", fixture_dump(w->version));
  if (OK(skv_manifest_read(&tree, fixture_id, 1, NULL, NULL, w->end.pos,
                           &fixture_err, &end, &again))) {
    SAME(fixture_dump(again), text);
    CHECK(end.pos == w->end.pos && end.chain == w->end.chain);
    skv_cache *cache = w->tree.cache;
    w->tree.cache = NULL;
    compare(w, again, &w->now);
    w->tree.cache = cache;
  }
  skv_version_unref(again);
}

static uint64_t world_bytes(const skv_version *v) {
  uint64_t bytes = 0;
  for (unsigned i = 0; i < SKV_LEVELS; i++) {
    bytes += skv_version_level_bytes(v, i);
  }
  return bytes;
}

/* After full compaction: one level, no tombstones, exactly the live keys. */
static void check_settled(world *w) {
  uint64_t live = 0, entries = 0;
  unsigned levels = 0;
  for (unsigned i = 0; i < KEYS; i++) {
    live += w->now.keys[i].lsn > 0 && !w->now.keys[i].is_deleted;
  }
  CHECK(w->version->run_count == 0);
  for (unsigned level = 1; level < SKV_LEVELS; level++) {
    const skv_run *run = &w->version->levels[level];
    levels += run->count > 0;
    for (size_t i = 0; i < run->count; i++) {
      entries += run->segs[i]->meta.entries;
      CHECK(run->segs[i]->meta.tombstones == 0);
      CHECK(run->segs[i]->trim.size == 0);
    }
  }
  CHECK(levels <= 1);
  CHECK(entries == live);
}

static unsigned trims_seen, empty_slices_seen;

static void count_trims(const skv_version *v) {
  for (size_t r = 0; r < v->run_count; r++) {
    for (size_t i = 0; i < v->runs[r].count; i++) {
      trims_seen += v->runs[r].segs[i]->trim.size > 0;
    }
  }
}

static void test_random(uint64_t seed) {
  skv_env *env = skv_env_mem_new();
  world w;
  if (!world_open(&w, env, seed)) return;
  skv_version *old = skv_version_ref(w.version);
  model old_model = w.now;
  for (unsigned round = 0; round < 25; round++) {
    world_flush(&w, round % 8 == 7 ? 95 : 20);
    compare(&w, w.version, &w.now);
    bool is_full = skv_prng_below(&w.prng, 6) == 0;
    unsigned steps = (unsigned)skv_prng_below(&w.prng, is_full ? 20 : 5);
    while (steps-- > 0 && world_step(&w, is_full)) {
      count_trims(w.version);
      compare(&w, w.version, &w.now);
    }
    if (round % 8 == 0) {
      compare(&w, old, &old_model);
      skv_version_unref(old);
      old = skv_version_ref(w.version);
      old_model = w.now;
      world_reopen(&w);
    }
  }
  unsigned n = 0;
  while (n < 200 && world_step(&w, false)) n++;
  CHECK(n < 200);
  uint64_t settled = world_bytes(w.version);
  while (n < 400 && world_step(&w, true)) n++;
  CHECK(n < 400);
  check_settled(&w);
  CHECK(settled <= 2 * world_bytes(w.version) + w.limits.level1_bytes);
  compare(&w, w.version, &w.now);
  compare(&w, old, &old_model);
  world_reopen(&w);
  skv_version_unref(old);
  world_close(&w);
  skv_env_mem_free(env);
}

/* ---- Slices -------------------------------------------------------------- */

/* A run over the keys from the `from`-th on. */
static void one_run(world *w, unsigned from, unsigned count, bool is_deleted) {
  flush_iter it = {.base.ops = &flush_ops};
  skv_products products = {0};
  skv_buf edit = {0};
  uint64_t id = w->lsn;
  for (unsigned i = from; i < from + count; i++) {
    model_entry change = {w->lsn, is_deleted};
    it.changes.keys[world_order[i]] = change;
    w->now.keys[world_order[i]] = change;
    w->lsn += 8;
  }
  OK(skv_produce(&w->job, &it.base, false, &fixture_err, &products));
  world_publish(w, &products, 0, id, 0, &edit);
}

/* Four runs over the same keys, the newest of tombstones only if asked. */
static void four_runs(world *w, bool is_deleted) {
  for (unsigned run = 0; run < 4; run++) {
    one_run(w, 0, 200, is_deleted && run == 3);
  }
}

static uint64_t fake_time;
static uint64_t fake_now(skv_env *env) {
  (void)env;
  return fake_time += SKV_SLICE_NS / 4;
}

/* The steps that a full compaction of four_runs takes. */
static unsigned count_steps(world *w, bool is_deleted) {
  unsigned steps = 0;
  four_runs(w, is_deleted);
  while (steps < 1000 && world_step(w, true)) {
    steps++;
    compare(w, w->version, &w->now);
    empty_slices_seen += is_deleted && w->version->levels[1].count == 0;
  }
  check_settled(w);
  return steps;
}

static void test_limits(void) {
  skv_env *env = skv_env_mem_new();
  world w;
  if (!world_open(&w, env, 1)) return;
  w.job.slice_bytes = 0;
  w.job.segment_bytes = 0;
  w.limits.level1_bytes = 1 << 30;
  CHECK(count_steps(&w, false) == 1);
  CHECK(w.version->levels[1].count == 1);
  w.job.slice_bytes = 1;
  unsigned steps = count_steps(&w, false);
  CHECK(steps > 3 && steps <= 200);
  w.job.slice_bytes = 0;
  CHECK(count_steps(&w, true) == 1);
  CHECK(world_bytes(w.version) == 0);
  /* The clock: a slice may drop everything it reads and still end. */
  env->now = fake_now;
  w.job.seg.block_size = 256;
  steps = count_steps(&w, true);
  CHECK(steps >= 1 && steps < 100);
  world_close(&w);
  skv_env_mem_free(env);
}

/* Slices of one key with a small neighbour before the upper input: it must not
 * be the neighbour that is written again and again. */
static void test_neighbour(void) {
  skv_env *env = skv_env_mem_new();
  world w;
  if (!world_open(&w, env, 1)) return;
  w.limits.level1_bytes = 400 << 10;
  w.job.segment_bytes = 0;
  w.job.slice_bytes = 1;
  one_run(&w, 0, 100, false);
  unsigned steps = 0;
  while (steps < 300 && world_step(&w, false)) steps++;
  CHECK(steps == 1); /* moved */
  one_run(&w, 100, 100, false);
  while (steps < 300 && world_step(&w, false)) steps++;
  CHECK(steps > 10 && steps < 300);
  CHECK(w.version->run_count == 0);
  compare(&w, w.version, &w.now);
  world_close(&w);
  skv_env_mem_free(env);
}

static unsigned yields;
static int yield_once(void *arg) {
  (void)arg;
  yields++;
  return 1;
}

/* 100 keys with 64 KiB each. */
static int wide_show(skv_iter *base, unsigned at) {
  static const uint8_t value[64 << 10];
  flush_iter *it = (flush_iter *)base;
  it->at = at;
  base->valid = at < 100;
  base->entry = (skv_entry){.key = world_key(world_order[at]),
                            .value = {value, sizeof value},
                            .lsn = 1,
                            .kind = SKV_KIND_PUT};
  return STRATAKV_OK;
}
static int wide_first(skv_iter *it, skv_err *err) {
  (void)err;
  return wide_show(it, 0);
}
static int wide_next(skv_iter *it, skv_err *err) {
  (void)err;
  return wide_show(it, ((flush_iter *)it)->at + 1);
}
static const skv_iter_ops wide_ops = {.first = wide_first, .next = wide_next};

/* After a MiB of the input, in the third segment. */
static void test_cancel(void) {
  skv_env *env = skv_env_mem_new();
  world w;
  flush_iter it = {.base.ops = &wide_ops};
  skv_products products = {0};
  if (!world_open(&w, env, 1)) return;
  w.job.seg.compression = 0;
  w.job.segment_bytes = 400 << 10;
  w.job.yield = yield_once;
  FAILS(STRATAKV_INTERRUPT,
        skv_produce(&w.job, &it.base, false, &fixture_err, &products));
  CHECK(yields == 1 && it.at == 15 && products.count == 0);
  w.job.yield = NULL;
  OK(skv_produce(&w.job, &it.base, false, &fixture_err, &products));
  CHECK(products.count >= 14 && products.count <= 16);
  skv_products_clear(&products);
  world_close(&w);
  skv_env_mem_free(env);
}

/* ---- Threads ------------------------------------------------------------- */

typedef struct reader {
  world *w;
  const skv_version *version;
  skv_thread thread;
  bool is_right;
} reader;

static void *reader_run(void *arg) {
  reader *r = arg;
  skv_version *version = skv_version_ref(r->version);
  skv_seg_pin pin = {0};
  r->is_right = true;
  for (unsigned i = 0; i < 200; i++) {
    skv_slice key = {(const uint8_t *)"", 0};
    uint8_t bytes[32];
    for (size_t run = 0; run < version->run_count; run++) {
      const skv_segref *ref = version->runs[run].segs[0];
      size_t size = ref->meta.min_key.size;
      skv_entry entry;
      bool found;
      memcpy(bytes, ref->meta.min_key.data, size);
      key = skv_slice_of(bytes, size);
      int rc = skv_run_get(&r->w->tree, &version->runs[run], key, skv_hash(key),
                           &pin, NULL, &found, &entry);
      r->is_right &= rc == STRATAKV_OK && found;
      skv_seg_pin_release(r->w->tree.cache, &pin);
    }
  }
  skv_seg_pin_clear(r->w->tree.cache, &pin);
  skv_version_unref(version);
  return NULL;
}

/* First uses of the same segments by several threads, and their counts. */
static void test_threads(void) {
  skv_env *env = skv_env_mem_new();
  world w;
  reader readers[4];
  if (!world_open(&w, env, 2)) return;
  four_runs(&w, false);
  for (int i = 0; i < 4; i++) {
    readers[i] = (reader){.w = &w, .version = w.version};
    OK(skv_thread_start(&readers[i].thread, "reader", reader_run, &readers[i],
                        &fixture_err));
  }
  for (int i = 0; i < 4; i++) {
    skv_thread_join(&readers[i].thread);
    CHECK(readers[i].is_right);
  }
  world_close(&w);
  skv_env_mem_free(env);
}

/* ---- Faults -------------------------------------------------------------- */

typedef struct countdown {
  unsigned left;
  bool fired;
} countdown;

static int countdown_hook(void *arg, size_t size) {
  countdown *c = arg;
  (void)size;
  if (c->left == 0 || --c->left > 0) return 0;
  c->fired = true;
  return 1;
}

/* One slice, carried out or not, that is thrown away. */
static int try_slice(world *w, const skv_plan *plan) {
  skv_products products = {0};
  skv_buf edit = {0};
  bool done;
  int rc = skv_compact_slice(&w->job, w->version, plan, &fixture_err, &products,
                             &edit, &done);
  CHECK((products.count > 0) == (rc == STRATAKV_OK));
  CHECK((edit.size > 0) == (rc == STRATAKV_OK));
  skv_products_clear(&products);
  skv_buf_clear(&edit);
  return rc;
}

static void test_no_memory(void) {
  skv_env *env = skv_env_mem_new();
  world w;
  if (!world_open(&w, env, 2)) return;
  skv_plan plan = {0};
  four_runs(&w, false);
  OK(skv_pick_full(w.version, &w.limits, &fixture_err, &plan));
  countdown c = {0, true};
  unsigned n = 0, failures = 0;
  while (c.fired && n < 3000) {
    c = (countdown){++n, false};
    skv_alloc_set_hook(countdown_hook, &c);
    int rc = try_slice(&w, &plan);
    skv_alloc_set_hook(NULL, NULL);
    /* Without memory for a cached block the reader does without. */
    if (!CHECK(rc == STRATAKV_NOMEM || rc == STRATAKV_OK)) break;
    failures += rc == STRATAKV_NOMEM;
  }
  CHECK(failures > 20 && n < 3000);
  compare(&w, w.version, &w.now);
  skv_plan_clear(&plan);
  world_close(&w);
  skv_env_mem_free(env);
}

static void test_no_write(void) {
  skv_env *mem = skv_env_mem_new();
  skv_env *env = skv_env_fault_new(mem);
  world w;
  if (!world_open(&w, env, 4)) return;
  skv_plan plan = {0};
  four_runs(&w, false);
  OK(skv_pick_full(w.version, &w.limits, &fixture_err, &plan));
  uint64_t fired = 1;
  unsigned n = 0;
  while (fired && n < 3000) {
    skv_fault fault = {.file = "*.tmp", .nth = ++n, .code = STRATAKV_FULL};
    skv_env_fault_set(env, &fault);
    int rc = try_slice(&w, &plan);
    fired = skv_env_fault_fired(env);
    if (!CHECK(rc == (fired ? STRATAKV_FULL : STRATAKV_OK))) break;
  }
  CHECK(n > 3 && n < 3000);
  skv_env_fault_set(env, NULL);
  compare(&w, w.version, &w.now);
  skv_plan_clear(&plan);
  world_close(&w);
  skv_env_fault_free(env);
  skv_env_mem_free(mem);
}

int main(void) {
  size_t before = skv_alloc_count();
  world_sort_keys();
  for (uint64_t seed = 1; seed <= 12; seed++) test_random(seed);
  CHECK(trims_seen > 20);
  test_limits();
  CHECK(empty_slices_seen > 0);
  test_neighbour();
  test_cancel();
  test_threads();
  test_no_memory();
  test_no_write();
  CHECK(skv_alloc_count() == before);
  return check_end();
}
