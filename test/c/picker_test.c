/*
 * The compaction picker, as tables: segments in, a plan out, as text. Limits
 * are 4 runs, 64 MiB at level 1, fanout 8, unless a case says otherwise.
 *
 *   pick      each rule of the policy
 *   full      compact on request, step by step
 *   ends      repeated application of random plans ends, with count 0, and the
 *             result is what was promised; INV-6 of every plan is checked
 *
 * Covers: INV-5, INV-6, P5
 */
#include "engine/tree/picker.h"
#include "engine/util/prng.h"
#include "test/c/tree_fixture.h"

typedef struct pick_case {
  const char *segs;
  const char *plan;
  uint64_t unflushed; /* 0: all is flushed */
} pick_case;

static const char *plan_text(const skv_plan *plan) {
  static fixture_text t;
  t.size = 0;
  if (plan->count == 0) return "nothing";
  fixture_print(&t, "%u>%u %s%s", plan->from, plan->level,
                plan->move ? "move" : "merge", plan->bottom ? " bottom" : "");
  for (size_t i = 0; i < plan->count; i++) {
    if (i == plan->upper) fixture_print(&t, " |");
    fixture_print(&t, " %" PRIu64, plan->inputs[i]->number);
  }
  return t.text;
}

static skv_picker_limits limits_of(uint64_t unflushed) {
  skv_picker_limits limits = {.unflushed = unflushed ? unflushed : UINT64_MAX};
  return limits;
}

static void run_case(const pick_case *c, bool is_full) {
  skv_picker_limits limits = limits_of(c->unflushed);
  skv_plan plan = {0};
  skv_version *version = fixture_version(c->segs);
  check_where = c->segs;
  if (version != NULL) {
    OK((is_full ? skv_pick_full : skv_pick)(version, &limits, &fixture_err,
                                            &plan));
    SAME(plan_text(&plan), c->plan);
    CHECK(plan.count == 0 || plan.score >= 1);
  }
  check_where = "";
  skv_plan_clear(&plan);
  skv_version_unref(version);
}

