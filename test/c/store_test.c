/*
 * The file backend, on the real system and in memory.
 *
 *   names     what parses is what is formatted, and nothing else
 *   probe     empty, ours, foreign, CURRENT lost
 *   locks     two descriptions of one store exclude each other; fork
 *   shared    size, zeros, sharing, refusal of another size
 *   logs      create, publish, recycle, open; both ways of writing; sizes
 *   segments  small and large appends, naming, both ways of reading, sizes
 *   head      append, replace, and every byte of CURRENT damaged
 *   files     OWNERS-like files
 *   ways      which calls are made, full disk, no memory, every call failing
 *
 * Usage: store_test [directory]. Covers: INV-8, INV-10, P15
 */
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/util/hash.h"
#include "test/c/store_fixture.h"

/* ---- Names ------------------------------------------------------------- */

static void test_good_names(void) {
  static const struct {
    const char *text;
    skv_name name;
  } good[] = {
      {"CURRENT", {SKV_NAME_FIXED, 0, 0, 0}},
      {"OWNERS", {SKV_NAME_FIXED, 3, 0, 0}},
      {"000000.wal", {SKV_NAME_WAL, 0, 0, 0}},
      {"000123.seg", {SKV_NAME_SEG, 123, 0, 0}},
      {"999999.manifest", {SKV_NAME_MANIFEST, 999999, 0, 0}},
      {"1000000.seg", {SKV_NAME_SEG, 1000000, 0, 0}},
      {"18446744073709551615.manifest", {SKV_NAME_MANIFEST, UINT64_MAX, 0, 0}},
      {"03-0000000a-0000ff.tmp", {SKV_NAME_TMP, 255, 3, 10}},
      {"ff-ffffffff-fffffffffffffff.tmp",
       {SKV_NAME_TMP, (UINT64_C(1) << 60) - 1, 255, UINT32_MAX}},
  };
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
    char text[SKV_NAME_SIZE];
    skv_name n = skv_name_parse(good[i].text);
    CHECK(n.kind == good[i].name.kind && n.number == good[i].name.number);
    CHECK(n.slot == good[i].name.slot &&
          n.incarnation == good[i].name.incarnation);
    skv_name_format(&good[i].name, text);
    CHECK(strcmp(text, good[i].text) == 0);
  }
}

/* Separated by '|'; the first is empty. */
static const char bad_names[] =
    "|.|..|current|CURRENT |CURRENT.tmp|LOCK1|00123.seg|0000123.seg|00001.wal|"
    "000123.SEG|000123.seg | 000123.seg|000123|000123.|.seg|000123.sst|"
    "000123.segx|+00123.seg|-00123.seg|0x0123.seg|00012a.seg|"
    "18446744073709551616.seg|99999999999999999999999.seg|000123.manifest~|"
    "18446744073709551739.seg|10000000000000003-0000000a-0000ff.tmp|"
    "3-0000000a-0000ff.tmp|003-0000000a-0000ff.tmp|1ff-0000000a-0000ff.tmp|"
    "03-000000a-0000ff.tmp|03-00000000a-0000ff.tmp|03-10000000a-0000ff.tmp|"
    "03-0000000a-000ff.tmp|03-0000000a-00000ff.tmp|03-0000000A-0000ff.tmp|"
    "03-0000000a-0000FF.tmp|03-0000000a-0000ff.seg|03-0000000a.tmp|--.tmp|"
    "03_0000000a_0000ff.tmp|03-0000000a-1000000000000000.tmp|\xff.seg|"
    "03-0000000a-0000ff.tmp.tmp";

static void test_bad_names(void) {
  const char *p = bad_names;
  unsigned count = 0;
  for (;; p++, count++) {
    char text[64];
    size_t size = strcspn(p, "|");
    snprintf(text, sizeof text, "%.*s", (int)size, p);
    skv_name n = skv_name_parse(text);
    if (!CHECK(n.kind == SKV_NAME_OTHER && n.number == 0))
      printf("accepted: '%s'\n", text);
    p += size;
    if (*p == 0) break;
  }
  CHECK(count == 43);
}

/* ---- Probe, list, remove ----------------------------------------------- */

static void expect_probe(skv_store *s, int want, int line) {
  int what = -1;
  expect(skv_store_probe(s, &last, &what), STRATAKV_OK, "probe", line);
  check(what == want, "probe's result", line);
}
#define PROBE(s, want) expect_probe((s), (want), __LINE__)

static void test_probe(skv_store *s) {
  int what = -1;
  wipe(s);
  PROBE(s, SKV_PROBE_EMPTY);
  put_file(s, "LOCK", "", 0);
  put_file(s, "SHARED", "", 0);
  put_file(s, "03-0000000a-0000ff.tmp", "x", 1);
  put_file(s, "000001.manifest", "x", 1);
  put_file(s, "000002.wal", "x", 1);
  PROBE(s, SKV_PROBE_EMPTY);
  put_file(s, "notes.txt", "x", 1);
  PROBE(s, SKV_PROBE_FOREIGN);
  put_file(s, "000003.seg", "x", 1);
  PROBE(s, SKV_PROBE_FOREIGN);
  drop_file(s, "notes.txt");
  FAILS(STRATAKV_CORRUPT, skv_store_probe(s, &last, &what));
  CHECK(strstr(last.message, "000003.seg") != NULL);
  put_file(s, "CURRENT", "MANIFEST-000005\n", 16);
  PROBE(s, SKV_PROBE_FOREIGN);
  put_file(s, "CURRENT", "STRAT", 5);
  PROBE(s, SKV_PROBE_FOREIGN);
  put_file(s, "CURRENT", "STRATCUR", 8);
  PROBE(s, SKV_PROBE_STORE);
  put_file(s, "notes.txt", "x", 1);
  PROBE(s, SKV_PROBE_STORE);
}

