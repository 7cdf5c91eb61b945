/*
 * The compaction picker. See picker.h for the policy; nothing here but it.
 */
#include "engine/tree/picker.h"

#include <assert.h>

#include "engine/util/alloc.h"

#define PICK_LEVEL0_RUNS 4u
#define PICK_LEVEL1_BYTES (UINT64_C(64) << 20)
#define PICK_FANOUT 8u
#define PICK_FLOOR 64.0       /* level1_bytes / this: least useful target */
#define PICK_SMALL 16.0       /* level1_bytes / this: a small segment */
#define PICK_LEVEL0_SHARE 4.0 /* level 0 may be 1/this of what is below */

/* What the policy knows of a version. */
typedef struct picker {
  const skv_version *version;
  double level0_runs;
  double level1_bytes;
  double fanout;
  unsigned bottom;  /* the last level with data, 0 if none below level 0 */
  size_t first_run; /* level-0 runs from here on (older ones) may be taken */
  bool is_narrow;
  double bytes[SKV_LEVELS];
  double weight[SKV_LEVELS];  /* bytes, and what tombstones may hide */
  double average[SKV_LEVELS]; /* bytes of an entry below the level */
  double target[SKV_LEVELS];
} picker;

/* ---- What is there ------------------------------------------------------- */

static bool pick_is_trimmed(const skv_run *run) {
  for (size_t i = 0; i < run->count; i++) {
    if (run->segs[i]->trim.size > 0) return true;
  }
  return false;
}

/* Add up a run's segments. */
static void pick_add_run(const skv_run *run, double *bytes, double *entries,
                         double *tombstones) {
  for (size_t i = 0; i < run->count; i++) {
    const skv_seg_meta *meta = &run->segs[i]->meta;
    *bytes += (double)meta->size;
    *entries += (double)meta->entries;
    *tombstones += (double)meta->tombstones;
  }
}

/* Bytes and weights, from the last level upwards, since a tombstone weighs
 * what is below it. */
static void pick_weigh(picker *p) {
  const skv_version *v = p->version;
  double below = 0;
  double below_entries = 0;
  for (unsigned level = SKV_LEVELS; level-- > 0;) {
    double entries = 0;
    double tombstones = 0;
    p->average[level] = below_entries > 0 ? below / below_entries : 0;
    if (level > 0) {
      pick_add_run(&v->levels[level], &p->bytes[level], &entries, &tombstones);
    }
    for (size_t i = p->first_run; level == 0 && i < v->run_count; i++) {
      pick_add_run(&v->runs[i], &p->bytes[0], &entries, &tombstones);
    }
    p->weight[level] = p->bytes[level] + tombstones * p->average[level];
    below += p->bytes[level];
    below_entries += entries;
    if (level > p->bottom && p->bytes[level] > 0) p->bottom = level;
  }
}

static double pick_fixed_target(const picker *p, unsigned level) {
  double target = p->level1_bytes;
  for (unsigned i = 1; i < level; i++) target *= p->fanout;
  return target;
}

static void pick_set_targets(picker *p) {
  double share = p->bytes[p->bottom];
  for (unsigned level = p->bottom; level > 0; level--) {
    double target = pick_fixed_target(p, level);
    if (level < p->bottom) {
      share /= p->fanout;
      if (share < target) target = share;
    }
    double least = p->level1_bytes / PICK_FLOOR;
    p->target[level] = target > least ? target : least;
  }
}

/* The runs that may be taken: P5. */
static size_t pick_first_run(const skv_version *v, uint64_t unflushed) {
  size_t first = v->run_count;
  if (unflushed == UINT64_MAX) return 0;
  while (first > 0 && v->runs[first - 1].id < unflushed) first--;
  return first;
}

