/*
 * Kill torture: processes that write, scan, flush and compact one store are
 * killed and stopped, and replaced, at random moments, at named points
 * (util/point.h; those at which fewest died so far first) and at the n-th call
 * of the environment; one at a time, all at once, while they recover and while
 * they leave. kill_ledger.h says what must be true of the store at any moment.
 *
 *   build/test/c/kill_test ?CASE?      one case: a store and its deaths
 *
 * Besides that: nobody's call takes longer than a second, whoever died, unless
 * somebody is stopped or the machine itself stands still or is overloaded (a
 * control thread measures by how much, and that is taken off); the survivors'
 * descriptors and the store's files do not become more; stratakv_check finds
 * no damage beside writers and after deaths; every point in the engine's
 * source is reached; who has to wait for a stopped owner of WRITE is told whom
 * for. The first failure ends everything.
 *
 * Covers: INV-1, INV-2, INV-3, INV-4, INV-9, P1, P2, P3, P4, P5, P6, P8, P10,
 *   P11, P13, P14
 *
 * Timeout: 1200
 * Soak: 4
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/util/point.h"
#include "test/c/harness.h"
#include "test/c/kill_worker.h"

#define CASES 26
#define KILLS 30           /* of one case, at least */
#define ACKS 7500          /* of one case, at least */
#define KILLS_WITNESSED 90 /* while worker 0 survives: more than SKV_SLOTS */
#define CASE_NS UINT64_C(120000000000)

/* ---- The parent -------------------------------------------------------- */

#define STEPS 3000

typedef struct child {
  pid_t pid; /* 0: none */
  death plan;
  uint64_t began, resume; /* resume: it is stopped until then, 0: it is not */
} child;

static struct parent {
  int book_fd;
  const char *program;
  skv_prng rng;
  unsigned workers; /* of this case */
  unsigned life;
  bool has_witness; /* worker 0 of this case is let live */
  child children[LEDGER_WORKERS];
  unsigned kills; /* in this case */
  uint64_t all_kills, all_acks, in_recovery, holding, most_files, most_fds,
      longest;
} parent;

static uint32_t draw(uint32_t below) {
  return (uint32_t)skv_prng_below(&parent.rng, below);
}

/* The points of the engine's source, in the order of the files. */
static void points_read(const char *path) {
  FILE *f = fopen(path, "r");
  char line[512];
  if (f == NULL) abort();
  while (fgets(line, sizeof line, f) != NULL) {
    const char *at = strstr(line, "SKV_POINT(\"");
    uint32_t n = atomic_load(&book->point_count);
    if (at == NULL || n == LEDGER_POINTS) continue;
    char *name = book->points[n].name;
    if (sscanf(at, "SKV_POINT(\"%31[a-z_.]\")", name) != 1) continue;
    for (uint32_t i = 0; i < n; i++)
      CHECK(strcmp(book->points[i].name, name) != 0); /* one place each */
    atomic_store(&book->point_count, n + 1);
  }
  fclose(f);
}

static void points_find(void) {
  glob_t found;
  if (glob("engine/*/*.c", 0, NULL, &found) != 0) abort();
  for (size_t i = 0; i < found.gl_pathc; i++) points_read(found.gl_pathv[i]);
  globfree(&found);
  CHECK(atomic_load(&book->point_count) > 50);
}

/* Rare ones first: of a few, the one at which fewest died or tried to. Nobody
 * comes to some of them unless somebody else just died. */
static uint64_t point_rank(uint32_t i) {
  const ledger_point *p = &book->points[i];
  return p->kills * 4 + p->planned;
}

static death draw_plan(void) {
  uint32_t how = draw(10);
  unsigned after = draw(2) ? 0 : draw(1500);
  if (how < 2) return (death){DIE_NEVER, 0, 0, 0};
  if (how < 4)
    return (death){DIE_AT_CALL, 0, 1 + (long)draw(draw(2) ? 60 : 900), after};
  uint32_t count = atomic_load(&book->point_count), best = draw(count);
  for (int i = 0; i < 4; i++) {
    uint32_t other = draw(count);
    if (point_rank(other) < point_rank(best)) best = other;
  }
  book->points[best].planned++;
  long n = 1 + (long)draw(draw(2) ? 1 : 8);
  return (death){how == 4 ? STOP_AT_POINT : DIE_AT_POINT, best, n, after};
}

