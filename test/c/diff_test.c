/*
 * The same random SQL on tables of a store and on ordinary WITHOUT ROWID
 * tables in a rollback-journal database: rows, changes, codes and messages
 * must agree, in every configuration of the store.
 *
 *   - one connection writes at a time; what the others read, from this process
 *     or another, is what is committed there
 *   - a query is rewritten so that other plans answer it; the answers must be
 *     that of the ordinary table
 *   - a cursor that stays open returns what was there when it was opened,
 *     whatever happens meanwhile
 *   - after each flush and compaction all tables are compared, both ways
 *
 * A difference shrinks itself to a short SQL script, printed and kept as
 * diff_CASE.sql. SKV_SHRINK_S is how many seconds it may take (60).
 *
 *   build/test/c/diff_test [CASE [OPERATIONS]]
 *
 * Covers: INV-3, INV-4, INV-5, INV-6, INV-9
 *
 * Timeout: 600
 * Soak: 3
 */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "test/c/diff_run.h"
#include "test/c/files.h"
#include "test/c/harness.h"

#define CASES_IN_CI 192
#define OPERATIONS 3950 /* of one case */

/* ---- Shrinking ----------------------------------------------------------- */

typedef struct shrink {
  diff_config config;
  uint64_t number;
  const diff_op **ops;
  size_t count;
  double until;
  unsigned tries;
  diff_text why;
} shrink;

/* Is it still wrong, without what is not in `ops`? Then it is the script. */
static bool shrink_try(shrink *s, const diff_config *config,
                       const diff_op *const *ops, size_t count) {
  diff_text why = {0};
  if (harness_now() > s->until) return false;
  s->tries++;
  size_t at = run_script(config, s->number, ops, count, NULL, &why);
  if (why.len == 0) {
    text_free(&why);
    return false;
  }
  memmove(s->ops, ops, (at + 1) * sizeof *ops);
  s->count = count > 0 ? at + 1 : 0;
  s->config = *config;
  text_free(&s->why);
  s->why = why;
  return true;
}

/* Without chunks of n operations, from the end. */
static bool shrink_chunks(shrink *s, size_t n, const diff_op **scratch) {
  bool shrunk = false;
  for (size_t end = s->count; end > 0;) {
    size_t from = end > n ? end - n : 0;
    memcpy(scratch, s->ops, from * sizeof *scratch);
    memcpy(scratch + from, s->ops + end, (s->count - end) * sizeof *scratch);
    if (shrink_try(s, &s->config, scratch, s->count - (end - from))) {
      shrunk = true;
      end = from < s->count ? from : s->count;
    } else {
      end = from;
    }
  }
  return shrunk;
}

static bool shrink_with(shrink *s, size_t at, const diff_op *op,
                        const diff_op **scratch) {
  memcpy(scratch, s->ops, s->count * sizeof *scratch);
  scratch[at] = op;
  return shrink_try(s, &s->config, scratch, s->count);
}

/* A statement without one of its parts: from a joint up to the next. */
static const char *sql_without(diff_arena *arena, const char *sql,
                               const char *joint, int which) {
  const char *from = strstr(sql, joint);
  for (; from != NULL && which > 0; which--) from = strstr(from + 1, joint);
  if (from == NULL) return NULL;
  const char *end = strstr(from + strlen(joint), joint);
  if (end == NULL && strcmp(joint, "),(") == 0) end = strchr(from + 1, 0) - 1;
  if (end == NULL) end = strchr(from, 0);
  diff_text t = {0};
  text_add(&t, sql, (size_t)(from - sql));
  text_put(&t, "%s", end);
  const char *kept = arena_text(arena, &t);
  text_free(&t);
  return kept;
}

static const char *const joints[] = {" AND ", " OR ", "),(", " WHERE ",
                                     " LIMIT "};

static void shrink_statement(shrink *s, size_t at, diff_arena *arena,
                             const diff_op **scratch) {
  for (size_t j = 0; j < sizeof joints / sizeof *joints; j++) {
    for (int which = 0; which < 8 && at < s->count;) {
      const char *sql = s->ops[at]->sql;
      const char *less =
          sql != NULL ? sql_without(arena, sql, joints[j], which) : NULL;
      if (less == NULL) break;
      diff_op *op = arena_take(arena, sizeof *op);
      *op = *s->ops[at];
      op->sql = less;
      if (op->form_count == 1 && op->forms[0].sql == sql)
        op->forms[0].sql = less;
      if (!shrink_with(s, at, op, scratch)) which++;
    }
  }
}