static void pick_init(picker *p, const skv_version *version,
                      const skv_picker_limits *limits) {
  memset(p, 0, sizeof *p);
  p->version = version;
  p->level0_runs = limits->level0_runs ? limits->level0_runs : PICK_LEVEL0_RUNS;
  p->level1_bytes =
      (double)(limits->level1_bytes ? limits->level1_bytes : PICK_LEVEL1_BYTES);
  p->fanout = limits->fanout == 0  ? PICK_FANOUT
              : limits->fanout < 2 ? 2
                                   : limits->fanout;
  p->first_run = pick_first_run(version, limits->unflushed);
  p->is_narrow = limits->is_narrow;
  pick_weigh(p);
  pick_set_targets(p);
}

/* Where the runs of a merge that was begun start, run_count if there is none. */
static size_t pick_begun_run(const picker *p) {
  size_t i = p->first_run;
  while (i < p->version->run_count && !pick_is_trimmed(&p->version->runs[i])) {
    i++;
  }
  return i;
}

/* The runs to take: of a merge that was begun, or all that may be. */
static size_t pick_take_run(const picker *p) {
  size_t begun = pick_begun_run(p);
  if (p->is_narrow && p->first_run < p->version->run_count)
    return p->version->run_count - 1;
  return begun < p->version->run_count ? begun : p->first_run;
}

static bool pick_is_heavy(const skv_segref *ref) {
  return ref->meta.tombstones > ref->meta.entries / 2;
}

/* Worth a merge though its level is not over its target. */
static bool pick_is_wanted(const skv_segref *ref) {
  return ref->trim.size > 0 || pick_is_heavy(ref);
}

/* ---- Overlap ------------------------------------------------------------- */

typedef struct pick_range {
  skv_slice start;
  skv_slice end; /* inclusive */
} pick_range;

static pick_range pick_range_of(const skv_segref *ref) {
  pick_range range = {skv_segref_start(ref), ref->meta.max_key};
  return range;
}

static pick_range pick_hull(skv_segref *const *segs, size_t count) {
  pick_range hull = pick_range_of(segs[0]);
  for (size_t i = 1; i < count; i++) {
    pick_range range = pick_range_of(segs[i]);
    if (skv_compare(range.start, hull.start) < 0) hull.start = range.start;
    if (skv_compare(range.end, hull.end) > 0) hull.end = range.end;
  }
  return hull;
}

