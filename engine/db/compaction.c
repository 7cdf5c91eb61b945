/*
 * Compaction in slices (P17): pick, merge a slice, publish it, look again.
 */
#include "engine/db/db.h"
#include "engine/util/point.h"

#define COMPACT_GC_TRIES 50
#define COMPACT_GC_NS 1000000u

/* Between pieces of work: a flush goes first, and a stop ends the slice. */
static int compact_yield(void *arg) {
  skv_db *db = arg;
  if (atomic_load(&db->stopping)) return 1;
  SKV_POINT("compact.yielded");
  skv_mutex_lock(&db->state_mutex);
  bool flush = db->state->version->wal_count > 1;
  skv_mutex_unlock(&db->state_mutex);
  bool did = flush;
  while (did && skv_flush_oldest(db, &did, NULL) == STRATAKV_OK) {
  }
  return 0;
}

typedef struct compact_turn {
  skv_db *db;
  skv_products products;
  skv_buf edit; /* what the slice removes and trims */
  skv_plan *plan;
} compact_turn;

static bool compact_same(const skv_run *run, const skv_segref *ref) {
  for (size_t i = 0; i < run->count; i++)
    if (run->segs[i]->number == ref->number)
      return skv_equal(run->segs[i]->trim, ref->trim);
  return false;
}

static bool compact_still_there(const skv_version *version,
                                const skv_segref *ref) {
  if (ref->level != 0) return compact_same(&version->levels[ref->level], ref);
  for (size_t r = 0; r < version->run_count; r++)
    if (compact_same(&version->runs[r], ref)) return true;
  return false;
}

/* Revalidate (P3): the inputs must be what they were. COMPACT keeps others
 * from touching them, so anything else is our own mistake or damage. */
static int compact_build(void *arg, const skv_version *version, skv_buf *edit,
                         skv_err *err) {
  compact_turn *turn = arg;
  for (size_t i = 0; i < turn->plan->count; i++)
    if (!compact_still_there(version, turn->plan->inputs[i]))
      return SKV_ERROR(err, STRATAKV_BUSY, "compaction inputs changed");
  skv_buf_append(edit, turn->edit.data, turn->edit.size);
  uint64_t next = version->next_file;
  int rc = skv_head_name(turn->db, &turn->products, turn->plan->level, 0, 0,
                         &next, edit, err);
  if (rc == STRATAKV_OK) skv_edit_next(edit, next);
  SKV_POINT("compact.named");
  return rc;
}

static int compact_slice(skv_db *db, const skv_version *version, skv_plan *plan,
                         skv_err *err) {
  compact_turn turn = {.db = db, .plan = plan};
  skv_job job;
  bool done;
  skv_job_init(db, &job);
  skv_disk_fit(db, plan, &job);
  job.yield = db->has_worker ? compact_yield : NULL;
  int rc = skv_compact_slice(&job, version, plan, err, &turn.products,
                             &turn.edit, &done);
  SKV_POINT("compact.written");
  uint64_t bytes = 0;
  for (size_t i = 0; i < turn.products.count; i++)
    bytes += turn.products.list[i].meta.size;
  if (rc == STRATAKV_OK) rc = skv_head_edit(db, compact_build, &turn, err);
  if (rc == STRATAKV_OK) {
    SKV_POINT("compact.published");
    atomic_fetch_add(&db->counters.compactions, 1);
    atomic_fetch_add(&db->counters.compact_bytes, bytes);
    skv_products_clear(&turn.products);
  } else {
    skv_products_discard(db, &turn.products);
  }
  skv_buf_clear(&turn.edit);
  return rc;
}

void skv_picker_limits_of(const skv_db *db, const skv_version *version,
                          skv_picker_limits *limits) {
  *limits = (skv_picker_limits){.level0_runs = 4,
                                .level1_bytes = 64u << 20,
                                .fanout = 8,
                                .unflushed = version->wals[0].start};
  if (db->options.wal_size < (64u << 20))
    limits->level1_bytes = db->options.wal_size * 2;
}

/* What to merge: two runs at a time if there is no space for more. */
static int compact_pick(skv_db *db, const skv_version *version, bool full,
                        skv_err *err, skv_plan *plan) {
  int (*pick)(const skv_version *, const skv_picker_limits *, skv_err *,
              skv_plan *) = full ? skv_pick_full : skv_pick;
  skv_picker_limits limits;
  skv_picker_limits_of(db, version, &limits);
  int rc = pick(version, &limits, err, plan);
  if (rc != STRATAKV_OK || skv_disk_holds(db, plan)) return rc;
  skv_plan_clear(plan);
  limits.is_narrow = true;
  return pick(version, &limits, err, plan);
}

/* The next slice may need what this one gives back. */
static int compact_gc(skv_db *db, skv_err *err) {
  int rc = skv_gc(db, err);
  for (int i = 0; i < COMPACT_GC_TRIES && rc == STRATAKV_OK; i++) {
    if (!atomic_load(&db->gc_again) || skv_disk_keeps_log(db)) break;
    db->env->sleep(db->env, COMPACT_GC_NS);
    rc = skv_gc(db, err);
  }
  return rc;
}

/* A flush under way holds a state, and with it what the slice replaces; where
 * space is short it comes to its end first, and none begins meanwhile. */
static int compact_plan(skv_db *db, skv_state *state, skv_plan *plan,
                        skv_err *err) {
  bool is_alone = skv_disk_spare(db) < skv_plan_space(plan);
  if (is_alone && !skv_flush_exclude(db))
    return SKV_ERROR(err, STRATAKV_BUSY,
                     "a flush needs the space that is left");
  int rc = compact_slice(db, state->version, plan, err);
  if (is_alone) skv_flush_admit(db);
  return rc;
}

static int compact_locked(skv_db *db, bool full, bool *did, skv_err *err) {
  SKV_OPERATION("compaction");
  int rc = skv_head_follow(db, err);
  if (rc != STRATAKV_OK) return rc;
  skv_state *state = skv_state_ref(db);
  skv_plan plan = {0};
  rc = compact_pick(db, state->version, full, err, &plan);
  if (rc == STRATAKV_OK && plan.count > 0) {
    SKV_POINT("compact.picked");
    rc = compact_plan(db, state, &plan, err);
    *did = rc == STRATAKV_OK;
  }
  skv_plan_clear(&plan);
  skv_state_unref(state);
  if (*did) {
    rc = compact_gc(db, err);
    skv_state_bury(db); /* else what it deleted takes space until the worker,
                           which may wait for this compaction, comes by */
  }
  return rc;
}

/* One slice. *did false: nothing to do, or (BUSY) another process does it. */
int skv_compact_step(skv_db *db, bool full, bool *did, skv_err *err) {
  *did = false;
  skv_mutex_lock(&db->compact_mutex);
  int rc = skv_store_lock(db->store, SKV_LOCK_COMPACT, SKV_EXCLUSIVE, err);
  if (rc == STRATAKV_OK) {
    rc = compact_locked(db, full, did, err);
    (void)skv_store_lock(db->store, SKV_LOCK_COMPACT, SKV_UNLOCK, NULL);
  } else if (rc == STRATAKV_BUSY) {
    SKV_ERROR(err, rc, "another process is compacting");
  }
  skv_mutex_unlock(&db->compact_mutex);
  return rc;
}