/* A query's rewritings one at a time, or none; all statements simpler. */
static void shrink_operation(shrink *s, size_t at, diff_arena *arena,
                             const diff_op **scratch) {
  const diff_op *old = s->ops[at];
  for (int i = -1; old->kind == DIFF_QUERY && i < old->form_count; i++) {
    diff_op *op = arena_take(arena, sizeof *op);
    *op = *old;
    op->form_count = i >= 0;
    if (i >= 0) op->forms[0] = old->forms[i];
    if (shrink_with(s, at, op, scratch)) break;
  }
  if (at < s->count && (s->ops[at]->kind == DIFF_WRITE ||
                        (s->ops[at]->kind == DIFF_QUERY &&
                         (s->ops[at]->form_count == 0 ||
                          s->ops[at]->forms[0].sql == s->ops[at]->sql))))
    shrink_statement(s, at, arena, scratch);
}

/* The configuration nearest to the default in which it is still wrong. */
static void shrink_config(shrink *s, const diff_op **scratch) {
  for (int i = 0; i < 4; i++) {
    diff_config config = s->config;
    switch (i) {
    case 0: config.wal = config.block = config.segment = 0; break;
    case 1: config.options = "sync=off"; break;
    case 2: config.processes = false; break;
    default: config.segment = 0; break;
    }
    memcpy(scratch, s->ops, s->count * sizeof *scratch);
    shrink_try(s, &config, scratch, s->count);
  }
}

static void shrink_all(shrink *s, diff_arena *arena) {
  const diff_op **scratch = malloc((s->count + 1) * sizeof *scratch);
  if (scratch == NULL) abort();
  for (size_t n = s->count / 2; n > 0; n /= 2) shrink_chunks(s, n, scratch);
  shrink_config(s, scratch);
  for (size_t at = s->count; at-- > 0;) {
    if (at < s->count) shrink_operation(s, at, arena, scratch);
  }
  while (shrink_chunks(s, 1, scratch)) {
  }
  free(scratch);
}

/* ---- Saying what is wrong ------------------------------------------------ */

static void print_op(FILE *f, const diff_op *op, int actors) {
  if (actors > 1) fprintf(f, "/* %d */ ", op->actor);
  switch (op->kind) {
  case DIFF_OPEN: fprintf(f, "-- open %d: %s;\n", op->slot, op->sql); return;
  case DIFF_STEP: fprintf(f, "-- step %d: %d\n", op->slot, op->count); return;
  case DIFF_CLOSE: fprintf(f, "-- close %d\n", op->slot); return;
  case DIFF_PIN: fprintf(f, "BEGIN; " PIN_SQL ";\n"); return;
  case DIFF_UNPIN: fprintf(f, "COMMIT;\n"); return;
  case DIFF_REOPEN: fprintf(f, "-- reopen\n"); return;
  case DIFF_KILL: fprintf(f, "-- kill\n"); return;
  default: break;
  }
  fprintf(f, "%s;\n", op->sql);
  for (int i = 0; i < op->form_count; i++)
    if (op->forms[i].sql != op->sql) fprintf(f, "%s;\n", op->forms[i].sql);
}

static void print_script(FILE *f, const shrink *s) {
  diff_run run = {.config = &s->config};
  diff_text t = {0};
  run.type[0] = (int)(s->number / 16 % 3);
  run.type[1] = (int)(s->number / 48 % 3);
  snprintf(run.store, sizeof run.store, "store");
  fprintf(f, "-- build/test/c/diff_test %" PRIu64 "\n", s->number);
  fprintf(f, "-- %s; log %u, block %u, segment %u, %d %s\n", s->config.name,
          s->config.wal, s->config.block, s->config.segment, s->config.actors,
          s->config.processes ? "processes" : "connections");
  for (int i = 0; i < 2; i++) {
    table_sql(&run, i, true, &t);
    fprintf(f, "%s;\n", t.data);
  }
  for (size_t i = 0; i < s->count; i++)
    print_op(f, s->ops[i], s->config.actors);
  text_free(&t);
}