static int count_kind(void *arg, const skv_name *name) {
  ((unsigned *)arg)[name->kind]++;
  return 0;
}

static int stop_at_wal(void *arg, const skv_name *name) {
  SKV_UNUSED(arg);
  return name->kind == SKV_NAME_WAL ? 77 : 0;
}

static void test_list(skv_store *s) {
  unsigned count[6] = {0};
  skv_name wal = {.kind = SKV_NAME_WAL, .number = 2};
  skv_name fixed = {.kind = SKV_NAME_FIXED};
  OK(skv_store_list(s, count_kind, count, &last));
  CHECK(count[SKV_NAME_OTHER] == 1 && count[SKV_NAME_FIXED] == 3);
  CHECK(count[SKV_NAME_MANIFEST] == 1 && count[SKV_NAME_WAL] == 1);
  CHECK(count[SKV_NAME_SEG] == 1 && count[SKV_NAME_TMP] == 1);
  CHECK(skv_store_list(s, stop_at_wal, NULL, &last) == 77);
  OK(skv_store_remove(s, &wal, &last));
  CHECK(!exists(s, "000002.wal"));
  OK(skv_store_remove(s, &wal, &last));
  FAILS(STRATAKV_MISUSE, skv_store_remove(s, &fixed, &last));
  CHECK(exists(s, "CURRENT"));
  OK(skv_store_sync_names(s, &last));
}

/* ---- Locks and the shared page ----------------------------------------- */

static void test_locks(skv_store *a, skv_store *b) {
  wipe(a);
  FAILS(STRATAKV_MISUSE,
        skv_store_lock(a, SKV_LOCK_ATTACH, SKV_EXCLUSIVE, &last));
  FAILS(STRATAKV_NOTFOUND, skv_store_lock_open(a, false, &last));
  CHECK(!skv_store_is_gone(a)); /* it has no LOCK that could be */
  OK(skv_store_lock_open(a, true, &last));
  OK(skv_store_lock_open(a, true, &last));
  OK(skv_store_lock_open(b, false, &last));
  OK(skv_store_lock(a, SKV_LOCK_WRITE, SKV_EXCLUSIVE, &last));
  FAILS(STRATAKV_BUSY, skv_store_lock(b, SKV_LOCK_WRITE, SKV_SHARED, &last));
  OK(skv_store_lock(b, SKV_LOCK_HEAD, SKV_EXCLUSIVE, &last));
  OK(skv_store_lock(a, SKV_LOCK_ALIVE, SKV_SHARED, &last));
  OK(skv_store_lock(b, SKV_LOCK_ALIVE, SKV_SHARED, &last));
  FAILS(STRATAKV_BUSY, skv_store_lock(a, SKV_LOCK_ALIVE, SKV_EXCLUSIVE, &last));
  OK(skv_store_lock(b, SKV_LOCK_ALIVE, SKV_UNLOCK, &last));
  OK(skv_store_lock(a, SKV_LOCK_ALIVE, SKV_EXCLUSIVE, &last));
  OK(skv_store_lock(a, SKV_LOCK_WRITE, SKV_UNLOCK, &last));
  OK(skv_store_lock(b, SKV_LOCK_WRITE, SKV_EXCLUSIVE, &last));
  OK(skv_store_lock(b, SKV_LOCK_SLOT + 63, SKV_EXCLUSIVE, &last));
  FAILS(STRATAKV_BUSY,
        skv_store_lock(a, SKV_LOCK_SLOT + 63, SKV_EXCLUSIVE, &last));
}

static void test_shared(skv_store *a, skv_store *b, skv_store *c) {
  static const uint8_t zeros[SKV_SHARED_SIZE];
  static uint8_t big[SKV_SHARED_SIZE + 100];
  void *page = NULL, *other = NULL;
  FAILS(STRATAKV_NOTFOUND, skv_store_shared(a, false, false, &last, &page));
  CHECK(page == NULL);
  put_file(a, "SHARED", "short", 5);
  FAILS(STRATAKV_NOTADB, skv_store_shared(a, false, false, &last, &page));
  put_file(a, "SHARED", big, sizeof big);
  FAILS(STRATAKV_NOTADB, skv_store_shared(a, false, true, &last, &page));
  FAILS(STRATAKV_NOTADB, skv_store_shared(a, true, true, &last, &page));
  OK(skv_store_shared(b, true, false, &last, &page));
  drop_file(a, "SHARED");
  if (!OK(skv_store_shared(a, true, false, &last, &page))) return;
  CHECK(memcmp(page, zeros, SKV_SHARED_SIZE) == 0);
  OK(skv_store_shared(a, false, false, &last, &other));
  CHECK(page == other);
  if (!OK(skv_store_shared(c, false, true, &last, &other))) return;
  memcpy((uint8_t *)page + 16380, "word", 4);
  CHECK(memcmp((uint8_t *)other + 16380, "word", 4) == 0);
}