static void child_start(uint32_t i, unsigned steps, death plan) {
  char text[8][24];
  ledger_worker *w = &book->workers[i];
  snprintf(text[0], 24, "%d", parent.book_fd);
  snprintf(text[1], 24, "%u", i);
  snprintf(text[2], 24, "%" PRIu64, book->seed * 100000 + ++parent.life);
  snprintf(text[3], 24, "%u", steps);
  snprintf(text[4], 24, "%d", plan.how);
  snprintf(text[5], 24, "%u", plan.point);
  snprintf(text[6], 24, "%ld", plan.n);
  snprintf(text[7], 24, "%u", plan.after);
  atomic_store(&w->call_began, 0);
  atomic_store(&w->died_at, 0);
  atomic_store(&w->locks, 0);
  atomic_store(&w->recovers, 0);
  fflush(stdout);
  pid_t pid = vfork();
  if (pid == 0) {
    execl(parent.program, parent.program, "worker", text[0], text[1], text[2],
          text[3], text[4], text[5], text[6], text[7], (char *)NULL);
    _exit(127);
  }
  parent.children[i] = (child){.pid = pid, .plan = plan, .began = now_ns()};
}

static void child_resume(child *c) {
  if (c->resume == 0) return;
  c->resume = 0;
  kill(c->pid, SIGCONT);
  atomic_fetch_add(&book->stops, 1);
}

static unsigned children_running(void) {
  unsigned n = 0;
  for (unsigned i = 0; i < LEDGER_WORKERS; i++)
    n += parent.children[i].pid != 0;
  return n;
}

static void count_death(const ledger_worker *w) {
  uint32_t at = atomic_load(&w->died_at);
  parent.kills++;
  parent.all_kills++;
  if (at > 0) atomic_fetch_add(&book->points[at - 1].kills, 1);
  if (atomic_load(&w->recovers)) parent.in_recovery++;
  if (atomic_load(&w->locks)) parent.holding++;
}

/* One child's end, or its stop at a point. */
static void child_ended(uint32_t i, int status) {
  child *c = &parent.children[i];
  if (WIFSTOPPED(status)) {
    if (c->resume != 0) return;               /* stopped by us */
    if (atomic_load(&book->stops) % 2 != 0) { /* one at a time */
      kill(c->pid, SIGCONT);
      return;
    }
    atomic_fetch_add(&book->stops, 1);
    c->resume = now_ns() + (1 + draw(20)) * UINT64_C(1000000);
    return;
  }
  if (c->resume != 0) {
    c->resume = 0;
    atomic_fetch_add(&book->stops, 1);
  }
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
    count_death(&book->workers[i]);
  else
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  c->pid = 0;
}

/* Take what happened, waiting for it up to so many microseconds. */
static void children_wait(unsigned us) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  struct timespec t = {0, (long)us * 1000};
  sigtimedwait(&set, NULL, &t);
  for (;;) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG | WUNTRACED);
    if (pid <= 0) break;
    for (uint32_t i = 0; i < LEDGER_WORKERS; i++)
      if (parent.children[i].pid == pid) child_ended(i, status);
  }
  uint64_t now = now_ns();
  for (uint32_t i = 0; i < LEDGER_WORKERS; i++) {
    child *c = &parent.children[i];
    if (c->pid && c->resume != 0 && now >= c->resume) child_resume(c);
  }
}

static void watch_for_hangs(void) {
  uint64_t now = now_ns();
  for (uint32_t i = 0; i < parent.workers; i++) {
    ledger_worker *w = &book->workers[i];
    uint64_t began = atomic_load(&w->call_began);
    uint32_t at = atomic_load(&w->at_point);
    if (parent.children[i].pid == 0 || began == 0 ||
        now < began + HANG_NS * PATIENCE)
      continue;
    printf("worker %u hangs in call %u, last at %s\n", i, atomic_load(&w->call),
           at ? book->points[at - 1].name : "no point");
    check_failed("nobody hangs");
    kill(parent.children[i].pid, SIGKILL);
  }
}

static void kill_child(uint32_t i) {
  child *c = &parent.children[i];
  if (c->pid) kill(c->pid, SIGKILL);
}

static bool has_failed(void) {
  return atomic_load(&book->failures) > 0 || check_failures > 0;
}

/* Everybody dies at once: who comes next recovers. */
static void kill_all(void) {
  for (uint32_t i = 0; i < parent.workers; i++) kill_child(i);
  while (children_running() > 0) children_wait(1000);
}

