/*
 * Schedules: two or three processes on one store, run one step at a time
 * (sched.h). All schedules of short scenarios with two preemptions; with one,
 * and a process that dies at any of its steps; then random ones with more of
 * both. Each is judged by its history (history_lsn.h, history_order.h), by
 * whether everybody who lives can go on, and by what the next user finds.
 *
 *   build/test/c/sched_test ?SCENARIO?:FIRST:VICTIM@STEP:AT>TO...??
 *
 * Timeout: 300
 * Soak: 4
 *
 * Covers: INV-3, INV-4, INV-5, INV-9, P1, P2, P3, P4, P6, P8, P10, P11
 */
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define HISTORY_KEYS 40
#define HISTORY_THREADS 4
#define HISTORY_OPS 32
#define HISTORY_ACCESSES 1024
#define HISTORY_VALUES 64
#define HISTORY_DRAFT 100

#include "engine/db/handle.h"
#include "test/c/harness.h"
#include "test/c/history_order.h"
#include "test/c/sched.h"

#if defined(__SANITIZE_THREAD__)
/* Who dies leaves its mutexes locked, and they vanish with its memory. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "report_destroy_locked=0"; }
#endif

#define SHARED_KEYS 3 /* 0, 1, 2; then a mark for each operation */
#define MARKS 8       /* of one actor */
#define MARK(actor, n) (SHARED_KEYS + (actor)*MARKS + (n))
#define KEYS MARK(SCHED_ACTORS, 4)
#define PADS 24 /* entries of a kilobyte that make a transaction large */

/* ---- Scenarios --------------------------------------------------------- */

/*
 * What an actor does, a letter each:
 *   o open  c close  p batch of keys 0 and 1  d remove key 0
 *   r read keys 0 and 1, write 0, commit  w the same, prepared first
 *   x prepare, roll back  l large transaction  g get key 0, then 1
 *   s snapshot and scan it  S scan the snapshot again, close it  a scan
 *   f flush  m compact  b a third of a log of pads
 *   O open; had it open before all others, so that it gets the first slot
 * One that does not begin with o has the store open before.
 */
#define IMAGE_LOG 0  /* everything in the log, closed */
#define IMAGE_RUNS 1 /* two runs and a log, closed */
#define IMAGE_DEAD 2 /* as everybody's death left it */
#define IMAGE_LONG 3 /* two runs, and a manifest that is due to be rewritten */
#define IMAGES 4

typedef struct scenario {
  const char *name;
  int image;
  const char *actors[SCHED_ACTORS];
} scenario;

static const scenario scenarios[] = {
    {"commit_commit", IMAGE_LOG, {"rg", "rp", NULL}},
    {"commit_read", IMAGE_LOG, {"pd", "gsS", NULL}},
    {"commit_seal", IMAGE_LOG, {"pr", "f", NULL}},
    {"flush_read", IMAGE_RUNS, {"f", "sSg", NULL}},
    {"compact_snapshot", IMAGE_RUNS, {"m", "sSa", NULL}},
    {"compact_conflict", IMAGE_RUNS, {"r", "dm", NULL}},
    {"gc_open", IMAGE_RUNS, {"mp", "oac", NULL}},
    {"manifest_swap", IMAGE_LONG, {"pf", "sSg", NULL}},
    {"attach_close", IMAGE_LOG, {"pc", "oac", NULL}},
    {"recover_open", IMAGE_DEAD, {"opac", "orc", NULL}},
    {"prepare_takeover", IMAGE_LOG, {"wx", "pg", NULL}},
    {"ingest_read", IMAGE_LOG, {"l", "gg", "g"}},
    {"ingest_conflict", IMAGE_RUNS, {"l", "rg", NULL}},
    {"recycle_read", IMAGE_RUNS, {"pfpf", "sS", NULL}},
    {"three_commits", IMAGE_LOG, {"r", "r", "wg"}},
    /* directed only: */
    {"recycle_open", IMAGE_LOG, {"fbf", "oac", NULL}},
    {"recycle_open_3", IMAGE_LOG, {"Oac", "f", "bf"}},
};
#define ALL_SCENARIOS (sizeof scenarios / sizeof *scenarios)
#define DIRECTED 2
#define SCENARIOS (ALL_SCENARIOS - DIRECTED)

