/*
 * Crash images: a random workload on one store; before each change of a file
 * an image of what a death or a power cut would leave is opened. It must show
 * a prefix of the commits: in `full` all that were acknowledged, after a death
 * in every mode; nothing else; and it must go on from there.
 *
 *   1  everybody dies: the files as they are, the shared page of this boot
 *   2  power cut: only what was synced; and random parts of what was not
 *   3  one image in some is crashed again while it recovers
 *   4  after a death whose log never reached the disk: what recovery shows
 *      survives a power cut at once
 *
 * Covers: INV-1, INV-2, INV-3, INV-5, INV-6, INV-7, P8, P10, L2, L3, L4
 */
#include "test/c/db_fixture.h"

#define KEYS 120
#define COMMITS 600 /* of one workload, at most */
#define OPERATIONS 90

static struct {
  uint32_t rows[COMMITS][KEYS]; /* after the n-th commit */
  unsigned acked;               /* commits acknowledged */
  unsigned intended;            /* acked, or one more if one is under way */
  unsigned safe;                /* commits that a power cut must keep */
  uint64_t last_lsn;            /* greatest acknowledged */
  int sync;
  bool closing; /* what was not synced may be by now */
  uint32_t next_value;
} work;

static skv_prng rng;
static stratakv_options options;

/* ---- Judging an image -------------------------------------------------- */

#define KIND_DEATH 0
#define KIND_SYNCED 1
#define KIND_RANDOM 2

typedef struct pending {
  fixture_image image;
  int kind;
  unsigned least, most; /* commits that it may show */
  uint64_t lsn;
  bool again; /* crash it again inside recovery */
  bool cut;   /* a power cut follows, and the newest log was never synced */
} pending;

#define PENDING_MAX 64
static pending queue[PENDING_MAX];
static unsigned queue_count;
static unsigned images, nested_images;

static pending nested[PENDING_MAX];
static unsigned nested_count, nested_events, nested_stride;
static const pending *nested_of;

static void nested_event(void) {
  if (nested_events++ % nested_stride != 0 || nested_count == PENDING_MAX)
    return;
  pending *p = &nested[nested_count++];
  *p = *nested_of;
  p->again = p->cut = false;
  p->kind = (int)skv_prng_below(&rng, 3);
  p->image = p->kind == KIND_DEATH
                 ? fixture_take(fixture_tap.env)
                 : fixture_cut(p->kind == KIND_RANDOM ? &rng : NULL);
}

/* Which commit the rows are the state after; -1 if none in [least, most]. */
static int judge_rows(const uint32_t *rows, unsigned least, unsigned most) {
  for (unsigned k = most + 1; k-- > least;)
    if (memcmp(rows, work.rows[k], sizeof work.rows[k]) == 0) return (int)k;
  return -1;
}

static void judge_explain(const pending *p, const uint32_t *rows) {
  static const char *const kinds[] = {"death", "synced", "random"};
  int k = judge_rows(rows, 0, work.intended);
  printf("image %u (%s, sync %d): shows commit %d, not %u..%u\n", images,
         kinds[p->kind], work.sync, k, p->least, p->most);
  for (unsigned i = 0; i < KEYS && k < 0; i++)
    if (rows[i] != work.rows[p->most][i])
      printf("  key %u: %u, want %u\n", i, rows[i], work.rows[p->most][i]);
}

static bool judge_open(skv_env *env, const pending *p, stratakv_store **store,
                       stratakv_table_info *table) {
  *store = NULL;
  int rc = skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, store);
  if (rc == STRATAKV_OK)
    rc = stratakv_table(*store, "kv", STRATAKV_KEY_TEXT, p->least == 0,
                        &fixture_err, table);
  if (rc != STRATAKV_OK)
    printf("image %u, kind %d, sync %d, commits %u..%u: %d %s\n", images,
           p->kind, work.sync, p->least, p->most, rc, fixture_err.message);
  return CHECK(rc == STRATAKV_OK);
}

/* It goes on: a new commit has a new LSN, and both survive a clean close. */
static void judge_going_on(skv_env *env, const pending *p,
                           stratakv_store **store, stratakv_table_info *table,
                           uint32_t *rows) {
  uint32_t again[KEYS];
  uint64_t lsn = 0;
  uint32_t i = (uint32_t)skv_prng_below(&rng, KEYS);
  OK(fixture_put(*store, table->id, i, 77777, &lsn));
  rows[i] = 77777;
  CHECK(lsn > p->lsn); /* P10 */
  OK(stratakv_close(*store, &fixture_err));
  *store = NULL;
  if (!judge_open(env, p, store, table)) return;
  OK(fixture_scan(*store, table->id, again, KEYS));
  CHECK(memcmp(rows, again, sizeof again) == 0);
}