static const pick_case pick_cases[] = {
    {"", "nothing", 0},
    /* Level 0: by runs, by bytes, by its share of what is below. */
    {"0/10 1 a m 1, 0/20 2 b n 1, 0/30 3 c o 1, 1 9 a z 60", "nothing", 0},
    {"0/10 1 a m 1, 0/20 2 b n 1, 0/30 3 c o 1, 0/40 4 d p 1, 1 9 a z 60",
     "0>1 merge bottom 4 3 2 1 | 9", 0},
    {"0/10 1 a m 40, 0/20 2 b n 30, 1 9 a z 60, 2 8 a z 500",
     "0>1 merge 2 1 | 9", 0},
    {"0/10 1 a m 15, 1 9 a z 60", "nothing", 0},
    {"0/10 1 a m 16, 1 9 a z 60", "0>1 merge bottom 1 | 9", 0},
    {"0/10 1 a m 1, 1 9 a z 1", "nothing", 0},
    /* A tombstone weighs an average entry of below: 5 MiB of them hide ... */
    {"0/10 1 a m 9 t50, 1 9 a z 60", "nothing", 0},
    {"0/10 1 a m 9 t90, 1 9 a z 60", "0>1 merge bottom 1 | 9", 0},
    /* P5: only runs below `unflushed`. */
    {"0/10 1 a m 1, 0/20 2 b n 1, 0/30 3 c o 1, 0/40 4 d p 1, 1 9 a z 60",
     "nothing", 40},
    {"0/10 1 a m 30, 0/20 2 b n 30, 0/30 3 c o 30, 1 9 a z 60",
     "0>1 merge bottom 2 1 | 9", 30},
    {"0/10 1 a m 30, 0/20 2 b n 30, 0/30 3 c o 30, 1 9 a z 60", "nothing", 10},
    /* The hull of the uppers: output must not run across a lower segment. */
    {"0/10 1 a b 5, 0/20 2 y z 60, 1 7 a aa 20, 1 8 m n 20, 1 9 zz zzz 20",
     "0>1 merge bottom 2 1 | 7 8", 0},
    /* A begun merge goes on without the newer runs. */
    {"0/10 1 a m 9 >c, 0/20 2 b n 9 >c, 0/30 3 a o 9, 0/40 4 a p 9,"
     "1 7 a bb 9, 1 9 bc z 60 >c",
     "0>1 merge bottom 2 1 | 9", 0},
    {"0/10 1 a m 1 >c, 1 9 a z 60", "0>1 merge bottom 1 | 9", 0},
    /* A trimmed lower segment overlaps only with what it shows. */
    {"0/10 1 a c 20, 1 9 a z 60 >d", "0>1 move bottom 1", 0},
    {"0/10 1 a d 20, 1 9 a z 60 >d", "0>1 merge bottom 1 | 9", 0},
    /* Moves: to the deepest level, unless tombstones can go. */
    {"0/10 1 a b 30, 0/20 2 c d 30, 0/30 3 e f 30", "0>2 move bottom 3 2 1", 0},
    {"0/10 1 a b 30, 0/20 2 c d 30, 0/30 3 e f 30, 2 9 g z 300",
     "0>2 move bottom 3 2 1", 0},
    {"0/10 1 a b 30, 0/20 2 c d 30, 0/30 3 e f 30, 2 9 f z 300",
     "0>1 move 3 2 1", 0},
    {"0/10 1 a b 30, 0/20 2 b d 30, 0/30 3 e f 30, 2 9 g z 300",
     "0>1 merge bottom 3 2 1", 0},
    {"0/10 1 a b 30, 0/20 2 c d 30 t1, 0/30 3 e f 30, 2 9 g z 300",
     "0>1 merge bottom 3 2 1", 0},
    {"0/10 1 a b 30, 0/20 2 c d 30 t1, 0/30 3 e f 30, 2 9 a z 300",
     "0>1 move 3 2 1", 0},
    /* Small runs are merged, and with a small neighbour. */
    {"0/10 1 a b 1, 0/20 2 c d 1", "0>1 merge bottom 2 1", 0},
    {"0/10 1 c d 2, 1 8 a b 1", "0>1 merge bottom 1 | 8", 0},
    {"0/10 1 c d 2, 1 8 a b 4", "0>1 move bottom 1", 0},
    /* Levels: over their targets, the least overlap first. */
    {"1 1 a c 32, 1 2 d f 32", "nothing", 0},
    {"1 1 a c 32, 1 2 d f 33", "1>2 move bottom 1", 0},
    {"1 1 a c 32, 1 2 d f 32, 1 3 g i 32, 2 4 a c 300, 2 5 d e 200,"
     "2 6 f g 200",
     "1>2 merge bottom 3 | 6", 0},
    {"1 1 a c 32, 1 2 d f 32, 2 4 a c 30, 2 5 d e 20", "1>2 merge bottom 2 | 5",
     0},
    {"1 1 a c 32, 1 2 d f 32, 2 4 a c 256, 2 5 d e 256", "nothing", 0},
    {"1 1 a c 32, 2 4 a b 300, 2 5 c d 300, 3 6 a d 300",
     "2>3 merge bottom 4 | 6", 0},
    {"1 1 a c 40, 2 4 d e 90, 3 6 f g 300", "1>3 move bottom 1", 0},
    {"1 1 a c 40, 2 4 c e 90, 3 6 f g 300", "1>2 merge bottom 1 | 4", 0},
    /* A trimmed segment first; a lone one is rewritten. */
    {"1 1 a c 32, 1 2 d f 32, 1 3 g i 32 >h, 2 4 a c 3, 2 5 d e 2, 2 6 f k 20",
     "1>2 merge bottom 3 | 6", 0},
    {"1 1 a c 32, 1 2 d f 9 >e", "1>1 merge bottom 2", 0},
    {"1 1 a c 3, 1 2 d f 3 >e, 2 8 f g 300", "1>2 merge bottom 2 | 8", 0},
    {"1 1 a c 3, 1 2 d f 3 >e, 2 8 a e 300, 2 9 ff g 3",
     "1>2 merge bottom 2 | 8", 0},
    /* Mostly tombstones. */
    {"1 1 a c 20, 1 2 d f 9 t50", "nothing", 0},
    {"1 1 a c 20, 1 2 d f 9 t51", "1>1 merge bottom 2", 0},
    {"1 1 a c 20, 1 2 d f 1 t51, 2 8 f g 300", "1>2 merge bottom 2 | 8", 0},
    {"1 1 a c 1 t90, 2 8 d g 100, 3 9 a z 999", "1>2 move 1", 0},
    /* The last level never runs over. */
    {"7 1 a c 4000000", "nothing", 0},
};