/* ---- Worlds ------------------------------------------------------------ */

/* A prepared store, and how it came to be: the history's thread of its own. */
static struct image {
  fixture_image files;
  history_log log;
} images[IMAGES];

typedef struct actor_state {
  const char *script;
  stratakv_store *store;
  stratakv_snapshot *snap;
  history_log *log;
  history_draft draft, snapped;
  bool in_doubt; /* draft is a commit under way */
  uint32_t mark; /* of that commit */
  unsigned commits;
} actor_state;

static struct world {
  skv_env *envs[SCHED_ACTORS + 1];
  actor_state actors[SCHED_ACTORS];
  history_log logs[HISTORY_THREADS];
  _Atomic uint32_t table; /* 0: none of them knows it yet */
  unsigned count;
} world;

/* Without ordering anything: the race detector watches the actors. */
static uint32_t world_table(void) {
  return atomic_load_explicit(&world.table, memory_order_relaxed);
}
static bool world_table_is(uint32_t id) {
  uint32_t was =
      atomic_exchange_explicit(&world.table, id, memory_order_relaxed);
  return was == 0 || was == id;
}

static stratakv_options world_options(void) {
  stratakv_options options = fixture_options();
  options.busy_timeout_ms = 60000;
  return options;
}

static size_t key_text(uint32_t key, char out[16]) {
  return (size_t)snprintf(out, 16, "k%03u", (unsigned)key);
}

static uint64_t world_now(void) {
  return atomic_fetch_add_explicit(&sched.clock, 1, memory_order_relaxed);
}

/* ---- What actors do ---------------------------------------------------- */

static void note_got(history_draft *d, uint32_t key, int rc,
                     const stratakv_value *got) {
  if (rc == STRATAKV_NOTFOUND)
    history_note(d, key, ACCESS_READ, 0, 0);
  else if (OK(rc))
    history_note(d, key, ACCESS_READ, fixture_number(got->data, got->size),
                 got->version);
}

static void act_get(actor_state *a, unsigned self, uint32_t key) {
  char text[16];
  stratakv_value got = {0};
  size_t n = key_text(key, text);
  history_draft_init(&a->draft, "get");
  a->draft.op.begin.invoked = world_now();
  int rc =
      stratakv_get(a->store, NULL, world_table(), text, n, &fixture_err, &got);
  a->draft.op.begin.returned = world_now();
  note_got(&a->draft, key, rc, &got);
  history_add(a->log, self, &a->draft, OP_DONE);
  stratakv_value_clear(&got);
}

/* All keys, by a cursor that meets them in order. */
static void act_scan(actor_state *a, history_draft *d, stratakv_snapshot *s) {
  stratakv_cursor *c = NULL;
  history_time time = {.invoked = world_now()};
  int rc = stratakv_cursor_open(a->store, s, NULL, world_table(), NULL,
                                &fixture_err, &c);
  time.returned = world_now();
  if (s == NULL) d->op.begin = time;
  if (rc == STRATAKV_OK) rc = stratakv_cursor_first(c, &fixture_err);
  for (uint32_t key = 0; key < KEYS && rc == STRATAKV_OK; key++) {
    char text[16];
    size_t n = key_text(key, text), len = 0, size;
    bool valid = stratakv_cursor_valid(c);
    const void *found = valid ? stratakv_cursor_key(c, &len) : "";
    if (!valid || len != n || memcmp(found, text, n) != 0) {
      history_note(d, key, ACCESS_READ, 0, 0);
      continue;
    }
    const void *value = stratakv_cursor_value(c, &size);
    history_note(d, key, ACCESS_READ, fixture_number(value, size),
                 stratakv_cursor_version(c));
    rc = stratakv_cursor_next(c, &fixture_err);
  }
  OK(rc);
  if (rc == STRATAKV_OK && stratakv_cursor_valid(c)) { /* pads come last */
    size_t len;
    CHECK(*(const char *)stratakv_cursor_key(c, &len) == 'p');
  }
  stratakv_cursor_close(c);
}