/* The newest log's records are in the page cache only. */
static void judge_unsync(const fixture_image *image) {
  const char *newest = "";
  for (size_t i = 0; i < image->count; i++)
    if (skv_name_parse(image->files[i].name).kind == SKV_NAME_WAL &&
        strcmp(image->files[i].name, newest) > 0)
      newest = image->files[i].name;
  for (size_t i = 0; i < fixture_tap.name_count; i++) {
    if (strcmp(fixture_tap.names[i].name, newest) != 0) continue;
    fixture_bytes *kept = tap_synced(fixture_tap.names[i].inode);
    if (kept->size > SKV_WAL_HEADER)
      memset(kept->bytes + SKV_WAL_HEADER, 0, kept->size - SKV_WAL_HEADER);
  }
}

/* L4: what was shown stays. */
static void judge_cut(const pending *p, const uint32_t *rows) {
  stratakv_store *store;
  stratakv_table_info table;
  uint32_t again[KEYS];
  fixture_image image = fixture_cut(NULL);
  skv_env *env = fixture_world(&image);
  images++;
  if (judge_open(env, p, &store, &table)) {
    OK(fixture_scan(store, table.id, again, KEYS));
    CHECK(memcmp(rows, again, sizeof again) == 0);
  }
  stratakv_close(store, NULL);
  skv_env_mem_free(env);
  fixture_clear(&image);
}

static void judge(const pending *p) {
  stratakv_store *store;
  stratakv_table_info table;
  uint32_t rows[KEYS];
  skv_env *env = fixture_world(&p->image);
  images++;
  if (p->kind == KIND_DEATH) fixture_same_boot(env);
  if (p->again) {
    nested_of = p;
    nested_events = 0;
    fixture_tap_set(env, nested_event);
  }
  if (p->cut) {
    fixture_tap_set(env, NULL);
    judge_unsync(&p->image);
  }
  bool open = judge_open(env, p, &store, &table);
  if (p->again) fixture_tap.event = NULL;
  if (open) {
    OK(fixture_scan(store, table.id, rows, KEYS));
    bool fits = judge_rows(rows, p->least, p->most) >= 0;
    if (!CHECK(fits)) judge_explain(p, rows);
    if (p->cut) judge_cut(p, rows);
    if (skv_prng_below(&rng, 4) == 0)
      judge_going_on(env, p, &store, &table, rows);
  }
  stratakv_close(store, NULL);
  skv_env_mem_free(env);
}

static void judge_all(void) {
  struct fixture_tap outer = fixture_tap;
  for (unsigned i = 0; i < queue_count; i++) {
    bool taps = queue[i].again || queue[i].cut;
    if (taps) memset(&fixture_tap, 0, sizeof fixture_tap);
    nested_count = 0;
    nested_stride = 1 + (unsigned)skv_prng_below(&rng, 6);
    judge(&queue[i]);
    if (taps) fixture_tap_forget();
    fixture_tap = outer;
    nested_images += nested_count;
    for (unsigned n = 0; n < nested_count; n++) {
      judge(&nested[n]);
      fixture_clear(&nested[n].image);
    }
    nested_count = 0;
    fixture_clear(&queue[i].image);
  }
  queue_count = 0;
}

/* ---- Taking images ----------------------------------------------------- */

static unsigned event_stride;

static void take(int kind) {
  if (queue_count == PENDING_MAX) return;
  pending *p = &queue[queue_count++];
  p->kind = kind;
  p->least = kind == KIND_DEATH ? work.acked : work.safe;
  p->most = work.intended;
  p->lsn =
      kind == KIND_DEATH || work.sync == STRATAKV_SYNC_FULL ? work.last_lsn : 0;
  p->again = skv_prng_below(&rng, 12) == 0;
  p->cut = kind == KIND_DEATH && !p->again && work.safe < work.acked &&
           !work.closing && skv_prng_below(&rng, 4) == 0;
  p->image = kind == KIND_DEATH
                 ? fixture_take(fixture_tap.env)
                 : fixture_cut(kind == KIND_RANDOM ? &rng : NULL);
}

static void work_event(void) {
  if (skv_prng_below(&rng, event_stride) == 0)
    take((int)skv_prng_below(&rng, 3));
}

/* ---- The workload ------------------------------------------------------ */

