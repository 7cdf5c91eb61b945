/*
 * Crash images: a workload runs in a recorded environment; at each event the
 * images that a death or a power cut could leave are made and opened. Each
 * must show a prefix of the commits, in `full` all that were acknowledged,
 * after a death in every mode; nothing else; and it must go on from there.
 *
 *   sequences  all sequences of one to four operations of eleven kinds with tiny
 *              sizes, in each mode, by one process and by two in turn; images
 *              of the last operation, for those before it stood last in a
 *              shorter sequence
 *   random     long workloads
 *
 * Case N is a sequence, each 32nd a random workload, which takes as long as
 * 200 sequences. As many as in `make test` hold all of one and two operations.
 *
 * Timeout: 2400
 * Unfilled: a third slower by images that are freed
 * Soak: 4
 *
 * Covers: INV-1, INV-2, INV-3, INV-5, INV-6, INV-7, P7, P8, P10, L2, L3, L4
 */
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/util/point.h"
#include "test/c/harness.h"
#include "test/c/images_judge.h"

#define RANDOM_EVERY 32
#define CASES_IN_CI 820
#define SURVIVAL_ODDS 20 /* a process dies at one event in so many */

static uint64_t survivals;

static struct {
  recording *r;
  skv_env *env[2];
  stratakv_store *store[2];
  stratakv_table_info table;
  unsigned processes;
  unsigned actor; /* the process that is being called */
  uint32_t next_value;
  uint32_t keys; /* used, of KEYS */
  int sync;
  uint64_t wal_size;
  bool taking;     /* images are taken */
  unsigned stride; /* at one event in so many */
  unsigned picks;  /* crashes of each event, besides none, all and a death */
  unsigned tables; /* made to have the manifest swapped */
} work;

/* ---- Taking images ----------------------------------------------------- */

static unsigned work_safe(void) {
  unsigned safe = history.safe;
  for (unsigned p = 0; p < work.processes; p++)
    if (work.store[p] != NULL) {
      uint64_t lsn = skv_load(&work.store[p]->db->shared->durable);
      unsigned k = history_durable(lsn);
      if (k > safe) safe = k;
    }
  return safe;
}

/* Who finds CURRENT renamed does not know whether that is durable. */
static bool is_swap(const suspect *s) {
  return s->operation != NULL && strcmp(s->operation, "swap") == 0;
}

static void take_crash(crash *c, size_t number, suspect s) {
  crash_choose(c, number);
  s.crash = number;
  s.image = crash_image(c);
  s.hash = crash_hash(&s.image, false);
  s.again = !s.is_nested && skv_prng_below(&court.rng, 10) == 0;
  court_offer(s.is_nested ? &court.nested : &court.queue, &s);
}

/* Whoever recovers may die before SHARED is of this boot. */
static bool is_of_this_boot(const recording *r, const fixture_image *image) {
  for (size_t i = 0; i < image->count; i++) {
    const fixture_file *file = &image->files[i];
    if (strcmp(file->name, "SHARED") == 0 && file->size == SKV_SHARED_SIZE &&
        skv_mem_is_boot(r->fs, file->bytes + FIXTURE_BOOT_AT))
      return true;
  }
  return false;
}

static void take_death(const recording *r, suspect s) {
  s.death = true;
  s.image = crash_death(r, &court.rng);
  s.same_boot = is_of_this_boot(r, &s.image);
  s.hash = crash_hash(&s.image, true) + s.same_boot;
  s.again =
      !s.is_nested && (is_swap(&s) || skv_prng_below(&court.rng, 10) == 0);
  if (s.again && r->storing == NULL) s.record = record_copy_new(r);
  court_offer(s.is_nested ? &court.nested : &court.queue, &s);
}

static void take_crashes(const recording *r, suspect s, unsigned picks) {
  crash c = crash_begin(r, &court.rng);
  size_t numbers = crash_numbers(&c, 2);
  take_crash(&c, 0, s);
  if (c.count > 0) take_crash(&c, 1, s);
  for (unsigned i = 0; c.count > 0 && i < picks; i++)
    take_crash(&c, 2 + skv_prng_below(&court.rng, numbers - 2), s);
  crash_end(&c);
}