static void report(const shrink *s) {
  char path[64];
  snprintf(path, sizeof path, "build/tmp/diff_%" PRIu64 ".sql", s->number);
  printf("after %u tries %zu operations are left:\n", s->tries, s->count);
  print_script(stdout, s);
  printf("%s  repeat: build/test/c/diff_test %" PRIu64 " (script: %s)\n",
         s->why.data, s->number, path);
  FILE *f = fopen(path, "w");
  if (f == NULL) return;
  print_script(f, s);
  fclose(f);
}

static void explain(const diff_config *config, uint64_t number,
                    const diff_op **ops, size_t count, diff_text *why,
                    diff_arena *arena) {
  const char *limit = getenv("SKV_SHRINK_S");
  shrink s = {.config = *config, .number = number, .ops = ops, .count = count};
  s.until = harness_now() + (limit && *limit ? strtod(limit, NULL) : 60);
  s.why = *why;
  *why = (diff_text){0};
  printf("case %" PRIu64 " (%s) differs at operation %zu:\n%s", number,
         config->name, count, s.why.data);
  fflush(stdout);
  shrink_all(&s, arena);
  report(&s);
  text_free(&s.why);
}

/* ---- Cases --------------------------------------------------------------- */

/* How many statements were compared. */
static uint64_t run_case(uint64_t number, size_t count) {
  const diff_config *config = &configs[(number - 1) % CONFIGS];
  diff_arena arena = {0};
  diff_gen gen;
  diff_text why = {0};
  uint64_t compared = 0;
  const diff_op **ops = calloc(count + 1, sizeof *ops);
  if (ops == NULL) abort();
  gen_begin(&gen, config, number, &arena);
  for (size_t i = 0; i < count; i++) {
    diff_op *op = arena_take(&arena, sizeof *op);
    gen_op(&gen, op);
    ops[i] = op;
  }
  size_t at = run_script(config, number, ops, count, &compared, &why);
  if (!CHECK(why.len == 0)) explain(config, number, ops, at + 1, &why, &arena);
  text_free(&why);
  free(ops);
  arena_free(&arena);
  return compared;
}

/* build/FLAVOUR/c/diff_test belongs to build/FLAVOUR/stratakv.so. */
static void find_extension(void) {
  ssize_t n =
      readlink("/proc/self/exe", diff_extension, sizeof diff_extension - 20);
  if (n <= 0) abort();
  diff_extension[n] = 0;
  for (int i = 0; i < 2; i++) *strrchr(diff_extension, '/') = 0;
  strcat(diff_extension, "/stratakv.so");
}

#define SHM_NAME "stratakv-diff."

/* What runs that were killed have left. */
static void sweep_shm(void) {
  DIR *dir = opendir("/dev/shm");
  struct dirent *entry;
  while (dir != NULL && (entry = readdir(dir)) != NULL) {
    size_t n = strlen(SHM_NAME);
    char path[300];
    if (strncmp(entry->d_name, SHM_NAME, n) != 0) continue;
    if (kill((pid_t)atoi(entry->d_name + n), 0) == 0 || errno != ESRCH)
      continue;
    snprintf(path, sizeof path, "/dev/shm/%s", entry->d_name);
    files_remove(path);
  }
  if (dir != NULL) closedir(dir);
}

/* Nothing here depends on a disk, and a sync takes long on one. */
static void find_base(void) {
  char here[3000];
  files_begin();
  if (getcwd(here, sizeof here) == NULL) abort();
  sweep_shm();
  snprintf(base, sizeof base, "/dev/shm/" SHM_NAME "%d", (int)getpid());
  if (mkdir(base, 0700) == 0) return;
  snprintf(base, sizeof base, "%s/build/tmp/diff_test.%d", here, (int)getpid());
}

int main(int argc, char **argv) {
  uint64_t operations = 0, used = 0;
  size_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : OPERATIONS;
  find_extension();
  find_base();
  sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); /* a mutex for each malloc */
  harness_begin(argc, argv);
  for (uint64_t n; harness_next(CASES_IN_CI, &n);) {
    operations += run_case(n, count);
    used |= UINT64_C(1) << ((n - 1) % CONFIGS);
  }
  files_remove(base);
  harness_count("diff-operations", operations);
  harness_count("diff-configurations", (uint64_t)__builtin_popcountll(used));
  return check_end();
}