static stratakv_store *store;
static stratakv_table_info table;

static void work_open(skv_env *env) {
  OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
  OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &table));
}

/* What the next commit changes, in the model first. */
static uint32_t *work_intend(void) {
  uint32_t *rows = work.rows[work.acked + 1];
  memcpy(rows, work.rows[work.acked], sizeof work.rows[0]);
  return rows;
}

static uint32_t work_change(uint32_t *rows, uint32_t *i) {
  *i = (uint32_t)skv_prng_below(&rng, KEYS);
  rows[*i] = skv_prng_below(&rng, 4) == 0 ? 0 : ++work.next_value;
  return rows[*i];
}

static void work_acknowledge(uint64_t lsn) {
  CHECK(lsn > work.last_lsn);
  work.acked = work.intended;
  work.last_lsn = lsn;
  if (work.sync == STRATAKV_SYNC_FULL) work.safe = work.acked;
}

static void work_put(void) {
  uint32_t i, *rows = work_intend();
  uint32_t v = work_change(rows, &i);
  uint64_t lsn = 0;
  work.intended = work.acked + 1;
  OK(fixture_put(store, table.id, i, v, &lsn));
  work_acknowledge(lsn);
}

static void work_txn(unsigned changes, bool prepare, bool commit) {
  uint32_t i, *rows = work_intend();
  stratakv_txn *txn;
  uint64_t lsn = 0;
  if (!OK(stratakv_begin(store, &fixture_err, &txn))) return;
  for (unsigned n = 0; n < changes; n++) {
    uint32_t v = work_change(rows, &i);
    OK(fixture_txn_put(txn, table.id, i, v));
  }
  /* A death between prepare and rollback commits. */
  if (prepare || commit) work.intended = work.acked + 1;
  if (prepare) OK(stratakv_prepare(txn, &fixture_err));
  if (commit) {
    OK(stratakv_commit(txn, &fixture_err, &lsn));
    work_acknowledge(lsn);
  } else {
    stratakv_rollback(txn);
    judge_all(); /* before the model takes that commit back */
    work.intended = work.acked;
  }
}

static void work_step(skv_env *env) {
  unsigned what = (unsigned)skv_prng_below(&rng, 100);
  if (what < 45) {
    work_put();
  } else if (what < 60) {
    work_txn(1 + (unsigned)skv_prng_below(&rng, 20), what < 50, true);
  } else if (what < 66) {
    work_txn(1 + (unsigned)skv_prng_below(&rng, 10), true, false);
  } else if (what < 74) {
    work_txn(250, what < 70, true);
  } else if (what < 77) {
    work_txn(250, true, false);
  } else if (what < 86) {
    OK(stratakv_flush(store, &fixture_err));
    work.safe = work.acked;
  } else if (what < 94) {
    OK(stratakv_compact(store, NULL, NULL, &fixture_err));
    work.safe = work.acked;
  } else {
    work.closing = true;
    OK(stratakv_close(store, &fixture_err));
    work.closing = false;
    work.safe = work.acked;
    work_open(env);
  }
  judge_all();
}

static void run(uint64_t seed, int sync, unsigned stride) {
  uint32_t rows[KEYS];
  memset(&work, 0, sizeof work);
  rng.state = seed;
  work.sync = sync;
  event_stride = stride;
  options = fixture_options();
  options.sync = sync;
  options.compression = (int)(seed % 3);
  skv_env *env = fixture_world(&(fixture_image){0});
  fixture_tap_set(env, work_event);
  work_open(env);
  work.safe = work.acked;
  judge_all();
  for (int i = 0; i < OPERATIONS; i++) work_step(env);
  OK(fixture_scan(store, table.id, rows, KEYS));
  CHECK(judge_rows(rows, work.acked, work.acked) >= 0);
  work.closing = true;
  OK(stratakv_close(store, &fixture_err));
  judge_all();
  fixture_tap_forget();
  skv_env_mem_free(env);
}

int main(int argc, char **argv) {
  uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
  uint64_t last = argc > 2 ? strtoull(argv[2], NULL, 10) : first + 5;
  for (uint64_t seed = first; seed <= last; seed++) {
    char where[32];
    snprintf(where, sizeof where, "seed %u", (unsigned)seed);
    check_where = where;
    run(seed, (int)(seed % 3), 4);
  }
  check_where = "";
  CHECK(images > 500);
  CHECK(nested_images > 100);
  printf("%u images, %u of them of a recovery\n", images, nested_images);
  return check_end();
}