static void nested_event(recording *r) {
  const suspect *of = r->arg;
  if (skv_prng_below(&court.rng, 3) != 0) return;
  suspect s = {.least = of->least,
               .safe = of->safe,
               .most = of->most,
               .copies = of->copies,
               .operation = skv_operation(),
               .is_nested = true};
  if (skv_prng_below(&court.rng, 4) == 0) take_death(r, s);
  s.least = s.safe;
  take_crashes(r, s, skv_prng_below(&court.rng, 2) == 0);
}

static void work_event(recording *r);

/* What the process that does nothing at the moment sees: a prefix with every
 * acknowledged commit. In `full` that must be durable. */
static unsigned work_seen(void) {
  stratakv_store *store = work.store[1 - work.actor];
  rows r;
  if (work.processes == 1 || store == NULL) return 0;
  /* It is at work itself if it holds its head: then it reads nothing. */
  if (!skv_mutex_try(&store->db->head_mutex)) return 0;
  skv_mutex_unlock(&store->db->head_mutex);
  work.r->event = NULL; /* a reader makes logs whole that it maps */
  OK(fixture_scan(store, work.table.id, r.v, KEYS));
  work.r->event = work_event;
  uint32_t state = history_find(&r);
  unsigned k = history.acked;
  while (k < history.intended && history.chain[k] != state) k++;
  CHECK(history.chain[k] == state);
  return work.sync == STRATAKV_SYNC_FULL ? k : 0;
}

/* The power fails during what a survivor does; r->arg: what it may leave. */
static void survival_event(recording *r) {
  take_crashes(r, *(const suspect *)r->arg, skv_prng_below(&court.rng, 3) == 0);
}

static void survival_judge(recording *r) {
  r->event = NULL;
  court_judge(&court.queue, nested_event);
  r->event = survival_event;
}

/* The survivor's commit follows whichever of the dead one's are decided to be:
 * the states that it may lead to stand behind all others. */
static unsigned survival_intend(uint32_t value) {
  unsigned first = history.intended + 1, last = history.intended;
  for (unsigned k = history.acked; k <= last; k++) {
    rows want = history.states[history.chain[k]];
    want.v[0] = value;
    history_intend(&want);
  }
  return first;
}

/* The first write decides what the dead process had begun. */
static bool survival_put(recording *r, stratakv_store *store, suspect *s,
                         rows *after) {
  uint64_t lsn = 0;
  const uint32_t value = 88888;
  unsigned first = survival_intend(value);
  s->most = history.intended;
  OK(fixture_put(store, work.table.id, 0, value, &lsn));
  CHECK(lsn > history.lsns[history.acked]);
  survival_judge(r);
  OK(fixture_scan(store, work.table.id, after->v, KEYS));
  unsigned k = first;
  while (k < history.intended &&
         memcmp(&history.states[history.chain[k]], after, sizeof *after) != 0)
    k++;
  s->most = k;
  return CHECK(history.chain[k] == history_find(after));
}

/* The process that does something dies here; the other one goes on, and the
 * power fails at each event of it, and when it has written. In a copy of this
 * program: pthread_atfork's handlers would make handles of it that are of no
 * use. */
static void survive(recording *r, suspect s) {
  const skv_mem_handle *h = skv_mem_env_of(work.env[work.actor])->handles;
  stratakv_store *store = work.store[1 - work.actor];
  bool full = work.sync == STRATAKV_SYNC_FULL;
  rows seen, after;
  for (; h != NULL; h = h->next) skv_mem_unlock_all(h->node, h);
  for (size_t i = 0; i < court.queue.count; i++)
    suspect_clear(&court.queue.list[i]);
  court.queue.count = 0;
  court_adjourn();
  bool late = is_swap(&s) || skv_prng_below(&court.rng, 2) == 0;
  s.operation = "survival";
  r->event = NULL;
  OK(fixture_scan(store, work.table.id, seen.v, KEYS));
  judge_range(&s, history_find(&seen), &seen);
  s.least = s.safe;
  r->event = survival_event;
  r->arg = &s;
  if (late) judge_make_late(store);
  if (!survival_put(r, store, &s, &after)) return;
  if (full) {
    judge_survives(r, &s, &after, late);
    s.least = s.safe = s.most;
  }
  OK(stratakv_flush(store, &fixture_err));
  survival_judge(r);
  judge_survives(r, &s, &after, late);
}

