/*
 * Judging crash images: what commits there were, which of them an image may
 * show, and whether it does and goes on from there.
 *
 * HISTORY  The rows after each commit, in commit order. A commit that is under
 *   way stands at the end of it, beyond `acked`. Equal states of rows have one
 *   number, so that an image's state is compared once.
 *
 * SUSPECT  An image with the commits that it may show: at least those that the
 *   mode promises, at most those that were begun. The same image may turn up
 *   at many events: it is opened once, and the commits it may show are those
 *   that it might at each of them.
 *
 * COPIES  Backups that the workload made. One that had returned must be there;
 *   one that was under way may be refused. What opens shows the state that was
 *   copied.
 *
 * AGAIN  One image in some is recovered in a recorded environment: images of
 *   the recovery are suspects too, and what it showed must survive a power cut
 *   at once (L4).
 */
#ifndef TEST_C_IMAGES_JUDGE_H
#define TEST_C_IMAGES_JUDGE_H

#include "test/c/crash.h"

#define KEYS 120

typedef struct rows {
  uint32_t v[KEYS];
} rows;

/* ---- Copies ------------------------------------------------------------ */

#define COPIES_MAX 16

static struct {
  uint32_t state[COPIES_MAX]; /* what the n-th backup copies */
  unsigned begun, done;
} copies;

static void copy_path(unsigned n, char path[16]) {
  snprintf(path, 16, "/copy%u", n % 100);
}

/* ---- History ----------------------------------------------------------- */

static struct {
  rows *states; /* by number; 0: nothing */
  uint32_t state_count, state_room;
  uint32_t *chain; /* number of the state after the k-th commit */
  uint64_t *lsns;  /* of the k-th commit, if it is acknowledged */
  unsigned chain_room;
  unsigned acked;    /* commits acknowledged */
  unsigned intended; /* acked, and those under way */
  unsigned safe;     /* commits that a power cut must keep */
} history;

#define STATE_NONE UINT32_MAX

static uint32_t history_find(const rows *r) {
  for (uint32_t i = history.state_count; i-- > 0;)
    if (memcmp(&history.states[i], r, sizeof *r) == 0) return i;
  return STATE_NONE;
}

static uint32_t history_number(const rows *r) {
  uint32_t i = history_find(r);
  if (i != STATE_NONE) return i;
  if (history.state_count == history.state_room) {
    history.state_room = history.state_room * 2 + 64;
    history.states =
        realloc(history.states, history.state_room * sizeof *history.states);
    if (history.states == NULL) abort();
  }
  history.states[history.state_count] = *r;
  return history.state_count++;
}

static void history_set(unsigned k, const rows *r) {
  if (k >= history.chain_room) {
    history.chain_room = history.chain_room * 2 + 64;
    history.chain =
        realloc(history.chain, history.chain_room * sizeof *history.chain);
    history.lsns =
        realloc(history.lsns, history.chain_room * sizeof *history.lsns);
    if (history.chain == NULL || history.lsns == NULL) abort();
  }
  history.chain[k] = history_number(r);
  history.lsns[k] = 0;
}

static void history_begin(void) {
  rows none = {{0}};
  history.state_count = 0;
  history.acked = history.intended = history.safe = 0;
  copies.begun = copies.done = 0;
  history_set(0, &none);
}

/* The rows after everything that is under way. */
static rows history_last(void) {
  return history.states[history.chain[history.intended]];
}

static void history_intend(const rows *r) {
  history_set(history.intended + 1, r);
  history.intended++;
}

/* The next commit under way was acknowledged. */
static void history_acknowledge(uint64_t lsn, bool full) {
  unsigned k = ++history.acked;
  CHECK(lsn > history.lsns[k - 1]);
  history.lsns[k] = lsn;
  if (full) history.safe = k;
}

/* Whatever the mode, commits below an LSN that the store calls durable are. */
static unsigned history_durable(uint64_t lsn) {
  unsigned k = history.acked;
  while (k > history.safe && history.lsns[k] >= lsn) k--;
  return k;
}

static bool history_allows(uint32_t state, unsigned least, unsigned most) {
  for (unsigned k = least; k <= most; k++)
    if (history.chain[k] == state) return true;
  return false;
}

/* ---- Suspects ---------------------------------------------------------- */