static const pick_case full_cases[] = {
    {"", "nothing", 0},
    {"0/10 1 a c 1", "0>1 move bottom 1", 0},
    {"0/10 1 a c 1", "nothing", 10},
    {"0/10 1 a c 90", "0>2 move bottom 1", 0},
    {"0/10 1 a c 1 t1", "0>1 merge bottom 1", 0},
    {"1 1 a c 1", "nothing", 0},
    {"1 1 a c 1, 1 2 d e 1 t1", "1>1 merge bottom 2", 0},
    {"1 1 a c 1, 1 2 d e 1 >e", "1>1 merge bottom 2", 0},
    {"0/10 1 a m 1, 0/20 2 b n 1, 1 4 a b 1, 1 5 n z 1, 2 6 a g 9, 2 7 x z 9,"
     "2 8 zz zzz 9",
     "0>2 merge bottom 2 1 4 5 | 6 7", 0},
    {"0/10 1 a m 1, 0/20 2 b n 1, 1 4 a b 1, 1 5 n z 1, 2 6 a g 9, 2 7 x z 9,"
     "2 8 zz zzz 9",
     "1>2 merge bottom 4 5 | 6 7", 10},
    /* A begun merge: without what is newer than its newest source. */
    {"0/10 1 a m 1 >b, 0/20 2 b n 1, 1 4 a b 1 >ab, 1 5 n z 1, 2 7 x z 9",
     "0>2 merge bottom 1 4 5 | 7", 0},
    {"0/20 2 b n 1, 1 4 a b 60 >ab, 1 5 n z 60, 2 7 x z 900 >y, 2 6 a aa 900",
     "1>2 merge bottom 4 5 | 7", 0},
};

static void test_cases(void) {
  for (size_t i = 0; i < sizeof pick_cases / sizeof *pick_cases; i++) {
    run_case(&pick_cases[i], false);
  }
  for (size_t i = 0; i < sizeof full_cases / sizeof *full_cases; i++) {
    run_case(&full_cases[i], true);
  }
}

static void test_debt(void) {
  static const struct {
    const char *segs;
    uint64_t mib;
  } cases[] = {
      {"0/10 1 a m 40, 1 9 a z 90", 0},
      {"0/10 1 a m 1, 0/20 2 b n 1, 0/30 3 c o 1, 0/40 4 d p 1", 4},
      {"1 1 a c 100, 2 2 a c 320", 60},
      {"1 1 a c 100, 2 2 a c 900, 3 3 a c 9000", 424},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    skv_picker_limits limits = limits_of(0);
    skv_version *version = fixture_version(cases[i].segs);
    check_where = cases[i].segs;
    CHECK(skv_pick_debt(version, &limits) >> 20 == cases[i].mib);
    skv_version_unref(version);
  }
  check_where = "";
}

/* ---- Application --------------------------------------------------------- */

static void random_key(skv_prng *prng, char key[8]) {
  snprintf(key, 8, "%c%c%02u", 'a' + (char)skv_prng_below(prng, 26),
           'a' + (char)skv_prng_below(prng, 26),
           (unsigned)skv_prng_below(prng, 100));
}