static void act_snapshot(actor_state *a, unsigned self) {
  history_draft_init(&a->snapped, "snapshot");
  a->snapped.op.begin.invoked = world_now();
  if (!OK(stratakv_snapshot_open(a->store, &fixture_err, &a->snap))) return;
  a->snapped.op.begin.returned = world_now();
  a->snapped.op.snapshot = stratakv_snapshot_lsn(a->snap);
  act_scan(a, &a->snapped, a->snap);
  SKV_UNUSED(self);
}

static void act_snapshot_again(actor_state *a, unsigned self) {
  if (a->snap == NULL) return;
  act_scan(a, &a->snapped, a->snap);
  stratakv_snapshot_close(a->snap);
  a->snap = NULL;
  history_add(a->log, self, &a->snapped, OP_DONE);
}

/* A commit begins: it writes a mark of its own too, by which the verdict
 * knows what became of it. */
static void commit_begin(actor_state *a, unsigned self, const char *name) {
  history_draft_init(&a->draft, name);
  a->mark = MARK(self, a->commits);
  a->commits++;
}

static uint32_t commit_note(actor_state *a, unsigned self, uint32_t key,
                            bool remove, uint32_t flags) {
  uint32_t v = remove ? 0 : history_value(a->log, self);
  history_note(&a->draft, key, ACCESS_WRITE | flags, v, 0);
  return v;
}

static void commit_invoke(actor_state *a) {
  a->draft.op.commit.invoked = world_now();
  a->draft.op.commit.returned = UINT64_MAX;
  a->in_doubt = true;
}

static void commit_end(actor_state *a, unsigned self, int rc, uint64_t lsn,
                       bool is_undone) {
  a->in_doubt = false;
  a->draft.op.commit.returned = world_now();
  a->draft.op.lsn = lsn;
  if (rc != STRATAKV_BUSY_SNAPSHOT) OK(rc);
  history_add(a->log, self, &a->draft,
              rc == STRATAKV_BUSY_SNAPSHOT     ? OP_CONFLICT
              : rc != STRATAKV_OK || is_undone ? OP_ABORTED
                                               : OP_DONE);
}

static void batch_add(stratakv_batch *batch, uint32_t key, uint32_t v) {
  char text[16], value[512];
  size_t n = key_text(key, text), size = fixture_value(v, value);
  OK(v ? stratakv_batch_put(batch, world_table(), text, n, value, size)
       : stratakv_batch_delete(batch, world_table(), text, n));
}

static void act_batch(actor_state *a, unsigned self, bool remove) {
  stratakv_batch *batch = stratakv_batch_new();
  stratakv_result result = {0};
  if (batch == NULL) abort();
  commit_begin(a, self, remove ? "delete" : "batch");
  batch_add(batch, 0, commit_note(a, self, 0, remove, 0));
  if (!remove) batch_add(batch, 1, commit_note(a, self, 1, false, 0));
  batch_add(batch, a->mark, commit_note(a, self, a->mark, false, 0));
  commit_invoke(a);
  int rc = stratakv_write(a->store, &batch, 1, &fixture_err, &result);
  commit_end(a, self, rc, result.lsn, false);
  stratakv_batch_free(batch);
}

static int txn_read(actor_state *a, stratakv_txn *txn, uint32_t key) {
  char text[16];
  stratakv_value got = {0};
  size_t n = key_text(key, text);
  int rc = stratakv_txn_get(txn, world_table(), text, n, &fixture_err, &got);
  note_got(&a->draft, key, rc, &got);
  stratakv_value_clear(&got);
  return rc == STRATAKV_OK ? STRATAKV_SAW_PRESENT : STRATAKV_SAW_ABSENT;
}