static uint32_t draw_point_of(const char *modules) {
  uint32_t count = atomic_load(&book->point_count);
  for (;;) {
    uint32_t i = draw(count);
    char module[32];
    snprintf(module, sizeof module, " %s", book->points[i].name);
    *strchr(module, '.') = ' ';
    *strchr(module + 1, ' ') = 0;
    if (strstr(modules, module) != NULL) return i;
  }
}

/* One after the other recovers alone, or makes the store, and dies of it; some
 * come through and die when they leave. */
static void kill_recoverers(void) {
  static const char modules[] =
      " recover attach recover create manifest file log head detach close ";
  unsigned tries = 2 + draw(6);
  kill_all();
  for (unsigned i = 0; i < tries && !has_failed(); i++) {
    uint32_t who = draw(parent.workers);
    death plan = {DIE_AT_POINT, draw_point_of(modules), 1 + draw(2), 0};
    if (draw(3) == 0) plan = (death){DIE_AT_CALL, 0, 1 + draw(80), 0};
    child_start(who, 1 + draw(12), plan);
    while (parent.children[who].pid) {
      children_wait(1000);
      watch_for_hangs();
    }
  }
}

/* Everybody leaves; some die of their plans on the way. */
static void ask_all_to_leave(void) {
  atomic_store(&book->stop, 1);
  while (children_running() > 0) {
    children_wait(1000);
    watch_for_hangs();
  }
  atomic_store(&book->stop, 0);
}

static void stop_child(uint32_t i) {
  child *c = &parent.children[i];
  if (c->pid == 0 || c->resume != 0 || atomic_load(&book->stops) % 2) return;
  c->resume = now_ns() + (1 + draw(20)) * UINT64_C(1000000);
  atomic_fetch_add(&book->stops, 1);
  kill(c->pid, SIGSTOP);
}

static unsigned count_names(const char *path) {
  unsigned n = 0;
  DIR *dir = opendir(path);
  if (dir == NULL) return 0;
  while (readdir(dir) != NULL) n++;
  closedir(dir);
  return n;
}

/* In a process of its own, without a plan. */
static void audit_now(void) {
  child_start(0, 0, (death){DIE_NEVER, 0, 0, 0});
  while (parent.children[0].pid) {
    children_wait(1000);
    watch_for_hangs();
  }
}

/* One of the things that happen while they run. */
static void disturb(void) {
  uint32_t what = draw(24), i = draw(parent.workers);
  if (parent.has_witness) {
    what = 5 + draw(18);
    if (i == 0) return;
  }
  if (what == 0)
    kill_all();
  else if (what < 2)
    ask_all_to_leave();
  else if (what < 4)
    kill_recoverers();
  else if (what < 7)
    stop_child(i);
  else if (what < 16)
    kill_child(i);
}

/* The witness saw many die: it has no more files open than there are, but for
 * a few of its own (LOCK, the directory, the ledger, standard ones). */
static void check_witness(void) {
  char path[64];
  unsigned least = 1000000;
  for (uint32_t i = 1; i < parent.workers; i++) kill_child(i);
  while (children_running() > 1) children_wait(1000);
  snprintf(path, sizeof path, "/proc/%d/fd", (int)parent.children[0].pid);
  for (int i = 0; i < 50; i++) {
    unsigned files = count_names(STORE), fds = count_names(path);
    if (fds < files + least) least = fds > files ? fds - files : 0;
    children_wait(1000);
  }
  CHECK(least < 16);
  if (least > parent.most_fds) parent.most_fds = least;
}

/* After a clean close: nothing of those who died is left. */
static void check_files(void) {
  unsigned manifests = 0, tmps = 0, logs = 0;
  DIR *dir = opendir(STORE);
  for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
    manifests += strstr(e->d_name, ".manifest") != NULL;
    tmps += strstr(e->d_name, ".tmp") != NULL;
    logs += strstr(e->d_name, ".wal") != NULL;
  }
  if (dir != NULL) closedir(dir);
  CHECK(manifests <= 2); /* the last edit may have begun one */
  CHECK(tmps == 0);
  CHECK(logs <= 2);
  if (count_names(STORE) > parent.most_files)
    parent.most_files = count_names(STORE);
}

static void case_begin(uint64_t n) {
  files_remove(STORE);
  for (uint32_t i = 0; i < LEDGER_WORKERS; i++) {
    char path[64];
    snprintf(path, sizeof path, STORE ".copy%u", i);
    files_remove(path);
  }
  memset(book, 0, offsetof(ledger, stalled));
  book->seed = n;
  parent.rng = (skv_prng){n * 7919};
  parent.workers = 2 + draw(7);
  parent.has_witness = n % 8 == 0;
  parent.kills = parent.life = 0;
}