/* A run: segments over ascending keys. */
static void random_run(skv_prng *prng, uint64_t *number, const char *place,
                       unsigned mib, fixture_text *t) {
  char keys[6][8];
  for (int i = 0; i < 6; i++) random_key(prng, keys[i]);
  qsort(keys, 6, 8, (int (*)(const void *, const void *))strcmp);
  for (int i = 0; i + 1 < 6; i += 2) {
    if (i > 1 && strcmp(keys[i - 1], keys[i]) == 0) continue;
    fixture_print(t, "%s%s %" PRIu64 " %s %s %u t%u", t->size ? "," : "", place,
                  ++*number, keys[i], keys[i + 1],
                  1 + (unsigned)skv_prng_below(prng, mib),
                  skv_prng_below(prng, 3) ? 0
                                          : (unsigned)skv_prng_below(prng, 99));
    if (skv_prng_below(prng, 4) == 0) fixture_print(t, " >%s", keys[i + 1]);
  }
}

static skv_version *random_version(skv_prng *prng) {
  fixture_text t = {.size = 0};
  uint64_t number = 0;
  char place[16];
  for (unsigned i = (unsigned)skv_prng_below(prng, 6); i-- > 0;) {
    snprintf(place, sizeof place, "0/%u", 10 + i * 10);
    random_run(prng, &number, place, 50, &t);
  }
  for (unsigned level = 1; level < 5; level++) {
    snprintf(place, sizeof place, "%u", level);
    if (skv_prng_below(prng, 2) == 0) {
      random_run(prng, &number, place, 40u << (2 * level), &t);
    }
  }
  return fixture_version(t.size ? t.text : "");
}

static bool overlaps(const skv_segref *a, const skv_segref *b) {
  return skv_compare(skv_segref_start(a), b->meta.max_key) <= 0 &&
         skv_compare(skv_segref_start(b), a->meta.max_key) <= 0;
}

static bool plan_has(const skv_plan *plan, const skv_segref *ref) {
  for (size_t i = 0; i < plan->count; i++) {
    if (plan->inputs[i] == ref) return true;
  }
  return false;
}

/* INV-5 and INV-6, said without the picker's words: a segment left out may
 * only be newer than all inputs that it overlaps if it is not in the way, and
 * older ones forbid dropping tombstones. Search order is age. */
static void check_run(const skv_plan *plan, const skv_run *run, unsigned level,
                      const skv_segref *input) {
  for (size_t i = 0; i < run->count; i++) {
    const skv_segref *other = run->segs[i];
    if (plan_has(plan, other) || !overlaps(other, input)) continue;
    bool is_older = level != input->level
                        ? level > input->level
                        : level == 0 && other->run < input->run;
    bool is_above_output = level <= plan->level;
    if (is_older) CHECK(!is_above_output); /* INV-5 */
    if (is_older) CHECK(!plan->bottom);    /* INV-6 */
    if (level == plan->level) CHECK(level == input->level);
  }
}

static void check_plan(const skv_version *v, const skv_plan *plan) {
  for (size_t i = 0; i < plan->count; i++) {
    for (size_t r = 0; r < v->run_count; r++) {
      check_run(plan, &v->runs[r], 0, plan->inputs[i]);
    }
    for (unsigned level = 1; level < SKV_LEVELS; level++) {
      check_run(plan, &v->levels[level], level, plan->inputs[i]);
    }
  }
}

/* What a merge of the whole plan would leave: one segment over all keys. */
static void edit_output(const skv_plan *plan, uint64_t number, skv_buf *edit) {
  skv_seg_meta meta = {.size = 1, .min_lsn = 1, .max_lsn = 1};
  uint64_t tombstones = 0;
  for (size_t i = 0; i < plan->count; i++) {
    const skv_segref *ref = plan->inputs[i];
    skv_slice start = skv_segref_start(ref);
    meta.size += ref->meta.size;
    meta.entries += ref->meta.entries - ref->meta.tombstones;
    tombstones += ref->meta.tombstones;
    if (i == 0 || skv_compare(start, meta.min_key) < 0) meta.min_key = start;
    if (i == 0 || skv_compare(ref->meta.max_key, meta.max_key) > 0) {
      meta.max_key = ref->meta.max_key;
    }
  }
  meta.tombstones = plan->bottom ? 0 : tombstones;
  meta.entries += meta.tombstones;
  if (meta.entries == 0) return;
  skv_edit_seg(edit, number, plan->level, 0, 0, &meta, skv_slice_of(NULL, 0));
  skv_edit_next(edit, number + 1);
}