static void txn_write(actor_state *a, unsigned self, stratakv_txn *txn,
                      uint32_t key, int saw) {
  char text[16], value[512];
  size_t n = key_text(key, text);
  uint32_t flags = saw != STRATAKV_BLIND ? ACCESS_CHECKED : 0;
  uint32_t v = commit_note(a, self, key, false, flags);
  OK(stratakv_txn_put(txn, world_table(), text, n, value,
                      fixture_value(v, value), saw, &fixture_err));
}

/* Entries that nobody looks at. */
static void txn_pad(stratakv_txn *txn) {
  char text[16], value[1024];
  memset(value, 'p', sizeof value);
  for (int i = 0; i < PADS; i++) {
    size_t n = (size_t)snprintf(text, sizeof text, "pad%03d", i);
    OK(stratakv_txn_put(txn, world_table(), text, n, value, sizeof value,
                        STRATAKV_BLIND, &fixture_err));
  }
}

/* They fill the log, and the next one is prepared. */
static void act_pads(actor_state *a) {
  static char value[7 << 10];
  for (int i = 0; i < 3; i++)
    OK(stratakv_put(a->store, world.table, "pad", 3, value, sizeof value,
                    &fixture_err, NULL));
  skv_work_ask(a->store->db);
  skv_work_inline(a->store->db);
}

/* how: 'r' commits, 'w' prepares first, 'x' rolls back then, 'l' is large. */
static void act_txn(actor_state *a, unsigned self, char how) {
  static const char *const names[] = {"rmw", "prepared", "undone", "large"};
  stratakv_txn *txn = NULL;
  uint64_t lsn = 0;
  commit_begin(a, self, names[strchr("rwxl", how) - "rwxl"]);
  a->draft.op.is_large = how == 'l';
  a->draft.op.begin.invoked = world_now();
  if (!OK(stratakv_begin(a->store, &fixture_err, &txn))) return;
  a->draft.op.begin.returned = world_now();
  int saw = txn_read(a, txn, 0);
  txn_read(a, txn, 1);
  txn_write(a, self, txn, 0, saw);
  if (how == 'l') txn_write(a, self, txn, 1, STRATAKV_BLIND);
  txn_write(a, self, txn, a->mark, STRATAKV_BLIND);
  if (how == 'l') txn_pad(txn);
  commit_invoke(a);
  int rc = how == 'w' || how == 'x' ? stratakv_prepare(txn, &fixture_err)
                                    : STRATAKV_OK;
  if (rc == STRATAKV_OK && how != 'x')
    rc = stratakv_commit(txn, &fixture_err, &lsn);
  if (rc != STRATAKV_OK || how == 'x') stratakv_rollback(txn);
  commit_end(a, self, rc, lsn, how == 'x');
}

static bool act_open(skv_env *env, stratakv_store **store) {
  stratakv_options options = world_options();
  stratakv_table_info info;
  if (!OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, store)))
    return false;
  if (!OK(stratakv_table(*store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err,
                         &info)))
    return false;
  return CHECK(info.id != 0 && world_table_is(info.id));
}

static void act_all(actor_state *a, unsigned self) {
  history_draft_init(&a->draft, "scan");
  act_scan(a, &a->draft, NULL);
  history_add(a->log, self, &a->draft, OP_DONE);
}

static void act(actor_state *a, unsigned self, skv_env *env, char what) {
  switch (what) {
  case 'o':
  case 'O': act_open(env, &a->store); break;
  case 'c':
    OK(stratakv_close(a->store, &fixture_err));
    a->store = NULL;
    break;
  case 'p': act_batch(a, self, false); break;
  case 'd': act_batch(a, self, true); break;
  case 'g':
    act_get(a, self, 0);
    act_get(a, self, 1);
    break;
  case 's': act_snapshot(a, self); break;
  case 'S': act_snapshot_again(a, self); break;
  case 'a': act_all(a, self); break;
  case 'b': act_pads(a); break;
  case 'f': OK(stratakv_flush(a->store, &fixture_err)); break;
  case 'm': OK(stratakv_compact(a->store, NULL, NULL, &fixture_err)); break;
  default: act_txn(a, self, what); break;
  }
}