/* The segments of a run that overlap a range: [*from, *to). */
static void pick_overlap(const skv_run *run, pick_range range, size_t *from,
                         size_t *to) {
  size_t low = 0;
  size_t high = run->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (skv_compare(run->segs[middle]->meta.max_key, range.start) < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  *from = low;
  while (low < run->count &&
         skv_compare(skv_segref_start(run->segs[low]), range.end) <= 0) {
    low++;
  }
  *to = low;
}

static bool pick_overlaps(const skv_run *run, pick_range range) {
  size_t from;
  size_t to;
  pick_overlap(run, range, &from, &to);
  return from < to;
}

static double pick_overlap_bytes(const skv_run *run, pick_range range) {
  size_t from;
  size_t to;
  double bytes = 0;
  pick_overlap(run, range, &from, &to);
  for (; from < to; from++) bytes += (double)run->segs[from]->meta.size;
  return bytes;
}

/* ---- Plans --------------------------------------------------------------- */

static int pick_add(skv_plan *plan, skv_segref *const *segs, size_t count,
                    skv_err *err) {
  if (count == 0) return STRATAKV_OK;
  skv_segref **inputs =
      skv_realloc(plan->inputs, (plan->count + count) * sizeof *plan->inputs);
  if (inputs == NULL) return skv_error_nomem(err);
  memcpy(inputs + plan->count, segs, count * sizeof *segs);
  plan->inputs = inputs;
  plan->count += count;
  return STRATAKV_OK;
}

uint64_t skv_plan_space(const skv_plan *plan) {
  uint64_t space = 0, largest = 0;
  for (size_t i = 0; !plan->move && i < plan->count; i++) {
    const skv_segref *ref = plan->inputs[i];
    bool is_next = i > 0 && (ref->level != plan->inputs[i - 1]->level ||
                             ref->run != plan->inputs[i - 1]->run);
    if (is_next) space += largest;
    if (is_next) largest = 0;
    if (ref->meta.size > largest) largest = ref->meta.size;
  }
  return space + largest;
}

void skv_plan_clear(skv_plan *plan) {
  skv_free(plan->inputs);
  memset(plan, 0, sizeof *plan);
}

/* Whether the plan, if it takes any of level 0, takes the oldest run. */
static bool pick_takes_oldest(const picker *p, const skv_plan *plan) {
  bool any = false;
  for (size_t i = 0; i < plan->upper; i++) {
    const skv_segref *ref = plan->inputs[i];
    if (ref->level > 0) continue;
    any = true;
    if (ref->run == p->version->runs[p->version->run_count - 1].id) return true;
  }
  return !any;
}

/*
 * INV-6: nothing older than the plan's entries can be elsewhere. Deeper levels
 * are older; of level 0 a plan takes all runs down to the oldest, so that only
 * younger ones are left out.
 */
static bool pick_is_bottom(const picker *p, const skv_plan *plan) {
  bool takes_oldest = pick_takes_oldest(p, plan);
  assert(takes_oldest);
  pick_range hull = pick_hull(plan->inputs, plan->count);
  for (unsigned level = plan->level + 1; level < SKV_LEVELS; level++) {
    if (pick_overlaps(&p->version->levels[level], hull)) return false;
  }
  return takes_oldest;
}

/* Whether the uppers would be a small segment. Not if one is trimmed: then the
 * neighbour is what a slice of this merge has just written. */
static bool pick_is_small(const picker *p, const skv_plan *plan) {
  double bytes = 0;
  for (size_t i = 0; i < plan->upper; i++) {
    if (plan->inputs[i]->trim.size > 0) return false;
    bytes += (double)plan->inputs[i]->meta.size;
  }
  return bytes < p->level1_bytes / PICK_SMALL;
}

/* Whether no two upper inputs overlap. Within a run none do, so a plan of one
 * run is done quickly; otherwise there are few. */
static bool pick_is_disjoint(const skv_plan *plan) {
  for (size_t i = 0; i < plan->upper; i++) {
    const skv_segref *a = plan->inputs[i];
    for (size_t j = i + 1; j < plan->upper; j++) {
      const skv_segref *b = plan->inputs[j];
      if (a->level == b->level && a->run == b->run) continue;
      if (skv_compare(skv_segref_start(a), b->meta.max_key) <= 0 &&
          skv_compare(skv_segref_start(b), a->meta.max_key) <= 0) {
        return false;
      }
    }
  }
  return true;
}

/* Whether any upper input overlaps something in `level`. */
static bool pick_meets(const picker *p, const skv_plan *plan, unsigned level) {
  for (size_t i = 0; i < plan->upper; i++) {
    pick_range range = pick_range_of(plan->inputs[i]);
    if (pick_overlaps(&p->version->levels[level], range)) return true;
  }
  return false;
}

static bool pick_has_tombstones(const skv_plan *plan) {
  for (size_t i = 0; i < plan->upper; i++) {
    if (plan->inputs[i]->meta.tombstones > 0) return true;
  }
  return false;
}

/* The first level whose fixed target holds that much. */
static unsigned pick_level_for(const picker *p, double bytes) {
  unsigned level = 1;
  while (level < SKV_LEVELS - 1 && pick_fixed_target(p, level) < bytes) {
    level++;
  }
  return level;
}

/* Where the upper inputs may go without being rewritten, 0 if nowhere: the
 * deepest level down to `last` with no overlap in it and on the way. */
static unsigned pick_move_level(const picker *p, const skv_plan *plan,
                                unsigned last) {
  if (!pick_is_disjoint(plan)) return 0;
  unsigned level = plan->level;
  if (pick_meets(p, plan, level)) return 0;
  while (level < last && !pick_meets(p, plan, level + 1)) level++;
  return level;
}

/* Segments of `level` that overlap the uppers, and a small one before them: it
 * is the place where small ones would pile up. */
static int pick_add_lower(const picker *p, skv_plan *plan, bool is_small,
                          skv_err *err) {
  const skv_run *run = &p->version->levels[plan->level];
  size_t from;
  size_t to;
  pick_overlap(run, pick_hull(plan->inputs, plan->upper), &from, &to);
  if (is_small && from > 0 &&
      (double)run->segs[from - 1]->meta.size < p->level1_bytes / PICK_SMALL) {
    from--;
  }
  if (from == to) return STRATAKV_OK; /* an empty level has no array */
  return pick_add(plan, run->segs + from, to - from, err);
}

/* Upper inputs are there: decide between moving and merging. `last`: the
 * deepest level that a move may go to. */
static int pick_finish(const picker *p, skv_plan *plan, unsigned last,
                       skv_err *err) {
  plan->upper = plan->count;
  bool is_small = pick_is_small(p, plan);
  unsigned level = pick_move_level(p, plan, last);
  int rc = pick_add_lower(p, plan, is_small, err);
  if (rc != STRATAKV_OK) return rc;
  plan->bottom = pick_is_bottom(p, plan);
  if (level == 0 || (is_small && plan->count > 1)) return STRATAKV_OK;
  unsigned merge_level = plan->level;
  plan->level = level;
  bool would_drop = pick_is_bottom(p, plan) && pick_has_tombstones(plan);
  if (would_drop) {
    plan->level = merge_level;
    return STRATAKV_OK;
  }
  plan->move = true;
  plan->count = plan->upper; /* a hull may hold segments that nothing meets */
  plan->bottom = pick_is_bottom(p, plan);
  return STRATAKV_OK;
}

static int pick_level0(const picker *p, skv_err *err, skv_plan *plan) {
  const skv_version *v = p->version;
  plan->from = 0;
  plan->level = 1;
  for (size_t i = pick_take_run(p); i < v->run_count; i++) {
    int rc = pick_add(plan, v->runs[i].segs, v->runs[i].count, err);
    if (rc != STRATAKV_OK) return rc;
  }
  unsigned last = p->bottom ? p->bottom : pick_level_for(p, p->bytes[0]);
  return pick_finish(p, plan, last, err);
}

/* ---- One level ----------------------------------------------------------- */

/* How much is to be rewritten for what a segment brings; less is better. */
static double pick_cost(const picker *p, const skv_segref *ref) {
  double weight = (double)ref->meta.size +
                  (double)ref->meta.tombstones * p->average[ref->level];
  double below = 0;
  if (ref->level + 1 < SKV_LEVELS) {
    below = pick_overlap_bytes(&p->version->levels[ref->level + 1],
                               pick_range_of(ref));
  }
  return below / weight;
}

/* A trimmed segment, else the cheapest; of a level that is only looked at for
 * wanted ones, of these. */
static skv_segref *pick_seg(const picker *p, unsigned level, bool is_wanted) {
  const skv_run *run = &p->version->levels[level];
  skv_segref *best = NULL;
  double best_cost = 0;
  for (size_t i = 0; i < run->count; i++) {
    skv_segref *ref = run->segs[i];
    if (ref->trim.size > 0) return ref;
    if (is_wanted && !pick_is_heavy(ref)) continue;
    double cost = pick_cost(p, ref);
    if (best == NULL || cost < best_cost) {
      best = ref;
      best_cost = cost;
    }
  }
  return best;
}

static bool pick_has_wanted(const picker *p, unsigned level) {
  const skv_run *run = &p->version->levels[level];
  for (size_t i = 0; i < run->count; i++) {
    if (pick_is_wanted(run->segs[i])) return true;
  }
  return false;
}

/* A plan that writes one segment again, without what is not shown. */
static int pick_rewrite(const picker *p, skv_segref *ref, skv_err *err,
                        skv_plan *plan) {
  plan->from = plan->level = ref->level;
  int rc = pick_add(plan, &ref, 1, err);
  plan->upper = plan->count;
  if (rc == STRATAKV_OK) plan->bottom = pick_is_bottom(p, plan);
  return rc;
}

static bool pick_is_lowest(const picker *p, const skv_segref *ref) {
  for (unsigned level = ref->level + 1; level < SKV_LEVELS; level++) {
    if (pick_overlaps(&p->version->levels[level], pick_range_of(ref))) {
      return false;
    }
  }
  return true;
}

static int pick_level(const picker *p, unsigned level, bool is_over,
                      skv_err *err, skv_plan *plan) {
  skv_segref *ref = pick_seg(p, level, !is_over);
  if (!is_over && pick_is_lowest(p, ref)) {
    return pick_rewrite(p, ref, err, plan);
  }
  plan->from = level;
  plan->level = level + 1;
  int rc = pick_add(plan, &ref, 1, err);
  if (rc != STRATAKV_OK) return rc;
  unsigned last = p->bottom > level ? p->bottom : level + 1;
  return pick_finish(p, plan, last, err);
}

/* ---- Which --------------------------------------------------------------- */

static double pick_score0(const picker *p) {
  size_t first = p->first_run;
  if (first == p->version->run_count) return 0;
  double score = (double)(p->version->run_count - first) / p->level0_runs;
  double bytes = p->bytes[0] / p->level1_bytes;
  if (bytes > score) score = bytes;
  double below = 0;
  for (unsigned i = 1; i < SKV_LEVELS; i++) below += p->bytes[i];
  double share = below / PICK_LEVEL0_SHARE;
  double least = p->level1_bytes / PICK_FLOOR;
  bool is_wanted = p->weight[0] > (share > least ? share : least) ||
                   pick_begun_run(p) < p->version->run_count;
  return is_wanted && score < 1 ? 1 : score;
}

/* *is_over: it is its size, and not a wanted segment. */
static double pick_score(const picker *p, unsigned level, bool *is_over) {
  *is_over = false;
  if (p->bytes[level] <= 0) return 0;
  double score =
      level == SKV_LEVELS - 1 ? 0 : p->weight[level] / p->target[level];
  *is_over = score > 1;
  if (score > 1) return score;
  return pick_has_wanted(p, level) ? 1 : 0;
}

int skv_pick(const skv_version *version, const skv_picker_limits *limits,
             skv_err *err, skv_plan *plan) {
  picker p;
  memset(plan, 0, sizeof *plan);
  pick_init(&p, version, limits);
  double best = pick_score0(&p);
  unsigned best_level = 0;
  bool best_over = false;
  for (unsigned level = 1; level < SKV_LEVELS; level++) {
    bool is_over;
    double score = pick_score(&p, level, &is_over);
    if (score < 1 || score <= best) continue;
    best = score;
    best_level = level;
    best_over = is_over;
  }
  if (best < 1) return STRATAKV_OK;
  if (pick_begun_run(&p) < version->run_count) best_level = 0;
  int rc = best_level == 0 ? pick_level0(&p, err, plan)
                           : pick_level(&p, best_level, best_over, err, plan);
  plan->score = best;
  if (rc != STRATAKV_OK) skv_plan_clear(plan);
  return rc;
}

/* ---- Everything ---------------------------------------------------------- */

/* The newest source of a merge that was begun: a level, 0 for level 0,
 * SKV_LEVELS if there is none. */
static unsigned pick_full_first(const picker *p) {
  if (pick_begun_run(p) < p->version->run_count) return 0;
  for (unsigned level = 1; level < SKV_LEVELS; level++) {
    if (pick_is_trimmed(&p->version->levels[level])) return level;
  }
  return SKV_LEVELS;
}

/* Where everything goes: what was begun goes on to where it went, though its
 * inputs and outputs together are too much for that level. */
static unsigned pick_full_target(const picker *p, double bytes) {
  unsigned target = pick_level_for(p, bytes);
  bool is_begun = pick_full_first(p) < SKV_LEVELS && p->bottom > 0;
  return is_begun || target < p->bottom ? p->bottom : target;
}

/* The deepest source above `target`: what is merged into it first. */
static unsigned pick_narrow_first(const picker *p, unsigned target) {
  unsigned level = target - 1;
  while (level > 0 && p->bytes[level] <= 0) level--;
  return level;
}

/* All that is above `target`, newest first. */
static int pick_full_upper(const picker *p, unsigned target, skv_err *err,
                           skv_plan *plan) {
  const skv_version *v = p->version;
  unsigned first = pick_full_first(p);
  int rc = STRATAKV_OK;
  plan->level = target;
  if (first >= target) first = 0; /* none above it */
  if (p->is_narrow) first = pick_narrow_first(p, target);
  size_t i = first == 0 ? pick_take_run(p) : v->run_count;
  for (; rc == STRATAKV_OK && i < v->run_count; i++) {
    rc = pick_add(plan, v->runs[i].segs, v->runs[i].count, err);
  }
  unsigned level = p->is_narrow && first == 0 ? target : first;
  for (level = level ? level : 1; level < target; level++) {
    const skv_run *run = &v->levels[level];
    if (rc == STRATAKV_OK) rc = pick_add(plan, run->segs, run->count, err);
  }
  if (plan->count > 0) plan->from = plan->inputs[0]->level;
  return rc;
}

/* What is left when all data is in one level. */
static int pick_full_rewrite(const picker *p, unsigned level, skv_err *err,
                             skv_plan *plan) {
  const skv_run *run = &p->version->levels[level];
  for (size_t i = 0; i < run->count; i++) {
    skv_segref *ref = run->segs[i];
    if (ref->trim.size > 0 || ref->meta.tombstones > 0) {
      return pick_rewrite(p, ref, err, plan);
    }
  }
  return STRATAKV_OK;
}

static int pick_full(const picker *p, skv_err *err, skv_plan *plan) {
  double bytes = 0;
  bool has_runs = p->first_run < p->version->run_count;
  unsigned levels = 0;
  for (unsigned i = 0; i < SKV_LEVELS; i++) {
    bytes += p->bytes[i];
    if (i > 0 && p->bytes[i] > 0) levels++;
  }
  if (!has_runs && levels == 1) {
    return pick_full_rewrite(p, p->bottom, err, plan);
  }
  if (!has_runs && levels == 0) return STRATAKV_OK;
  unsigned target = pick_full_target(p, bytes);
  int rc = pick_full_upper(p, target, err, plan);
  if (rc != STRATAKV_OK) return rc;
  return pick_finish(p, plan, target, err);
}

int skv_pick_full(const skv_version *version, const skv_picker_limits *limits,
                  skv_err *err, skv_plan *plan) {
  picker p;
  memset(plan, 0, sizeof *plan);
  pick_init(&p, version, limits);
  int rc = pick_full(&p, err, plan);
  plan->score = 1;
  if (rc != STRATAKV_OK) skv_plan_clear(plan);
  return rc;
}

uint64_t skv_pick_debt(const skv_version *version,
                       const skv_picker_limits *limits) {
  picker p;
  pick_init(&p, version, limits);
  double debt = 0;
  if ((double)(version->run_count - p.first_run) >= p.level0_runs) {
    debt = p.bytes[0];
  }
  for (unsigned level = 1; level < p.bottom; level++) {
    double over = p.bytes[level] - p.target[level];
    if (over > 0) debt += over;
  }
  return (uint64_t)debt;
}