typedef struct suspect {
  fixture_image image;
  uint64_t hash;
  bool death;
  bool same_boot; /* a death, and SHARED is of the boot in which they died */
  unsigned least, most;
  unsigned safe; /* of these, what a power cut during its recovery must keep */
  const char *operation; /* at which it was taken */
  size_t crash;          /* its number of crash.h */
  unsigned copies;       /* backups that had returned */
  bool again;
  bool is_nested;
  record_copy *record; /* death and again: of those who died */
} suspect;

typedef struct suspects {
  suspect *list;
  size_t count, room;
} suspects;

/* What is known of an image of this run. */
typedef struct verdict {
  uint64_t hash;
  uint32_t state; /* that it shows; STATE_NONE: not opened yet */
  uint32_t at;    /* then, its place in the queue */
} verdict;

static struct {
  verdict *verdicts; /* open addressing; hash 0: free */
  size_t verdict_count, verdict_room;
  uint64_t *seen; /* hashes of all runs, the same way */
  size_t seen_count, seen_room;
  suspects queue, nested;
  uint64_t images, nested_images, opened; /* distinct, of all runs; of all */
  stratakv_options options;
  skv_prng rng;
} court;

/* Distinct images by the operation during which they were taken. */
static struct operation {
  const char *name;
  uint64_t images;
} operations[] = {{"commit", 0},     {"seal", 0},     {"flush", 0},
                  {"compaction", 0}, {"swap", 0},     {"ingest", 0},
                  {"backup", 0},     {"recovery", 0}, {"creation", 0},
                  {"close", 0},      {"prepare", 0},  {"abort", 0},
                  {"between", 0}};
#define OPERATIONS (sizeof operations / sizeof operations[0])

static void court_count(const suspect *s) {
  const char *name = s->is_nested ? "recovery" : s->operation;
  size_t i = 0;
  while (i < OPERATIONS - 1 &&
         (name == NULL || strcmp(operations[i].name, name) != 0))
    i++;
  operations[i].images++;
  court.images++;
  court.nested_images += s->is_nested;
}

/* True if no run had that image before. */
static bool court_is_new(uint64_t hash) {
  if (2 * court.seen_count >= court.seen_room) {
    uint64_t *old = court.seen;
    size_t room = court.seen_room;
    court.seen_room = room ? room * 2 : 1u << 16;
    court.seen = fixture_alloc(court.seen_room * sizeof *court.seen);
    court.seen_count = 0;
    for (size_t i = 0; i < room; i++)
      if (old[i] != 0) court_is_new(old[i]);
    free(old);
  }
  size_t at = hash % court.seen_room;
  while (court.seen[at] != 0 && court.seen[at] != hash)
    at = (at + 1) % court.seen_room;
  if (court.seen[at] == hash) return false;
  court.seen[at] = hash;
  court.seen_count++;
  return true;
}

static verdict *court_verdict(uint64_t hash) {
  if (2 * court.verdict_count >= court.verdict_room) {
    verdict *old = court.verdicts;
    size_t room = court.verdict_room;
    court.verdict_room = room ? room * 2 : 1u << 12;
    court.verdicts = fixture_alloc(court.verdict_room * sizeof *old);
    court.verdict_count = 0;
    for (size_t i = 0; i < room; i++)
      if (old[i].hash != 0) *court_verdict(old[i].hash) = old[i];
    free(old);
  }
  size_t at = hash % court.verdict_room;
  while (court.verdicts[at].hash != 0 && court.verdicts[at].hash != hash)
    at = (at + 1) % court.verdict_room;
  verdict *v = &court.verdicts[at];
  if (v->hash == 0) {
    court.verdict_count++;
    *v = (verdict){hash, STATE_NONE, UINT32_MAX};
  }
  return v;
}

static void suspect_clear(suspect *s) {
  fixture_clear(&s->image);
  record_copy_free(s->record);
  s->record = NULL;
}

/* ---- Judging ----------------------------------------------------------- */

static void judge_explain(const suspect *s, uint32_t state, const rows *r) {
  printf("image of %s (%s %zu%s): ",
         s->operation != NULL ? s->operation : "between operations",
         s->death ? "death" : "crash", s->crash,
         s->is_nested ? ", in recovery" : "");
  for (unsigned k = 0; k <= history.intended && state != STATE_NONE; k++)
    if (history.chain[k] == state) printf("shows commit %u, ", k);
  printf("must show one of %u..%u\n", s->least, s->most);
  if (state != STATE_NONE || r == NULL) return;
  rows want = history.states[history.chain[s->most]];
  for (unsigned i = 0; i < KEYS; i++)
    if (r->v[i] != want.v[i])
      printf("  key %u: %u, want %u\n", i, r->v[i], want.v[i]);
}