static void actor_run(sched_actor *self) {
  actor_state *a = self->arg;
  for (const char *p = a->script; *p && check_failures == 0; p++)
    if (strchr("oO", *p) != NULL || a->store != NULL)
      act(a, self->number, self->env, *p);
}

/* ---- Images ------------------------------------------------------------ */

static void image_write(actor_state *a, int rounds, bool flush) {
  for (int i = 0; i < rounds; i++) {
    act_batch(a, SCHED_ACTORS, i % 2 == 1);
    a->commits = 0; /* one mark for all */
    if (flush) OK(stratakv_flush(a->store, &fixture_err));
  }
}

/* By the history's last thread, whose log goes with the image. */
static void image_make(int kind) {
  skv_env *env = fixture_world(&(fixture_image){0});
  actor_state a = {.log = &world.logs[SCHED_ACTORS]};
  memset(a.log, 0, sizeof *a.log);
  sched_env(env);
  world.table = 0;
  if (!act_open(env, &a.store)) return;
  if (kind == IMAGE_LONG) image_write(&a, 4, true);
  if (kind == IMAGE_RUNS || kind == IMAGE_LONG) image_write(&a, 2, true);
  image_write(&a, 3, false);
  if (kind == IMAGE_DEAD) images[kind].files = fixture_take(env);
  OK(stratakv_close(a.store, &fixture_err));
  if (kind != IMAGE_DEAD) images[kind].files = fixture_take(env);
  images[kind].log = *a.log;
  skv_env_mem_free(env);
}

/* ---- A schedule -------------------------------------------------------- */

static void world_begin(const scenario *what) {
  const struct image *image = &images[what->image];
  memset(world.actors, 0, sizeof world.actors);
  for (unsigned i = 0; i < SCHED_ACTORS; i++)
    world.logs[i].ops = world.logs[i].accesses = world.logs[i].values = 0;
  world.logs[SCHED_ACTORS] = image->log;
  world.count = what->actors[2] ? 3 : 2;
  skv_env *first = fixture_world(&image->files);
  sched_env(first);
  world.envs[SCHED_ACTORS] = first; /* nobody's: the files stay */
  for (unsigned i = 0; i < world.count; i++) {
    actor_state *a = &world.actors[i];
    skv_env *env = skv_env_mem_process(first);
    sched_env(env);
    world.envs[i] = env;
    a->script = what->actors[i];
    a->log = &world.logs[i];
    sched.actors[i].env = env;
    sched.actors[i].run = actor_run;
    sched.actors[i].arg = a;
    if (a->script[0] != 'o') act_open(env, &a->store);
  }
  for (unsigned i = 0; i < world.count; i++) {
    actor_state *a = &world.actors[i];
    if (a->script[0] != 'O') continue;
    OK(stratakv_close(a->store, &fixture_err));
    a->store = NULL;
  }
}

/* What a dead one was committing: done if its mark is there. */
static void resolve(unsigned self, uint64_t version, uint32_t value) {
  actor_state *a = &world.actors[self];
  a->in_doubt = false;
  a->draft.op.lsn = version;
  const history_access *mark = &a->draft.all[a->draft.count - 1];
  bool is_done = value != 0 && mark->key == a->mark && mark->value == value;
  history_add(a->log, self, &a->draft, is_done ? OP_DONE : OP_ABORTED);
}

static void resolve_all(stratakv_store *store) {
  for (unsigned i = 0; i < world.count; i++) {
    char text[16];
    stratakv_value got = {0};
    if (!world.actors[i].in_doubt) continue;
    size_t n = key_text(world.actors[i].mark, text);
    int rc =
        stratakv_get(store, NULL, world_table(), text, n, &fixture_err, &got);
    if (rc != STRATAKV_NOTFOUND) OK(rc);
    uint32_t value = rc == STRATAKV_OK ? fixture_number(got.data, got.size) : 0;
    resolve(i, got.version, value);
    stratakv_value_clear(&got);
  }
}