static void work_survival(recording *r, const suspect *s) {
  int status = -1;
  fflush(stdout);
  pid_t pid = (pid_t)syscall(SYS_fork);
  if (pid == 0) {
    survive(r, *s);
    fflush(stdout);
    _exit(check_failures > 0);
  }
  survivals++;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void work_event(recording *r) {
  if (!work.taking || check_failures > 0) return;
  if (work.stride > 1 && skv_prng_below(&court.rng, work.stride) != 0) return;
  unsigned seen = r->storing == NULL ? work_seen() : 0;
  suspect s = {.least = history.acked,
               .safe = work_safe(),
               .most = history.intended,
               .copies = copies.done,
               .operation = skv_operation()};
  take_death(r, s);
  if (seen > s.safe) s.safe = seen;
  bool is_alone =
      work.processes == 1 || work.store[0] == NULL || work.store[1] == NULL;
  if (!is_alone && r->storing == NULL &&
      skv_prng_below(&court.rng, is_swap(&s) ? 1 : SURVIVAL_ODDS) == 0)
    work_survival(r, &s);
  s.least = s.safe;
  take_crashes(r, s, work.picks);
}

/* ---- Operations -------------------------------------------------------- */

static void work_open(unsigned p) {
  OK(skv_open_in(work.env[p], FIXTURE_PATH, &court.options, &fixture_err,
                 &work.store[p]));
  OK(stratakv_table(work.store[p], "kv", STRATAKV_KEY_TEXT, 1, &fixture_err,
                    &work.table));
}

static uint32_t work_key(void) {
  return (uint32_t)skv_prng_below(&court.rng, work.keys);
}

static void work_acknowledge(uint64_t lsn) {
  history_acknowledge(lsn, work.sync == STRATAKV_SYNC_FULL);
}

static void work_put(unsigned p, bool remove) {
  uint64_t lsn = 0;
  rows r = history_last();
  uint32_t i = work_key();
  for (uint32_t n = 0; remove && r.v[i] == 0 && n < KEYS; n++)
    i = (i + 1) % work.keys;
  r.v[i] = remove ? 0 : ++work.next_value;
  history_intend(&r);
  OK(fixture_put(work.store[p], work.table.id, i, r.v[i], &lsn));
  work_acknowledge(lsn);
}

#define BATCHES 3

static void work_batches(unsigned p) {
  stratakv_batch *batches[BATCHES];
  stratakv_result results[BATCHES];
  char key[32], value[512];
  for (unsigned b = 0; b < BATCHES; b++) {
    rows r = history_last();
    batches[b] = stratakv_batch_new();
    for (unsigned n = 0; n < 2; n++) {
      uint32_t i = work_key(), v = ++work.next_value;
      r.v[i] = v;
      size_t key_len = fixture_key(i, key);
      OK(stratakv_batch_put(batches[b], work.table.id, key, key_len, value,
                            fixture_value(v, value)));
    }
    history_intend(&r);
  }
  OK(stratakv_write(work.store[p], batches, BATCHES, &fixture_err, results));
  for (unsigned b = 0; b < BATCHES; b++) {
    work_acknowledge(results[b].lsn);
    stratakv_batch_free(batches[b]);
  }
}

/* A transaction of so many changes; one of many does not fit the log. */
static void work_txn(unsigned p, unsigned changes, bool prepare, bool commit) {
  stratakv_txn *txn;
  uint64_t lsn = 0;
  rows r = history_last();
  if (!OK(stratakv_begin(work.store[p], &fixture_err, &txn))) return;
  for (unsigned n = 0; n < changes; n++) {
    uint32_t i = work_key();
    r.v[i] = skv_prng_below(&court.rng, 4) == 0 ? 0 : ++work.next_value;
    OK(fixture_txn_put(txn, work.table.id, i, r.v[i]));
  }
  /* A death between prepare and rollback commits. */
  if (prepare || commit) history_intend(&r);
  if (prepare) OK(stratakv_prepare(txn, &fixture_err));
  if (commit) {
    OK(stratakv_commit(txn, &fixture_err, &lsn));
    work_acknowledge(lsn);
    return;
  }
  stratakv_rollback(txn);
  court_judge(&court.queue, nested_event); /* before history takes it back */
  history.intended = history.acked;
}

static void work_flush(unsigned p) {
  OK(stratakv_flush(work.store[p], &fixture_err));
  history.safe = history.acked;
}

static void work_compact(unsigned p) {
  OK(stratakv_compact(work.store[p], NULL, NULL, &fixture_err));
  history.safe = history.acked;
}

/* The next change of the manifest begins a new one. */
static void work_swap(unsigned p) {
  stratakv_table_info made;
  char name[16];
  snprintf(name, sizeof name, "t%u", work.tables++);
  work.store[p]->db->head_doubted = true;
  OK(stratakv_table(work.store[p], name, STRATAKV_KEY_TEXT, 1, &fixture_err,
                    &made));
}

/* The last edit may be one that begins a new manifest. */
static void work_reopen(unsigned p) {
  if (skv_prng_below(&court.rng, 2) == 0)
    work.store[p]->db->head_doubted = true;
  OK(stratakv_close(work.store[p], &fixture_err));
  work.store[p] = NULL;
  if (work.processes == 1) history.safe = history.acked;
  work_open(p);
}

/* Enough to outgrow what a transaction may take of the log. */
static unsigned work_many(void) { return (unsigned)(work.wal_size / 4 / 100); }

/* A copy of what is there now, beside the store. */
static void work_backup(unsigned p) {
  SKV_OPERATION("backup");
  char path[16];
  if (copies.begun == COPIES_MAX) return;
  copy_path(copies.begun, path);
  copies.state[copies.begun++] = history.chain[history.acked];
  OK(stratakv_backup(work.store[p], NULL, path, NULL, &fixture_err, NULL));
  copies.done = copies.begun;
}

#define KINDS 11

static void work_do(unsigned kind, unsigned p) {
  switch (kind) {
  case 0: work_put(p, false); break;
  case 1: work_put(p, true); break;
  case 2: work_batches(p); break;
  case 3: work_txn(p, 4, false, true); break;
  case 4: work_txn(p, 4, true, skv_prng_below(&court.rng, 2) == 0); break;
  case 5: work_flush(p); break;
  case 6: work_compact(p); break;
  case 7: work_txn(p, work_many(), false, true); break;
  case 8: work_swap(p); break;
  case 9: work_backup(p); break;
  default: work_reopen(p); break;
  }
}

static void work_step(unsigned kind, unsigned p) {
  work.actor = p;
  work_do(kind, p);
  work_event(work.r);
  court_judge(&court.queue, nested_event);
}

/* ---- Running ----------------------------------------------------------- */

static void work_begin(uint64_t seed, int sync, unsigned processes,
                       uint64_t wal_size) {
  court_adjourn();
  history_begin();
  court.rng.state = seed;
  court.options = fixture_options();
  court.options.sync = sync;
  court.options.compression = (int)(seed % 3);
  court.options.mmap = seed % 4 != 1;
  char text[32];
  snprintf(text, sizeof text, "%u", (unsigned)wal_size);
  setenv("SKV_TEST_WAL_SIZE", text, 1);
  memset(&work, 0, sizeof work);
  work.wal_size = wal_size;
  work.sync = sync;
  work.processes = processes;
  work.stride = 1;
  work.keys = KEYS;
  work.env[0] = fixture_world(&(fixture_image){0});
  skv_mem_env_of(work.env[0])->fs->no_links = seed % 5 == 2;
  if (processes > 1) work.env[1] = skv_env_mem_process(work.env[0]);
  work.r = record_begin(work.env[0], work_event);
  if (processes > 1) record_attach(work.r, work.env[1]);
}

static void work_start(void) {
  for (unsigned p = 0; p < work.processes; p++) work_open(p);
  work_event(work.r);
  court_judge(&court.queue, nested_event);
}

static void work_end(void) {
  rows r;
  OK(fixture_scan(work.store[0], work.table.id, r.v, KEYS));
  CHECK(history_find(&r) == history.chain[history.acked]);
  for (unsigned p = work.processes; p-- > 0;) {
    OK(stratakv_close(work.store[p], &fixture_err));
    work.store[p] = NULL;
  }
  history.safe = history.acked;
  work_event(work.r);
  court_judge(&court.queue, nested_event);
  for (unsigned p = work.processes; p-- > 0;) skv_env_mem_free(work.env[p]);
  record_free(work.r);
}

#define LONGEST 4
#define VARIANTS 6 /* three modes, by one process or two */

/* The digits of the n-th sequence, short ones first; false if there is none. */
static bool sequence_of(uint64_t n, unsigned *length, unsigned kinds[LONGEST]) {
  uint64_t of_length = KINDS;
  *length = 1;
  while (n >= of_length) {
    n -= of_length;
    of_length *= KINDS;
    if (++*length > LONGEST) return false;
  }
  for (unsigned i = *length; i-- > 0; n /= KINDS) kinds[i] = n % KINDS;
  return true;
}

static void run_sequence(uint64_t n) {
  unsigned length, kinds[LONGEST];
  unsigned variant = n % VARIANTS;
  if (!sequence_of(n / VARIANTS, &length, kinds)) return;
  work_begin(n + 1, (int)(variant % 3), 1 + variant / 3, 16u << 10);
  work.keys = 40;
  work.picks = harness.soak_s > 0 ? 12 : 3;
  work.taking = length == 1;
  work_start();
  work.taking = false;
  for (unsigned i = 0; i < 3; i++) work_put(0, false);
  for (unsigned i = 0; i < length; i++) {
    work.taking = i == length - 1;
    work_step(kinds[i], i % work.processes);
  }
  work.taking = length == 1;
  work_end();
}

#define STEPS 90

static void run_random(uint64_t seed) {
  work_begin(seed, (int)(seed / RANDOM_EVERY % 3),
             1 + (unsigned)(seed / (3 * RANDOM_EVERY) % 2), 64u << 10);
  setenv("SKV_TEST_HEAD_ROLL", "1024", 1);
  work.stride = 6;
  work.picks = 2;
  work.taking = true;
  work_start();
  for (unsigned i = 0; i < STEPS && check_failures == 0; i++) {
    static const uint8_t odds[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 3,
                                   3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10};
    unsigned p = (unsigned)skv_prng_below(&court.rng, work.processes);
    work_step(odds[skv_prng_below(&court.rng, sizeof odds)], p);
  }
  work_end();
  unsetenv("SKV_TEST_HEAD_ROLL");
}

static void run_case(uint64_t n) {
  uint64_t sequences = 0;
  for (uint64_t i = 0, of = KINDS; i < LONGEST; i++, of *= KINDS)
    sequences += of * VARIANTS;
  if (n % RANDOM_EVERY == 0)
    run_random(n);
  else
    run_sequence((n - 1 - n / RANDOM_EVERY) % sequences);
  if (check_failures > 0)
    printf("to repeat it: build/test/c/images_test %llu\n",
           (unsigned long long)n);
}

int main(int argc, char **argv) {
  harness_begin(argc, argv);
  for (uint64_t n; harness_next(CASES_IN_CI, &n);) run_case(n);
  harness_count("images", court.images);
  harness_count("images-nested", court.nested_images);
  harness_count("images-survivals", survivals);
  for (size_t i = 0; i < OPERATIONS; i++) {
    char name[64];
    snprintf(name, sizeof name, "images-%s", operations[i].name);
    harness_count(name, operations[i].images);
  }
  printf("%llu opened\n", (unsigned long long)court.opened);
  return check_end();
}