/* A child of fork does not keep its parent's locks. */
static void test_fork(skv_env *env, const char *path) {
  skv_store *a = NULL, *b = NULL;
  int to_child[2], to_parent[2];
  char c = 0;
  if (!OK(skv_store_open(env, NULL, path, 0, &last, &a))) return;
  OK(skv_store_open(env, NULL, path, 0, &last, &b));
  OK(skv_store_lock_open(a, true, &last));
  OK(skv_store_lock_open(b, true, &last));
  OK(skv_store_lock(a, SKV_LOCK_WRITE, SKV_EXCLUSIVE, &last));
  if (!CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0)) return;
  pid_t pid = fork();
  if (pid == 0) {
    bool told = write(to_parent[1], "x", 1) == 1 && read(to_child[0], &c, 1);
    _exit(told ? 0 : 1);
  }
  CHECK(read(to_parent[0], &c, 1) == 1); /* the child's fork handler is over */
  FAILS(STRATAKV_BUSY, skv_store_lock(b, SKV_LOCK_WRITE, SKV_SHARED, &last));
  skv_store_close(a);
  OK(skv_store_lock(b, SKV_LOCK_WRITE, SKV_EXCLUSIVE, &last));
  CHECK(write(to_child[1], "x", 1) == 1);
  CHECK(waitpid(pid, NULL, 0) == pid);
  skv_store_close(b);
  for (int i = 0; i < 2; i++) {
    close(to_child[i]);
    close(to_parent[i]);
  }
}

/* ---- Logs -------------------------------------------------------------- */

#define LOG_TEST_SIZE 65536u

static bool all_zero(const uint8_t *p, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (p[i]) return false;
  return true;
}

static void test_log_new(skv_store *s) {
  skv_name tmp = tmp_name(1);
  skv_log *log = NULL, *again = NULL;
  char header[64];
  memset(header, 'h', sizeof header);
  if (!OK(skv_log_create(s, &tmp, LOG_TEST_SIZE, &last, &log))) return;
  CHECK(exists(s, "03-00000009-000001.tmp"));
  CHECK(skv_log_size(log) == LOG_TEST_SIZE);
  CHECK(all_zero(skv_log_bytes(log), LOG_TEST_SIZE));
  FAILS(STRATAKV_CONSTRAINT,
        skv_log_create(s, &tmp, LOG_TEST_SIZE, &last, &again));
  CHECK(again == NULL && exists(s, "03-00000009-000001.tmp"));
  OK(skv_log_publish(log, 5, header, sizeof header, &last));
  CHECK(exists(s, "000005.wal") && !exists(s, "03-00000009-000001.tmp"));
  CHECK(memcmp(skv_log_bytes(log), header, sizeof header) == 0);
  skv_log_close(log);
}

/* Both ways of writing, seen through another open's mapping. */
static void test_log_write(skv_store *s) {
  static uint8_t data[10000];
  skv_log *writer = NULL, *reader = NULL;
  fill(data, sizeof data, 1);
  if (!OK(skv_log_open(s, 5, true, &last, &writer))) return;
  if (!OK(skv_log_open(s, 5, false, &last, &reader))) return;
  const uint8_t *seen = skv_log_bytes(reader);
  OK(skv_log_write(writer, 64, data, 5000, false, &last));
  OK(skv_log_write(writer, 5064, data + 5000, 5000, true, &last));
  OK(skv_log_write(writer, LOG_TEST_SIZE - 3, "end", 3, false, &last));
  OK(skv_log_write(writer, LOG_TEST_SIZE, NULL, 0, false, &last));
  CHECK(memcmp(seen + 64, data, sizeof data) == 0);
  CHECK(memcmp(skv_log_bytes(writer) + 64, data, sizeof data) == 0);
  CHECK(memcmp(seen + LOG_TEST_SIZE - 3, "end", 3) == 0);
  skv_log_touch(writer, 100, LOG_TEST_SIZE);
  skv_log_touch(writer, LOG_TEST_SIZE - 1, UINT64_MAX);
  skv_log_touch(writer, LOG_TEST_SIZE + 1, 1);
  skv_log_touch(reader, 0, LOG_TEST_SIZE);
  skv_log_sync_start(writer, 0, 4096);
  OK(skv_log_sync(writer, &last));
  CHECK(memcmp(seen + 64, data, sizeof data) == 0);
  skv_log_close(writer);
  skv_log_close(reader);
  if (!OK(skv_log_open(s, 5, false, &last, &reader))) return;
  CHECK(memcmp(skv_log_bytes(reader) + 64, data, sizeof data) == 0);
  skv_log_close(reader);
}

static void test_log_recycle(skv_store *s) {
  skv_name tmp = tmp_name(2);
  skv_log *log = NULL;
  FAILS(STRATAKV_NOTFOUND, skv_log_recycle(s, 6, &tmp, &last, &log));
  CHECK(log == NULL);
  if (!OK(skv_log_recycle(s, 5, &tmp, &last, &log))) return;
  CHECK(!exists(s, "000005.wal") && exists(s, "03-00000009-000002.tmp"));
  CHECK(memcmp(skv_log_bytes(log) + LOG_TEST_SIZE - 3, "end", 3) == 0);
  OK(skv_log_publish(log, 7, "again", 5, &last));
  CHECK(exists(s, "000007.wal") && !exists(s, "03-00000009-000002.tmp"));
  OK(skv_log_write(log, 4096, "x", 1, false, &last));
  skv_log_close(log);
}

static void test_log_sizes(skv_store *s) {
  static const size_t bad[] = {0, 1, 4095, 4097, 8191};
  static uint8_t bytes[8192];
  skv_name tmp = tmp_name(3);
  skv_log *log = NULL;
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    put_file(s, "000008.wal", bytes, bad[i]);
    FAILS(STRATAKV_CORRUPT, skv_log_open(s, 8, i % 2, &last, &log));
    CHECK(strstr(last.message, "000008.wal") != NULL && log == NULL);
    FAILS(STRATAKV_CORRUPT, skv_log_recycle(s, 8, &tmp, &last, &log));
    CHECK(exists(s, "000008.wal") && !exists(s, "03-00000009-000003.tmp"));
  }
  put_file(s, "000008.wal", bytes, 4096);
  OK(skv_log_open(s, 8, true, &last, &log));
  skv_log_close(log);
  FAILS(STRATAKV_NOTFOUND, skv_log_open(s, 99, false, &last, &log));
  CHECK(strstr(last.message, "000099.wal") != NULL);
}