/* INV-9: everybody who lives reads and writes, then leaves. */
static void survivors_go_on(void) {
  for (unsigned i = 0; i < world.count; i++) {
    actor_state *a = &world.actors[i];
    if (sched.actors[i].dead || a->store == NULL) continue;
    act_batch(a, i, false);
    act_all(a, i);
  }
  for (unsigned i = 0; i < world.count; i++) {
    actor_state *a = &world.actors[i];
    if (sched.actors[i].dead) continue;
    if (a->snap != NULL) act_snapshot_again(a, i);
    if (a->store != NULL) OK(stratakv_close(a->store, &fixture_err));
    a->store = NULL;
  }
}

/* The next user, by the log of the image's thread. */
static void next_user(void) {
  actor_state a = {.log = &world.logs[SCHED_ACTORS]};
  skv_env *env = world.envs[SCHED_ACTORS];
  if (act_open(env, &a.store)) {
    resolve_all(a.store);
    act_all(&a, SCHED_ACTORS);
    act_batch(&a, SCHED_ACTORS, false);
    act_all(&a, SCHED_ACTORS);
    OK(stratakv_close(a.store, &fixture_err));
  }
}

static char schedule_text[200];

static void schedule_name(const schedule *s) {
  int n = snprintf(schedule_text, sizeof schedule_text, "%s:%u:%u@%u",
                   scenarios[s->scenario].name, s->first, s->victim, s->death);
  for (unsigned i = 0; i < s->count; i++)
    n += snprintf(schedule_text + n, sizeof schedule_text - (size_t)n, ":%u>%u",
                  s->at[i], s->to[i]);
  check_where = schedule_text;
}

static void print_trace(void) {
  unsigned n = sched.steps;
  if (n > SCHED_STEPS / 64) n = SCHED_STEPS / 64;
  for (unsigned i = 0; i < n; i++)
    printf("%s%s", sched.trace[i], i % 6 == 5 || i + 1 == n ? "\n" : ", ");
}

/* Run one; what it took is in sched.steps and the actors' steps. */
static void run_schedule(const schedule *s) {
  size_t allocated = skv_alloc_count();
  schedule_name(s);
  world_begin(&scenarios[s->scenario]);
  sched_run(s, world.count);
  CHECK(!sched.is_stuck);
  bool died = false;
  for (unsigned i = 0; i < world.count; i++) died |= sched.actors[i].dead;
  survivors_go_on();
  next_user();
  history h = {world.count, KEYS, world.logs};
  if (check_failures == 0) {
    /* The image's log stands behind those of the actors. */
    if (world.count < SCHED_ACTORS) {
      world.logs[world.count].ops = world.logs[world.count].accesses = 0;
    }
    h.threads = SCHED_ACTORS + 1;
    history_check_lsn(&h);
    history_check_order(&h);
  }
  for (unsigned i = 0; i < world.count; i++)
    if (!sched.actors[i].dead) skv_env_mem_free(world.envs[i]);
  skv_env_mem_free(world.envs[SCHED_ACTORS]);
  if (!died) CHECK(skv_alloc_count() == allocated);
  if (check_failures == 0) return;
  print_trace();
  printf("repeat: build/test/c/sched_test '%s'\n", schedule_text);
}

/* ---- Batches, each in a child ------------------------------------------ */

/* What children say. */
static struct report {
  uint64_t schedules, deaths, checks;
  unsigned steps, actor_steps[SCHED_ACTORS]; /* of the last schedule */
  unsigned failures;
  char running[sizeof schedule_text];
} * report;

static void report_one(const schedule *s) {
  schedule_name(s);
  memcpy(report->running, schedule_text, sizeof schedule_text);
  unsigned checks = check_count;
  run_schedule(s);
  report->schedules++;
  report->checks += check_count - checks;
  report->failures = check_failures;
  report->steps = sched.steps;
  for (unsigned i = 0; i < SCHED_ACTORS; i++) {
    report->actor_steps[i] = sched.actors[i].steps;
    report->deaths += i < world.count && sched.actors[i].dead;
  }
}

/* One runs at a time: on one processor handing over is quick. */
static void pin(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(sched_getcpu(), &set);
  (void)sched_setaffinity(0, sizeof set, &set);
}