static void case_end(void) {
  if (has_failed()) { /* nothing more can be said of this store */
    kill_all();
    CHECK(atomic_load(&book->failures) == 0);
    return;
  }
  if (parent.has_witness && parent.children[0].pid) check_witness();
  kill_recoverers();
  audit_now(); /* as the recoverer leaves it */
  audit_now(); /* as a clean close leaves it */
  uint64_t acks = 0;
  for (uint32_t w = 0; w < LEDGER_WORKERS; w++)
    for (uint32_t n = 0; n < atomic_load(&book->workers[w].begun); n++)
      acks += atomic_load(&book->workers[w].commits[n].state) == STATE_ACKED;
  parent.all_acks += acks;
  check_files();
  struct stat shared = {0};
  CHECK(stat(STORE "/SHARED", &shared) == 0 &&
        shared.st_size == SKV_SHARED_SIZE);
  CHECK(atomic_load(&book->failures) == 0);
  if (book->longest > parent.longest) parent.longest = book->longest;
  check_count += (unsigned)atomic_load(&book->checks);
}

/* ---- Waiting for who is stopped ---------------------------------------- */

static void stop_written(void *arg, const char *name) {
  SKV_UNUSED(arg);
  if (strcmp(name, "commit.written") == 0) raise(SIGSTOP);
}

static stratakv_store *open_plain(uint32_t timeout_ms, uint32_t *table) {
  stratakv_store *store = NULL;
  stratakv_table_info info = {0};
  stratakv_options options = fixture_options();
  options.busy_timeout_ms = timeout_ms;
  if (OK(skv_open_in(skv_env_posix(), STORE, &options, &fixture_err, &store)))
    OK(stratakv_table(store, "t", STRATAKV_KEY_TEXT, 1, &fixture_err, &info));
  *table = info.id;
  return store;
}

/* Commits row 1, and is stopped in the commit of row 2. */
static void stopped_writer(void) {
  uint32_t table;
  stratakv_store *store = open_plain(1000, &table);
  OK(fixture_put(store, table, 1, 10, NULL));
  skv_point_set(stop_written, NULL);
  OK(fixture_put(store, table, 2, 20, NULL));
  OK(stratakv_close(store, &fixture_err));
  fflush(stdout);
  _exit(check_failures > 0);
}

/* RELIABILITY, limit 5: a stopped owner of WRITE is waited for, then BUSY names
 * it; others read meanwhile. It goes on, or dies, and so do they. */
static void test_stopped(bool dies) {
  uint32_t table, rows[4], want[4] = {0, 10, 0, 0};
  int status = 0;
  char who[64];
  files_remove(STORE);
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) stopped_writer();
  CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
  stratakv_store *store = open_plain(300, &table);
  uint64_t began = now_ns();
  FAILS(STRATAKV_BUSY, fixture_put(store, table, 3, 30, NULL));
  CHECK(now_ns() - began >= UINT64_C(300000000));
  snprintf(who, sizeof who, "pid %d (kill_test)", (int)pid);
  CHECK(strstr(fixture_err.message, who) != NULL);
  OK(fixture_scan(store, table, rows, 4));
  CHECK(memcmp(rows, want, sizeof rows) == 0);
  kill(pid, dies ? SIGKILL : SIGCONT);
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(dies || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
  OK(fixture_put(store, table, 3, 30, NULL));
  want[2] = dies ? 0 : 20; /* it was not published: dropped */
  want[3] = 30;
  OK(fixture_scan(store, table, rows, 4));
  CHECK(memcmp(rows, want, sizeof rows) == 0);
  OK(stratakv_close(store, &fixture_err));
}

static bool case_has_kills(void) {
  return parent.kills >= (parent.has_witness ? KILLS_WITNESSED : KILLS);
}

static bool case_goes_on(void) {
  uint64_t begun = 0;
  for (uint32_t i = 0; i < parent.workers; i++)
    begun += atomic_load(&book->workers[i].begun);
  return (!case_has_kills() || begun < ACKS + ACKS / 4) && !has_failed();
}

static void worker_start(uint32_t i) {
  if (i == 0 && parent.has_witness)
    child_start(i, UINT32_MAX, (death){DIE_NEVER, 0, 0, UINT32_MAX});
  else if (case_has_kills()) /* only acknowledgements are missing */
    child_start(i, STEPS, (death){DIE_NEVER, 0, 0, 0});
  else
    child_start(i, STEPS, draw_plan());
}