static void test_logs(skv_store *s) {
  wipe(s);
  test_log_new(s);
  test_log_write(s);
  test_log_recycle(s);
  test_log_sizes(s);
}

/* ---- Segments ---------------------------------------------------------- */

#define SEG_TEST_SIZE (9u * 1024 * 1024 + 77)

static void test_seg_write(skv_store *s, const uint8_t *data) {
  skv_name tmp = tmp_name(4);
  skv_out *out = NULL, *again = NULL;
  size_t at = 0, step = 1;
  if (!OK(skv_out_create(s, &tmp, &last, &out))) return;
  FAILS(STRATAKV_CONSTRAINT, skv_out_create(s, &tmp, &last, &again));
  while (at < SEG_TEST_SIZE) {
    size_t n = step < SEG_TEST_SIZE - at ? step : SEG_TEST_SIZE - at;
    if (!OK(skv_out_append(out, data + at, n, &last))) break;
    at += n;
    step = step * 3 % 1000003; /* from bytes to several buffers */
    CHECK(skv_out_size(out) == at);
  }
  OK(skv_out_append(out, NULL, 0, &last));
  OK(skv_out_sync(out, &last));
  skv_out_close(out);
}

static void test_seg_name(skv_store *s) {
  skv_name tmp = tmp_name(4);
  OK(skv_seg_name(s, &tmp, 11, &last));
  CHECK(exists(s, "000011.seg") && !exists(s, "03-00000009-000004.tmp"));
  OK(skv_seg_name(s, &tmp, 11, &last));
  FAILS(STRATAKV_NOTFOUND, skv_seg_name(s, &tmp, 12, &last));
  CHECK(strstr(last.message, "03-00000009-000004.tmp") != NULL);
  OK(skv_store_sync_names(s, &last));
}

static void test_seg_read(skv_store *s, const skv_name *tmp, bool map,
                          const uint8_t *data) {
  static uint8_t back[300000];
  skv_in *in = NULL;
  if (!OK(skv_in_open(s, 11, tmp, SEG_TEST_SIZE, map, &last, &in))) return;
  CHECK(skv_in_size(in) == SEG_TEST_SIZE);
  CHECK((skv_in_map(in) != NULL) == map);
  CHECK(strcmp(skv_in_name(in),
               tmp ? "03-00000009-000004.tmp" : "000011.seg") == 0);
  if (map) CHECK(memcmp(skv_in_map(in), data, SEG_TEST_SIZE) == 0);
  OK(skv_in_read(in, 1000001, back, sizeof back, &last));
  CHECK(memcmp(back, data + 1000001, sizeof back) == 0);
  OK(skv_in_read(in, SEG_TEST_SIZE - 7, back, 7, &last));
  CHECK(memcmp(back, data + SEG_TEST_SIZE - 7, 7) == 0);
  OK(skv_in_read(in, SEG_TEST_SIZE, back, 0, &last));
  FAILS(STRATAKV_CORRUPT, skv_in_read(in, SEG_TEST_SIZE - 7, back, 8, &last));
  FAILS(STRATAKV_CORRUPT, skv_in_read(in, SEG_TEST_SIZE + 1, back, 0, &last));
  FAILS(STRATAKV_CORRUPT, skv_in_read(in, UINT64_MAX, back, 8, &last));
  FAILS(STRATAKV_CORRUPT, skv_in_read(in, 8, back, SIZE_MAX, &last));
  CHECK(strstr(last.message, skv_in_name(in)) != NULL);
  skv_in_close(in);
}

static void test_seg_sizes(skv_store *s) {
  skv_in *in = NULL;
  for (int map = 0; map < 2; map++) {
    FAILS(STRATAKV_CORRUPT,
          skv_in_open(s, 11, NULL, SEG_TEST_SIZE - 1, map, &last, &in));
    CHECK(in == NULL && strstr(last.message, "000011.seg") != NULL);
    FAILS(STRATAKV_CORRUPT,
          skv_in_open(s, 11, NULL, SEG_TEST_SIZE + 1, map, &last, &in));
    FAILS(STRATAKV_NOTFOUND, skv_in_open(s, 12, NULL, 1, map, &last, &in));
    put_file(s, "000013.seg", "", 0);
    FAILS(STRATAKV_CORRUPT, skv_in_open(s, 13, NULL, 0, map, &last, &in));
  }
  put_file(s, "000013.seg", "abc", 3);
  if (!OK(skv_in_open(s, 13, NULL, 3, false, &last, &in))) return;
  put_file(s, "000013.seg", "ab", 2); /* cut by another program */
  char back[3];
  FAILS(STRATAKV_CORRUPT, skv_in_read(in, 0, back, 3, &last));
  skv_in_close(in);
}

/* A pinned segment outlives its name. */
static void test_seg_pinned(skv_store *s, const uint8_t *data) {
  skv_name name = {.kind = SKV_NAME_SEG, .number = 11};
  skv_in *mapped = NULL, *opened = NULL;
  uint8_t byte = 0;
  OK(skv_in_open(s, 11, NULL, SEG_TEST_SIZE, true, &last, &mapped));
  OK(skv_in_open(s, 11, NULL, SEG_TEST_SIZE, false, &last, &opened));
  if (!mapped || !opened) return;
  OK(skv_store_remove(s, &name, &last));
  CHECK(skv_in_map(mapped)[SEG_TEST_SIZE - 1] == data[SEG_TEST_SIZE - 1]);
  OK(skv_in_read(opened, SEG_TEST_SIZE - 1, &byte, 1, &last));
  CHECK(byte == data[SEG_TEST_SIZE - 1]);
  skv_in_close(mapped);
  skv_in_close(opened);
}