typedef void (*batch_run)(schedule *s);

/* In a child, which ends with what dead processes left. */
static void batch(batch_run run, schedule s) {
  fflush(stdout);
  if (check_failures > 0) return;
  pid_t pid = fork();
  if (pid < 0) abort();
  if (pid == 0) {
    alarm(120);
    pin();
    run(&s);
    fflush(stdout);
    harness_exit(0);
  }
  int status = -1;
  while (waitpid(pid, &status, 0) < 0) continue;
  check_failures += report->failures;
  if (status != 0) {
    check_failures++;
    printf("failed: a child ended with status %d in\n"
           "repeat: build/test/c/sched_test '%s'\n",
           status, report->running);
  }
}

static void batch_one(schedule *s) { report_one(s); }

/* Every place of the last preemption, to everybody else. */
static void batch_last(schedule *s) {
  unsigned last = s->count - 1,
           count = scenarios[s->scenario].actors[2] ? 3 : 2;
  unsigned from = last > 0 ? s->at[last - 1] + 1 : 1;
  for (unsigned to = 0; to < count; to++) {
    s->to[last] = to;
    s->at[last] = from;
    do {
      report_one(s);
      s->at[last]++;
    } while (check_failures == 0 && s->at[last] <= report->steps);
  }
}

/* Every step of the victim. */
static void batch_death(schedule *s) {
  s->death = 1;
  do {
    report_one(s);
    s->death++;
  } while (check_failures == 0 &&
           s->death <= report->actor_steps[s->victim] + 1 &&
           sched.actors[s->victim].dead);
}

/* All schedules of a scenario with two preemptions, and with one and a death;
 * or every n-th place of the first preemption, for about `most` of them. */
static void run_scenario(unsigned n, unsigned most, unsigned phase) {
  unsigned count = scenarios[n].actors[2] ? 3 : 2;
  for (unsigned first = 0; first < count; first++) {
    if (harness.share > 1 && first != n % count) continue;
    schedule s = {.scenario = n, .first = first};
    batch(batch_one, s);
    unsigned steps = report->steps;
    for (s.victim = 0; s.victim < count; s.victim++) batch(batch_death, s);
    s.victim = 0;
    s.count = 1;
    batch(batch_last, s);
    unsigned all = steps * steps * count * count * count;
    unsigned stride = most ? 1 + all / most : 1;
    for (unsigned at = 1 + phase % stride; at <= steps; at += stride) {
      if (harness_is_over()) return;
      for (unsigned to = 0; to < count; to++) {
        s.count = 1;
        s.at[0] = at;
        s.to[0] = to;
        for (s.victim = 0; s.victim < count; s.victim++) batch(batch_death, s);
        s.victim = 0;
        s.count = 2;
        batch(batch_last, s);
      }
    }
  }
}

/* Random priorities: whoever is preempted to goes before all others. */
static void batch_random(schedule *s) {
  skv_prng rng = {s->death * 7919 + 3};
  for (int i = 0; i < 50 && check_failures == 0; i++) {
    schedule r = {.scenario = (unsigned)skv_prng_below(&rng, SCENARIOS)};
    unsigned at = 0;
    r.first = (unsigned)skv_prng_below(&rng, SCHED_ACTORS);
    r.count = 2 + (unsigned)skv_prng_below(&rng, SCHED_PREEMPTIONS - 1);
    for (unsigned p = 0; p < r.count; p++) {
      at += 1 + (unsigned)skv_prng_below(&rng, 50);
      r.at[p] = at;
      r.to[p] = (unsigned)skv_prng_below(&rng, SCHED_ACTORS);
    }
    r.victim = (unsigned)skv_prng_below(&rng, SCHED_ACTORS);
    if (skv_prng_below(&rng, 2))
      r.death = 1 + (unsigned)skv_prng_below(&rng, 80);
    report_one(&r);
  }
}