static void judge_range(const suspect *s, uint32_t state, const rows *r) {
  if (!CHECK(state != STATE_NONE && history_allows(state, s->least, s->most)))
    judge_explain(s, state, r);
}

static bool judge_open(skv_env *env, const suspect *s, stratakv_store **store,
                       stratakv_table_info *table) {
  stratakv_options options = court.options;
  options.create = s->least == 0;
  *store = NULL;
  int rc = skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, store);
  if (rc == STRATAKV_OK)
    rc = stratakv_table(*store, "kv", STRATAKV_KEY_TEXT, s->least == 0,
                        &fixture_err, table);
  if (!CHECK(rc == STRATAKV_OK)) {
    printf("code %d: %s\n", rc, fixture_err.message);
    judge_explain(s, STATE_NONE, NULL);
  }
  return rc == STRATAKV_OK;
}

static void judge_check(const suspect *s, stratakv_store *store) {
  int rc = stratakv_check(store, NULL, &fixture_err);
  if (CHECK(rc == STRATAKV_OK)) return;
  printf("check: %s\n", fixture_err.message);
  judge_explain(s, STATE_NONE, NULL);
}

static void judge_copy(skv_env *env, const suspect *s, unsigned n) {
  stratakv_options options = court.options;
  stratakv_store *store = NULL;
  stratakv_table_info table;
  rows r;
  char path[16];
  copy_path(n, path);
  options.create = 0;
  int rc = skv_open_in(env, path, &options, &fixture_err, &store);
  if (rc != STRATAKV_OK) { /* no store yet, or what is no whole one */
    if (!CHECK(n >= s->copies &&
               (rc == STRATAKV_CANTOPEN || rc == STRATAKV_CORRUPT))) {
      printf("%s: code %d: %s\n", path, rc, fixture_err.message);
      judge_explain(s, STATE_NONE, NULL);
    }
    return;
  }
  OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 0, &fixture_err, &table));
  OK(fixture_scan(store, table.id, r.v, KEYS));
  if (!CHECK(history_find(&r) == copies.state[n]))
    judge_explain(s, history_find(&r), NULL);
  judge_check(s, store);
  OK(stratakv_close(store, &fixture_err));
}

/* It goes on: a new commit has an LSN that none had, and both survive. */
static void judge_going_on(skv_env *env, const suspect *s,
                           stratakv_store **store, stratakv_table_info *table,
                           rows *shown) {
  rows again;
  uint64_t lsn = 0;
  uint32_t i = (uint32_t)skv_prng_below(&court.rng, KEYS);
  OK(fixture_put(*store, table->id, i, 77777, &lsn));
  shown->v[i] = 77777;
  CHECK(lsn > history.lsns[s->most < history.acked ? s->most : history.acked]);
  OK(stratakv_close(*store, &fixture_err));
  *store = NULL;
  if (!judge_open(env, s, store, table)) return;
  OK(fixture_scan(*store, table->id, again.v, KEYS));
  CHECK(memcmp(shown, &again, sizeof again) == 0);
}

/* A read-only handle shows a prefix too, and changes nothing (P7). */
static void judge_read_only(skv_env *env, const suspect *s) {
  stratakv_options options = court.options;
  stratakv_store *store = NULL;
  stratakv_table_info table;
  rows r;
  fixture_image before = fixture_take(env);
  options.create = 0;
  options.read_only = 1;
  int rc = skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store);
  if (rc == STRATAKV_OK) {
    rc = stratakv_table(store, "kv", 0, 0, &fixture_err, &table);
    if (rc == STRATAKV_OK) rc = fixture_scan(store, table.id, r.v, KEYS);
    if (rc == STRATAKV_OK) judge_range(s, history_find(&r), &r);
    stratakv_close(store, NULL);
  }
  if (!CHECK(rc == STRATAKV_OK || s->least == 0))
    printf("code %d: %s\n", rc, fixture_err.message);
  fixture_image after = fixture_take(env);
  CHECK(crash_hash(&before, true) == crash_hash(&after, true));
  fixture_clear(&before);
  fixture_clear(&after);
}

/* A table of its own, which only an edit of the manifest makes: no log is
 * begun and no segment named, whose syncs would serve CURRENT as well. */
static void judge_make_late(stratakv_store *store) {
  stratakv_table_info late;
  OK(stratakv_table(store, "late", STRATAKV_KEY_TEXT, 1, &fixture_err, &late));
}