static void test_segments(skv_store *s) {
  skv_name tmp = tmp_name(4);
  uint8_t *data = skv_malloc(SEG_TEST_SIZE);
  if (!CHECK(data != NULL)) return;
  fill(data, SEG_TEST_SIZE, 2);
  wipe(s);
  test_seg_write(s, data);
  test_seg_read(s, &tmp, true, data);
  test_seg_name(s);
  test_seg_read(s, NULL, true, data);
  test_seg_read(s, NULL, false, data);
  test_seg_sizes(s);
  test_seg_pinned(s, data);
  skv_free(data);
}

/* ---- The head ---------------------------------------------------------- */

static const uint8_t test_id[16] = "0123456789abcdef";

static void test_head_write(skv_store *s) {
  skv_buf bytes = {0};
  uint8_t id[16];
  uint64_t manifest = 1;
  FAILS(STRATAKV_NOTFOUND, skv_head_current(s, &last, id, &manifest));
  FAILS(STRATAKV_NOTFOUND, skv_head_append(s, 21, 0, "x", 1, &last));
  FAILS(STRATAKV_NOTFOUND, skv_head_read(s, 21, 0, &last, &bytes));
  CHECK(!exists(s, "000021.manifest"));
  put_file(s, "000021.manifest", "a longer leftover", 17);
  put_file(s, "ff-00000015-000000.tmp", "a longer leftover, to be cut", 28);
  OK(skv_head_replace(s, test_id, 21, "first", 5, &last));
  OK(skv_head_current(s, &last, id, &manifest));
  CHECK(manifest == 21 && memcmp(id, test_id, 16) == 0);
  CHECK(!exists(s, "ff-00000015-000000.tmp"));
  OK(skv_head_append(s, 21, 5, "+more", 5, &last));
  OK(skv_head_read(s, 21, 0, &last, &bytes));
  CHECK(bytes.size == 10 && memcmp(bytes.data, "first+more", 10) == 0);
  OK(skv_head_read(s, 21, 6, &last, &bytes));
  CHECK(bytes.size == 4 && memcmp(bytes.data, "more", 4) == 0);
  OK(skv_head_read(s, 21, 10, &last, &bytes));
  CHECK(bytes.size == 0);
  FAILS(STRATAKV_CORRUPT, skv_head_read(s, 21, 11, &last, &bytes));
  CHECK(strstr(last.message, "000021.manifest at offset 10") != NULL);
  OK(skv_head_replace(s, test_id, 22, "second", 6, &last));
  OK(skv_head_current(s, &last, id, &manifest));
  CHECK(manifest == 22 && exists(s, "000021.manifest"));
  FAILS(STRATAKV_FULL, skv_head_replace(s, test_id, 1 << 24, "x", 1, &last));
  skv_buf_clear(&bytes);
}

/* Every bit of CURRENT, every shorter and some longer length. */
static void test_head_damage(skv_store *s) {
  skv_buf good = {0};
  uint8_t id[16], bad[100];
  uint64_t manifest;
  OK(skv_store_read_file(s, "CURRENT", 64, &last, &good));
  if (!CHECK(good.size == 64)) return;
  for (size_t bit = 0; bit < 64 * 8; bit++) {
    memcpy(bad, good.data, 64);
    bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
    put_file(s, "CURRENT", bad, 64);
    FAILS(bit < 8 * 8 ? STRATAKV_NOTADB : STRATAKV_CORRUPT,
          skv_head_current(s, &last, id, &manifest));
    CHECK(strstr(last.message, "CURRENT") != NULL && manifest == 0);
  }
  memset(bad, 0, sizeof bad);
  memcpy(bad, good.data, 64);
  for (size_t size = 0; size <= sizeof bad; size++) {
    int want = size == 64 ? STRATAKV_OK
               : size < 8 ? STRATAKV_NOTADB
                          : STRATAKV_CORRUPT;
    put_file(s, "CURRENT", bad, size);
    FAILS(want, skv_head_current(s, &last, id, &manifest));
  }
  skv_put32(bad + 8, SKV_FORMAT + 1);
  skv_put64(bad + 56, skv_checksum(bad, 56, 0));
  for (size_t size = 63; size <= sizeof bad; size++) {
    put_file(s, "CURRENT", bad, size);
    FAILS(size < 64 ? STRATAKV_CORRUPT : STRATAKV_NOTADB,
          skv_head_current(s, &last, id, &manifest));
    CHECK(skv_head_current_is_newer(s) == (size >= 64));
  }
  memset(bad, 0xff, sizeof bad);
  put_file(s, "CURRENT", bad, sizeof bad);
  FAILS(STRATAKV_NOTADB, skv_head_current(s, &last, id, &manifest));
  put_file(s, "CURRENT", good.data, 64);
  OK(skv_head_current(s, &last, id, &manifest));
  CHECK(manifest == 22);
  skv_buf_clear(&good);
}