static bool schedule_parse(const char *text, schedule *s) {
  size_t len = strcspn(text, ":");
  int n = 0;
  memset(s, 0, sizeof *s);
  for (s->scenario = 0; s->scenario < ALL_SCENARIOS; s->scenario++)
    if (strlen(scenarios[s->scenario].name) == len &&
        memcmp(scenarios[s->scenario].name, text, len) == 0)
      break;
  if (s->scenario == ALL_SCENARIOS) return false;
  text += len;
  if (sscanf(text, ":%u:%u@%u%n", &s->first, &s->victim, &s->death, &n) < 3)
    return *text == '\0';
  for (text += n; *text == ':' && s->count < SCHED_PREEMPTIONS; text += n)
    if (sscanf(text, ":%u>%u%n", &s->at[s->count], &s->to[s->count], &n) == 2)
      s->count++;
    else
      return false;
  return *text == '\0';
}

/* P1, the fences: who looks before others see what it said is too late only in
 * these. A newcomer maps the log that is recycled meanwhile; */
static const sched_cue pin_cues[] = {{1, "state.log_mapped", false, 0}, {0}};

/* or the recycler is another than the flusher, which died before it could say
 * that the log is retired, and has looked at the newcomer's slot, the first,
 * but not yet at the dead one's. */
static const sched_cue retire_cues[] = {
    {0, "state.log_named", false, 1}, {1, "flush.published", true, 2},
    {2, "lock slot", false, 0},       {0, "state.log_mapped", false, 2},
    {2, "log.headed", false, 0},      {0}};

static void directed(unsigned n) {
  bool is_first = n == SCENARIOS;
  schedule s = {.scenario = n,
                .first = is_first,
                .cues = is_first ? pin_cues : retire_cues};
  batch(batch_one, s);
}

#define MOST_IN_CI 300  /* schedules of one scenario, about */
#define RANDOM_IN_CI 40 /* batches of 50 */

static void batch_of(uint64_t n) {
  batch(batch_random, (schedule){.death = (unsigned)n});
}

/* Every scenario, from the place `phase` on. */
static void sweep(unsigned phase) {
  for (unsigned i = 0; i < SCENARIOS && check_failures == 0; i++) {
    uint64_t before = report->schedules;
    run_scenario(i, (unsigned)harness_some(MOST_IN_CI), phase);
    printf("%-18s %6" PRIu64 " schedules\n", scenarios[i].name,
           report->schedules - before);
  }
}

/* Scenario by scenario and round by round from other places, with random ones
 * between. */
static void soak(unsigned seed) {
  for (unsigned n = seed; harness_has_time() && check_failures == 0; n++) {
    run_scenario(n % SCENARIOS, MOST_IN_CI, n / SCENARIOS);
    for (unsigned i = 0; i < 4; i++) batch_of((uint64_t)n * 4 + i);
  }
}

int main(int argc, char **argv) {
  schedule s;
  bool one = argc > 1 && schedule_parse(argv[1], &s);
  report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (report == MAP_FAILED) return 1;
  setenv("SKV_TEST_HEAD_ROLL", "600", 1);
  skv_point_set(sched_point, NULL);
  for (int i = 0; i < IMAGES; i++) image_make(i);
  harness_begin(one ? 1 : argc, argv);
  if (one && s.scenario >= SCENARIOS) {
    directed(s.scenario);
    return check_failures > 0;
  }
  if (one && strchr(argv[1], ':') != NULL) {
    run_schedule(&s);
    print_trace();
    return check_end();
  }
  if (one) {
    run_scenario(s.scenario, 0, 0);
    printf("%" PRIu64 " schedules\n", report->schedules);
    return check_failures > 0;
  }
  directed(SCENARIOS);
  directed(SCENARIOS + 1);
  unsigned seed = (unsigned)harness.first;
  if (harness.soak_s > 0)
    soak(seed);
  else if (harness.sample == 1) /* a sample of them is random */
    sweep(seed);
  for (uint64_t n; harness_next(RANDOM_IN_CI, &n);) batch_of(n);
  check_where = "";
  printf("%" PRIu64 " deaths\n", report->deaths);
  harness_count("schedules", report->schedules);
  check_count += (unsigned)report->checks;
  return check_end();
}