/* The version after a plan was carried out (in one go). */
static skv_version *carry_out(const skv_version *v, const skv_plan *plan) {
  skv_version *next = NULL;
  skv_buf edit = {0};
  for (size_t i = 0; i < plan->count; i++) {
    const skv_segref *ref = plan->inputs[i];
    skv_edit_remove(&edit, ref->number);
    if (!plan->move) continue;
    skv_edit_seg(&edit, ref->number, plan->level, 0, 0, &ref->meta, ref->trim);
  }
  if (!plan->move) edit_output(plan, v->next_file, &edit);
  OK(skv_version_apply(NULL, v, skv_buf_bytes(&edit), 1, false, &fixture_err,
                       &next));
  skv_buf_clear(&edit);
  return next;
}

/* Nothing above or beside one level, no tombstones, nothing trimmed. */
static bool is_settled(const skv_version *v, uint64_t unflushed) {
  unsigned levels = 0;
  for (size_t r = 0; r < v->run_count; r++) {
    if (v->runs[r].id < unflushed) return false;
  }
  for (unsigned level = 1; level < SKV_LEVELS; level++) {
    const skv_run *run = &v->levels[level];
    levels += run->count > 0;
    for (size_t i = 0; i < run->count; i++) {
      const skv_segref *ref = run->segs[i];
      if (ref->trim.size > 0 || ref->meta.tombstones > 0) return false;
    }
  }
  return levels <= 1;
}

static void test_ends(uint64_t seed, bool is_full) {
  skv_prng prng = {seed};
  skv_picker_limits limits = limits_of(skv_prng_below(&prng, 2) * 30);
  skv_version *version = random_version(&prng);
  unsigned steps = 0;
  for (; version != NULL && steps < 200; steps++) {
    skv_plan plan = {0};
    OK((is_full ? skv_pick_full : skv_pick)(version, &limits, &fixture_err,
                                            &plan));
    if (plan.count == 0) {
      skv_plan_clear(&plan);
      break;
    }
    check_plan(version, &plan);
    skv_version *next = carry_out(version, &plan);
    skv_plan_clear(&plan);
    skv_version_unref(version);
    version = next;
  }
  CHECK(steps < 200);
  if (is_full) CHECK(is_settled(version, limits.unflushed));
  skv_version_unref(version);
}

static int refuse(void *arg, size_t size) {
  (void)size;
  return --*(int *)arg == 0;
}

static void test_memory(void) {
  skv_version *version = fixture_version(pick_cases[2].segs);
  skv_picker_limits limits = limits_of(0);
  int n = 0, left = 0;
  while (left <= 0) {
    skv_plan plan = {0};
    left = ++n;
    skv_alloc_set_hook(refuse, &left);
    int rc = skv_pick(version, &limits, &fixture_err, &plan);
    skv_alloc_set_hook(NULL, NULL);
    CHECK(rc == (left <= 0 ? STRATAKV_NOMEM : STRATAKV_OK));
    CHECK((plan.count == 0) == (left <= 0));
    skv_plan_clear(&plan);
  }
  CHECK(n > 3);
  skv_version_unref(version);
}

int main(void) {
  size_t before = skv_alloc_count();
  test_cases();
  test_debt();
  test_memory();
  for (uint64_t seed = 1; seed <= 1000; seed++) {
    test_ends(seed, false);
    test_ends(seed, true);
  }
  CHECK(skv_alloc_count() == before);
  return check_end();
}