/* A field of CURRENT that is wrong although the checksum covers it. */
static void test_head_fields(skv_store *s) {
  static const struct {
    unsigned at;
    uint8_t value;
  } fields[] = {{12, 1}, {40, 1}, {48, 1}, {35, 1}};
  skv_buf good = {0};
  uint8_t id[16];
  uint64_t manifest;
  OK(skv_store_read_file(s, "CURRENT", 64, &last, &good));
  if (!CHECK(good.size == 64)) return;
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    uint8_t bad[64];
    memcpy(bad, good.data, 64);
    bad[fields[i].at] = fields[i].value;
    skv_put64(bad + 56, skv_checksum(bad, 56, 0));
    put_file(s, "CURRENT", bad, 64);
    FAILS(STRATAKV_CORRUPT, skv_head_current(s, &last, id, &manifest));
  }
  put_file(s, "CURRENT", good.data, 64);
  skv_buf_clear(&good);
}

static int huge_size(skv_file *file, skv_err *err, uint64_t *size) {
  (void)file;
  (void)err;
  *size = UINT64_C(1) << 40;
  return STRATAKV_OK;
}

/* What a position of the head cannot say is neither written nor read. */
static void test_head_limits(skv_store *s) {
  skv_buf bytes = {0};
  skv_env *env = skv_store_env(s), plain = *env;
  FAILS(STRATAKV_FULL,
        skv_head_append(s, 22, (UINT64_C(1) << 40) - 1, "x", 1, &last));
  env->file_size = huge_size;
  FAILS(STRATAKV_CORRUPT, skv_head_read(s, 22, 0, &last, &bytes));
  env->file_size = plain.file_size;
  skv_buf_clear(&bytes);
}

static void test_head_place(void) {
  skv_head_pos p = skv_head_at(7, 1000);
  CHECK(skv_head_file(p) == 7 && skv_head_offset(p) == 1000);
  CHECK(skv_head_at(7, 1001) > p && skv_head_at(8, 0) > p);
}

/* ---- Small files ------------------------------------------------------- */

static void test_files(skv_store *s) {
  skv_name tmp = tmp_name(6);
  skv_buf bytes = {0};
  wipe(s);
  FAILS(STRATAKV_NOTFOUND, skv_store_read_file(s, "OWNERS", 9, &last, &bytes));
  OK(skv_store_write_file(s, "OWNERS", &tmp, "/a/b.db\n", 8, &last));
  OK(skv_store_read_file(s, "OWNERS", 8, &last, &bytes));
  CHECK(bytes.size == 8 && memcmp(bytes.data, "/a/b.db\n", 8) == 0);
  FAILS(STRATAKV_CORRUPT, skv_store_read_file(s, "OWNERS", 7, &last, &bytes));
  CHECK(strstr(last.message, "OWNERS") != NULL);
  put_file(s, "03-00000009-000006.tmp", "left by someone", 15);
  OK(skv_store_write_file(s, "OWNERS", &tmp, "c", 1, &last));
  OK(skv_store_read_file(s, "OWNERS", 100, &last, &bytes));
  CHECK(bytes.size == 1 && bytes.data[0] == 'c');
  OK(skv_store_write_file(s, "OWNERS", &tmp, NULL, 0, &last));
  OK(skv_store_read_file(s, "OWNERS", 100, &last, &bytes));
  CHECK(bytes.size == 0 && !exists(s, "03-00000009-000006.tmp"));
  skv_buf_clear(&bytes);
}

/* ---- An environment that counts and fails ------------------------------ */

/* The real one with some functions replaced: they count calls, and writes
 * fail once `writes_left` is used up. */
static skv_env counting;
static unsigned writes, stores, starts, syncs;
static unsigned writes_left;
static bool overwritable, sync_fails;

static int counting_info(skv_dir *dir, skv_err *err, skv_dir_info *out) {
  int rc = skv_env_posix()->dir_info(dir, err, out);
  out->can_overwrite = overwritable;
  return rc;
}
static int counting_write(skv_file *file, uint64_t offset, const void *data,
                          size_t size, skv_err *err) {
  if (writes_left == 0)
    return SKV_ERROR(err, STRATAKV_FULL, "disk full, says the test");
  writes_left--;
  writes++;
  return skv_env_posix()->file_write(file, offset, data, size, err);
}
static int counting_sync(skv_file *file, skv_err *err) {
  syncs++;
  if (sync_fails)
    return SKV_ERROR(err, STRATAKV_IOERR_FSYNC, "lost, says the test");
  return skv_env_posix()->file_sync(file, err);
}
static void counting_start(skv_file *file, uint64_t offset, uint64_t size) {
  starts++;
  skv_env_posix()->file_sync_start(file, offset, size);
}
static void counting_stored(skv_file *file, uint64_t offset, uint64_t size) {
  SKV_UNUSED(file);
  if (offset == 64 && size == 3) stores++;
}

static skv_store *open_counting(const char *path, bool can_overwrite) {
  skv_store *s = NULL;
  counting = *skv_env_posix();
  counting.dir_info = counting_info;
  counting.file_write = counting_write;
  counting.file_sync = counting_sync;
  counting.file_sync_start = counting_start;
  counting.stored = counting_stored;
  overwritable = can_overwrite;
  writes = stores = starts = syncs = 0;
  writes_left = UINT32_MAX;
  OK(skv_store_open(&counting, NULL, path, 0, &last, &s));
  return s;
}