static void run_case(uint64_t n) {
  case_begin(n);
  kill_recoverers(); /* there is no store yet: they make it */
  uint64_t next = now_ns();
  uint64_t end = now_ns() + CASE_NS * PATIENCE;
  while (case_goes_on()) {
    if (!CHECK(now_ns() < end)) break;
    for (uint32_t i = 0; i < parent.workers && case_goes_on(); i++)
      if (parent.children[i].pid == 0) worker_start(i);
    children_wait(1000);
    watch_for_hangs();
    if (now_ns() < next || case_has_kills()) continue;
    next = now_ns() + (5 + draw(90)) * UINT64_C(1000000);
    disturb();
    if (draw(40) == 0 && parent.children[0].pid == 0) audit_now();
  }
  case_end();
}

/* What share of a moment who wants to run has to wait, as /proc/loadavg counts
 * those who do. */
static double machine_share_lost(int fd, long cpus) {
  char text[128] = "";
  long running = 0;
  if (pread(fd, text, sizeof text - 1, 0) <= 0) return 0;
  if (sscanf(text, "%*s %*s %*s %ld/", &running) != 1 || running <= cpus)
    return 0;
  return 1 - (double)cpus / (double)running;
}

/* The control: sleeps a little, again and again, and notes by how much it came
 * late; what it writes is synced, as commits are. */
static void *control_main(void *arg) {
  int fd = *(int *)arg, load = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
  long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  for (;;) {
    uint64_t began = now_ns();
    usleep(BEAT_NS / 1000);
    double lost = machine_share_lost(load, cpus);
    if (pwrite(fd, &began, sizeof began, 0) < 0 || fdatasync(fd) != 0) abort();
    uint64_t took = now_ns() - began;
    uint64_t late = took > BEAT_LATE_NS ? took * 4 : 0;
    uint64_t waited = (uint64_t)(lost * (double)took);
    atomic_fetch_add(&book->stalled, late > waited ? late : waited);
    atomic_store(&book->beat, now_ns());
  }
  return NULL;
}

static void report(void) {
  uint64_t points = 0;
  unsigned passed = 0;
  for (uint32_t i = 0; i < atomic_load(&book->point_count); i++) {
    points += atomic_load(&book->points[i].kills) > 0;
    passed += atomic_load(&book->points[i].passed) > 0;
  }
  harness_count("kills", parent.all_kills);
  harness_count("kill-acks", parent.all_acks);
  harness_count("kill-points", points);
  harness_count("kills-in-recovery", parent.in_recovery);
  harness_count("kills-holding-lock", parent.holding);
  printf("%u files at the end, %u descriptors more than files, longest call "
         "%u ms, %u points passed\n",
         (unsigned)parent.most_files, (unsigned)parent.most_fds,
         (unsigned)(parent.longest / 1000000), passed);
}

/* Whether only a call that fails leads there, of which there are none here:
 * ingest_test comes there. */
static bool point_is_of_failures(const char *name) {
  return strcmp(name, "ingest.left") == 0;
}

static void check_points_reached(void) {
  for (uint32_t i = 0; i < atomic_load(&book->point_count); i++) {
    const ledger_point *p = &book->points[i];
    if (!CHECK(atomic_load(&p->passed) > 0 || point_is_of_failures(p->name)))
      printf("nobody came to %s\n", p->name);
  }
}

int main(int argc, char **argv) {
  if (argc == 10 && strcmp(argv[1], "worker") == 0) return worker_main(argv);
  files_begin();
  parent.program = argv[0];
  parent.book_fd = memfd_create("ledger", 0);
  if (parent.book_fd < 0 || ftruncate(parent.book_fd, sizeof *book)) return 1;
  book_map(parent.book_fd);
  int control_fd =
      open("build/tmp/kill_test.control", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  pthread_t control;
  if (control_fd < 0 ||
      pthread_create(&control, NULL, control_main, &control_fd) != 0)
    return 1;
  points_find();
  setenv("SKV_TEST_HEAD_ROLL", "12000", 1);
  harness_begin(argc, argv);
  for (int dies = 0; dies < 2 && harness.only == 0; dies++) test_stopped(dies);
  for (uint64_t n; harness_next(CASES, &n);) run_case(n);
  report();
  if (harness_is_full()) check_points_reached();
  return check_end();
}