static bool judge_has_late(stratakv_store *store) {
  stratakv_table_info late;
  return stratakv_table(store, "late", 0, 0, NULL, &late) == STRATAKV_OK;
}

/* What a power cut leaves at this moment shows exactly these rows, and the late
 * table if there is one. */
static void judge_survives(recording *r, const suspect *s, const rows *shown,
                           bool late) {
  stratakv_store *store;
  stratakv_table_info table;
  rows again;
  crash c = crash_begin(r, &court.rng);
  crash_choose(&c, 0);
  fixture_image image = crash_image(&c);
  crash_end(&c);
  skv_env *env = fixture_world(&image);
  court.opened++;
  if (judge_open(env, s, &store, &table)) {
    OK(fixture_scan(store, table.id, again.v, KEYS));
    if (!CHECK(memcmp(shown, &again, sizeof again) == 0) ||
        !CHECK(!late || judge_has_late(store)))
      judge_explain(s, history_find(&again), &again);
  }
  stratakv_close(store, NULL);
  skv_env_mem_free(env);
  fixture_clear(&image);
}

/* Open the image: which state does it show? */
static uint32_t judge_image(suspect *s, void (*nested_event)(recording *r)) {
  stratakv_store *store;
  stratakv_table_info table;
  rows shown;
  uint32_t state = STATE_NONE;
  recording *r = NULL;
  skv_env *env = fixture_world(&s->image);
  court.opened++;
  if (s->same_boot) fixture_same_boot(env);
  if (skv_prng_below(&court.rng, 8) == 0) judge_read_only(env, s);
  if (s->again) {
    r = s->record != NULL ? record_resume(s->record, env)
                          : record_begin(env, NULL);
    r->event = nested_event;
    r->arg = s;
  }
  bool open = judge_open(env, s, &store, &table);
  if (r != NULL) r->event = NULL;
  if (open) {
    OK(fixture_scan(store, table.id, shown.v, KEYS));
    state = history_find(&shown);
    judge_range(s, state, &shown);
    bool late = r != NULL && skv_prng_below(&court.rng, 2) == 0;
    if (late) judge_make_late(store);
    if (r != NULL) judge_survives(r, s, &shown, late);
    judge_check(s, store);
    judge_going_on(env, s, &store, &table, &shown);
    if (r != NULL && store != NULL && court.options.sync == STRATAKV_SYNC_FULL)
      judge_survives(r, s, &shown, late);
  }
  stratakv_close(store, NULL);
  for (unsigned n = 0; n < copies.begun; n++) judge_copy(env, s, n);
  skv_env_mem_free(env);
  if (r != NULL) record_free(r);
  return state;
}

/* An image that is to be judged; it is taken over. */
static void court_offer(suspects *to, suspect *s) {
  uint64_t image = s->hash;
  s->hash += s->copies; /* what must be there is more */
  verdict *v = court_verdict(s->hash);
  if (v->at != UINT32_MAX || v->state != STATE_NONE) { /* had before */
    suspect same = *s;
    if (v->state != STATE_NONE) {
      judge_range(s, v->state, NULL);
    } else if (v->at < to->count && to->list[v->at].hash == s->hash) {
      suspect *q = &to->list[v->at];
      if (s->least > q->least) q->least = s->least;
      if (s->most < q->most) q->most = s->most;
    }
    suspect_clear(&same);
    return;
  }
  if (to->count == to->room) {
    to->room = to->room * 2 + 64;
    to->list = realloc(to->list, to->room * sizeof *to->list);
    if (to->list == NULL) abort();
  }
  v->at = (uint32_t)to->count;
  to->list[to->count++] = *s;
  if (court_is_new(image)) court_count(s);
}

static void court_judge(suspects *of, void (*nested_event)(recording *r)) {
  for (size_t i = 0; i < of->count; i++) {
    suspect *s = &of->list[i];
    uint32_t state = check_failures == 0 ? judge_image(s, nested_event) : 0;
    court_verdict(s->hash)->state = state;
    suspect_clear(s);
    if (of == &court.queue) court_judge(&court.nested, NULL);
  }
  of->count = 0;
}

/* The images of one run are forgotten; those of a nested queue are judged. */
static void court_adjourn(void) {
  if (court.verdicts != NULL)
    memset(court.verdicts, 0, court.verdict_room * sizeof *court.verdicts);
  court.verdict_count = 0;
}

#endif