/* Which way a log's bytes go. */
static void test_log_ways(const char *path, bool can_overwrite) {
  skv_store *s = open_counting(path, can_overwrite);
  skv_name tmp = tmp_name(7);
  skv_log *log = NULL;
  if (!s) return;
  wipe(s);
  if (!OK(skv_log_create(s, &tmp, LOG_TEST_SIZE, &last, &log))) return;
  CHECK(writes == LOG_TEST_SIZE / 4096 && syncs == 0);
  OK(skv_log_publish(log, 1, "header", 6, &last));
  CHECK(writes == LOG_TEST_SIZE / 4096 + 1 && syncs == 1);
  writes = 0;
  OK(skv_log_write(log, 64, "abc", 3, false, &last));
  CHECK(writes == !can_overwrite && stores == can_overwrite);
  OK(skv_log_write(log, 64, "abd", 3, true, &last));
  CHECK(writes == 1u + !can_overwrite && stores == can_overwrite);
  CHECK(memcmp(skv_log_bytes(log) + 64, "abd", 3) == 0);
  skv_log_touch(log, 0, LOG_TEST_SIZE);
  skv_log_close(log);
  skv_store_close(s);
}

/* A full disk at every write leaves neither temporary files nor changes. */
static void test_full(const char *path) {
  skv_store *s = open_counting(path, true);
  skv_name tmp = tmp_name(8);
  skv_log *log = NULL;
  uint8_t id[16];
  uint64_t manifest = 0;
  if (!s) return;
  wipe(s);
  OK(skv_head_replace(s, test_id, 1, "one", 3, &last));
  for (unsigned n = 0; n < LOG_TEST_SIZE / 4096; n++) {
    writes_left = n;
    FAILS(STRATAKV_FULL, skv_log_create(s, &tmp, LOG_TEST_SIZE, &last, &log));
    CHECK(log == NULL && !exists(s, "03-00000009-000008.tmp"));
  }
  for (unsigned n = 0; n < 2; n++) {
    writes_left = n;
    FAILS(STRATAKV_FULL, skv_head_replace(s, test_id, 2, "two", 3, &last));
    CHECK(!exists(s, "ff-00000002-000000.tmp"));
    OK(skv_head_current(s, &last, id, &manifest));
    CHECK(manifest == 1);
  }
  writes_left = 0;
  FAILS(STRATAKV_FULL, skv_store_write_file(s, "OWNERS", &tmp, "x", 1, &last));
  CHECK(!exists(s, "OWNERS") && !exists(s, "03-00000009-000008.tmp"));
  skv_store_close(s);
}

/* Write-back starts on the way, and a failure sticks. */
static void test_out_ways(const char *path) {
  skv_store *s = open_counting(path, true);
  static const uint8_t block[65536];
  skv_name tmp = tmp_name(9);
  skv_out *out = NULL;
  if (!s) return;
  if (!OK(skv_out_create(s, &tmp, &last, &out))) return;
  for (int i = 0; i < 160; i++) skv_out_append(out, block, 65536, &last);
  CHECK(writes == 40 && starts == 2 && syncs == 0);
  writes_left = 0;
  OK(skv_out_append(out, block, 65536, &last));
  FAILS(STRATAKV_FULL, skv_out_sync(out, &last));
  writes_left = 10;
  FAILS(STRATAKV_FULL, skv_out_append(out, block, 1, &last));
  FAILS(STRATAKV_FULL, skv_out_sync(out, &last));
  CHECK(strstr(last.message, "03-00000009-000009.tmp") != NULL);
  CHECK(syncs == 0);
  skv_out_close(out);
  OK(skv_store_remove(s, &tmp, &last));
  if (!OK(skv_out_create(s, &tmp, &last, &out))) return;
  sync_fails = true;
  FAILS(STRATAKV_IOERR_FSYNC, skv_out_sync(out, &last));
  sync_fails = false; /* it never "works" afterwards */
  FAILS(STRATAKV_IOERR_FSYNC, skv_out_sync(out, &last));
  CHECK(syncs == 1);
  skv_out_close(out);
  OK(skv_store_remove(s, &tmp, &last));
  skv_store_close(s);
}

/* Every allocation fails in turn: a code, and nothing left behind. */
static unsigned allocations_left;
static int fail_allocation(void *arg, size_t size) {
  SKV_UNUSED(arg);
  SKV_UNUSED(size);
  if (allocations_left == 0) return 1;
  allocations_left--;
  return 0;
}

static skv_env *faulty; /* the real one, failing */

/* Whatever failed, CURRENT is absent or whole. */
static void heal_and_wipe(skv_env *env, skv_store *s) {
  uint8_t id[16];
  uint64_t manifest = 0;
  skv_alloc_set_hook(NULL, NULL);
  if (env == faulty) skv_env_fault_set(env, NULL);
  if (!s) return;
  int rc = skv_head_current(s, &last, id, &manifest);
  CHECK(rc == STRATAKV_NOTFOUND || (rc == STRATAKV_OK && manifest == 1));
  wipe(s);
}

static int use_everything(skv_env *env, const char *path) {
  skv_store *s = NULL;
  skv_log *log = NULL;
  skv_out *out = NULL;
  skv_in *in = NULL;
  skv_buf bytes = {0};
  skv_name tmp = tmp_name(10), tmp2 = tmp_name(11);
  int rc = skv_store_open(env, NULL, path, 0, &last, &s);
  if (rc == STRATAKV_OK) rc = skv_store_lock_open(s, true, &last);
  if (rc == STRATAKV_OK) rc = skv_log_create(s, &tmp, 4096, &last, &log);
  if (rc == STRATAKV_OK) rc = skv_out_create(s, &tmp2, &last, &out);
  if (rc == STRATAKV_OK) rc = skv_out_append(out, "x", 1, &last);
  if (rc == STRATAKV_OK) rc = skv_out_sync(out, &last);
  if (rc == STRATAKV_OK) rc = skv_in_open(s, 0, &tmp2, 1, true, &last, &in);
  if (rc == STRATAKV_OK) rc = skv_head_replace(s, test_id, 1, "one", 3, &last);
  if (rc == STRATAKV_OK) rc = skv_head_read(s, 1, 0, &last, &bytes);
  skv_buf_clear(&bytes);
  skv_in_close(in);
  skv_out_close(out);
  skv_log_close(log);
  heal_and_wipe(env, s);
  skv_store_close(s);
  return rc;
}

static void test_no_memory(skv_env *env, const char *path) {
  int rc = STRATAKV_NOMEM;
  unsigned n = 0;
  for (; rc == STRATAKV_NOMEM && n < 100; n++) {
    size_t before = skv_alloc_count();
    allocations_left = n;
    skv_alloc_set_hook(fail_allocation, NULL);
    rc = use_everything(env, path);
    CHECK(rc == STRATAKV_NOMEM || rc == STRATAKV_OK);
    CHECK(skv_alloc_count() == before);
  }
  CHECK(rc == STRATAKV_OK && n > 8);
}

/* The second look at CURRENT fails: whatever the names say, that is told. */
static void test_probe_fails(skv_env *env, const char *path) {
  const skv_fault fault = {
      .operation = "file_open", .file = "CURRENT", .nth = 2};
  skv_store *s = NULL;
  int what;
  if (!CHECK((faulty = skv_env_fault_new(env)) != NULL)) return;
  skv_env_fault_set(faulty, NULL);
  if (!OK(skv_store_open(faulty, NULL, path, 0, &last, &s))) return;
  put_file(s, "notes.txt", "x", 1);
  skv_env_fault_set(faulty, &fault);
  last.message[0] = 0;
  FAILS(STRATAKV_IOERR, skv_store_probe(s, &last, &what));
  CHECK(strstr(last.message, "injected") != NULL);
  skv_env_fault_set(faulty, NULL);
  wipe(s);
  skv_store_close(s);
  skv_env_fault_free(faulty);
  faulty = NULL;
}

/* Every system call fails in turn. */
static void test_faults(skv_env *env, const char *path) {
  int rc = STRATAKV_IOERR;
  uint64_t n = 0;
  if (!CHECK((faulty = skv_env_fault_new(env)) != NULL)) return;
  while (rc != STRATAKV_OK && n++ < 200) {
    skv_fault fault = {.nth = n, .is_partial = n % 2};
    size_t before = skv_alloc_count();
    skv_env_fault_set(faulty, &fault);
    rc = use_everything(faulty, path);
    CHECK(rc == STRATAKV_OK || rc == STRATAKV_IOERR ||
          rc == STRATAKV_IOERR_FSYNC);
    CHECK(skv_alloc_count() == before);
  }
  CHECK(rc == STRATAKV_OK && n > 25);
  skv_env_fault_free(faulty);
  faulty = NULL;
}

/* ---- Running ----------------------------------------------------------- */

static void run_store(skv_env *env, skv_env *env2, const char *path) {
  skv_store *a = NULL, *b = NULL, *c = NULL;
  environment = env->name;
  FAILS(STRATAKV_CANTOPEN, skv_store_open(env, NULL, path, 0, &last, &a));
  CHECK(a == NULL);
  if (!OK(skv_store_open(env, NULL, path, SKV_DIR_CREATE, &last, &a))) return;
  OK(skv_store_open(env2, NULL, path, 0, &last, &b));
  OK(skv_store_open(env, NULL, path, 0, &last, &c));
  if (!b || !c) return;
  CHECK(skv_store_env(a) == env && skv_store_dir(a) != NULL);
  CHECK(skv_store_info(a)->inode == skv_store_info(b)->inode);
  uint64_t space = 0;
  OK(skv_store_free_space(a, &last, &space));
  CHECK(space > 0);
  test_probe(a);
  test_list(a);
  test_locks(a, b);
  test_shared(a, b, c);
  test_logs(a);
  test_segments(a);
  wipe(a);
  test_head_write(a);
  test_head_damage(a);
  test_head_fields(a);
  test_head_limits(a);
  test_files(a);
  wipe(a);
  skv_store_close(a);
  skv_store_close(b);
  skv_store_close(c);
  skv_store_close(NULL);
}

static void run_posix(const char *path) {
  skv_env *env = skv_env_posix();
  run_store(env, env, path);
  test_fork(env, path);
  test_log_ways(path, true);
  test_log_ways(path, false);
  test_full(path);
  test_out_ways(path);
  skv_store *s = NULL;
  if (OK(skv_store_open(env, NULL, path, 0, &last, &s))) wipe(s);
  skv_store_close(s);
  test_no_memory(env, path);
  test_probe_fails(env, path);
  test_faults(env, path);
  CHECK(rmdir(path) == 0);
}

static void run_mem(void) {
  skv_env *env = skv_env_mem_new();
  skv_env *other = env ? skv_env_mem_process(env) : NULL;
  if (CHECK(env && other)) run_store(env, other, "/store_test");
  skv_env_mem_free(other);
  skv_env_mem_free(env);
}

int main(int argc, char **argv) {
  char path[4096];
  if (argc < 2) {
    mkdir("build", 0777);
    mkdir("build/tmp", 0777);
  }
  snprintf(path, sizeof path, "%s/store_test.%ld",
           argc > 1 ? argv[1] : "build/tmp", (long)getpid());
  environment = "none";
  test_good_names();
  test_bad_names();
  test_head_place();
  size_t before = skv_alloc_count();
  run_posix(path);
  run_mem();
  CHECK(skv_alloc_count() == before);
  if (failures) printf("%u failed\n", failures);
  printf("%u checks\n", checks);
  return failures ? 1 : 0;
}
